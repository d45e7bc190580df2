#include "quality_log.h"

#include "base/clk.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Days that are over: a day's text more, so that the last one is there in full until it was looked at. */
enum { OVER_MAX_BYTES = QUALITY_MAX_BYTES, WRITE_MS = 1000 };

struct quality_log {
    struct quality today;
    struct buf over, text; /* over: of the days before, each with a comma in front of it */
    int64_t dirty_ms;      /* since then something is new; 0: nothing is */
};

struct quality_log *quality_log_open(void)
{
    const char *wanted = getenv("SIMBDP_QUALITY");
    if (wanted && !strcmp(wanted, "0"))
        return NULL;
    AUTO_QUALITY_LOG struct quality_log *l = xcalloc(1, sizeof *l);
    quality_init(&l->today, clk_day(clk_wall_ms()));
    return TAKE(l);
}

void quality_log_close(struct quality_log *l)
{
    if (!l)
        return;
    quality_fini(&l->today);
    buf_fini(&l->over);
    buf_fini(&l->text);
    free(l);
}

/* A clock that is set back begins no day anew. */
static void look_at_day(struct quality_log *l)
{
    AUTO_BUF struct buf day_text = {0}, all = {0};
    int64_t day = clk_day(clk_wall_ms());
    if (day <= l->today.day)
        return;
    if (l->today.messages) {
        quality_keep(&l->today, &day_text);
        buf_adds(&all, ",");
        buf_add(&all, day_text.p, day_text.n);
        if (all.n + l->over.n <= OVER_MAX_BYTES)
            buf_add(&all, l->over.p, l->over.n);
        buf_reset(&l->over);
        buf_add(&l->over, all.p, all.n);
    }
    quality_fini(&l->today);
    quality_init(&l->today, day);
}

struct figures *quality_log_begin(struct quality_log *l, uint64_t seq)
{
    if (!l)
        return NULL;
    look_at_day(l);
    figures_place(l->today.figures, (int64_t)seq);
    return l->today.figures;
}

void quality_log_end(struct quality_log *l, int64_t published_ms, int64_t rows)
{
    if (!l)
        return;
    l->today.messages++;
    l->today.rows += rows > 0 ? rows : 0;
    l->today.rejects += rows < 0;
    if (published_ms > l->today.until_ms)
        l->today.until_ms = published_ms;
    if (!l->dirty_ms)
        l->dirty_ms = clk_now_ms();
}

void quality_log_refuse(struct quality_log *l, uint64_t seq, int64_t published_ms, const char *rule)
{
    struct figures *f = quality_log_begin(l, seq);
    if (f)
        figures_reject(f, -1, rule);
    quality_log_end(l, published_ms, -1);
}

/* An array of days; NULL: there is nothing. */
static const char *text_of(struct quality_log *l)
{
    if (!l || (!l->today.messages && !l->over.n))
        return NULL;
    buf_reset(&l->text);
    buf_adds(&l->text, "[");
    if (l->today.messages)
        quality_keep(&l->today, &l->text);
    if (l->over.n)
        buf_add(&l->text, l->over.p + !l->today.messages, l->over.n - !l->today.messages);
    buf_adds(&l->text, "]");
    l->dirty_ms = 0;
    return l->text.p;
}

void quality_log_fill(struct quality_log *l, const struct drain *d, struct result_file *r)
{
    struct drain_counts c = {0};
    if (d)
        drain_counts(d, &c);
    r->parsed = c.messages;
    r->loaded = c.rows;
    r->rejected = c.refused;
    r->quality = text_of(l);
}

int64_t quality_log_tell(struct quality_log *l, const struct drain *d, struct result_file *r)
{
    int64_t now = clk_now_ms();
    if (!l || !l->dirty_ms)
        return -1;
    if (now - l->dirty_ms < WRITE_MS)
        return l->dirty_ms + WRITE_MS - now;
    quality_log_fill(l, d, r);
    result_file_write(r, NULL, NULL);
    return -1;
}
