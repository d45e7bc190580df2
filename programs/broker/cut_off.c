#include "cut_off.h"
#include "journal.h"
#include "parts.h"

#include "base/fd.h"
#include "base/log.h"
#include "read/reader.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum { MINUTE_MS = 60000, ENOUGH_MESSAGES = 20 };

#define CUT_OFF_FILE "cut_off.json" /* in the store's directory */

static void list(struct broker *b, struct buf *out, const char *key, bool for_rejects)
{
    size_t i = 0;
    json_begin(out, key, '[');
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(stream);
        if (st->cut_off == CUT_OFF_REJECTS || (st->cut_off == CUT_OFF_BREACHES && !for_rejects))
            json_str(out, NULL, stream_name(stream));
    }
    json_end(out, ']');
}

static int save(struct broker *b)
{
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    json_begin(&out, NULL, '{');
    list(b, &out, "streams", false);
    list(b, &out, "for_rejects", true);
    json_end(&out, '}');
    int r = fd_write_file(b->store_fd, CUT_OFF_FILE, out.p, out.n, 0600, &e);
    if (r < 0)
        log_error("cut_off", NULL, NULL, "%s", e.msg);
    return r;
}

/* A stream is cut off for one reason at a time: the first. */
static void set_cut_off(struct broker_stream *st, enum cut_off why, const char *app)
{
    assert((st->cut_off == NOT_CUT_OFF) != (why == NOT_CUT_OFF));
    st->cut_off = why;
    if (why != NOT_CUT_OFF)
        save(st->b);
    journal_cut_off(st, app);
}

/* ---- why ---- */

void cut_off_count_breach(struct broker_stream *st, enum wire_code code, const char *detail)
{
    journal_breach(st, code, detail);
    if (st->conf.on_breach != ON_BREACH_suspend ||
        !breaches_add(&st->breaches, (size_t)st->conf.breaches, st->conf.breach_window_s * 1000, st->b->now_ms))
        return;
    log_warn("cut_off", st->tenant->id, NULL,
             "stream %s: %lld breaches within %lld s; publishing is refused until `mysimbdp tenant resume %s`", st->name,
             (long long)st->conf.breaches, (long long)st->conf.breach_window_s, st->tenant->id);
    set_cut_off(st, CUT_OFF_BREACHES, NULL);
}

void cut_off_look_at_rejects(struct broker_sub *bs)
{
    struct broker_stream *st = bs->stream;
    struct sub_figures f;
    parts_sub_figures(bs, &f);
    uint64_t rejected = f.rejected - bs->minute.rejected, settled = f.acked - bs->minute.acked + rejected;
    double most = st->conf.max_reject_pct;
    bool broken = st->configured && st->cut_off == NOT_CUT_OFF && settled >= ENOUGH_MESSAGES &&
                  reader_rejects_exceed((int64_t)rejected, (int64_t)settled, most);
    if (broken) {
        log_warn("cut_off", st->tenant->id, NULL,
                 "stream %s: app %s refused %" PRIu64 " of %" PRIu64
                 " messages within a minute; max_reject_pct is %g; publishing is refused "
                 "until `mysimbdp tenant resume %s`",
                 st->name, sub_name(bs->sub), rejected, settled, most, st->tenant->id);
        set_cut_off(st, CUT_OFF_REJECTS, sub_name(bs->sub));
    }
    if (broken || st->b->now_ms - bs->minute.begun_ms >= MINUTE_MS) {
        bs->minute.begun_ms = st->b->now_ms;
        bs->minute.acked = f.acked;
        bs->minute.rejected = f.rejected;
    }
}

void cut_off_as_before(struct broker_stream *st, uint32_t why)
{
    if (st->cut_off != NOT_CUT_OFF || (why != CUT_OFF_BREACHES && why != CUT_OFF_REJECTS))
        return;
    st->cut_off = (enum cut_off)why;
    save(st->b);
}

/* ---- until when ---- */

int cut_off_resume(struct broker *b, const char *tenant)
{
    size_t i = 0;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        struct broker_stream *st = stream_tag(stream);
        if (strcmp(st->tenant->id, tenant) != 0 || st->cut_off == NOT_CUT_OFF)
            continue;
        breaches_fini(&st->breaches);
        set_cut_off(st, NOT_CUT_OFF, NULL);
    }
    return save(b);
}

static void load_list(struct broker *b, bson_iter_t *names, enum cut_off why)
{
    while (bson_iter_next(names)) {
        struct stream *stream = BSON_ITER_HOLDS_UTF8(names) ? streams_find(b->streams, bson_iter_utf8(names, NULL)) : NULL;
        struct broker_stream *st = stream ? stream_tag(stream) : NULL;
        if (st)
            st->cut_off = why;
    }
}

void cut_off_load(struct broker *b)
{
    AUTO_BUF struct buf text = {0};
    bson_iter_t it;
    if (fd_read_file(b->store_fd, CUT_OFF_FILE, &text, 16 << 20, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(text.p, text.n, NULL);
    if (doc && json_get_iter(doc, "streams", &it))
        load_list(b, &it, CUT_OFF_BREACHES);
    if (doc && json_get_iter(doc, "for_rejects", &it)) /* they are among the others, too */
        load_list(b, &it, CUT_OFF_REJECTS);
}
