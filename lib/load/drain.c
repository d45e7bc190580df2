#include "drain.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/mem.h"
#include "index.h"
#include "stream/reporter.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    WINDOW_BYTES = 8 << 20,
    MAX_LOST = 1000, /* what a killed consumer may lose, at most once */
    FAST_MS = 250,   /* a window that is done so soon is doubled */
    SLOW_MS = 1000,  /* and one that takes so long halved */
    LOOK_MS = 20,    /* how long rows may wait to be sent while messages are at hand */
    FOREVER_MS = 60000,
    SEQ_BITS = 48,
};

struct held {
    uint64_t ordinal, seq; /* ordinal: in the order of delivery, also to us again */
    enum { AT_HAND, DONE, REFUSED } state;
    uint32_t rows;
    unsigned char epoch[WIRE_EPOCH_BYTES];
    int64_t end; /* DONE: of the rows that must be stored first */
    char *why;   /* it is refused, by the database or the caller */
};

struct drain {
    struct subscriber *s;
    struct sink *sink;
    const struct spec *spec;
    bool indexed, finishing;
    enum stream_delivery delivery;
    int wake_fd;
    _Atomic bool woken;
    struct subscriber_batch batch;
    size_t at;         /* of the next one in the batch */
    struct held *held; /* by ordinal */
    size_t n_held, cap_held;
    uint64_t next_ordinal;
    struct held current;        /* ordinal and seq of what drain_next gave last */
    int64_t rows, acknowledged; /* given to the sink in all; of these stored, up to here */
    bool settled_any;           /* something may have to be acknowledged */
    uint32_t window, max_window;
    uint64_t window_given; /* messages since the window was looked at */
    int64_t window_ms, idle_ms, look_ms, extend_ms;
    struct reporter *reporter; /* NULL: nobody is told */
    int64_t since_us;          /* when the message that was given last was asked for; 0: none is at work */
    size_t given_bytes;
    struct drain_counts counts;
};

static struct held *by_ordinal(struct drain *d, uint64_t ordinal)
{
    size_t a = 0, b = d->n_held;
    while (a < b) {
        size_t m = (a + b) / 2;
        if (d->held[m].ordinal < ordinal)
            a = m + 1;
        else
            b = m;
    }
    return a < d->n_held && d->held[a].ordinal == ordinal ? &d->held[a] : NULL;
}

static struct held *at_hand(struct drain *d, uint64_t seq)
{
    struct held *h = d->current.seq == seq ? by_ordinal(d, d->current.ordinal) : NULL;
    if (h && h->state == AT_HAND)
        return h;
    for (size_t i = 0; i < d->n_held; i++)
        if (d->held[i].seq == seq && d->held[i].state == AT_HAND)
            return &d->held[i];
    return NULL;
}

static void on_refused(void *arg, const struct sink_refusal *why)
{
    struct drain *d = arg;
    struct held *h = by_ordinal(d, (uint64_t)why->offset);
    bool key = !strcmp(why->rule, "key");
    if (h && !h->why && !(key && d->spec->on_key_conflict == KEY_keep))
        h->why =
            xasprintf("row %lld: %s%s", (long long)why->line, key ? "a row with this key is there already: " : "", why->message);
    if (h && h->why)
        reporter_error(d->reporter, h->why);
}

static void on_acknowledged(void *arg, int64_t end, int64_t n)
{
    struct drain *d = arg;
    d->acknowledged = end;
    d->counts.rows += n;
    d->settled_any = true;
}

int drain_open(const struct drain_options *o, struct drain **ret, struct err *e)
{
    if (o->spec->on_key_conflict == KEY_replace)
        return err_set(e, ERR_CONFIG,
                       "on_key_conflict = \"replace\" is not for streams: messages that are delivered again come behind "
                       "younger ones; use \"keep\" or \"reject\"");
    AUTO_DRAIN struct drain *d = xcalloc(1, sizeof *d);
    d->wake_fd = -1;
    struct sink_options so = {.url = o->url,
                              .database = o->database,
                              .collection = o->collection,
                              .in_order = index_is_needed(o->spec),
                              .fresh = o->delivery != DELIVERY_EXACTLY_ONCE,
                              .arg = d,
                              .on_refused = on_refused,
                              .on_acknowledged = on_acknowledged};
    d->spec = o->spec;
    d->window = 1;
    d->delivery = o->delivery;
    d->max_window = drain_is_at_most_once(d) && o->max_messages > MAX_LOST ? MAX_LOST : o->max_messages;
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int r = d->wake_fd < 0 ? err_sys(e, -errno, "cannot make an eventfd") : sink_open(&so, &d->sink, e);
    if (r == 0)
        r = subscriber_open(o->endpoint, &o->keys, o->stream, o->subscription, d->window, WINDOW_BYTES, &d->s, e);
    if (r < 0)
        return r;
    if (drain_is_at_most_once(d))
        subscriber_ack_first(d->s);
    d->reporter = reporter_open();
    sink_set_wake_fd(d->sink, d->wake_fd);
    subscriber_watch(d->s, d->wake_fd);
    *ret = TAKE(d);
    return 0;
}

