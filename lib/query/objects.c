#include "objects.h"

#include "base/mem.h"
#include "words.h"

#include <stdio.h>
#include <string.h>

enum { STAMP = 19 };

/* An array or object under the iterator. */
static char *json_of(const bson_iter_t *it)
{
    const uint8_t *p = NULL;
    uint32_t n = 0;
    bson_t view;
    if (BSON_ITER_HOLDS_ARRAY(it))
        bson_iter_array(it, &n, &p);
    else if (BSON_ITER_HOLDS_DOCUMENT(it))
        bson_iter_document(it, &n, &p);
    if (!p || !bson_init_static(&view, p, n))
        return NULL;
    char *text = BSON_ITER_HOLDS_ARRAY(it) ? bson_array_as_json(&view, NULL) : bson_as_relaxed_extended_json(&view, NULL);
    char *copy = xstrdup(text);
    bson_free(text);
    return copy;
}

static char *words_cell(const bson_t *doc)
{
    return words_of(json_get_str(doc, "state", ""), json_get_str(doc, "reason", NULL), json_get_str(doc, "detail", NULL),
                    json_get_i64(doc, "rows_loaded", -1), json_get_i64(doc, "rows_rejected", -1));
}

char *object_cell(const bson_t *doc, const struct col *col)
{
    const bool csv = table_get_style() == TABLE_CSV; /* what a program reads is whole */
    bson_iter_t it;
    if (col->kind == COL_WORDS)
        return words_cell(doc);
    if (!bson_iter_init_find(&it, doc, col->name) || BSON_ITER_HOLDS_NULL(&it))
        return NULL;
    if (BSON_ITER_HOLDS_UTF8(&it)) {
        uint32_t n;
        const char *text = bson_iter_utf8(&it, &n);
        return !n ? NULL : col->kind == COL_TIME && !csv ? xstrndup(text, STAMP) : xstrdup(text);
    }
    if (BSON_ITER_HOLDS_BOOL(&it))
        return xstrdup(csv ? bson_iter_bool(&it) ? "true" : "false" : bson_iter_bool(&it) ? "yes" : "no");
    if (BSON_ITER_HOLDS_INT(&it))
        return xasprintf("%lld", (long long)bson_iter_as_int64(&it));
    if (BSON_ITER_HOLDS_DOUBLE(&it))
        return xasprintf(csv ? "%.15g" : col->kind == COL_COUNT ? "%.0f" : "%.3f", bson_iter_double(&it));
    return json_of(&it);
}

static bool is_among(const char *name, const char *const *names)
{
    for (; names && *names; names++)
        if (!strcmp(name, *names))
            return true;
    return false;
}

void object_members(const bson_t *doc, const char *const *left_out)
{
    bson_iter_t it;
    size_t width = 0;
    for (bool more = bson_iter_init(&it, doc); more && bson_iter_next(&it);)
        if (!is_among(bson_iter_key(&it), left_out) && strlen(bson_iter_key(&it)) > width)
            width = strlen(bson_iter_key(&it));
    for (bool more = bson_iter_init(&it, doc); more && bson_iter_next(&it);) {
        const char *key = bson_iter_key(&it);
        AUTO_FREE char *text = is_among(key, left_out) ? NULL : object_cell(doc, &(struct col){key, COL_TEXT, 1});
        if (!text)
            continue;
        AUTO_BUF struct buf b = {0};
        AUTO_FREE char *plain = table_plain(text);
        table_fold(&b, plain, width + 2, width + 2, table_room());
        printf("%-*s  %s\n", (int)width, key, b.n ? b.p : "");
    }
}

/* ---- agreement ---- */

static void print_limits(const bson_t *of, const char *indent)
{
    bson_iter_t it;
    for (bool more = json_get_iter(of, "limits", &it); more && bson_iter_next(&it);)
        if (BSON_ITER_HOLDS_INT(&it))
            printf("%s%s %lld\n", indent, bson_iter_key(&it), (long long)bson_iter_as_int64(&it));
        else if (BSON_ITER_HOLDS_DOUBLE(&it))
            printf("%s%s %g\n", indent, bson_iter_key(&it), bson_iter_double(&it));
}

