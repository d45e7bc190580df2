/* What peers are told. A refusal and what is known at once leave when they are made; a confirmation waits for the end of the turn,
 * when what it is about is written (turn.c). */
#ifndef SIMBDP_BROKER_ANSWERS_H
#define SIMBDP_BROKER_ANSWERS_H

#include "broker.h"

/* Frames to a peer: 0, or -EAGAIN when it does not read; it is deaf from then on (session.c). */
int answer_send(struct session *s, const struct wire_frame *v, size_t n);
/* retry_after_ms 0: it will not pass when it is sent again. */
void answer_refuse(struct session *s, const struct wire_header *h, enum wire_code code, int64_t retry_after_ms, const char *fmt,
                   ...) __attribute__((format(printf, 5, 6)));
/* DONE at the end of the turn, with how many; nothing where the request has no number. */
void answer_done(struct session *s, const struct wire_header *h, uint64_t n);
/* CONFIRM at the end of the turn. first: the sequence of the first of `stored` messages; known: of earlier requests. */
void answer_confirm(struct session *s, const struct wire_header *h, uint64_t first, uint32_t stored, uint32_t known);

/* What waits for the end of the turn leaves. The store has been committed. */
void answers_leave(struct broker *b);
/* The peer is gone. */
void answers_forget(struct session *s);

#endif
