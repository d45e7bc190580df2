#include "describe_show.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/mem.h"
#include "base/strs.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>

enum { NAME_WIDTH = 20, MAX_COLS = 32, TIME_BYTES = 24, TIME_SHOWN = 19, FIRST_RANK = 2 };

/* ---- one value ---- */

static bool is_time(const char *text)
{
    int64_t ms;
    return strlen(text) == TIME_BYTES && text[10] == 'T' && clk_parse(text, &ms) == 0;
}

static char *number_text(const bson_iter_t *it)
{
    return BSON_ITER_HOLDS_DOUBLE(it) ? xasprintf("%.6g", bson_iter_double(it))
                                      : xasprintf("%lld", (long long)bson_iter_as_int64(it));
}

/* NULL: it is null, empty, or no scalar. The caller frees. */
static char *scalar_text(const bson_iter_t *it)
{
    if (BSON_ITER_HOLDS_BOOL(it))
        return xstrdup(bson_iter_bool(it) ? "yes" : "no");
    if (BSON_ITER_HOLDS_NUMBER(it))
        return number_text(it);
    if (!BSON_ITER_HOLDS_UTF8(it) || !*bson_iter_utf8(it, NULL))
        return NULL;
    const char *text = bson_iter_utf8(it, NULL);
    return is_time(text) ? xstrndup(text, TIME_SHOWN) : xstrdup(text);
}

/* An array of scalars, joined; NULL as above. */
static char *list_text(const bson_iter_t *it)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t one;
    if (!BSON_ITER_HOLDS_ARRAY(it) || !bson_iter_recurse(it, &one))
        return NULL;
    while (bson_iter_next(&one)) {
        AUTO_FREE char *text = scalar_text(&one);
        if (text)
            buf_addf(&b, "%s%s", b.n ? ", " : "", text);
    }
    return b.n ? xstrdup(b.p) : NULL;
}

void describe_line(const char *name, const char *value)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *plain = table_plain(value);
    buf_addf(&b, "%-*s ", NAME_WIDTH, name);
    table_fold(&b, plain, b.n, NAME_WIDTH + 1, table_room());
    puts(b.p);
}

/* ---- an array of objects ---- */

struct cols {
    struct col v[MAX_COLS];
    size_t n;
};

static bool has_col(const struct cols *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->v[i].name, name))
            return true;
    return false;
}

/* Columns are the members that say something in one of the rows, in the order in which they come; the first one always stays.
 * Rows are members of an array, or, with their name in front, of an object. */
static void find_cols(const bson_iter_t *all, struct cols *ret)
{
    bson_iter_t rows, it;
    bson_t one;
    if (BSON_ITER_HOLDS_DOCUMENT(all))
        ret->v[ret->n++] = (struct col){"name", COL_LONG, 1};
    bson_iter_recurse(all, &rows);
    while (json_next_doc(&rows, &one))
        for (bool more = bson_iter_init(&it, &one) && bson_iter_next(&it); more; more = bson_iter_next(&it)) {
            AUTO_FREE char *text = scalar_text(&it);
            if (!text || ret->n == MAX_COLS || has_col(ret, bson_iter_key(&it)))
                continue;
            const enum col_kind kind = BSON_ITER_HOLDS_NUMBER(&it)                 ? COL_NUMBER
                                       : str_has_ending(bson_iter_key(&it), "_id") ? COL_ID
                                                                                   : COL_LONG;
            ret->v[ret->n] = (struct col){bson_iter_key(&it), kind, ret->n ? FIRST_RANK + (int)ret->n : 1};
            ret->n++;
        }
}

static void print_rows(const bson_iter_t *all)
{
    const bool named = BSON_ITER_HOLDS_DOCUMENT(all);
    struct cols cols = {0};
    bson_iter_t rows, it;
    bson_t one;
    find_cols(all, &cols);
    struct table *t = table_new(cols.v, cols.n);
    bson_iter_recurse(all, &rows);
    while (json_next_doc(&rows, &one)) {
        char *cells[MAX_COLS];
        for (size_t i = 0; i < cols.n; i++)
            cells[i] = named && i == 0                                  ? xstrdup(bson_iter_key(&rows))
                       : bson_iter_init_find(&it, &one, cols.v[i].name) ? scalar_text(&it)
                                                                        : NULL;
        table_add(t, cells);
    }
    table_print(t);
    table_free(t);
}

/* An array or object whose first member is an object. */
static bool holds_objects(const bson_iter_t *it)
{
    bson_iter_t one;
    return (BSON_ITER_HOLDS_ARRAY(it) || BSON_ITER_HOLDS_DOCUMENT(it)) && bson_iter_recurse(it, &one) && bson_iter_next(&one) &&
           BSON_ITER_HOLDS_DOCUMENT(&one);
}

/* ---- an object ---- */

/* Members that are texts or numbers, and those of objects in it. heading: printed before the first; NULL: none. */
static void print_scalars(const bson_t *doc, const char *prefix, const char *but, const char *heading)
{
    bson_iter_t it;
    bson_t inner;
    for (bool more = bson_iter_init(&it, doc) && bson_iter_next(&it); more; more = bson_iter_next(&it)) {
        if ((but && !strcmp(bson_iter_key(&it), but)) || holds_objects(&it))
            continue;
        AUTO_FREE char *name = xasprintf("%s%s", prefix, bson_iter_key(&it));
        AUTO_FREE char *text = BSON_ITER_HOLDS_ARRAY(&it) ? list_text(&it) : scalar_text(&it);
        if (text && heading)
            printf("\n%s\n", heading);
        if (text) {
            describe_line(name, text);
            heading = NULL;
        }
        if (*prefix && json_iter_doc(&it, &inner)) {
            AUTO_FREE char *deeper = xasprintf("%s.", name);
            print_scalars(&inner, deeper, NULL, NULL);
        }
    }
}

/* Tables of what holds objects, in the object and in those within it. */
static void print_tables(const bson_t *doc, const char *prefix, const char *but)
{
    bson_iter_t it;
    bson_t inner;
    for (bool more = bson_iter_init(&it, doc) && bson_iter_next(&it); more; more = bson_iter_next(&it)) {
        if (but && !strcmp(bson_iter_key(&it), but))
            continue;
        AUTO_FREE char *name = xasprintf("%s%s", prefix, bson_iter_key(&it));
        if (holds_objects(&it)) {
            printf("\n%s\n", name);
            print_rows(&it);
        } else if (json_iter_doc(&it, &inner)) {
            AUTO_FREE char *deeper = xasprintf("%s.", name);
            if (!*prefix)
                print_scalars(&inner, "  ", NULL, name);
            print_tables(&inner, deeper, NULL);
        }
    }
}

void describe_show(const bson_t *doc, const char *but)
{
    print_scalars(doc, "", but, NULL);
    print_tables(doc, "", but);
}
