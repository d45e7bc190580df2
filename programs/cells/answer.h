/* What the front answers itself: problem documents (RFC 9457) as the gateway's (docs/openapi.yaml). */
#ifndef SIMBDP_CELLS_ANSWER_H
#define SIMBDP_CELLS_ANSWER_H

#include "head.h"

/* Appends an answer, after which the connection ends. retry_after_s 0: none. */
void answer_problem(const struct head_problem *p, int retry_after_s, bool is_head, struct buf *out);
/* The same of a word that monitors look for. */
void answer_text(int status, const char *text, bool is_head, struct buf *out);

#endif
