#include "listing.h"
#include "kafka.h"
#include "parts.h"

#include "base/clk.h"
#include "base/mem.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* READ_BYTES: of messages read for one listing; who has large ones gets fewer of them at once, and holds nobody up. */
enum { SHOWN_BYTES = 4096, READ_BYTES = 4 << 20 };

static const char *state_of(const struct broker_stream *st, const struct broker_sub *bs)
{
    return !st->configured || (bs && !bs->configured) ? "unconfigured"
           : st->tenant->suspended                    ? "suspended"
           : st->cut_off                              ? "cut_off"
                                                      : "active";
}

static int64_t age_s(int64_t oldest_wall_ms, int64_t now_wall)
{
    return oldest_wall_ms && now_wall > oldest_wall_ms ? (now_wall - oldest_wall_ms) / 1000 : 0;
}

static void add_queue(struct buf *out, const struct broker_stream *st, const struct broker_sub *bs, int64_t now_wall)
{
    struct stream_figures f;
    struct sub_figures g = {0};
    parts_figures(st, &f);
    if (bs)
        parts_sub_figures(bs, &g);
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", st->tenant->id);
    json_str(out, "stream", st->name);
    json_str(out, "app", bs ? sub_name(bs->sub) : NULL);
    json_str(out, "state", state_of(st, bs));
    json_i64(out, "consumers", (int64_t)g.n_consumers);
    json_i64(out, "ready", bs ? (int64_t)(g.ready + g.delayed) : (int64_t)(f.next_seq - f.first_seq));
    json_i64(out, "leased", (int64_t)g.leased);
    json_f64(out, "in_per_s", parts_in_per_s(st));
    json_f64(out, "acked_per_s", bs ? parts_acked_per_s(bs) : 0);
    json_f64(out, "oldest_age_s", (double)age_s(g.oldest_wall_ms, now_wall));
    json_i64(out, "redelivered", (int64_t)g.redelivered);
    json_i64(out, "dead", (int64_t)g.dead);
    json_i64(out, "acked", (int64_t)g.acked);
    json_i64(out, "rows", bs ? (int64_t)parts_sub_tally(bs, TALLY_ROWS) : 0);
    json_i64(out, "lost", (int64_t)g.lost);
    json_i64(out, "expired", (int64_t)g.expired);
    json_i64(out, "published", (int64_t)parts_tally(st, TALLY_MESSAGES));
    json_i64(out, "refused", (int64_t)parts_tally(st, TALLY_REFUSED));
    json_i64(out, "stored_bytes", f.bytes);
    json_i64(out, "last_seq", (int64_t)f.next_seq - 1);
    json_i64(out, "partitions", (int64_t)st->n_parts);
    kafka_tell(st, out);
    json_end(out, '}');
}

void listing_streams(struct broker *b, struct buf *out, const char *tenant)
{
    size_t i = 0;
    int64_t now = clk_wall_ms();
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(stream);
        size_t k = 0;
        if (st->whole != st || (tenant && strcmp(tenant, st->tenant->id)))
            continue;
        for (struct sub *s; (s = stream_next_sub(stream, &k));)
            add_queue(out, st, sub_tag(s), now);
        if (!k)
            add_queue(out, st, NULL, now);
    }
}

/* ---- as tenants see it ---- */

static void add_limits(struct buf *out, const struct conf_stream *c)
{
    json_begin(out, "limits", '{');
    json_i64_or_null(out, "max_message_bytes", c->max_message_bytes);
    json_i64_or_null(out, "max_messages_per_s", c->max_messages_per_s);
    json_i64_or_null(out, "max_bytes_per_s", c->max_bytes_per_s);
    json_i64_or_null(out, "max_rows_per_s", c->max_rows_per_s);
    json_i64_or_null(out, "max_stored_bytes", c->max_stored_bytes);
    json_i64_or_null(out, "retention_s", c->retention_s);
    json_i64_or_null(out, "dead_retention_s", c->dead_retention_s);
    json_i64_or_null(out, "max_deliveries", c->max_deliveries);
    json_end(out, '}');
}

static void add_app(struct buf *out, const struct broker_stream *st, const struct broker_sub *bs, const struct sub_figures *g,
                    int64_t now_wall)
{
    uint64_t waiting = g->ready + g->delayed;
    json_begin(out, NULL, '{');
    json_str(out, "app", sub_name(bs->sub));
    json_str(out, "state", state_of(st, bs));
    json_i64(out, "consumers", (int64_t)g->n_consumers);
    json_i64(out, "waiting", (int64_t)waiting);
    json_i64(out, "in_flight", (int64_t)g->leased);
    json_i64(out, "dead_letters", (int64_t)g->dead);
    json_i64_or_null(out, "oldest_age_s", waiting + g->leased ? age_s(g->oldest_wall_ms, now_wall) : -1);
    json_f64(out, "acknowledged_per_s", parts_acked_per_s(bs));
    json_i64(out, "acknowledged", (int64_t)g->acked);
    json_i64(out, "rows", (int64_t)parts_sub_tally(bs, TALLY_ROWS));
    json_end(out, '}');
}

