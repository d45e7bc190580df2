#include "sse.h"

#include "base/clk.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LINE = 4 << 20, NO_CONTENT = 204 };

struct reading {
    struct sse *s;
    struct http *http;
    struct buf rest, data;     /* the beginning of a line; the event's object */
    char name[64], id[SSE_ID]; /* of the event that is being read; id "": was not said */
    char reason[64];           /* of `end` */
    long status;               /* of the last answer */
    bool lost, came;           /* lost: it was said; came: something was heard since the last request */
    bool over, huge;           /* over: one of the functions said so */
};

static void dispatch(struct reading *x)
{
    AUTO_BSON bson_t *doc = x->data.n ? json_parse(x->data.p, x->data.n, NULL) : NULL;
    if (!strcmp(x->name, "end"))
        snprintf(x->reason, sizeof x->reason, "%s", doc ? json_get_str(doc, "reason", "") : "");
    else if (*x->name)
        x->over = !x->s->on_event(x->s->arg, x->name, doc);
    if (*x->id)
        memcpy(x->s->last, x->id, sizeof x->s->last);
    x->name[0] = x->id[0] = 0;
    buf_reset(&x->data);
}

static void take_line(struct reading *x, const char *line, size_t n)
{
    if (n && line[n - 1] == '\r')
        n--;
    if (!n)
        dispatch(x);
    else if (n > 4 && !memcmp(line, "id: ", 4) && n - 4 < sizeof x->id)
        snprintf(x->id, sizeof x->id, "%.*s", (int)n - 4, line + 4);
    else if (n > 7 && !memcmp(line, "event: ", 7))
        snprintf(x->name, sizeof x->name, "%.*s", (int)n - 7, line + 7);
    else if (n > 6 && !memcmp(line, "data: ", 6))
        buf_add(&x->data, line + 6, n - 6);
}

static bool on_data(void *arg, const char *p, size_t n)
{
    struct reading *x = arg;
    if (x->lost)
        fputs("connected again\n", stderr);
    x->lost = false;
    if (!x->came && x->s->on_begin)
        x->over = !x->s->on_begin(x->s->arg);
    x->came = true;
    buf_add(&x->rest, p, n);
    for (const char *lf; !x->over && x->rest.n && (lf = memchr(x->rest.p, '\n', x->rest.n));) {
        size_t len = (size_t)(lf - x->rest.p);
        take_line(x, x->rest.p, len);
        buf_consume(&x->rest, len + 1);
    }
    x->huge = x->rest.n + x->data.n > MAX_LINE;
    if (!x->over && x->s->on_pause)
        x->over = !x->s->on_pause(x->s->arg);
    return !x->over && !x->huge;
}

/* One connection, until it ends. What was half an event is none. */
static int read_once(struct reading *x, struct err *e)
{
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *after = *x->s->last ? xasprintf("Last-Event-ID: %s", x->s->last) : NULL;
    const char *const fields[] = {after, NULL};
    buf_reset(&x->rest);
    buf_reset(&x->data);
    x->name[0] = x->id[0] = x->reason[0] = 0;
    x->came = false;
    *e = (struct err){0};
    int n = http_ask(x->http,
                     &(struct http_request){.method = "GET",
                                            .path = x->s->path,
                                            .accept = "text/event-stream",
                                            .fields = fields,
                                            .once = true,
                                            .on_data = on_data,
                                            .arg = x},
                     &a, e);
    x->status = a.status;
    x->over |= n == 0 && (a.status == NO_CONTENT || !strcmp(x->reason, "ended"));
    if (n == 0 && !strcmp(x->reason, "unauthorized"))
        return err_set(e, ERR_REFUSED, "the gateway ended it: the token may not read any more");
    if (n == 0)
        err_set(e, ERR_CLOSED, "the gateway ended it%s%s", *x->reason ? ": " : "", x->reason);
    return x->huge ? err_set(e, ERR_FORMAT, "an event has more than %d bytes", MAX_LINE) : n;
}

/* Whether there is no use in another try: it was refused, and not for a while. */
static bool is_hopeless(const struct reading *x, int n, const struct err *e)
{
    if (n == ERR_REFUSED && x->s->may_give_way && e->reason && !strcmp(e->reason, SSE_TOO_MANY))
        return true;
    if (n == ERR_CLOSED)
        return e->reason && !strcmp(e->reason, "certificate");
    return n < 0 && !e->retry_after_s && x->status < 500;
}

static int follow(struct reading *x, struct err *e)
{
    const struct remote *r = x->s->r;
    const int64_t patience = r->retry_for_ms ? r->retry_for_ms : REMOTE_ASK_MS;
    int64_t until = clk_now_ms() + patience;
    for (int tries = 1;; tries++) {
        int n = read_once(x, e);
        if (x->over)
            return 0;
        if (is_hopeless(x, n, e))
            return n;
        if (x->came) {
            tries = 1;
            until = clk_now_ms() + patience;
        }
        if (!x->lost)
            fprintf(stderr, "%s; trying again\n", e->msg);
        x->lost = true;
        if (!http_wait(x->http, e, tries, until))
            return e->code;
    }
}

static void be_quiet(void *arg, const struct err *why, int64_t ms)
{
    (void)arg, (void)why, (void)ms; /* `follow` says it */
}

int sse_follow(struct sse *s, struct err *e)
{
    struct reading x = {.s = s, .http = http_new(&s->r->target, s->r->retry_for_ms ? s->r->retry_for_ms : REMOTE_ASK_MS, NULL)};
    http_on_wait(x.http, be_quiet, NULL);
    const int n = follow(&x, e);
    http_free(x.http);
    buf_fini(&x.rest);
    buf_fini(&x.data);
    return n;
}
