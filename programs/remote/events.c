/* mysimbdp events -f: what happens, as the gateway tells it (server-sent events), an event a line. After a cut it goes on behind
 * the last id. */
#include "listing.h"

#include "base/clk.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LINE = 4 << 20 };

struct events {
    struct remote *r;
    struct buf rest, data;         /* the beginning of a line; the event's object */
    char name[64], id[256];        /* of the event that is being read; id "": was not said */
    char last[256], reason[64];    /* the id behind which to go on; of `end` */
    long status;                   /* of the last answer */
    bool lost, came, unread, huge; /* lost: it was said; came: something was heard since the last request */
};

static void print_human(const bson_t *doc)
{
    static const char *const shown[] = {"ts", "event", "tenant_id"};
    bson_iter_t it;
    printf("%.19s  %s ", json_get_str(doc, "ts", "?"), json_get_str(doc, "event", "?"));
    for (bool more = bson_iter_init(&it, doc) && bson_iter_next(&it); more; more = bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        bool is_shown = false;
        for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
            is_shown |= !strcmp(key, shown[i]);
        AUTO_FREE char *text = is_shown ? NULL : listing_cell(doc, &(struct col){key, COL_TEXT, 1});
        if (text && *text)
            printf(" %s=%s", key, text);
    }
    putchar('\n');
}

static void dispatch(struct events *s)
{
    AUTO_BSON bson_t *doc = s->data.n ? json_parse(s->data.p, s->data.n, NULL) : NULL;
    if (!strcmp(s->name, "end")) {
        snprintf(s->reason, sizeof s->reason, "%s", doc ? json_get_str(doc, "reason", "") : "");
    } else if (!strcmp(s->name, "gap")) {
        fflush(stdout);
        fputs("some events are gone: more came than is kept; `mysimbdp files` and `mysimbdp runs` have all\n", stderr);
    } else if (doc && s->r->json) {
        listing_object(doc);
    } else if (doc) {
        print_human(doc);
    }
    if (*s->id)
        memcpy(s->last, s->id, sizeof s->last);
    s->name[0] = s->id[0] = 0;
    buf_reset(&s->data);
}

static void take_line(struct events *s, const char *line, size_t n)
{
    if (n && line[n - 1] == '\r')
        n--;
    if (!n)
        dispatch(s);
    else if (n > 4 && !memcmp(line, "id: ", 4) && n - 4 < sizeof s->id)
        snprintf(s->id, sizeof s->id, "%.*s", (int)n - 4, line + 4);
    else if (n > 7 && !memcmp(line, "event: ", 7))
        snprintf(s->name, sizeof s->name, "%.*s", (int)n - 7, line + 7);
    else if (n > 6 && !memcmp(line, "data: ", 6))
        buf_add(&s->data, line + 6, n - 6);
}

static bool on_data(void *arg, const char *p, size_t n)
{
    struct events *s = arg;
    if (s->lost)
        fputs("connected again\n", stderr);
    s->lost = false;
    s->came = true;
    buf_add(&s->rest, p, n);
    for (const char *lf; s->rest.n && (lf = memchr(s->rest.p, '\n', s->rest.n));) {
        size_t len = (size_t)(lf - s->rest.p);
        take_line(s, s->rest.p, len);
        buf_consume(&s->rest, len + 1);
    }
    s->huge = s->rest.n + s->data.n > MAX_LINE;
    s->unread = fflush(stdout) != 0 || ferror(stdout);
    return !s->unread && !s->huge;
}

/* One connection, until it ends. What was half an event is none. */
static int read_once(struct events *s, const char *path, struct err *e)
{
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *after = *s->last ? xasprintf("Last-Event-ID: %s", s->last) : NULL;
    const char *const fields[] = {after, NULL};
    buf_reset(&s->rest);
    buf_reset(&s->data);
    s->name[0] = s->id[0] = s->reason[0] = 0;
    s->came = false;
    *e = (struct err){0};
    int n = http_ask(s->r->http,
                     &(struct http_request){.method = "GET",
                                            .path = path,
                                            .accept = "text/event-stream",
                                            .fields = fields,
                                            .once = true,
                                            .on_data = on_data,
                                            .arg = s},
                     &a, e);
    s->status = a.status;
    if (n == 0 && !strcmp(s->reason, "unauthorized"))
        return err_set(e, ERR_REFUSED, "the gateway ended it: the token may not read any more");
    if (n == 0)
        err_set(e, ERR_CLOSED, "the gateway ended it%s%s", *s->reason ? ": " : "", s->reason);
    return s->huge ? err_set(e, ERR_FORMAT, "an event has more than %d bytes", MAX_LINE) : n;
}

/* Whether there is no use in another try: it was refused, and not for a while. */
static bool is_over(const struct events *s, int n, const struct err *e)
{
    if (n == ERR_CLOSED)
        return e->reason && !strcmp(e->reason, "certificate");
    return n < 0 && !e->retry_after_s && s->status < 500;
}

static int follow(struct events *s, const char *path, struct err *e)
{
    const int64_t patience = s->r->retry_for_ms ? s->r->retry_for_ms : REMOTE_ASK_MS;
    int64_t until = clk_now_ms() + patience;
    for (int tries = 1;; tries++) {
        int n = read_once(s, path, e);
        if (s->unread)
            return 0;
        if (is_over(s, n, e))
            return n;
        if (s->came) {
            tries = 1;
            until = clk_now_ms() + patience;
        }
        if (!s->lost)
            fprintf(stderr, "%s; trying again\n", e->msg);
        s->lost = true;
        if (!http_wait(s->r->http, e, tries, until))
            return e->code;
    }
}

static void be_quiet(void *arg, const struct err *why, int64_t ms)
{
    (void)arg, (void)why, (void)ms; /* `follow` says it */
}

int verb_events(struct remote *r)
{
    const char *types = remote_opt(r, "--types");
    bool f = remote_flag(r, "-f");
    AUTO_BUF struct buf path = {0};
    struct events s = {.r = r};
    struct err e = {0};
    int code = remote_args(r, 0, 0);
    if (!code && !f)
        code = remote_usage(r, "give -f: events are told from now on; `mysimbdp files` and `mysimbdp runs` have what was");
    if (code || (code = remote_open(r)))
        return code;
    remote_path(r, &path, "events");
    if (types) {
        buf_adds(&path, "?types=");
        http_escape(&path, types);
    }
    http_on_wait(r->http, be_quiet, NULL);
    int n = follow(&s, path.p, &e);
    buf_fini(&s.rest);
    buf_fini(&s.data);
    return n < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}
