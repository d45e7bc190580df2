/* mysimbdp events: what happened, of all tenants and programs, in the order of time; with -f what happens from now on. Each
 * tenant's journals are read as the gateway's keepers do (lib/query/events.c), a page at a time, and merged here by `ts`.
 *
 * Failure story: a clock that steps back makes lines of different journals come in another order than they happened; each journal's
 * own order is kept. What was removed while it was read is told as a gap. */
#include "cli.h"
#include "ledger.h"

#include "base/clk.h"
#include "base/mem.h"
#include "base/near.h"
#include "host/tenant_events.h"
#include "query/query.h"
#include "term/table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN = 100, FOLLOW_MS = 300, PAGE = 1000, INDENT = 4, TS_SECONDS = 19 };

/* One tenant's events, in order. */
struct feed {
    char *tenant, *position; /* position NULL: not asked yet */
    struct buf page;
    size_t at; /* in the page: what follows the present line */
    bool more; /* there is another page */
    /* The present line; json NULL: there is none. Points into the page. */
    const char *name, *json;
    size_t n_name, n;
    int64_t ms;
};

struct events {
    struct cli *c;
    const struct home *h;
    struct queries *q;
    const char *tenant; /* NULL: all */
    uint32_t types;     /* 0: all */
    int64_t since_ms, limit;
    bool follow, from_now, gap, failed;
    struct feed *feeds;
    size_t n_feeds;
    char **kept; /* the newest `limit` lines as they are printed, round and round */
    int64_t n_kept;
};

/* ---- a tenant's ---- */

/* Asks for the page behind the position; `from` NULL: only for the position of now. */
static bool ask(struct events *v, struct feed *f, const char *from)
{
    struct query_answer a = {0};
    AUTO_BUF struct buf params = {0};
    json_begin(&params, NULL, '{');
    if (from)
        json_str(&params, "from", from);
    json_i64(&params, "limit", PAGE);
    json_end(&params, '}');
    AUTO_BSON bson_t *given = json_parse(params.p, params.n, NULL);
    const struct query_scope scope = {f->tenant, NULL};
    query(v->q, "events", &scope, given, &a);
    buf_reset(&f->page);
    f->at = 0;
    f->more = false;
    const bool ok = a.status == 200;
    if (ok) {
        AUTO_FREE char *text = xasprintf("{%s}", a.head.p + (a.head.p[0] == ','));
        AUTO_BSON bson_t *head = json_parse(text, strlen(text), NULL);
        if (head && json_get_str(head, "position", NULL))
            xstr_set(&f->position, json_get_str(head, "position", NULL));
        f->more = head && json_get_bool(head, "more", false);
        buf_add(&f->page, a.body.p, a.body.n);
    } else if (a.status != 404 && !v->follow) {
        fprintf(stderr, "mysimbdp events: of tenant %s: %s\n", f->tenant, *a.why ? a.why : a.code ? a.code : "?");
        v->failed = true;
    }
    query_answer_fini(&a);
    return ok;
}

/* "NAME POSITION OBJECT\n" */
static bool parse(struct events *v, struct feed *f, const char *line, size_t n)
{
    const char *blank = memchr(line, ' ', n), *second = blank ? memchr(blank + 1, ' ', n - (size_t)(blank + 1 - line)) : NULL;
    if (!second)
        return false;
    f->name = line;
    f->n_name = (size_t)(blank - line);
    f->json = second + 1;
    f->n = n - (size_t)(second + 1 - line);
    if (f->n_name == 3 && !memcmp(f->name, "gap", 3)) {
        v->gap = true;
        return false;
    }
    AUTO_BSON bson_t *doc = json_parse(f->json, f->n, NULL);
    if (!doc || clk_parse(json_get_str(doc, "ts", ""), &f->ms) < 0)
        return false;
    return f->ms >= v->since_ms && (!v->types || v->types & tenant_events_of(f->name, f->n_name));
}

/* Goes on to the next line that is wanted. */
static void advance(struct events *v, struct feed *f)
{
    for (;;) {
        const char *line = f->page.n > f->at ? f->page.p + f->at : NULL, *lf = line ? memchr(line, '\n', f->page.n - f->at) : NULL;
        if (lf) {
            f->at += (size_t)(lf - line) + 1;
            if (parse(v, f, line, (size_t)(lf - line)))
                return;
        } else if (!f->more || !ask(v, f, f->position)) {
            f->json = NULL;
            return;
        }
    }
}

