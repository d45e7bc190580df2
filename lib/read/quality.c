#include "quality.h"

#include "base/json.h"

enum { MAX_DAY = 3000000, MAX_NAME = 255 };

#define MAX_COUNT (INT64_C(1) << 53)

void quality_init(struct quality *q, int64_t day)
{
    *q = (struct quality){.day = day, .figures = figures_new()};
    figures_limit_names(q->figures, MAX_NAME);
}

void quality_fini(struct quality *q)
{
    figures_free(q->figures);
    *q = (struct quality){0};
}

void quality_keep(const struct quality *q, struct buf *out)
{
    size_t begin = out->n;
    json_begin(out, NULL, '{');
    json_i64(out, "day", q->day);
    json_i64(out, "messages", q->messages);
    json_i64(out, "rows", q->rows);
    json_i64(out, "rejects", q->rejects);
    json_i64(out, "until_ms", q->until_ms);
    figures_keep(q->figures, QUALITY_MAX_BYTES - (out->n - begin) - 2, out);
    json_end(out, '}');
}

int64_t quality_day(const bson_t *kept)
{
    int64_t day = json_get_i64(kept, "day", -1);
    return day >= 0 && day < MAX_DAY ? day : -1;
}

static void add(int64_t *sum, const bson_t *kept, const char *key)
{
    int64_t n = json_get_i64(kept, key, 0);
    n = n < 0 ? 0 : n > MAX_COUNT ? MAX_COUNT : n;
    *sum = *sum + n < MAX_COUNT ? *sum + n : MAX_COUNT;
}

bool quality_add_kept(struct quality *q, const bson_t *kept)
{
    int64_t until = json_get_i64(kept, "until_ms", 0);
    if (quality_day(kept) != q->day)
        return false;
    add(&q->messages, kept, "messages");
    add(&q->rows, kept, "rows");
    add(&q->rejects, kept, "rejects");
    if (until > q->until_ms && until <= MAX_COUNT)
        q->until_ms = until;
    figures_place(q->figures, 1); /* the place where a column changes its kind is a message, not a line */
    figures_add_kept(q->figures, kept);
    return true;
}

void quality_show(const struct quality *q, const char *key, struct buf *out)
{
    json_begin(out, key, '{');
    json_i64(out, "messages", q->messages);
    json_i64(out, "rows", q->rows);
    json_i64(out, "columns", (int64_t)figures_n_columns(q->figures));
    json_i64(out, "rejects", q->rejects);
    figures_json(q->figures, q->until_ms, out);
    json_end(out, '}');
}