int drain_open_here(const struct spec *spec, const char *database, const char *collection, uint32_t max_messages,
                    struct drain **ret, struct err *e)
{
    AUTO_STREAM_ENV struct stream_env env = {0};
    int r = stream_env_read(&env, e);
    if (r < 0)
        return r;
    struct drain_options o = {.endpoint = env.endpoint,
                              .keys = env.keys,
                              .stream = env.stream,
                              .subscription = env.app,
                              .max_messages = max_messages,
                              .delivery = env.delivery,
                              .url = getenv("MONGO_URL"),
                              .database = database,
                              .collection = collection,
                              .spec = spec};
    return drain_open(&o, ret, e);
}

void drain_want_traces(struct drain *d)
{
    subscriber_want_traces(d->s);
}

static void limit_from(const char *name, int64_t *ret)
{
    const char *text = getenv(name);
    char *end;
    long long n = text && *text ? strtoll(text, &end, 10) : -1;
    *ret = n >= 0 && !*end ? n : -1;
}

int drain_spec(const char *schema, struct spec **ret, struct err *e)
{
    const char *text = schema && *schema ? schema : "{}";
    int r = spec_parse(text, strlen(text), ret, NULL, e);
    if (r < 0)
        return err_context(e, "SIMBDP_SCHEMA"), ERR_CONFIG;
    if (!strstr(text, "\"format\""))
        (*ret)->format = READER_JSON;
    limit_from("SIMBDP_MAX_ROWS", &(*ret)->max_rows);
    limit_from("SIMBDP_MAX_COLUMNS", &(*ret)->max_columns);
    return 0;
}

void drain_close(struct drain *d)
{
    if (!d)
        return;
    reporter_close(d->reporter);
    sink_close(d->sink);
    subscriber_close(d->s);
    for (size_t i = 0; i < d->n_held; i++)
        free(d->held[i].why);
    free(d->held);
    if (d->wake_fd >= 0)
        close(d->wake_fd);
    free(d);
}

static void add_range(struct wire_range *v, size_t *n, uint64_t seq)
{
    if (*n && v[*n - 1].last + 1 == seq)
        v[*n - 1].last = seq;
    else
        v[(*n)++] = (struct wire_range){seq, seq};
}

struct done {
    uint64_t seq;
    uint32_t rows;
};