static void print_texts(const char *title, const bson_t *of, const char *key)
{
    bson_iter_t it;
    const char *before = title;
    for (bool more = json_get_iter(of, key, &it); more && bson_iter_next(&it); before = ", ")
        if (BSON_ITER_HOLDS_UTF8(&it))
            printf("%s%s", before, bson_iter_utf8(&it, NULL));
    if (before != title)
        putchar('\n');
}

static void print_columns(const bson_t *dataset)
{
    static const struct col cols[] = {
        {"name", COL_TEXT, 1},   {"type", COL_TEXT, 1},  {"required", COL_BOOL, 2},
        {"unique", COL_BOOL, 3}, {"min", COL_NUMBER, 4}, {"max", COL_NUMBER, 4},
        {"regex", COL_LONG, 5},  {"enum", COL_LONG, 6},  {"max_age_days", COL_COUNT, 7},
    };
    enum { N = sizeof cols / sizeof *cols };
    bson_iter_t it;
    bson_t one;
    struct table *t = table_new(cols, N);
    for (bool more = json_get_iter(dataset, "columns", &it); more && json_next_doc(&it, &one);) {
        char *cells[N];
        for (size_t i = 0; i < N; i++)
            cells[i] = object_cell(&one, &cols[i]);
        table_add(t, cells);
    }
    table_print(t);
    table_free(t);
}

void object_agreement(const bson_t *doc)
{
    static const char *const parts[] = {"limits", "datasets", "streams", NULL};
    bson_iter_t it;
    bson_t one;
    object_members(doc, parts);
    print_limits(doc, "");
    for (bool more = json_get_iter(doc, "datasets", &it); more && json_next_doc(&it, &one);) {
        printf("\ndataset %s\n", json_get_str(&one, "dataset", "?"));
        print_texts("  formats ", &one, "formats");
        print_texts("  key ", &one, "key");
        print_limits(&one, "  ");
        print_columns(&one);
    }
    for (bool more = json_get_iter(doc, "streams", &it); more && json_next_doc(&it, &one);) {
        static const char *const name[] = {"stream", NULL};
        printf("\nstream %s\n", json_get_str(&one, "stream", "?"));
        object_members(&one, name);
    }
}

/* ---- usage ---- */

static char *of_used(const bson_t *doc, const char *what, const char *key)
{
    bson_iter_t it, sub;
    return bson_iter_init_find(&it, doc, what) && bson_iter_recurse(&it, &sub) && bson_iter_find(&sub, key) &&
                   BSON_ITER_HOLDS_INT(&sub)
               ? xasprintf("%lld", (long long)bson_iter_as_int64(&sub))
               : NULL;
}

static void add_used(struct table *t, const char *of, const bson_t *doc)
{
    static const char *const what[] = {"files_today", "bytes_today", "unfinished_files"};
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        char *cells[] = {xstrdup(of), xstrdup(what[i]), of_used(doc, what[i], "used"), of_used(doc, what[i], "limit"),
                         of_used(doc, what[i], "left")};
        table_add(t, cells);
    }
}

void object_usage(const bson_t *doc)
{
    static const struct col cols[] = {
        {"of", COL_TEXT, 1}, {"what", COL_TEXT, 1}, {"used", COL_COUNT, 1}, {"limit", COL_COUNT, 1}, {"left", COL_COUNT, 1}};
    bson_iter_t it;
    bson_t one;
    struct table *t = table_new(cols, sizeof cols / sizeof *cols);
    add_used(t, json_get_str(doc, "tenant_id", "?"), doc);
    for (bool more = json_get_iter(doc, "datasets", &it); more && json_next_doc(&it, &one);) {
        AUTO_FREE char *name = xasprintf("dataset %s", json_get_str(&one, "dataset", "?"));
        add_used(t, name, &one);
    }
    table_print(t);
    table_free(t);
    printf("the day goes until %s\n", json_get_str(doc, "until", "?"));
}
