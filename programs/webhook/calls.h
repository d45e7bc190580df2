/* What a webhook, or a collector of OpenTelemetry's, is to be told, and when. No clock and no network here: callers say what time
 * it is.
 *
 * Alerts of a group that come within its window, or while their call waits, are one call of at most CALLS_ALERTS. Calls are made
 * one after the other, oldest first. One that fails is made again, later each time; what is not told in the end is counted, and the
 * next call that arrives says how many alerts were lost. The dead man's switch is a call of its own that is never repeated: the
 * next one comes anyhow. */
#ifndef SIMBDP_WEBHOOK_CALLS_H
#define SIMBDP_WEBHOOK_CALLS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* WAITING: calls at most; the oldest makes room. BYTES: of a call's alerts, or of what a collector is told (ITEMS of them). */
enum {
    CALLS_WAITING = 64,
    CALLS_ALERTS = 100,
    CALLS_BYTES = 256 << 10,
    CALLS_ITEMS = 5000,
    CALLS_ITEMS_BYTES = 1 << 20,
    CALLS_FIRST_MS = 500,
    CALLS_MOST_MS = 60000,
    CALLS_ASKED_MS = 300000
};

struct calls;

/* What is added, and what a call is made of it: a webhook's, or a request of OTLP's. */
enum calls_kind { CALLS_OF_alerts, CALLS_OF_traces, CALLS_OF_metrics, CALLS_OF_logs, N_CALLS_KINDS };
int calls_kind_of(const char *name, enum calls_kind *ret); /* 0, or -1: there is none */
const char *calls_kind_name(enum calls_kind k);

struct calls_settings {
    int64_t group_ms, alive_ms, retry_ms; /* alive_ms 0: no dead man's switch */
    enum calls_kind kind;
    const char *resource; /* of OTLP: the JSON object; copied. Else NULL */
};

struct calls *calls_new(const char *name);
void calls_free(struct calls *c); /* NULL is fine */
void calls_set(struct calls *c, const struct calls_settings *s);

/* An alert's JSON object; or n of them, with commas between. Never refused: older ones may be dropped for them. */
void calls_add(struct calls *c, int64_t now_ms, const char *group, const char *json, int64_t n);
/* All was well just now. */
void calls_alive(struct calls *c, int64_t now_ms);

/* When calls_next may have something; INT64_MAX: not until something is added. Never while a call is under way. */
int64_t calls_due_ms(const struct calls *c, int64_t now_ms);
/* The body of the call to be made now, and the id that stays the same when it is made again. False: there is none. It is under way
 * until calls_done. */
bool calls_next(struct calls *c, int64_t now_ms, int64_t wall_ms, struct buf *ret_body, char ret_id[33]);

enum calls_outcome { CALLS_TOLD, CALLS_AGAIN, CALLS_REFUSED };
/* How it went. AGAIN: it is made again after a while, at least ask_ms (what the receiver wants; at most CALLS_ASKED_MS), unless
 * retry_ms have passed since it was made first. `random` spreads receivers' load: any number. */
void calls_done(struct calls *c, int64_t now_ms, enum calls_outcome o, int64_t ask_ms, uint32_t random);

/* Before calls_done(TOLD): of what the call under way had, the receiver took so many not, and wants them not again. */
void calls_rejected(struct calls *c, int64_t n);

/* Of what was added: taken, rejected, dropped. All else waits. */
struct calls_counts {
    int64_t told, rejected, dropped;
};
struct calls_counts calls_counts(const struct calls *c);
bool calls_is_under_way(const struct calls *c);
/* Alerts that were dropped in all, and those that wait. */
int64_t calls_n_dropped(const struct calls *c);
int64_t calls_n_waiting(const struct calls *c);

#endif
