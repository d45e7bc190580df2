/* mysimbdp queue list | show STREAM: the streams, and what waits in them for whom. */
#include "listing.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* As the provider's `queue list` has them. */
static const struct col cols[] = {
    {"stream", COL_TEXT, 1},         {"app", COL_TEXT, 1},     {"state", COL_TEXT, 1},      {"consumers", COL_COUNT, 4},
    {"ready", COL_COUNT, 1},         {"leased", COL_COUNT, 3}, {"in_per_s", COL_NUMBER, 5}, {"acked_per_s", COL_NUMBER, 5},
    {"oldest_age_s", COL_NUMBER, 4}, {"dead", COL_COUNT, 3},
};

/* Appends a member of `from` by the name that the table has. What is null or absent is left out. */
static void take(bson_t *to, const char *name, const bson_t *from, const char *key)
{
    bson_iter_t it;
    if (from && bson_iter_init_find(&it, from, key) && !BSON_ITER_HOLDS_NULL(&it))
        bson_append_iter(to, name, -1, &it);
}

static void add_row(struct docs *rows, const bson_t *stream, const bson_t *app)
{
    bson_t row = BSON_INITIALIZER;
    take(&row, "stream", stream, "stream");
    take(&row, "app", app, "app");
    take(&row, "state", app ? app : stream, "state");
    take(&row, "consumers", app, "consumers");
    take(&row, "ready", app, "waiting");
    take(&row, "leased", app, "in_flight");
    take(&row, "in_per_s", stream, "published_per_s");
    take(&row, "acked_per_s", app, "acknowledged_per_s");
    take(&row, "oldest_age_s", app, "oldest_age_s");
    take(&row, "dead", app, "dead_letters");
    docs_add(rows, &row);
    bson_destroy(&row);
}

/* A row for each app of a stream, or one for a stream that nobody reads. */
static void add_rows(struct docs *rows, const bson_t *stream)
{
    bson_iter_t it;
    bson_t app;
    bool any = false;
    for (bool more = json_get_iter(stream, "apps", &it); more && json_next_doc(&it, &app); any = true)
        add_row(rows, stream, &app);
    if (!any)
        add_row(rows, stream, NULL);
}

static void print_rows(const struct remote *r, const struct docs *rows)
{
    listing_print(r, rows, cols, sizeof cols / sizeof *cols, false);
}

static int list(struct remote *r)
{
    AUTO_BUF struct buf path = {0};
    AUTO_DOCS struct docs rows = {0};
    bson_iter_t it;
    bson_t stream;
    remote_path(r, &path, "streams");
    AUTO_BSON bson_t *doc = remote_ask(r, path.p);
    if (!doc)
        return REMOTE_FAILED;
    for (bool more = json_get_iter(doc, "streams", &it); more && json_next_doc(&it, &stream);) {
        if (r->json)
            listing_object(&stream);
        else
            add_rows(&rows, &stream);
    }
    if (!r->json)
        print_rows(r, &rows);
    return REMOTE_DONE;
}

static int show(struct remote *r, const char *name)
{
    static const char *const left_out[] = {"apps", NULL};
    AUTO_BUF struct buf path = {0};
    AUTO_DOCS struct docs rows = {0};
    remote_path(r, &path, "streams/");
    http_escape(&path, name);
    AUTO_BSON bson_t *doc = remote_ask(r, path.p);
    if (!doc)
        return REMOTE_FAILED;
    if (r->json) {
        listing_object(doc);
        return REMOTE_DONE;
    }
    add_rows(&rows, doc);
    if (!r->csv) {
        listing_members(doc, left_out);
        putchar('\n');
    }
    print_rows(r, &rows);
    return REMOTE_DONE;
}

int verb_queue(struct remote *r)
{
    int code = remote_args(r, 1, 2);
    if (code)
        return code;
    bool one = !strcmp(r->argv[0], "show");
    if (!one && strcmp(r->argv[0], "list") != 0)
        return remote_usage(r, "unknown: %s", r->argv[0]);
    if (one != (r->argc == 2))
        return remote_usage(r, one ? "show takes a STREAM" : "list takes no argument; show STREAM is one stream");
    if ((code = remote_open(r)))
        return code;
    return one ? show(r, r->argv[1]) : list(r);
}
