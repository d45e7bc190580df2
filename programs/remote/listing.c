#include "listing.h"
#include "watch.h"

#include "base/clk.h"
#include "base/mem.h"
#include "base/near.h"
#include "query/records.h"
#include "query/words.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 1000, SHOWN = 100, STAMP = 19 /* without fractions and zone */ };

void docs_add(struct docs *d, const bson_t *doc)
{
    d->v = xgrow(d->v, d->n, sizeof *d->v);
    d->v[d->n++] = bson_copy(doc);
}

void docs_fini(struct docs *d)
{
    for (size_t i = 0; i < d->n; i++)
        bson_destroy(d->v[i]);
    free(d->v);
    *d = (struct docs){0};
}

/* ---- cells ---- */

void listing_object(const bson_t *doc)
{
    AUTO_BUF struct buf b = {0};
    json_from_bson(doc, &b);
    puts(b.p);
}

void listing_print(const struct remote *r, const struct docs *d, const struct col *cols, size_t n_cols, bool newest_last)
{
    struct table *t = r->json ? NULL : table_new(cols, n_cols);
    char **cells = xcalloc(n_cols, sizeof *cells);
    for (size_t i = 0; i < d->n; i++) {
        const bson_t *doc = d->v[newest_last ? d->n - 1 - i : i];
        for (size_t k = 0; t && k < n_cols; k++)
            cells[k] = object_cell(doc, &cols[k]);
        if (t)
            table_add(t, cells);
        else
            listing_object(doc);
    }
    if (t)
        table_print(t);
    table_free(t);
    free(cells);
}

/* ---- pages ---- */

int listing_pages(struct remote *r, const char *what, const char *query, int64_t limit, struct docs *ret, struct err *e)
{
    AUTO_FREE char *cursor = NULL;
    do {
        AUTO_BUF struct buf path = {0};
        AUTO_BSON bson_t *doc = NULL;
        bson_iter_t it;
        bson_t one;
        int64_t left = limit ? limit - (int64_t)ret->n : PAGE;
        remote_path(r, &path, "%s?limit=%lld%s%s", what, (long long)(left < PAGE ? left : PAGE), *query ? "&" : "", query);
        if (cursor) {
            buf_adds(&path, "&cursor=");
            http_escape(&path, cursor);
        }
        int n = remote_get(r, path.p, &doc, e);
        if (n < 0)
            return n;
        for (bool more = json_get_iter(doc, what, &it); more && json_next_doc(&it, &one);)
            docs_add(ret, &one);
        xstr_set(&cursor, json_get_str(doc, "next", NULL));
    } while (cursor && (!limit || (int64_t)ret->n < limit));
    return 0;
}

/* ---- files and runs ---- */

struct filter {
    const char *option, *field;
};

static int check_state(struct remote *r, const struct records *of, const char *state)
{
    AUTO_BUF struct buf known = {0};
    struct near near = {.word = state};
    char meant[NEAR_TEXT_SIZE];
    if (!state || records_have_state(of, state))
        return 0;
    for (const char *const *s = of->states; *s; s++) {
        near_try(&near, *s);
        buf_addf(&known, " %s", *s);
    }
    return remote_usage(r, "--state %s is none%s; there are:%s", state, near_text(&near, meant), known.p);
}

static void add_field(struct buf *b, const char *name, const char *value)
{
    buf_addf(b, "%s%s=", b->n ? "&" : "", name);
    http_escape(b, value);
}

static int since_field(struct remote *r, const char *since, struct buf *query)
{
    int64_t ms;
    char stamp[CLK_RFC3339_SIZE];
    if (!since)
        return 0;
    if (clk_parse_since(since, &ms) < 0)
        return remote_usage(r, "--since %s is no time", since);
    add_field(query, "since", clk_rfc3339(ms, stamp));
    return 0;
}

static int show_one(struct remote *r, const struct records *of, const char *id)
{
    AUTO_BUF struct buf path = {0};
    AUTO_DOCS struct docs d = {0};
    int code = remote_whole_id(r, of == &records_runs, &id);
    if (code)
        return code;
    remote_path(r, &path, "%s/", of->what);
    http_escape(&path, id);
    AUTO_BSON bson_t *doc = remote_ask(r, path.p);
    bson_t row = BSON_INITIALIZER;
    if (doc)
        bson_copy_to_excluding_noinit(doc, &row, "story", "runs", NULL);
    if (doc)
        docs_add(&d, &row);
    bson_destroy(&row);
    listing_print(r, &d, of->cols, of->n_cols, true);
    return doc ? REMOTE_DONE : REMOTE_FAILED;
}

static int show_many(struct remote *r, const struct records *of, const char *query, int64_t limit)
{
    struct err e = {0};
    AUTO_DOCS struct docs d = {0};
    if (listing_pages(r, of->what, query, limit, &d, &e) < 0)
        return remote_fail(r, &e);
    listing_print(r, &d, of->cols, of->n_cols, true);
    if (!r->json && !d.n)
        fprintf(stderr, "no %s%s\n", of->what, *query ? " like this" : " yet");
    if (!r->json && limit && (int64_t)d.n == limit)
        fprintf(stderr, "(the newest %lld; --limit 0 shows all)\n", (long long)limit);
    return REMOTE_DONE;
}

static int list(struct remote *r, const struct records *of, const struct filter *filter)
{
    AUTO_BUF struct buf query = {0};
    int64_t limit = r->json || r->csv ? 0 : SHOWN;
    const char *state = remote_opt(r, "--state"), *since = remote_opt(r, "--since"), *max = remote_opt(r, "--limit");
    const char *given = remote_opt(r, filter->option);
    bool watching = remote_flag(r, "--watch");
    buf_adds(&query, "");
    int code = remote_args(r, 0, watching ? 0 : 1);
    if (!code && watching && (r->csv || max))
        code = remote_usage(r, "--watch prints changes as they come: neither --output csv nor --limit");
    if (!code)
        code = check_state(r, of, state);
    if (!code)
        code = remote_number(r, "--limit", max, 0, INT32_MAX, &limit);
    if (state)
        add_field(&query, "state", state);
    if (!code)
        code = since_field(r, since, &query);
    if (code || (code = remote_open(r)))
        return code;
    if (r->argc)
        return show_one(r, of, r->argv[0]);
    if (given && !strcmp(filter->field, "file_id") && (code = remote_whole_id(r, false, &given)))
        return code;
    const bool only_dataset = given && !strcmp(filter->field, "dataset") && !query.n;
    if (given)
        add_field(&query, filter->field, given);
    return watching ? watch_records(r, of, query.p, only_dataset ? given : NULL) : show_many(r, of, query.p, limit);
}

int verb_files(struct remote *r)
{
    return list(r, &records_files, &(struct filter){"--dataset", "dataset"});
}

int verb_runs(struct remote *r)
{
    return list(r, &records_runs, &(struct filter){"--file", "file_id"});
}