static void add_stream(struct buf *out, const struct broker_stream *st, int64_t now_wall)
{
    struct stream_figures f;
    struct sub_figures g;
    uint64_t leased = 0, dead = 0;
    int64_t oldest_s = -1;
    size_t k = 0;
    parts_figures(st, &f);
    json_begin(out, NULL, '{');
    json_str(out, "stream", st->name);
    json_str(out, "state", state_of(st, NULL));
    json_i64(out, "messages", (int64_t)(f.next_seq - f.first_seq));
    json_i64(out, "stored_bytes", f.bytes);
    json_i64(out, "last_sequence", (int64_t)f.next_seq - 1);
    json_f64(out, "published_per_s", parts_in_per_s(st));
    json_i64(out, "published", (int64_t)parts_tally(st, TALLY_MESSAGES));
    json_i64(out, "refused", (int64_t)parts_tally(st, TALLY_REFUSED));
    add_limits(out, &st->conf);
    json_begin(out, "apps", '[');
    for (struct sub *s; (s = stream_next_sub(st->stream, &k));) {
        parts_sub_figures(sub_tag(s), &g);
        add_app(out, st, sub_tag(s), &g, now_wall);
        leased += g.leased;
        dead += g.dead;
        int64_t age = g.ready + g.delayed + g.leased ? age_s(g.oldest_wall_ms, now_wall) : -1;
        oldest_s = age > oldest_s ? age : oldest_s;
    }
    json_end(out, ']');
    json_i64(out, "in_flight", (int64_t)leased);
    json_i64(out, "dead_letters", (int64_t)dead);
    json_i64_or_null(out, "oldest_age_s", oldest_s);
    json_end(out, '}');
}

