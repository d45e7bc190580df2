#include "broker.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

enum {
    BREACH_EVERY_MS = 1000, /* of a stream: a publisher that runs wild must not fill the disk */
    DEAD_PER_S = 50,        /* of a subscription, for the same reason */
};

static void write_line(struct broker *b, const char *tenant, struct buf *line)
{
    buf_adds(line, "\n");
    int r = keeper_log(b->keeper, tenant, line->p, line->n);
    if (r < 0)
        log_warn("journal", tenant, NULL, "cannot write logs/tenants/%s/stream.jsonl: %s", tenant, err_text(r));
}

static void begin(struct buf *out, const char *event, const struct bstream *st, const char *app)
{
    json_begin(out, NULL, '{');
    json_time(out, "ts", clk_wall_ms());
    json_str(out, "event", event);
    json_str(out, "tenant_id", st->tenant->id);
    json_str(out, "stream", st->name);
    json_str(out, "app", app);
}

/* By which who adds lines up knows one that a broker wrote that was killed before it remembered that (tally.h). */
static void number(struct buf *out, const struct tally *t)
{
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)t->line);
    json_str(out, "line", text);
}

static void untold(struct buf *out, const char *key, const struct tally *t, enum tally_count c)
{
    json_i64(out, key, (int64_t)tally_untold(t, c));
}

/* The tenant's stream as a whole: app null. */
static void stream_interval(struct broker *b, struct bstream *st, int64_t interval_ms)
{
    AUTO_BUF struct buf line = {0};
    const struct tally *t = stream_tally(st->queue);
    if (tally_is_told(t))
        return;
    begin(&line, "interval", st, NULL);
    number(&line, t);
    json_i64(&line, "interval_ms", interval_ms);
    untold(&line, "messages", t, TALLY_MESSAGES);
    untold(&line, "bytes", t, TALLY_BYTES);
    untold(&line, "refused", t, TALLY_REFUSED);
    json_end(&line, '}');
    write_line(b, st->tenant->id, &line);
    stream_tally_told(st->queue);
}

static void sub_interval(struct broker *b, struct bsub *s, int64_t interval_ms)
{
    AUTO_BUF struct buf line = {0};
    struct sub_figures f;
    struct sub_times t;
    const struct tally *n = sub_tally(s->queue);
    if (tally_is_told(n))
        return;
    sub_figures(s->queue, &f);
    sub_take_times(s->queue, &t);
    begin(&line, "interval", s->stream, sub_name(s->queue));
    number(&line, n);
    json_i64(&line, "interval_ms", interval_ms);
    untold(&line, "messages", n, TALLY_MESSAGES);
    untold(&line, "bytes", n, TALLY_BYTES);
    untold(&line, "rows", n, TALLY_ROWS);
    untold(&line, "errors", n, TALLY_ERRORS);
    untold(&line, "dead", n, TALLY_DEAD);
    json_f64(&line, "avg_ms", t.n ? t.average_ms : 0);
    json_i64(&line, "p99_ms", t.p99_ms);
    json_i64(&line, "ready", (int64_t)f.ready);
    json_i64(&line, "leased", (int64_t)f.leased);
    json_end(&line, '}');
    write_line(b, s->stream->tenant->id, &line);
    sub_tally_told(s->queue);
}

void journal_interval(struct broker *b)
{
    size_t i = 0;
    int64_t interval_ms = b->now_ms - b->journal_ms;
    b->journal_ms = b->now_ms;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        struct bstream *st = stream_tag(q);
        size_t k = 0;
        if (!st) /* of an offline listing */
            continue;
        stream_interval(b, st, interval_ms);
        for (struct sub *s; (s = stream_next_sub(q, &k));)
            sub_interval(b, sub_tag(s), interval_ms);
    }
}

void journal_breach(struct bstream *st, enum wire_code code, const char *detail)
{
    AUTO_BUF struct buf line = {0};
    if (st->told_breach_ms && st->b->now_ms - st->told_breach_ms < BREACH_EVERY_MS)
        return; /* the interval counts them all */
    st->told_breach_ms = st->b->now_ms;
    begin(&line, "breach", st, NULL);
    json_str(&line, "reason", wire_code_name(code));
    json_str(&line, "detail", detail);
    json_end(&line, '}');
    write_line(st->b, st->tenant->id, &line);
}

void journal_cut_off(struct bstream *st, const char *app, bool cut_off)
{
    AUTO_BUF struct buf line = {0};
    begin(&line, cut_off ? "cut_off" : "resumed", st, app);
    if (cut_off)
        json_str(&line, "reason", st->too_many_rejects ? "max_reject_pct" : "breaches");
    json_end(&line, '}');
    write_line(st->b, st->tenant->id, &line);
}

static void lost_line(struct bstream *st, const char *app, uint64_t n)
{
    AUTO_BUF struct buf line = {0};
    const struct stream_loss loss = stream_loss(st->queue);
    begin(&line, "lost", st, app);
    json_i64(&line, "messages", (int64_t)n);
    json_i64(&line, "first_seq", (int64_t)loss.first);
    json_i64(&line, "last_seq", (int64_t)loss.last);
    json_end(&line, '}');
    write_line(st->b, st->tenant->id, &line);
}

void journal_lost(struct bstream *st)
{
    size_t i = 0;
    if (!stream_loss(st->queue).n)
        return;
    lost_line(st, NULL, stream_loss(st->queue).n);
    for (struct sub *s; (s = stream_next_sub(st->queue, &i));) {
        struct sub_figures f;
        sub_figures(s, &f);
        if (f.lost)
            lost_line(st, sub_name(s), f.lost);
    }
}

void journal_dead(struct bsub *s, const struct dead_letter *d)
{
    AUTO_BUF struct buf line = {0};
    int64_t second = s->stream->b->now_ms / 1000;
    s->n_dead_told = s->dead_s == second ? s->n_dead_told + 1 : 1;
    s->dead_s = second;
    if (s->n_dead_told > DEAD_PER_S)
        return; /* the interval counts them all, and the store has them */
    begin(&line, "dead", s->stream, sub_name(s->queue));
    json_i64(&line, "seq", (int64_t)d->seq);
    json_i64(&line, "deliveries", d->deliveries);
    json_str(&line, "reason", d->reason);
    json_end(&line, '}');
    write_line(s->stream->b, s->stream->tenant->id, &line);
    log_info("dead", s->stream->tenant->id, NULL, "stream %s, app %s: message %llu after %d deliveries: %s", s->stream->name,
             sub_name(s->queue), (unsigned long long)d->seq, d->deliveries, d->reason);
}