/* ---- all tenants ---- */

static struct feed *feed_of(struct events *v, const char *tenant)
{
    for (size_t i = 0; i < v->n_feeds; i++)
        if (!strcmp(v->feeds[i].tenant, tenant))
            return &v->feeds[i];
    v->feeds = xgrow(v->feeds, v->n_feeds, sizeof *v->feeds);
    v->feeds[v->n_feeds] = (struct feed){.tenant = xstrdup(tenant)};
    return &v->feeds[v->n_feeds++];
}

/* Those that have journals; in a home that never ran there are none. `first`: they begin as was asked for; who comes later has
 * nothing from before. */
static void look(struct events *v, bool first)
{
    int fd = openat(v->h->dirfd, "logs/tenants", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!conf_valid_id(e->d_name) || (v->tenant && strcmp(e->d_name, v->tenant) != 0))
            continue;
        struct feed *f = feed_of(v, e->d_name);
        if (f->position)
            ask(v, f, f->position);
        else
            ask(v, f, first && v->from_now ? NULL : "0");
    }
    if (d)
        closedir(d);
}

static struct feed *earliest(struct events *v)
{
    struct feed *first = NULL;
    for (size_t i = 0; i < v->n_feeds; i++)
        if (v->feeds[i].json && (!first || v->feeds[i].ms < first->ms))
            first = &v->feeds[i];
    return first;
}

/* ---- as it is shown ---- */

/* The object with `event` as tenants are told of it, for a journal may call it otherwise. */
static void add_json(const struct feed *f, const bson_t *doc, struct buf *out)
{
    AUTO_FREE char *name = xstrndup(f->name, f->n_name);
    bson_t shown = BSON_INITIALIZER;
    bson_iter_t it;
    for (bool more = bson_iter_init(&it, doc) && bson_iter_next(&it); more; more = bson_iter_next(&it))
        if (!strcmp(bson_iter_key(&it), "event"))
            bson_append_utf8(&shown, "event", -1, name, -1);
        else
            bson_append_value(&shown, bson_iter_key(&it), -1, bson_iter_value(&it));
    json_from_bson(&shown, out);
    bson_destroy(&shown);
}

static void add_member(struct buf *b, const bson_iter_t *it)
{
    static const char *const said[] = {"ts", "event", "tenant_id", "content_hash"}; /* the last is for programs */
    const char *key = bson_iter_key(it);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strcmp(key, said[i]))
            return;
    if (BSON_ITER_HOLDS_UTF8(it) && *bson_iter_utf8(it, NULL)) {
        AUTO_FREE char *plain = table_plain(bson_iter_utf8(it, NULL));
        buf_addf(b, strchr(plain, ' ') ? " %s=\"%s\"" : " %s=%s", key, plain);
    } else if (BSON_ITER_HOLDS_DOUBLE(it)) {
        buf_addf(b, " %s=%.6g", key, bson_iter_double(it));
    } else if (BSON_ITER_HOLDS_INT(it)) {
        buf_addf(b, " %s=%lld", key, (long long)bson_iter_as_int64(it));
    } else if (BSON_ITER_HOLDS_BOOL(it)) {
        buf_addf(b, " %s=%s", key, bson_iter_bool(it) ? "true" : "false");
    }
}

static void add_text(const struct feed *f, const bson_t *doc, struct buf *out)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    buf_addf(&b, "%.*s  %-17.*s  %s", TS_SECONDS, json_get_str(doc, "ts", ""), (int)f->n_name, f->name, f->tenant);
    for (bool more = bson_iter_init(&it, doc) && bson_iter_next(&it); more; more = bson_iter_next(&it))
        add_member(&b, &it);
    table_fold(out, b.p, 0, INDENT, table_room());
}

static void show(struct events *v, const struct feed *f)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc = json_parse(f->json, f->n, NULL);
    if (v->c->json)
        add_json(f, doc, &b);
    else
        add_text(f, doc, &b);
    if (v->limit <= 0) {
        puts(b.p);
        return;
    }
    char **at = &v->kept[v->n_kept++ % v->limit];
    free(*at);
    *at = xstrdup(b.p);
}

