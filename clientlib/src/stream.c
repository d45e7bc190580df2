#include "base/mem.h"
#include "base/mem_try.h"
#include "run.h"
#include "stream/env_read.h"
#include "stream/publisher.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { MAX_MESSAGES = 10000 };

/* --- consuming --- */

static int usage(struct simbdp *run, const char *why)
{
    err_set(&run->err, ERR_USAGE, "%s", why);
    return SIMBDP_USAGE;
}

static int open_drain(struct simbdp *run)
{
    int r = run->spec ? 0 : drain_spec(run->schema, &run->spec, &run->err);
    if (r == 0)
        r = drain_open_here(run->spec, run->database, run->collection, MAX_MESSAGES, &run->drain, &run->err);
    if (r == 0)
        run->quality = quality_log_open();
    return r < 0 ? run_fail(run, SIMBDP_CONFIG) : 0;
}

/* Waits for a message, and reports meanwhile what was read so far. */
static int wait_for_message(struct simbdp *run, int64_t ms)
{
    for (;;) {
        int64_t due = quality_log_tell(run->quality, run->drain, &run->in.report);
        bool all = due < 0 || (ms >= 0 && ms <= due);
        int r = drain_next(run->drain, all ? ms : due, &run->message, &run->err);
        if (r != 0 || all || atomic_load(&run->stopping))
            return r;
        ms -= ms >= 0 ? due : 0;
    }
}

struct next_call {
    struct simbdp *run;
    int timeout_ms, r;
    bool traces; /* the caller knows of such */
};

/* 1: there is a message; 0: none; negative: an error code. */
static void next(void *arg)
{
    struct next_call *c = arg;
    struct simbdp *run = c->run;
    bool opened = run->drain != NULL;
    c->r = opened ? 0 : open_drain(run);
    if (c->r)
        return;
    if (!opened && c->traces)
        drain_want_traces(run->drain);
    run->has_message = false;
    bool stopping = atomic_load(&run->stopping);
    if (stopping && !drain_owes(run->drain))
        return;
    c->r = wait_for_message(run, stopping ? 0 : c->timeout_ms);
    if (c->r < 0)
        c->r = run_fail(run, run_code(run, c->r));
}

int simbdp_next(struct simbdp *run, int timeout_ms, struct simbdp_message *ret)
{
    struct next_call c = {run, timeout_ms, 0, ret->size >= sizeof(struct simbdp_message)};
    if (run->finished)
        return usage(run, "the run is finished");
    if (run->in.sink)
        return usage(run, "this run stores files or rows; a stream needs a run of its own");
    if (run->failed)
        return run->failed;
    if (!mem_try(next, &c))
        return run_exhausted(run);
    if (c.r <= 0)
        return c.r;
    const struct subscriber_message *m = &run->message;
    bool traced = m->trace && trace_parent_unpack(m->trace, run->traceparent);
    struct simbdp_message all = {.size = ret->size,
                                 .data = m->p,
                                 .bytes = m->n,
                                 .sequence = (int64_t)m->seq,
                                 .published_ms = m->published_ms,
                                 .deliveries = (int)m->deliveries,
                                 .traceparent = traced ? run->traceparent : NULL};
    memcpy(ret, &all, ret->size < sizeof all ? ret->size : sizeof all);
    run->has_message = true;
    return 1;
}

/* Turns the result of settling a message into a code. */
static int settled(struct simbdp *run, int r)
{
    if (r < 0)
        err_set(&run->err, ERR_USAGE, "this message is not held: it is settled already, or was never delivered to this run");
    return r < 0 ? SIMBDP_NOT_FOUND : SIMBDP_OK;
}

int simbdp_done(struct simbdp *run, int64_t sequence)
{
    return run->failed ? run->failed : settled(run, run->drain ? drain_done(run->drain, (uint64_t)sequence) : -ENOENT);
}

struct give_up_call {
    struct drain *drain;
    uint64_t sequence;
    uint32_t delay_ms;
    const char *why;
    int r;
};

static void refuse(void *arg)
{
    struct give_up_call *c = arg;
    c->r = drain_refuse(c->drain, c->sequence, c->why);
}

