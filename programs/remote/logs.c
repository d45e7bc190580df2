/* mysimbdp logs RUN [-f]: what a run printed. -f asks for what follows until it has ended. */
#include "remote.h"

#include "base/fd.h"
#include "base/mem.h"
#include "term/text.h"

#include <poll.h>
#include <stdio.h>

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
static int follow(struct log *l, struct err *e)
{
    int n = MORE;
    while (n > UNREAD && !l->ended && *l->position) {
        poll(NULL, 0, n == MORE ? SOON_MS : EVERY_MS);
        n = ask(l, false, e);
    }
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