static void flush_kept(struct events *v)
{
    const int64_t n = v->n_kept < v->limit ? v->n_kept : v->limit;
    for (int64_t i = v->n_kept - n; i < v->n_kept; i++)
        puts(v->kept[i % v->limit]);
    if (!v->c->json && !v->follow && n < v->n_kept)
        fprintf(stderr, "(the newest %lld; --limit 0 shows all)\n", (long long)n);
}

static void show_all(struct events *v)
{
    for (size_t i = 0; i < v->n_feeds; i++)
        advance(v, &v->feeds[i]);
    for (struct feed *f; (f = earliest(v)); advance(v, f))
        show(v, f);
    if (v->gap) {
        fflush(stdout);
        fputs("some events are gone: more came than is kept; `mysimbdp files` and `mysimbdp runs` have all\n", stderr);
    }
    v->gap = false;
}

/* Until nobody reads. */
static int follow(struct events *v)
{
    v->limit = 0;
    while (fflush(stdout) == 0 && !ferror(stdout)) {
        poll(NULL, 0, FOLLOW_MS);
        look(v, false);
        show_all(v);
    }
    return CLI_DONE;
}

static int list(struct events *v)
{
    v->kept = v->limit > 0 ? xcalloc((size_t)v->limit, sizeof *v->kept) : NULL;
    const int64_t limit = v->limit;
    look(v, true);
    show_all(v);
    if (limit > 0)
        flush_kept(v);
    if (!v->c->json && !v->follow && !v->failed && limit > 0 && !v->n_kept)
        fprintf(stderr, "no events%s\n", v->tenant || v->types || v->since_ms ? " like this" : " yet");
    int r = v->failed ? CLI_FAILED : v->follow ? follow(v) : CLI_DONE;
    for (int64_t i = 0; i < limit; i++)
        free(v->kept[i]);
    free(v->kept);
    return r;
}

/* ---- */

static int parse_types(struct cli *c, const char *types, uint32_t *ret)
{
    for (const char *at = types; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t n = strcspn(at, ",");
        const uint32_t found = tenant_events_of(at, n);
        AUTO_FREE char *word = xstrndup(at, n);
        struct near near = {.word = word};
        char meant[NEAR_TEXT_SIZE];
        for (int i = 0; i < N_TENANT_EVENTS; i++)
            near_try(&near, tenant_event_name((enum tenant_event)i));
        if (!found)
            return cli_usage(c, "--types %s: there is no such event%s", word, near_text(&near, meant));
        *ret |= found;
    }
    return 0;
}

int verb_events(struct cli *c)
{
    struct home h;
    struct events v = {.c = c, .h = &h, .tenant = cli_opt(c, "--tenant"), .follow = cli_flag(c, "-f")};
    const char *since = cli_opt(c, "--since"), *limit = cli_opt(c, "--limit"), *types = cli_opt(c, "--types");
    char *end = NULL;
    int r = cli_args(c, 0, 0);
    if (!r)
        r = parse_types(c, types, &v.types);
    v.limit = limit ? strtoll(limit, &end, 10) : c->json || since ? 0 : SHOWN;
    if (!r && limit && (!*limit || *end || v.limit < 0 || v.limit > INT32_MAX))
        r = cli_usage(c, "--limit %s is no number of events", limit);
    if (!r && since && clk_parse_since(since, &v.since_ms) < 0)
        r = cli_usage(c, "--since %s is no time", since);
    if (r || cli_home_of_tenant(c, &h, v.tenant))
        return r ? r : CLI_FAILED;
    v.from_now = v.follow && !since;
    if (v.from_now)
        v.since_ms = clk_wall_ms();
    v.q = queries_new(&h);
    r = list(&v);
    queries_free(v.q);
    for (size_t i = 0; i < v.n_feeds; i++) {
        free(v.feeds[i].tenant);
        free(v.feeds[i].position);
        buf_fini(&v.feeds[i].page);
    }
    free(v.feeds);
    home_close(&h);
    return r;
}