static void retry(void *arg)
{
    struct give_up_call *c = arg;
    c->r = drain_retry(c->drain, c->sequence, c->delay_ms, c->why);
}

static int give_up(struct simbdp *run, void (*how)(void *arg), struct give_up_call *c)
{
    if (run->failed)
        return run->failed;
    if (run->drain && !mem_try(how, c))
        return run_exhausted(run);
    return settled(run, run->drain ? c->r : -ENOENT);
}

int simbdp_refuse(struct simbdp *run, int64_t sequence, const char *why)
{
    struct give_up_call c = {.drain = run->drain, .sequence = (uint64_t)sequence, .why = why ? why : ""};
    return give_up(run, refuse, &c);
}

int simbdp_retry(struct simbdp *run, int64_t sequence, int delay_ms, const char *why)
{
    struct give_up_call c = {.drain = run->drain, .sequence = (uint64_t)sequence, .why = why ? why : ""};
    c.delay_ms = delay_ms > 0 ? (uint32_t)delay_ms : 0;
    return give_up(run, retry, &c);
}

static int stream_code(struct simbdp *run, int r)
{
    return r == 0 ? SIMBDP_OK : r == -ENOENT ? SIMBDP_USAGE : r == ERR_LIMIT ? SIMBDP_DATA : run_fail(run, run_code(run, r));
}

int stream_store(struct simbdp *run, const void *elements, size_t n)
{
    if (!run->has_message)
        return usage(run, "there is no message that the row could belong to; simbdp_next gives one");
    int r = drain_row(run->drain, run->message.seq, elements, n, &run->err);
    return stream_code(run, r);
}

struct message_call {
    struct row_call row;
    int code;
};

static void store_message(void *arg)
{
    struct message_call *c = arg;
    struct simbdp *run = c->row.run;
    run->rows.figures = quality_log_begin(run->quality, run->message.seq);
    int r = message_read(run->spec, run->message.published_ms, run->message.p, run->message.n, c->row.fn ? row_call : NULL, &c->row,
                         &run->rows, &run->err);
    quality_log_end(run->quality, run->message.published_ms, r == 0 ? (int64_t)run->rows.n : -1);
    c->code = r < 0 ? SIMBDP_DATA : stream_code(run, drain_rows(run->drain, run->message.seq, &run->rows, &run->err));
}

int simbdp_store_message(struct simbdp *run, simbdp_row_fn fn, void *arg)
{
    struct message_call c = {.row = {.run = run, .fn = fn, .arg = arg}};
    if (run->failed)
        return run->failed;
    if (!run->drain || !run->has_message)
        return usage(run, "there is no message; simbdp_next gives one");
    return mem_try(store_message, &c) ? c.code : run_exhausted(run);
}

int simbdp_ingest_stream(struct simbdp *run, simbdp_row_fn fn, void *arg)
{
    struct simbdp_message m = {.size = sizeof m};
    int r;
    while ((r = simbdp_next(run, -1, &m)) > 0) {
        r = simbdp_store_message(run, fn, arg);
        if (r == SIMBDP_DATA)
            simbdp_refuse(run, m.sequence, run->err.msg);
        else if (r == SIMBDP_OK)
            simbdp_done(run, m.sequence);
        else
            break;
    }
    return r;
}

void simbdp_stop(struct simbdp *run)
{
    atomic_store(&run->stopping, true);
    if (run->drain)
        drain_wake(run->drain);
}

void stream_close(struct simbdp *run)
{
    drain_close(run->drain);
    run->drain = NULL;
    quality_log_close(run->quality);
    run->quality = NULL;
    message_rows_fini(&run->rows);
}

/* --- publishing --- */

struct simbdp_publisher {
    struct publisher *p;
    bool exhausted; /* memory ran out in the middle of a call: it is only closed */
    struct err err;
};

static int exhausted(struct simbdp_publisher *p)
{
    p->exhausted = true;
    err_set(&p->err, -ENOMEM, "out of memory");
    return SIMBDP_MEMORY;
}

