/* What is agreed, used and paid: whoami, agreement, usage, bill. */
#include "listing.h"

#include "base/mem.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>

int verb_whoami(struct remote *r)
{
    int code = remote_args(r, 0, 0);
    if (code || (code = remote_open_account(r)))
        return code;
    AUTO_BSON bson_t *me = remote_ask(r, "/v1/whoami");
    if (me && r->json)
        listing_object(me);
    else if (me)
        listing_members(me, NULL);
    return me ? REMOTE_DONE : REMOTE_FAILED;
}

/* GETs a tenant's object. NULL after a complaint; *ret_code is the exit code. */
static bson_t *object(struct remote *r, const char *rest, int *ret_code)
{
    AUTO_BUF struct buf path = {0};
    *ret_code = remote_open(r);
    if (*ret_code)
        return NULL;
    remote_path(r, &path, "%s", rest);
    bson_t *doc = remote_ask(r, path.p);
    *ret_code = doc ? REMOTE_DONE : REMOTE_FAILED;
    return doc;
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

static void print_columns(const struct remote *r, const bson_t *dataset)
{
    static const struct col cols[] = {
        {"name", COL_TEXT, 1},   {"type", COL_TEXT, 1},  {"required", COL_BOOL, 2},
        {"unique", COL_BOOL, 3}, {"min", COL_NUMBER, 4}, {"max", COL_NUMBER, 4},
        {"regex", COL_LONG, 5},  {"enum", COL_LONG, 6},  {"max_age_days", COL_COUNT, 7},
    };
    AUTO_DOCS struct docs d = {0};
    bson_iter_t it;
    bson_t one;
    for (bool more = json_get_iter(dataset, "columns", &it); more && json_next_doc(&it, &one);)
        docs_add(&d, &one);
    listing_print(r, &d, cols, sizeof cols / sizeof *cols, false);
}

static void print_agreement(const struct remote *r, const bson_t *doc)
{
    static const char *const parts[] = {"limits", "datasets", "streams", NULL};
    bson_iter_t it;
    bson_t one;
    listing_members(doc, parts);
    print_limits(doc, "");
    for (bool more = json_get_iter(doc, "datasets", &it); more && json_next_doc(&it, &one);) {
        printf("\ndataset %s\n", json_get_str(&one, "dataset", "?"));
        print_texts("  formats ", &one, "formats");
        print_texts("  key ", &one, "key");
        print_limits(&one, "  ");
        print_columns(r, &one);
    }
    for (bool more = json_get_iter(doc, "streams", &it); more && json_next_doc(&it, &one);) {
        static const char *const name[] = {"stream", NULL};
        printf("\nstream %s\n", json_get_str(&one, "stream", "?"));
        listing_members(&one, name);
    }
}

int verb_agreement(struct remote *r)
{
    int code = remote_args(r, 0, 0);
    AUTO_BSON bson_t *doc = code ? NULL : object(r, "agreement", &code);
    if (doc && r->json)
        listing_object(doc);
    else if (doc)
        print_agreement(r, doc);
    return code;
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

int verb_usage(struct remote *r)
{
    static const struct col cols[] = {
        {"of", COL_TEXT, 1}, {"what", COL_TEXT, 1}, {"used", COL_COUNT, 1}, {"limit", COL_COUNT, 1}, {"left", COL_COUNT, 1}};
    int code = remote_args(r, 0, 0);
    AUTO_BSON bson_t *doc = code ? NULL : object(r, "usage", &code);
    bson_iter_t it;
    bson_t one;
    if (doc && r->json)
        listing_object(doc);
    if (!doc || r->json)
        return code;
    struct table *t = table_new(cols, sizeof cols / sizeof *cols);
    add_used(t, json_get_str(doc, "tenant_id", "?"), doc);
    for (bool more = json_get_iter(doc, "datasets", &it); more && json_next_doc(&it, &one);) {
        AUTO_FREE char *name = xasprintf("dataset %s", json_get_str(&one, "dataset", "?"));
        add_used(t, name, &one);
    }
    table_print(t);
    table_free(t);
    printf("the day goes until %s\n", json_get_str(doc, "until", "?"));
    return code;
}

int verb_bill(struct remote *r)
{
    int code = remote_args(r, 1, 1);
    AUTO_BUF struct buf rest = {0};
    if (code)
        return code;
    buf_adds(&rest, "bills/");
    http_escape(&rest, r->argv[0]);
    AUTO_BSON bson_t *doc = object(r, rest.p, &code);
    if (doc && r->json)
        listing_object(doc);
    else if (doc)
        listing_members(doc, NULL);
    return code;
}
