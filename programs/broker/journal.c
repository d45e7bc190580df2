#include "journal.h"

#include "parts.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

enum {
    BREACH_EVERY_MS = 1000, /* of a stream */
    DEAD_PER_S = 50,        /* of a subscription */
};

static void write_line(struct broker *b, const char *tenant, struct buf *line)
{
    buf_adds(line, "\n");
    int r = keeper_log(b->keeper, tenant, line->p, line->n);
    if (r < 0)
        log_warn("journal", tenant, NULL, "cannot write logs/tenants/%s/stream.jsonl: %s", tenant, err_text(r));
}

static void begin(struct buf *out, const char *event, const struct broker_stream *st, const char *app)
{
    json_begin(out, NULL, '{');
    json_time(out, "ts", clk_wall_ms());
    json_str(out, "event", event);
    json_str(out, "tenant_id", st->tenant->id);
    json_str(out, "stream", st->name);
    json_str(out, "app", app);
}

/* The line's number: two lines with the same one are the same interval, of which the later counts. A broker that is killed before
 * it remembers that it wrote a line writes it again (store/tally.h). */
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

/* Of the stream as a whole: its app is null. */
static void stream_interval(struct broker *b, struct broker_stream *st, int64_t interval_ms)
{
    AUTO_BUF struct buf line = {0};
    const struct tally *t = stream_tally(st->stream);
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
    stream_tally_told(st->stream);
}

static void sub_interval(struct broker *b, struct broker_sub *bs, int64_t interval_ms)
{
    AUTO_BUF struct buf line = {0};
    struct sub_figures f;
    struct sub_times t;
    const struct tally *n = sub_tally(bs->sub);
    if (tally_is_told(n))
        return;
    sub_figures(bs->sub, &f);
    sub_take_times(bs->sub, &t);
    begin(&line, "interval", bs->stream, sub_name(bs->sub));
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
    write_line(b, bs->stream->tenant->id, &line);
    sub_tally_told(bs->sub);
}

void journal_interval(struct broker *b)
{
    size_t i = 0;
    int64_t interval_ms = b->now_ms - b->journal_ms;
    b->journal_ms = b->now_ms;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        struct broker_stream *st = stream_tag(stream);
        size_t k = 0;
        if (!st) /* of an offline listing */
            continue;
        stream_interval(b, st, interval_ms);
        for (struct sub *s; (s = stream_next_sub(stream, &k));)
            sub_interval(b, sub_tag(s), interval_ms);
    }
}

void journal_breach(struct broker_stream *st, enum wire_code code, const char *detail)
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

void journal_cut_off(struct broker_stream *st, const char *app)
{
    static const char *const reasons[] = {[CUT_OFF_BREACHES] = "breaches", [CUT_OFF_REJECTS] = "max_reject_pct"};
    AUTO_BUF struct buf line = {0};
    begin(&line, st->cut_off == NOT_CUT_OFF ? "resumed" : "cut_off", st, app);
    if (st->cut_off != NOT_CUT_OFF)
        json_str(&line, "reason", reasons[st->cut_off]);
    json_end(&line, '}');
    write_line(st->b, st->tenant->id, &line);
}

static void lost_line(struct broker_stream *st, const char *app, uint64_t n)
{
    AUTO_BUF struct buf line = {0};
    const struct stream_loss loss = stream_loss(st->stream);
    begin(&line, "lost", st, app);
    json_i64(&line, "messages", (int64_t)n);
    json_i64(&line, "first_seq", (int64_t)loss.first);
    json_i64(&line, "last_seq", (int64_t)loss.last);
    json_end(&line, '}');
    write_line(st->b, st->tenant->id, &line);
}

void journal_lost(struct broker_stream *st)
{
    size_t i = 0;
    if (!stream_loss(st->stream).n)
        return;
    lost_line(st, NULL, stream_loss(st->stream).n);
    for (struct sub *s; (s = stream_next_sub(st->stream, &i));) {
        struct sub_figures f;
        sub_figures(s, &f);
        if (f.lost)
            lost_line(st, sub_name(s), f.lost);
    }
}

void journal_dead(struct broker_sub *bs, const struct dead_letter *d)
{
    AUTO_BUF struct buf line = {0};
    int64_t second = bs->stream->b->now_ms / 1000;
    bs->n_dead_told = bs->dead_s == second ? bs->n_dead_told + 1 : 1;
    bs->dead_s = second;
    if (bs->n_dead_told > DEAD_PER_S)
        return; /* the interval counts them all, and the store has them */
    begin(&line, "dead", bs->stream, sub_name(bs->sub));
    const uint64_t seq = parts_wire_seq(bs->stream, d->seq);
    json_i64(&line, "seq", (int64_t)seq);
    json_i64(&line, "deliveries", d->deliveries);
    json_str(&line, "reason", d->reason);
    json_end(&line, '}');
    write_line(bs->stream->b, bs->stream->tenant->id, &line);
    log_info("dead", bs->stream->tenant->id, NULL, "stream %s, app %s: message %llu after %d deliveries: %s", bs->stream->name,
             sub_name(bs->sub), (unsigned long long)seq, d->deliveries, d->reason);
}
