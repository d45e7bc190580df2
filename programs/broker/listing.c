#include "listing.h"

#include "base/clk.h"
#include "base/mem.h"

#include <sodium.h>
#include <string.h>

enum { SHOWN_BYTES = 4096 };

static void add_queue(struct buf *out, const struct broker_stream *st, const struct broker_sub *bs, int64_t now_wall)
{
    struct stream_figures f;
    struct sub_figures g = {0};
    stream_figures(st->stream, &f);
    if (bs)
        sub_figures(bs->sub, &g);
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", st->tenant->id);
    json_str(out, "stream", st->name);
    json_str(out, "app", bs ? sub_name(bs->sub) : NULL);
    json_str(out, "state",
             !st->configured || (bs && !bs->configured) ? "unconfigured"
             : st->tenant->suspended                    ? "suspended"
             : st->cut_off                              ? "cut_off"
                                                        : "active");
    json_i64(out, "consumers", (int64_t)g.n_consumers);
    json_i64(out, "ready", bs ? (int64_t)(g.ready + g.delayed) : (int64_t)(f.next_seq - f.first_seq));
    json_i64(out, "leased", (int64_t)g.leased);
    json_f64(out, "in_per_s", st->in_per_s);
    json_f64(out, "acked_per_s", bs ? bs->acked_per_s : 0);
    int64_t age_ms = g.oldest_wall_ms && now_wall > g.oldest_wall_ms ? now_wall - g.oldest_wall_ms : 0, age_s = age_ms / 1000;
    json_f64(out, "oldest_age_s", (double)age_s);
    json_i64(out, "redelivered", (int64_t)g.redelivered);
    json_i64(out, "dead", (int64_t)g.dead);
    json_i64(out, "acked", (int64_t)g.acked);
    json_i64(out, "rows", bs ? (int64_t)sub_tally(bs->sub)->v[TALLY_ROWS] : 0);
    json_i64(out, "lost", (int64_t)g.lost);
    json_i64(out, "expired", (int64_t)g.expired);
    json_i64(out, "published", (int64_t)stream_tally(st->stream)->v[TALLY_MESSAGES]);
    json_i64(out, "refused", (int64_t)stream_tally(st->stream)->v[TALLY_REFUSED]);
    json_i64(out, "stored_bytes", f.bytes);
    json_i64(out, "last_seq", (int64_t)f.next_seq - 1);
    json_end(out, '}');
}

void listing_streams(struct broker *b, struct buf *out, const char *tenant)
{
    size_t i = 0;
    int64_t now = clk_wall_ms();
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(stream);
        size_t k = 0;
        if (tenant && strcmp(tenant, st->tenant->id))
            continue;
        for (struct sub *s; (s = stream_next_sub(stream, &k));)
            add_queue(out, st, sub_tag(s), now);
        if (!k)
            add_queue(out, st, NULL, now);
    }
}

static void add_consumers_of(struct broker_sub *bs, void *arg)
{
    struct buf *out = arg;
    size_t i = 0;
    for (struct consumer *c; (c = sub_next_consumer(bs->sub, &i));) {
        const struct session *session = ((struct broker_consumer *)consumer_tag(c))->session;
        json_begin(out, NULL, '{');
        json_str(out, "tenant_id", bs->stream->tenant->id);
        json_str(out, "stream", bs->stream->name);
        json_str(out, "app", sub_name(bs->sub));
        json_i64(out, "session", (int64_t)session->number);
        json_i64_or_null(out, "pid", zmtp_pid(session->conn));
        json_i64(out, "leased", (int64_t)consumer_n_leased(c));
        json_i64(out, "ran_out", (int64_t)consumer_n_ran_out(c));
        json_end(out, '}');
    }
}

static void add_dead(struct buf *out, struct broker_sub *bs, const struct dead_letter *d)
{
    size_t n = 0;
    int64_t wall_ms = 0;
    const char *p = stream_read(bs->stream->stream, d->seq, &n, &wall_ms);
    size_t shown = n < SHOWN_BYTES ? n : SHOWN_BYTES;
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", bs->stream->tenant->id);
    json_str(out, "stream", bs->stream->name);
    json_str(out, "app", sub_name(bs->sub));
    json_i64(out, "seq", (int64_t)d->seq);
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

struct listing {
    struct buf *out;
    uint64_t after;
    int64_t left;
    bool more;
};

static void list_dead(struct broker_sub *bs, void *arg)
{
    struct listing *l = arg;
    struct dead_letter d;
    for (uint64_t seq = l->after + 1; !l->more && sub_next_dead(bs->sub, seq, &d); seq = d.seq + 1) {
        l->more = l->left-- <= 0;
        if (!l->more)
            add_dead(l->out, bs, &d);
    }
}

bool listing_dead(struct broker *b, struct buf *out, const char *tenant, const char *stream, const char *app, uint64_t after,
                  int64_t limit)
{
    struct listing l = {out, after, limit, false};
    listing_each_sub(b, tenant, stream, app, list_dead, &l);
    return l.more;
}

void listing_consumers(struct broker *b, struct buf *out)
{
    listing_each_sub(b, NULL, NULL, NULL, add_consumers_of, out);
}
