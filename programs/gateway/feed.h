/* Events on their way to those that read them: what a keeper tells, asked again and again. A feed is one tenant's events as far as
 * one scope of datasets sees them, for all that follow them; or is one reader's: what happened before it came, or a run's log; or
 * has the platform's figures, which its programs are asked for, for all operators that follow them. */
#ifndef SIMBDP_GATEWAY_FEED_H
#define SIMBDP_GATEWAY_FEED_H

#include "base/buf.h"
#include "base/json.h"
#include "base/map.h"

#include <stdint.h>

struct gateway;
struct event;
struct pass;

/* POLL_MS: how often each is asked. A feed that is shared keeps so much for those that read slowly. */
enum { FEED_POLL_MS = 250, FEED_EVENTS = 2048, FEED_BYTES = 1 << 20 };
/* The platform's figures: at most one event in that time, and in ten times as long as it takes to make one, but for PLATFORM_MAX_MS
 * at most. Thousands of figures may be in an event. */
enum { FEED_PLATFORM_MS = 1000, FEED_PLATFORM_MAX_MS = 5000, FEED_PLATFORM_EVENTS = 64, FEED_PLATFORM_BYTES = 8 << 20 };

#define FEED_FOR_ALL UINT32_MAX

/* As it is sent, whole. */
struct feed_event {
    uint32_t type; /* of host/tenant_events.h, as a bit; or FEED_FOR_ALL */
    size_t n;
    char text[];
};

struct feed {
    struct feeds *owner;
    char *key; /* NULL: it is one reader's */
    char *tenant;
    char *run_id;                   /* its log; NULL: the tenant's events */
    char *position;                 /* up to where it was told; NULL: not asked yet */
    char *to;                       /* NULL: it has no end */
    int64_t tail;                   /* of a log: bytes, while there is no position */
    struct platform_diff *platform; /* it has the platform's figures; NULL: it has not */
    bson_t *latest;                 /* of those: all of them */
    struct buf whole;               /* likewise, as they are sent to who comes; made when somebody does */
    int64_t asked_ms;               /* when they were asked for */
    struct feed_event **ring;
    uint64_t size;        /* of the ring */
    uint64_t first, next; /* numbers of the events that are there: from first on, before next */
    size_t bytes, max_bytes;
    bool ready; /* it was answered */
    bool done;  /* there is nothing more to come */
    bool asked, left;
    int64_t due_ms;
    void *readers; /* feed_ops' */
    struct feed *before, *behind;
};

struct feed_ops {
    /* Whose right it is asked by; NULL: nobody's now. */
    struct pass *(*pass)(void *arg, const struct feed *f);
    /* There are events, or it is ready or done. */
    void (*news)(void *arg, struct feed *f);
    /* Refused for good, with the code and text of a problem. */
    void (*failed)(void *arg, struct feed *f, const char *code, const char *detail);
    /* Whether it is to be asked (one reader's: its reader has read what there was). */
    bool (*wants)(void *arg, const struct feed *f);
};

struct feeds {
    struct gateway *g;
    const struct feed_ops *ops;
    void *arg;
    struct map shared;         /* key -> struct feed */
    struct feed *first, *last; /* in the order in which they are asked */
    size_t n, n_asked;
    struct event *timer;
};

void feeds_init(struct feeds *all, struct gateway *g, const struct feed_ops *ops, void *arg);
void feeds_fini(struct feeds *all); /* no keeper is asked any more */

/* The tenant's events from now on; scope: text that stands for the datasets that are seen. Made where there is none. */
struct feed *feed_shared(struct feeds *all, const char *tenant, const char *scope);
/* One reader's, of events from `from` to `to`; or of a run's log, from NULL: its last `tail` bytes first. */
struct feed *feed_of_past(struct feeds *all, const char *tenant, const char *from, const char *to);
struct feed *feed_of_log(struct feeds *all, const char *tenant, const char *run_id, const char *from, int64_t tail);
/* The platform's figures from now on. Made where there is none. */
struct feed *feed_of_platform(struct feeds *all);
/* Nobody reads it any more. NULL is fine. */
void feed_leave(struct feed *f);

/* Event number `n`, first <= n < next. */
const struct feed_event *feed_at(const struct feed *f, uint64_t n);
/* Forgets those before number `n`. */
void feed_drop(struct feed *f, uint64_t n);
/* All of the platform's figures, as an event. */
const struct buf *feed_whole(struct feed *f);
/* It may want to be asked now. */
void feed_kick(struct feed *f);

#endif
