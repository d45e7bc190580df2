/* mysimbdp dead list|replay|drop STREAM: messages that an app refused, or failed at too often. */
#include "listing.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 100, AT_ONCE = 10000 /* the gateway settles no more in a request */ };

static const struct col cols[] = {
    {"app", COL_TEXT, 1},          {"sequence", COL_COUNT, 1}, {"deliveries", COL_COUNT, 4}, {"reason", COL_LONG, 2},
    {"published_at", COL_TEXT, 4}, {"died_at", COL_TEXT, 5},   {"bytes", COL_COUNT, 5},      {"text", COL_LONG, 3},
};

struct dead {
    struct remote *r;
    const char *stream, *app; /* app NULL: of all */
    int64_t seq;              /* 0: all */
};

static void add_path(const struct dead *d, struct buf *b, const char *rest)
{
    remote_path(d->r, b, "streams/");
    http_escape(b, d->stream);
    buf_adds(b, rest);
}

/* Reads all pages: those of the sequence, if one is meant. 0, or REMOTE_FAILED after a complaint. */
static int read_letters(const struct dead *d, struct docs *ret)
{
    AUTO_FREE char *cursor = NULL;
    do {
        AUTO_BUF struct buf path = {0};
        bson_iter_t it;
        bson_t one;
        add_path(d, &path, "/dead-letters");
        buf_addf(&path, "?limit=%d", PAGE);
        if (d->app) {
            buf_adds(&path, "&app=");
            http_escape(&path, d->app);
        }
        if (cursor) {
            buf_adds(&path, "&cursor=");
            http_escape(&path, cursor);
        }
        AUTO_BSON bson_t *doc = remote_ask(d->r, path.p);
        if (!doc)
            return REMOTE_FAILED;
        for (bool more = json_get_iter(doc, "dead_letters", &it); more && json_next_doc(&it, &one);)
            if (!d->seq || json_get_i64(&one, "sequence", 0) == d->seq)
                docs_add(ret, &one);
        xstr_set(&cursor, json_get_str(doc, "next", NULL));
    } while (cursor && (!d->seq || !ret->n));
    return 0;
}

static int list(const struct dead *d)
{
    AUTO_DOCS struct docs all = {0};
    if (read_letters(d, &all))
        return REMOTE_FAILED;
    if (d->r->json)
        for (size_t i = 0; i < all.n; i++)
            listing_object(all.v[i]);
    else
        listing_print(d->r, &all, cols, sizeof cols / sizeof *cols, false);
    if (!all.n && !d->r->json)
        fputs("no dead letters\n", stderr);
    return REMOTE_DONE;
}

static int64_t count(const struct dead *d)
{
    AUTO_BUF struct buf path = {0};
    add_path(d, &path, "");
    AUTO_BSON bson_t *doc = remote_ask(d->r, path.p);
    return doc ? json_get_i64(doc, "dead_letters", 0) : -1;
}

static void print_count(const struct dead *d, int64_t n)
{
    printf(d->r->json ? "{\"n\":%lld}\n" : "%lld dead letters\n", (long long)n);
}

/* One request. Dropping or replaying what is there no more counts nothing. */
static int order(const struct dead *d, bool replay, const char *json, int64_t *n, bool *more)
{
    AUTO_BUF struct buf path = {0};
    add_path(d, &path, replay ? "/dead-letters:replay" : "/dead-letters");
    if (d->app && !json) {
        buf_adds(&path, "?app=");
        http_escape(&path, d->app);
    }
    AUTO_BSON bson_t *doc = remote_order(d->r, replay ? "POST" : "DELETE", path.p, json);
    if (!doc)
        return REMOTE_FAILED;
    *n += json_get_i64(doc, "n", 0);
    *more = json_get_bool(doc, "more", false);
    return 0;
}

static int settle_one(const struct dead *d, bool replay)
{
    AUTO_DOCS struct docs found = {0};
    AUTO_BUF struct buf ids = {0};
    int64_t n = 0;
    bool more;
    if (read_letters(d, &found))
        return REMOTE_FAILED;
    if (!found.n) {
        fprintf(stderr, "error: %s has no dead letter %lld; `mysimbdp dead list %s` lists them\n", d->stream, (long long)d->seq,
                d->stream);
        return REMOTE_FAILED;
    }
    json_begin(&ids, NULL, '{');
    json_begin(&ids, "ids", '[');
    for (size_t i = 0; i < found.n; i++)
        json_str(&ids, NULL, json_get_str(found.v[i], "id", ""));
    json_end(&ids, ']');
    json_end(&ids, '}');
    if (order(d, replay, ids.p, &n, &more))
        return REMOTE_FAILED;
    print_count(d, n);
    return REMOTE_DONE;
}

/* As many requests as what is there now needs: what dies meanwhile, perhaps of this replay, is not gone after for ever. */
static int settle_all(const struct dead *d, bool replay)
{
    int64_t n = 0, there = count(d);
    bool more = true;
    int code = there < 0 ? REMOTE_FAILED : 0;
    for (int64_t left = 1 + there / AT_ONCE; code == 0 && more && left > 0; left--)
        code = order(d, replay, NULL, &n, &more);
    if (code == 0 || n)
        print_count(d, n);
    return code;
}

int verb_dead(struct remote *r)
{
    const char *seq = remote_opt(r, "--seq");
    struct dead d = {.r = r, .app = remote_opt(r, "--app")};
    bool all = remote_flag(r, "--all");
    int code = remote_args(r, 2, 2);
    if (code || (code = remote_number(r, "--seq", seq, 1, INT64_MAX, &d.seq)))
        return code;
    const char *what = r->argv[0];
    bool lists = !strcmp(what, "list"), replays = !strcmp(what, "replay");
    d.stream = r->argv[1];
    if (!lists && !replays && strcmp(what, "drop") != 0)
        return remote_usage(r, "unknown: %s", what);
    if (lists ? seq || all : !seq == !all)
        return remote_usage(r, lists ? "list takes neither --seq nor --all" : "%s takes either --seq N or --all", what);
    if ((code = remote_open(r)))
        return code;
    return lists ? list(&d) : seq ? settle_one(&d, replays) : settle_all(&d, replays);
}
