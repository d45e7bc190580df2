/* mysimbdp logs RUN [-f]: what a run printed. -f goes on with what follows, as the gateway tells it (server-sent events), until the
 * run has ended. Bytes as they were printed (--raw) no such event can hold: they are asked for again and again, as where there may
 * be no more streams. */
#include "sse.h"

#include "base/fd.h"
#include "base/mem.h"
#include "term/text.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { EVERY_MS = 1000, SOON_MS = 100, UNREAD = 0, QUIET, MORE /* what came of asking */ };

struct log {
    struct remote *r;
    const char *run;
    bool raw;
    struct buf rest;   /* the beginning of a character */
    char position[64]; /* "": the gateway does not say */
    bool ended;
};

/* raw: bytes as they were printed. Else a terminal is not given anything that it would obey. False: nobody reads it. */
static bool print(struct log *l, const struct buf *body)
{
    AUTO_BUF struct buf b = {0};
    fflush(stdout);
    if (l->raw)
        return !body->n || fd_write_all(STDOUT_FILENO, body->p, body->n) == 0;
    if (body->n)
        buf_add(&l->rest, body->p, body->n);
    if (!l->rest.n)
        return true;
    buf_consume(&l->rest, text_append(&b, l->rest.p, l->rest.n, !l->ended));
    return !b.n || fd_write_all(STDOUT_FILENO, b.p, b.n) == 0;
}

static int ask(struct log *l, bool first, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_ANSWER struct http_answer a = {0};
    remote_path(l->r, &path, "runs/");
    http_escape(&path, l->run);
    buf_adds(&path, first ? "/log?tail=262144" : "/log?from=");
    if (!first)
        http_escape(&path, l->position);
    int n = http_ask(l->r->http, &(struct http_request){.method = "GET", .path = path.p, .accept = "text/plain"}, &a, e);
    if (n < 0)
        return n;
    l->ended = a.ended;
    snprintf(l->position, sizeof l->position, "%s", a.position);
    return print(l, &a.body) ? a.body.n ? MORE : QUIET : UNREAD;
}

/* While much is printed, the next answer has more at once. */
static int ask_again_and_again(struct log *l, struct err *e)
{
    int n = MORE;
    while (n > UNREAD && !l->ended && *l->position) {
        poll(NULL, 0, n == MORE ? SOON_MS : EVERY_MS);
        n = ask(l, false, e);
    }
    return n;
}

static bool on_event(void *arg, const char *name, const bson_t *doc)
{
    struct log *l = arg;
    bson_iter_t it;
    uint32_t n;
    if (strcmp(name, "log") != 0 || !doc || !bson_iter_init_find(&it, doc, "text") || !BSON_ITER_HOLDS_UTF8(&it))
        return true;
    const char *text = bson_iter_utf8(&it, &n); /* NULs are text, too */
    if (json_get_bool(doc, "cut", false)) {
        fflush(stdout);
        fputs("(some of it is gone: more was printed than is kept)\n", stderr);
    }
    return print(l, &(struct buf){.p = (char *)text, .n = n});
}

static int follow(struct log *l, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    if (l->raw)
        return ask_again_and_again(l, e);
    remote_path(l->r, &path, "runs/");
    http_escape(&path, l->run);
    buf_adds(&path, "/log");
    struct sse s = {.r = l->r, .path = path.p, .may_give_way = true, .on_event = on_event, .arg = l};
    snprintf(s.last, sizeof s.last, "%s", l->position);
    int n = sse_follow(&s, e);
    if (n == ERR_REFUSED && e->reason && !strcmp(e->reason, SSE_TOO_MANY)) {
        snprintf(l->position, sizeof l->position, "%.*s", (int)sizeof l->position - 1, s.last);
        return ask_again_and_again(l, e);
    }
    l->ended = true; /* nothing follows: half a character is shown as it is */
    print(l, &(struct buf){0});
    return n;
}

int verb_logs(struct remote *r)
{
    struct err e = {0};
    struct log l = {.r = r, .raw = remote_flag(r, "--raw")};
    bool f = remote_flag(r, "-f");
    int code = remote_args(r, 1, 1);
    if (code || (code = remote_open(r)))
        return code;
    l.run = r->argv[0];
    if ((code = remote_whole_id(r, true, &l.run)))
        return code;
    int n = ask(&l, true, &e);
    if (n > 0 && f && !l.ended && !*l.position)
        n = err_set(&e, ERR_REFUSED,
                    "this gateway does not say where its logs end, so they cannot be followed; ask again without -f");
    else if (n > 0 && f && !l.ended)
        n = follow(&l, &e);
    buf_fini(&l.rest);
    return n < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}
