#include "remote.h"
#include "advice.h"

#include "base/mem.h"
#include "term/args.h"
#include "term/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MIN_ID = 4, LOOKED_AT = 1000 };

const char *remote_opt(struct remote *r, const char *name)
{
    return args_opt(&r->argc, r->argv, name);
}

bool remote_flag(struct remote *r, const char *name)
{
    return args_flag(&r->argc, r->argv, name);
}

int remote_usage(struct remote *r, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "mysimbdp %s: ", r->verb);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: mysimbdp %s %s [--url URL | --profile NAME]\n", r->verb, r->usage);
    return REMOTE_USAGE;
}

int remote_args(struct remote *r, int min, int max)
{
    const char *stray = args_stray(r->argc, r->argv);
    if (stray)
        return remote_usage(r, "unknown option, or one without its value: %s", stray);
    if (r->argc < min)
        return remote_usage(r, "too few arguments");
    if (max >= 0 && r->argc > max)
        return remote_usage(r, "too many arguments: %s", r->argv[max]);
    return 0;
}

int remote_fail_at(const struct remote *r, const char *what, const struct err *e)
{
    const char *advice = advice_of(e->reason);
    (void)r;
    fflush(stdout);
    fprintf(stderr, "error: %s%s%s\n", what ? what : "", what ? ": " : "", e->msg);
    if (e->retry_after_s)
        fprintf(stderr, "  not before %lld s from now\n", (long long)e->retry_after_s);
    if (advice)
        fprintf(stderr, "  %s\n", advice);
    return e->code == ERR_USAGE ? REMOTE_USAGE : REMOTE_FAILED;
}

int remote_fail(const struct remote *r, const struct err *e)
{
    return remote_fail_at(r, NULL, e);
}

int remote_number(struct remote *r, const char *option, const char *text, int64_t min, int64_t max, int64_t *ret)
{
    char *end;
    if (!text)
        return 0;
    errno = 0;
    int64_t v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < min || v > max)
        return remote_usage(r, "%s is a number from %lld to %lld, not \"%s\"", option, (long long)min, (long long)max, text);
    *ret = v;
    return 0;
}

/* ---- the gateway ---- */

int remote_open_account(struct remote *r)
{
    struct err e = {0};
    if (target_find(&r->options, &r->target, &e) < 0)
        return remote_fail(r, &e);
    r->http = http_new(&r->target, r->retry_for_ms ? r->retry_for_ms : REMOTE_ASK_MS, NULL);
    return 0;
}

int remote_open(struct remote *r)
{
    int code = remote_open_account(r);
    if (code || r->target.tenant)
        return code;
    AUTO_BSON bson_t *me = remote_ask(r, "/v1/whoami");
    const char *tenant = me ? json_get_str(me, "tenant_id", NULL) : NULL;
    if (!me)
        return REMOTE_FAILED;
    if (!tenant || !*tenant)
        return remote_usage(r, "%s is an operator; say which tenant, with --tenant T", json_get_str(me, "account", "?"));
    xstr_set(&r->target.tenant, tenant);
    return 0;
}

void remote_close(struct remote *r)
{
    http_free(r->http);
    target_fini(&r->target);
}

void remote_path(const struct remote *r, struct buf *b, const char *fmt, ...)
{
    va_list ap;
    AUTO_FREE char *rest = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&rest, fmt, ap);
    va_end(ap);
    if (n < 0)
        mem_exhausted();
    buf_adds(b, "/v1/tenants/");
    http_escape(b, r->target.tenant);
    buf_addf(b, "/%s", rest);
}

static int take_object(struct http_answer *a, bson_t **ret, struct err *e)
{
    *ret = json_parse(a->body.n ? a->body.p : "", a->body.n, e);
    if (*ret)
        return 0;
    err_context(e, "the answer (status %ld, request %s) is not what a gateway says", a->status, a->request_id);
    return ERR_FORMAT;
}

int remote_get(struct remote *r, const char *path, bson_t **ret, struct err *e)
{
    AUTO_ANSWER struct http_answer a = {0};
    int n = http_ask(r->http, &(struct http_request){.method = "GET", .path = path}, &a, e);
    return n < 0 ? n : take_object(&a, ret, e);
}

bson_t *remote_ask(struct remote *r, const char *path)
{
    struct err e = {0};
    bson_t *doc = NULL;
    if (remote_get(r, path, &doc, &e) == 0)
        return doc;
    remote_fail(r, &e);
    return NULL;
}

/* key NULL: it is not sent twice. */
static bson_t *order(struct remote *r, const char *method, const char *path, const char *json, const char *key)
{
    const char *fields[3] = {NULL};
    size_t n_fields = 0;
    AUTO_ANSWER struct http_answer a = {0};
    struct err e = {0};
    struct http_body body = {.p = json ? json : "", .n = json ? (int64_t)strlen(json) : 0};
    struct http_request rq = {.method = method, .path = path, .fields = fields, .body = &body, .again = key != NULL};
    bson_t *doc = NULL;
    if (json)
        fields[n_fields++] = "Content-Type: application/json";
    if (key)
        fields[n_fields++] = key;
    int n = http_ask(r->http, &rq, &a, &e);
    if (n == 0 && take_object(&a, &doc, &e) == 0)
        return doc;
    remote_fail(r, &e);
    return NULL;
}

bson_t *remote_order(struct remote *r, const char *method, const char *path, const char *json)
{
    return order(r, method, path, json, NULL);
}

bson_t *remote_order_once(struct remote *r, const char *method, const char *path, const char *json)
{
    char key[HTTP_KEY_SIZE];
    http_new_key(key);
    return order(r, method, path, json, key);
}

/* ---- ids ---- */

static bool is_like(const char *id, const char *head, size_t n, const char *tail)
{
    size_t whole = strlen(id), end = strlen(tail);
    return !strncmp(id, head, n) && whole >= n + end && !strcmp(id + whole - end, tail);
}

int remote_whole_id(struct remote *r, bool run, const char **id)
{
    const char *gap = strstr(*id, ID_GAP), *what = run ? "runs" : "files", *key = run ? "run_id" : "file_id";
    AUTO_BUF struct buf path = {0};
    bson_iter_t it;
    bson_t one;
    int n = 0;
    if (strlen(*id) >= ID_SIZE - 1)
        return 0;
    if (strlen(*id) < MIN_ID)
        return fprintf(stderr, "error: \"%s\" is no id; `mysimbdp %s` lists them\n", *id, what), REMOTE_FAILED;
    remote_path(r, &path, "%s?limit=%d", what, LOOKED_AT);
    AUTO_BSON bson_t *doc = remote_ask(r, path.p);
    if (!doc)
        return REMOTE_FAILED;
    for (bool more = json_get_iter(doc, what, &it); more && json_next_doc(&it, &one);)
        if (is_like(json_get_str(&one, key, ""), *id, gap ? (size_t)(gap - *id) : strlen(*id), gap ? gap + strlen(ID_GAP) : "")) {
            snprintf(r->whole_id, sizeof r->whole_id, "%s", json_get_str(&one, key, ""));
            n++;
        }
    if (n == 1) {
        *id = r->whole_id;
        return 0;
    }
    if (n)
        fprintf(stderr, "error: several ids are like %s; give more of it\n", *id);
    else
        fprintf(stderr, "error: none of the newest %d %s has an id like %s; give all of it\n", LOOKED_AT, what, *id);
    return REMOTE_FAILED;
}