size_t listing_of_tenant(struct broker *b, struct buf *out, const char *tenant, const char *stream)
{
    size_t i = 0, n = 0;
    int64_t now = clk_wall_ms();
    for (struct stream *v; (v = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(v);
        if (st->whole != st || strcmp(tenant, st->tenant->id) != 0 || (stream && strcmp(stream, st->name) != 0))
            continue;
        add_stream(out, st, now);
        n++;
    }
    return n;
}

/* ---- consumers, dead letters ---- */

static void add_consumers_of(struct broker_sub *bs, void *arg)
{
    struct buf *out = arg;
    size_t i = 0;
    if (bs->whole != bs)
        return; /* they are those of the whole */
    for (struct consumer *c; (c = sub_next_consumer(bs->sub, &i));) {
        const struct session *session = ((struct broker_consumer *)consumer_tag(c))->session;
        json_begin(out, NULL, '{');
        json_str(out, "tenant_id", bs->stream->tenant->id);
        json_str(out, "stream", bs->stream->name);
        json_str(out, "app", sub_name(bs->sub));
        json_i64(out, "session", (int64_t)session->number);
        json_i64_or_null(out, "pid", zmtp_pid(session->conn));
        json_str(out, "run_id", *session->run ? session->run : NULL);
        json_i64(out, "leased", (int64_t)consumer_n_leased(c));
        json_i64(out, "ran_out", (int64_t)consumer_n_ran_out(c));
        json_end(out, '}');
    }
}

/* How many bytes were read for it. */
static size_t add_dead(struct buf *out, struct broker_sub *bs, const struct dead_letter *d)
{
    char id[DEAD_ID_SIZE];
    size_t n = 0;
    int64_t wall_ms = 0;
    const char *p = stream_read(bs->stream->stream, d->seq, &n, &wall_ms);
    size_t shown = n < SHOWN_BYTES ? n : SHOWN_BYTES;
    const uint64_t seq = parts_wire_seq(bs->stream, d->seq);
    listing_dead_id(id, seq, sub_name(bs->sub));
    json_begin(out, NULL, '{');
    json_str(out, "id", id);
    json_str(out, "tenant_id", bs->stream->tenant->id);
    json_str(out, "stream", bs->stream->name);
    json_str(out, "app", sub_name(bs->sub));
    json_i64(out, "seq", (int64_t)seq);
    json_i64(out, "deliveries", d->deliveries);
    json_str(out, "reason", d->reason);
    json_time(out, "published_at", wall_ms);
    json_time(out, "died_at", d->wall_ms);
    json_i64_or_null(out, "bytes", p ? (int64_t)n : -1);
    if (p && n == shown && utf8_valid(p, n) && !memchr(p, 0, n)) {
        json_strn(out, "message", p, n);
        json_null(out, "base64");
    } else if (p) {
        AUTO_FREE char *text = xmalloc(sodium_base64_ENCODED_LEN(SHOWN_BYTES, sodium_base64_VARIANT_ORIGINAL));
        sodium_bin2base64(text, sodium_base64_ENCODED_LEN(SHOWN_BYTES, sodium_base64_VARIANT_ORIGINAL), (const unsigned char *)p,
                          shown, sodium_base64_VARIANT_ORIGINAL);
        json_null(out, "message");
        json_str(out, "base64", text);
    } else {
        json_null(out, "message");
        json_null(out, "base64");
    }
    json_end(out, '}');
    return p ? n : 0;
}

size_t listing_each_sub(struct broker *b, const char *tenant, const char *stream, const char *app,
                        void (*fn)(struct broker_sub *bs, void *arg), void *arg)
{
    size_t i = 0, n = 0;
    for (struct stream *v; (v = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(v);
        size_t k = 0;
        if ((tenant && strcmp(tenant, st->tenant->id)) || (stream && strcmp(stream, st->name)))
            continue;
        for (struct sub *s; (s = stream_next_sub(v, &k));)
            if (!app || !strcmp(app, sub_name(s))) {
                fn(sub_tag(s), arg);
                n++;
            }
    }
    return n;
}

void listing_dead_id(char ret[DEAD_ID_SIZE], uint64_t seq, const char *app)
{
    snprintf(ret, DEAD_ID_SIZE, "%" PRIu64 ".%s", seq, app);
}

bool listing_read_dead_id(const char *id, uint64_t *ret_seq, const char **ret_app)
{
    enum { MAX_DIGITS = 18 };
    size_t n = strspn(id, "0123456789");
    if (!n || n > MAX_DIGITS || *id == '0' || id[n] != '.' || !conf_valid_id(id + n + 1))
        return false;
    *ret_seq = strtoull(id, NULL, 10);
    *ret_app = id + n + 1;
    return true;
}

/* The partition's first behind (seq, after_app); after_app NULL: with a higher sequence. NULL: there is none. */
static struct broker_sub *next_dead_in(const struct stream *st, const char *app, uint64_t seq, const char *after_app,
                                       struct dead_letter *ret)
{
    struct broker_sub *found = NULL;
    size_t k = 0;
    for (struct sub *s; (s = stream_next_sub(st, &k));) {
        struct dead_letter d;
        uint64_t from = seq + !(after_app && strcmp(sub_name(s), after_app) > 0);
        if ((app && strcmp(app, sub_name(s)) != 0) || !sub_next_dead(s, from, &d))
            continue;
        if (!found || d.seq < ret->seq || (d.seq == ret->seq && strcmp(sub_name(s), sub_name(found->sub)) < 0)) {
            found = sub_tag(s);
            *ret = d;
        }
    }
    return found;
}

/* Likewise of the whole stream; *seq becomes its sequence on the wire. */
static struct broker_sub *next_dead(const struct broker_stream *whole, const char *app, uint64_t *seq, const char *after_app,
                                    struct dead_letter *ret)
{
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(whole, &i));) {
        const uint64_t base = parts_wire_seq(st, 0);
        bool inside = *seq >= base;
        struct broker_sub *bs = next_dead_in(st->stream, app, inside ? *seq - base : 0, inside ? after_app : NULL, ret);
        if (!bs)
            continue;
        *seq = parts_wire_seq(st, ret->seq);
        return bs;
    }
    return NULL;
}

bool listing_dead(struct broker *b, struct buf *out, const struct dead_asked *asked, char ret_last[DEAD_ID_SIZE])
{
    size_t i = 0, bytes = 0;
    int64_t left = asked->limit;
    for (struct stream *v; (v = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(v);
        struct dead_letter d;
        uint64_t seq = asked->after;
        const char *after_app = asked->after_app;
        if (st->whole != st || (asked->tenant && strcmp(asked->tenant, st->tenant->id) != 0) ||
            (asked->stream && strcmp(asked->stream, st->name) != 0))
            continue;
        for (struct broker_sub *bs; (bs = next_dead(st, asked->app, &seq, after_app, &d));) {
            if (left-- <= 0 || (asked->bounded && bytes >= READ_BYTES))
                return true;
            bytes += add_dead(out, bs, &d);
            after_app = sub_name(bs->sub);
            listing_dead_id(ret_last, seq, after_app);
        }
    }
    return false;
}

void listing_consumers(struct broker *b, struct buf *out)
{
    listing_each_sub(b, NULL, NULL, NULL, add_consumers_of, out);
}