static int by_seq(const void *a, const void *b)
{
    const struct done *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* In ranges of messages with as many rows each. */
static void acknowledge(struct drain *d, struct done *done, size_t n_done)
{
    AUTO_FREE struct wire_range *v = xcalloc(n_done, sizeof *v);
    AUTO_FREE uint32_t *rows = xcalloc(n_done, sizeof *rows);
    size_t n = 0;
    qsort(done, n_done, sizeof *done, by_seq);
    for (size_t i = 0; i < n_done; i++) {
        uint64_t seq = done[i].seq;
        if (i && seq == done[i - 1].seq) /* it was delivered again meanwhile */
            continue;
        if (n && v[n - 1].last + 1 == seq && rows[n - 1] == done[i].rows) {
            v[n - 1].last = seq;
        } else {
            rows[n] = done[i].rows;
            v[n++] = (struct wire_range){seq, seq};
        }
    }
    subscriber_ack_rows(d->s, v, rows, n);
}

/* Tells the broker what is done and what never will be. */
static void settle(struct drain *d)
{
    size_t kept = 0, n = 0;
    if (!d->settled_any)
        return;
    AUTO_FREE struct done *done = xcalloc(d->n_held + 1, sizeof *done);
    crash_at(CRASH_drain_stored);
    for (size_t i = 0; i < d->n_held; i++) {
        struct held *h = &d->held[i];
        bool ready = h->state != AT_HAND && h->end <= d->acknowledged;
        if (ready && h->why) {
            subscriber_nack(d->s, &(struct wire_range){h->seq, h->seq}, 1, WIRE_NEVER, h->why);
            d->counts.refused++;
            free(TAKE(h->why));
        } else if (ready) {
            done[n++] = (struct done){h->seq, h->rows};
            d->counts.acknowledged++;
        } else {
            struct held moved = *h;
            h->why = NULL;
            d->held[kept++] = moved;
        }
    }
    d->n_held = kept;
    if (n)
        acknowledge(d, done, n);
    d->settled_any = false;
    crash_at(CRASH_drain_acked);
}

static void extend_if_due(struct drain *d, int64_t now)
{
    size_t n = 0;
    if (now < d->extend_ms)
        return;
    if (d->extend_ms && d->n_held) {
        AUTO_FREE struct wire_range *v = xcalloc(d->n_held, sizeof *v);
        for (size_t i = 0; i < d->n_held; i++)
            add_range(v, &n, d->held[i].seq);
        subscriber_extend(d->s, v, n);
    }
    uint32_t lease = subscriber_lease_ms(d->s);
    d->extend_ms = now + (lease ? lease / 3 : LOOK_MS);
}

/* What does not wait for anything. */
static int look(struct drain *d, int64_t now, struct err *e)
{
    int r = sink_push(d->sink, e);
    if (r < 0)
        return r;
    settle(d);
    extend_if_due(d, now);
    d->look_ms = now + LOOK_MS;
    return 0;
}

/* The caller has all that the window allows, is not done with any, and asks for more. */
static bool is_hoarded(const struct drain *d)
{
    if (d->n_held < d->window)
        return false;
    for (size_t i = 0; i < d->n_held; i++)
        if (d->held[i].state != AT_HAND)
            return false;
    return true;
}

static void adapt_window(struct drain *d, int64_t now)
{
    int64_t ms = now - d->window_ms - d->idle_ms;
    uint32_t was = d->window;
    bool hoarded = is_hoarded(d);
    if (d->window_given < d->window && !hoarded)
        return;
    if (ms < FAST_MS || hoarded)
        d->window = d->window * 2 < d->max_window ? d->window * 2 : d->max_window;
    else if (ms > SLOW_MS && d->window > 1)
        d->window /= 2;
    d->window_given = 0;
    d->window_ms = now;
    d->idle_ms = 0;
    if (d->window != was)
        subscriber_set_window(d->s, d->window, WINDOW_BYTES);
}

static void take_batch(struct drain *d)
{
    d->at = 0;
    if (d->n_held + d->batch.n > d->cap_held) {
        d->cap_held = d->n_held + d->batch.n + d->cap_held;
        d->held = xrealloc(d->held, d->cap_held * sizeof *d->held);
    }
    for (size_t i = 0; i < d->batch.n; i++) {
        struct held *h = &d->held[d->n_held++];
        *h = (struct held){.ordinal = d->next_ordinal + i, .seq = d->batch.v[i].seq};
        memcpy(h->epoch, d->batch.epoch, sizeof h->epoch);
    }
    d->next_ordinal += d->batch.n;
}

static void give(struct drain *d, struct subscriber_message *ret)
{
    *ret = d->batch.v[d->at];
    d->current = (struct held){.ordinal = d->next_ordinal - d->batch.n + d->at, .seq = ret->seq};
    d->given_bytes = ret->n;
    d->at++;
    d->window_given++;
    d->counts.messages++;
}

/* The caller is back: what it had took until now, and what is told is told. Returns when to look again. */
static int64_t account(struct drain *d, int64_t now_us)
{
    if (d->since_us)
        reporter_done(d->reporter, 1, d->given_bytes, now_us - d->since_us);
    d->since_us = 0;
    return reporter_tick(d->reporter, now_us);
}

int drain_next(struct drain *d, int64_t ms, struct subscriber_message *ret, struct err *e)
{
    int64_t now_us = clk_now_us(), now = now_us / 1000, until = now + (ms < 0 ? FOREVER_MS : ms), since_us = now_us;
    int64_t report_us = account(d, now_us);
    int r = now >= d->look_ms && d->look_ms ? look(d, now, e) : 0;
    while (r == 0 && d->at == d->batch.n) {
        eventfd_t n;
        eventfd_read(d->wake_fd, &n);
        r = look(d, now, e);
        if (r < 0)
            break;
        adapt_window(d, now);
        bool idle = !d->n_held;
        int64_t left = until - now, began = now, began_us = now_us;
        if (d->n_held && d->extend_ms - now < left)
            left = d->extend_ms - now > 0 ? d->extend_ms - now : 0;
        if ((report_us - now_us) / 1000 < left)
            left = (report_us - now_us) / 1000 + 1;
        d->batch.n = d->at = 0;
        int got = subscriber_next(d->s, atomic_load(&d->woken) ? 0 : left, &d->batch, e);
        if (got < 0)
            return got;
        if (got)
            take_batch(d);
        else if (atomic_exchange(&d->woken, false) || d->finishing)
            return 0;
        now_us = clk_now_us();
        now = now_us / 1000;
        d->idle_ms += idle ? now - began : 0;
        since_us += idle ? now_us - began_us : 0; /* nobody works while there is nothing to do */
        report_us = reporter_tick(d->reporter, now_us);
        if (!got && ms < 0)
            until = now + FOREVER_MS;
        if (!got && now >= until)
            return look(d, now, e);
    }
    if (r < 0)
        return r;
    d->since_us = since_us;
    give(d, ret);
    return 1;
}

bool drain_is_at_most_once(const struct drain *d)
{
    return d->delivery == DELIVERY_AT_MOST_ONCE;
}

bool drain_owes(struct drain *d)
{
    if (!drain_is_at_most_once(d))
        return false;
    d->finishing = true;
    return subscriber_owes(d->s) || d->at < d->batch.n;
}

void drain_wake(struct drain *d)
{
    atomic_store(&d->woken, true);
    eventfd_write(d->wake_fd, 1);
}

int drain_look(struct drain *d, struct err *e)
{
    reporter_tick(d->reporter, clk_now_us());
    return look(d, clk_now_ms(), e);
}

int drain_row(struct drain *d, uint64_t seq, const void *elements, size_t n, struct err *e)
{
    unsigned char id[SINK_ID_BYTES];
    struct held *h = at_hand(d, seq);
    if (!h)
        return err_set(e, -ENOENT, "message %llu is not held", (unsigned long long)seq);
    if (h->rows == WIRE_MAX_ROWS)
        return err_set(e, ERR_LIMIT, "the message has more than %d rows", WIRE_MAX_ROWS);
    int r = d->indexed ? 0 : index_make(d->sink, d->spec, e);
    if (r < 0)
        return r;
    d->indexed = true;
    uint64_t be = htobe64(seq | (uint64_t)h->rows << SEQ_BITS);
    memcpy(id, h->epoch, WIRE_EPOCH_BYTES);
    memcpy(id + WIRE_EPOCH_BYTES, &be, sizeof be);
    buf_add(sink_begin(d->sink, id), elements, n);
    h->rows++;
    d->rows++;
    return sink_row(d->sink, h->rows, (int64_t)h->ordinal, d->rows, "", 0, e);
}

int drain_rows(struct drain *d, uint64_t seq, const struct message_rows *rows, struct err *e)
{
    int r = 0;
    for (size_t i = 0, at = 0; r == 0 && i < rows->n; at = rows->ends[i++])
        r = drain_row(d, seq, rows->elements.p + at, rows->ends[i] - at, e);
    return r;
}

int drain_done(struct drain *d, uint64_t seq)
{
    struct held *h = at_hand(d, seq);
    if (!h)
        return -ENOENT;
    h->state = DONE;
    h->end = d->rows;
    d->settled_any = true;
    return 0;
}

int drain_refuse(struct drain *d, uint64_t seq, const char *why)
{
    struct held *h = at_hand(d, seq);
    if (!h)
        return -ENOENT;
    h->state = REFUSED;
    reporter_error(d->reporter, *why ? why : "refused by the app");
    if (!h->why)
        h->why = xstrdup(*why ? why : "refused by the app");
    d->settled_any = true;
    return 0;
}

int drain_retry(struct drain *d, uint64_t seq, uint32_t delay_ms, const char *why)
{
    struct held *h = at_hand(d, seq);
    if (!h)
        return -ENOENT;
    if (drain_is_at_most_once(d))
        return drain_refuse(d, seq, why);
    subscriber_nack(d->s, &(struct wire_range){seq, seq}, 1, delay_ms, *why ? why : "given back by the app");
    reporter_error(d->reporter, *why ? why : "given back by the app");
    free(h->why);
    memmove(h, h + 1, (size_t)(d->held + d->n_held - h - 1) * sizeof *h);
    d->n_held--;
    return 0;
}

int drain_flush(struct drain *d, struct err *e)
{
    int r = sink_flush(d->sink, e);
    if (r == 0)
        settle(d);
    return r;
}

void drain_counts(const struct drain *d, struct drain_counts *ret)
{
    *ret = d->counts;
}