struct publisher_call {
    struct simbdp_publisher *p;
    const void *data; /* passed to publisher_open: the stream */
    size_t bytes;
    int timeout_ms, r;
    const unsigned char *trace;
};

static void open_publisher(void *arg)
{
    struct publisher_call *c = arg;
    AUTO_STREAM_ENV struct stream_env env = {0};
    c->r = stream_env_read_for(c->data, &env, &c->p->err);
    if (c->r == 0)
        c->r = publisher_open(env.endpoint, &env.keys, env.stream, &c->p->p, &c->p->err);
}

int simbdp_publisher_open(struct simbdp_publisher **ret, const char *stream, char *error, size_t size)
{
    run_init_library();
    struct publisher_call c = {.p = calloc(1, sizeof *c.p), .data = stream};
    bool enough = c.p && mem_try(open_publisher, &c);
    if (enough && c.r == 0) {
        *ret = c.p;
        return SIMBDP_OK;
    }
    if (error && size)
        snprintf(error, size, "%s", enough ? c.p->err.msg : "out of memory");
    simbdp_publisher_close(c.p);
    return enough ? SIMBDP_CONFIG : SIMBDP_MEMORY;
}

static int publisher_code(int r)
{
    return r == 0             ? SIMBDP_OK
           : r == -ETIMEDOUT  ? SIMBDP_TEMPORARY
           : r == ERR_LIMIT   ? SIMBDP_DATA
           : r == ERR_REFUSED ? SIMBDP_DENIED
                              : SIMBDP_FAILED;
}

static void put(void *arg)
{
    struct publisher_call *c = arg;
    publisher_set_trace(c->p->p, c->trace);
    c->r = publisher_put(c->p->p, c->data, c->bytes, c->timeout_ms, &c->p->err);
}

static int publish(struct simbdp_publisher *p, const void *data, size_t bytes, const unsigned char *trace, int timeout_ms)
{
    struct publisher_call c = {p, data, bytes, timeout_ms, 0, trace};
    return !p->exhausted && mem_try(put, &c) ? publisher_code(c.r) : exhausted(p);
}

int simbdp_publish(struct simbdp_publisher *p, const void *data, size_t bytes, int timeout_ms)
{
    return publish(p, data, bytes, NULL, timeout_ms);
}

int simbdp_publish_traced(struct simbdp_publisher *p, const void *data, size_t bytes, const char *traceparent, int timeout_ms)
{
    unsigned char trace[TRACE_PACKED_BYTES];
    return publish(p, data, bytes, trace_parent_pack(traceparent, trace) ? trace : NULL, timeout_ms);
}

static void set_key(void *arg)
{
    struct publisher_call *c = arg;
    c->r = publisher_set_key(c->p->p, c->data, c->bytes);
}

int simbdp_publisher_key(struct simbdp_publisher *p, const void *key, size_t bytes)
{
    struct publisher_call c = {.p = p, .data = key, .bytes = bytes};
    if (p->exhausted || !mem_try(set_key, &c))
        return exhausted(p);
    if (c.r < 0)
        err_set(&p->err, ERR_LIMIT, "a key of %zu bytes; it may have 1024", bytes);
    return c.r < 0 ? SIMBDP_DATA : SIMBDP_OK;
}

static void flush(void *arg)
{
    struct publisher_call *c = arg;
    c->r = publisher_flush(c->p->p, c->timeout_ms, &c->p->err);
}

int simbdp_publisher_flush(struct simbdp_publisher *p, int timeout_ms)
{
    struct publisher_call c = {.p = p, .timeout_ms = timeout_ms};
    return !p->exhausted && mem_try(flush, &c) ? publisher_code(c.r) : exhausted(p);
}

int64_t simbdp_publisher_confirmed(const struct simbdp_publisher *p)
{
    return (int64_t)publisher_confirmed(p->p);
}

const char *simbdp_publisher_error(const struct simbdp_publisher *p)
{
    return p->err.msg;
}

void simbdp_publisher_close(struct simbdp_publisher *p)
{
    if (!p)
        return;
    publisher_close(p->p);
    free(p);
}
