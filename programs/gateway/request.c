#include "request.h"
#include "figures.h"
#include "framing.h"
#include "gateway.h"
#include "login.h"
#include "problem.h"
#include "rates.h"
#include "refusals.h"
#include "routes.h"
#include "server.h"
#include "slow.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { STREAM_BLOCK = 1024, MAX_KEY = 255 };

static const char json_type[] = "application/json";

/* ---- life ---- */

static void read_address(struct request *rq)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = i ? i->client_addr : NULL;
    const void *from = !a                         ? NULL
                       : a->sa_family == AF_INET  ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
                       : a->sa_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
                                                  : NULL;
    if (!from || !inet_ntop(a->sa_family, from, rq->address, sizeof rq->address))
        snprintf(rq->address, sizeof rq->address, "unknown");
}

struct forwarded {
    int n;
    const char *value;
};

static enum MHD_Result take_forwarded(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct forwarded *f = arg;
    (void)kind;
    if (!strcasecmp(name, "X-Forwarded-For")) {
        f->n++;
        f->value = value;
    }
    return MHD_YES;
}

/* Of a request that came by a front of ours, whose it is: one address, which the front wrote in place of whatever there was. */
static void believe_front(struct request *rq)
{
    const struct strs *fronts = &rq->g->conf->platform.http.fronts;
    struct forwarded f = {0};
    unsigned char room[sizeof(struct in6_addr)];
    bool is_front = false;
    for (size_t i = 0; i < fronts->n; i++)
        is_front |= !strcmp(fronts->v[i], rq->address);
    if (!is_front)
        return;
    MHD_get_connection_values(rq->connection, MHD_HEADER_KIND, take_forwarded, &f);
    if (f.n == 1 && f.value && (inet_pton(AF_INET, f.value, room) == 1 || inet_pton(AF_INET6, f.value, room) == 1))
        snprintf(rq->address, sizeof rq->address, "%s", f.value);
}

struct request *request_new(struct gateway *g, struct MHD_Connection *c, const char *target)
{
    struct request *rq = xcalloc(1, sizeof *rq);
    *rq = (struct request){.g = g, .connection = c, .target = xstrdup(target), .began_us = clk_now_us()};
    home_new_id(rq->id);
    read_address(rq);
    return rq;
}

void request_free(struct request *rq)
{
    if (!rq)
        return;
    if (rq->free_data)
        rq->free_data(rq);
    if (rq->response)
        MHD_destroy_response(rq->response);
    account_fini(&rq->who);
    free(rq->ticket);
    buf_fini(&rq->body);
    uri_fini(&rq->uri);
    free(rq->target);
    free(rq);
}

/* ---- answers ---- */

static void add_headers(struct request *rq, const char *content_type)
{
    if (content_type)
        request_add_header(rq, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    request_add_header(rq, "X-Request-Id", rq->id);
    request_add_header(rq, MHD_HTTP_HEADER_CACHE_CONTROL, rq->may_be_kept ? "no-cache" : "no-store");
    request_add_header(rq, "X-Content-Type-Options", "nosniff");
}

static void answer(struct request *rq, unsigned status, const char *content_type, void *text, size_t n)
{
    rq->answered = true;
    rq->answer_bytes = (int64_t)n;
    rq->status = status;
    rq->response = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!rq->response)
        mem_exhausted();
    add_headers(rq, status != MHD_HTTP_NO_CONTENT ? content_type : NULL);
}

void request_answer_file(struct request *rq, const char *content_type, int fd, int64_t at, int64_t end)
{
    rq->answered = true;
    rq->answer_bytes = end - at;
    rq->status = MHD_HTTP_OK;
    rq->response = MHD_create_response_from_fd_at_offset64((uint64_t)(end - at), fd, (uint64_t)at);
    if (!rq->response)
        mem_exhausted();
    add_headers(rq, content_type);
}

void request_answer_stream(struct request *rq, const char *content_type, MHD_ContentReaderCallback read, void *arg)
{
    rq->answered = true;
    rq->answer_bytes = LENGTH_UNKNOWN;
    rq->status = MHD_HTTP_OK;
    rq->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read, arg, NULL);
    if (!rq->response)
        mem_exhausted();
    add_headers(rq, content_type);
    figures_count(rq->status, clk_now_us() - rq->began_us, rq->received); /* it may last for days */
    rq->counted = true;
}

void request_flow(struct request *rq, bool goes_on)
{
    slow_suspended(rq->connection, clk_now_ms(), !goes_on);
    if (goes_on) {
        MHD_resume_connection(rq->connection);
        server_kick(rq->g->server);
    } else {
        MHD_suspend_connection(rq->connection);
    }
}

void request_answer(struct request *rq, unsigned status, const char *content_type, struct buf *body)
{
    char *text = body->p ? body->p : xstrdup("");
    size_t n = body->n;
    *body = (struct buf){0};
    answer(rq, status, content_type ? content_type : json_type, text, n);
}

static void refuse(struct request *rq, const char *code, const char *detail)
{
    struct buf b = {0};
    problem_write(&b, code, detail, rq->id);
    unsigned status = problem_status(code);
    answer(rq, status, "application/problem+json", b.p, b.n);
    if (status == MHD_HTTP_UNAUTHORIZED) {
        if (!login_session(rq) &&
            !request_header(rq, "X-Requested-With")) /* else a browser would ask for a password in its own way */
            request_add_header(rq, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"mysimbdp\", charset=\"UTF-8\"");
        request_add_header(rq, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"mysimbdp\"");
    }
}

void request_refuse(struct request *rq, const char *code, const char *fmt, ...)
{
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    refuse(rq, code, *detail ? detail : NULL);
}

void request_refuse_for(struct request *rq, const char *code, int64_t retry_after_s, const char *fmt, ...)
{
    char detail[512], after[24];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    refuse(rq, code, *detail ? detail : NULL);
    snprintf(after, sizeof after, "%lld", (long long)(retry_after_s > 0 ? retry_after_s : 1));
    request_add_header(rq, MHD_HTTP_HEADER_RETRY_AFTER, after);
}

void request_add_header(struct request *rq, const char *name, const char *value)
{
    MHD_add_response_header(rq->response, name, value);
}

const char *request_header(const struct request *rq, const char *name)
{
    return MHD_lookup_connection_value(rq->connection, MHD_HEADER_KIND, name);
}

/* Fields of one name, joined as a list. */
struct field {
    const char *name;
    struct buf text;
    size_t n;
};

static enum MHD_Result join_field(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct field *f = arg;
    (void)kind;
    if (strcasecmp(name, f->name) != 0)
        return MHD_YES;
    buf_adds(&f->text, f->n++ ? "," : "");
    buf_adds(&f->text, value ? value : "");
    return MHD_YES;
}

/* Of a traceparent there may be one alone, of a tracestate several. */
char *request_trace(const struct request *rq)
{
    struct field parent = {"traceparent", {0}, 0}, state = {"tracestate", {0}, 0};
    MHD_get_connection_values(rq->connection, MHD_HEADER_KIND, join_field, &parent);
    if (parent.n)
        MHD_get_connection_values(rq->connection, MHD_HEADER_KIND, join_field, &state);
    char *kept = trace_keep(parent.text.p, state.text.p);
    buf_fini(&parent.text);
    buf_fini(&state.text);
    return kept;
}

bool request_key(struct request *rq, const char **ret)
{
    const char *key = *ret = request_header(rq, "Idempotency-Key");
    size_t n = key ? strlen(key) : 0;
    bool ok = !key || (n > 0 && n <= MAX_KEY && utf8_valid(key, n));
    for (size_t i = 0; i < n; i++)
        ok = ok && (unsigned char)key[i] >= 32 && key[i] != 127;
    if (!ok)
        request_refuse(rq, "bad_request", "an Idempotency-Key has 1 to %d characters", MAX_KEY);
    return ok;
}

static enum MHD_Result send_answer(struct request *rq)
{
    slow_answer(rq->connection, clk_now_ms(), rq->answer_bytes);
    log_debug("request", rq->tenant, NULL, "%s %s %s: %u", rq->id, rq->method, rq->target, rq->status);
    return refusals_pass(rq->connection, rq->status, rq->response);
}

/* ---- steps ---- */

void request_wait(struct request *rq)
{
    rq->waits = true;
}

void request_go_on(struct request *rq)
{
    rq->waits = false;
    if (!rq->suspended)
        return;
    rq->suspended = false;
    slow_suspended(rq->connection, clk_now_ms(), false);
    MHD_resume_connection(rq->connection);
    server_kick(rq->g->server);
}

/* Behind scheme and host, where the target has them (RFC 9112, 3.2.2). */
static const char *path_of(const char *target)
{
    const char *host = !strncasecmp(target, "http://", 7) ? target + 7 : !strncasecmp(target, "https://", 8) ? target + 8 : NULL;
    if (!host)
        return target;
    const char *path = host + strcspn(host, "/?");
    return *path ? path : "/";
}

static void read_header(struct request *rq, const char *version)
{
    const char *why = framing_check(rq, version);
    rq->step = STEP_LOGIN;
    if (!why)
        believe_front(rq);
    if (why) {
        rq->length = INT64_MAX; /* nobody knows what it is: nothing of it is read */
        request_refuse(rq, "bad_request", "%s", why);
        request_add_header(rq, MHD_HTTP_HEADER_CONNECTION, "close");
    } else if (!uri_parse(path_of(rq->target), &rq->uri)) {
        request_refuse(rq, "bad_request", "the target is no path that can be here");
    } else if (framing_is_foreign(rq)) {
        request_refuse(rq, "forbidden", "the request comes from a page of another site (its Origin is not this Host)");
    } else if (routes_find(rq) && !(rq->route->flags & ROUTE_OPEN)) {
        login_begin(rq);
    }
}

static void begin(struct request *rq)
{
    int64_t wait_s = 0;
    rq->step = STEP_BEGUN;
    if (!(rq->route->flags & ROUTE_OPEN)) {
        if (!rates_take(rq->g->rates, rq->who.name, clk_now_ms(), &wait_s)) {
            request_refuse_for(rq, "rate", wait_s, "http.requests_per_s of an account are used up");
            return;
        }
        if (!routes_let_in(rq))
            return;
    }
    if ((rq->route->flags & ROUTE_KEEPS) && rq->length > REQUEST_BODY_MAX)
        request_refuse(rq, "too_large", "%d bytes are taken here", REQUEST_BODY_MAX);
    else
        rq->route->begin(rq);
}

static void end(struct request *rq)
{
    rq->step = STEP_ENDED;
    if (rq->route->end)
        rq->route->end(rq);
}

/* Goes on until it waits, wants the body, or has an answer. */
static void advance(struct request *rq, const char *version)
{
    while (!rq->waits && !rq->answered) {
        switch (rq->step) {
        case STEP_HEADER:
            read_header(rq, version);
            break;
        case STEP_LOGIN:
            begin(rq);
            break;
        case STEP_BEGUN:
            rq->step = STEP_BODY;
            return;
        case STEP_BODY:
            end(rq);
            break;
        case STEP_ENDED:
            log_error("request", rq->tenant, NULL, "%s: %s %s has no answer", rq->id, rq->method, rq->target);
            request_refuse(rq, "internal", "%s", "");
            break;
        }
    }
}

static bool take_body(struct request *rq, const char *p, size_t n)
{
    rq->received += (int64_t)n;
    if (rq->answered)
        return (rq->length >= 0 && rq->length <= REQUEST_DRAIN_MAX) || rq->received <= REQUEST_DISCARD_MAX; /* else it is closed */
    if (rq->route->body) {
        rq->route->body(rq, p, n);
    } else if (rq->body.n + n > (rq->route->flags & ROUTE_KEEPS ? REQUEST_BODY_MAX : 0)) {
        request_refuse(rq, "too_large", "%d bytes are taken here", rq->route->flags & ROUTE_KEEPS ? REQUEST_BODY_MAX : 0);
    } else {
        buf_add(&rq->body, p, n);
    }
    if (rq->answered)
        rq->received = 0; /* what may still come is counted from here */
    return true;
}

static enum MHD_Result suspend(struct request *rq)
{
    rq->suspended = true;
    slow_suspended(rq->connection, clk_now_ms(), true);
    MHD_suspend_connection(rq->connection);
    return MHD_YES;
}

/* libmicrohttpd calls once with the header; for each piece of the body; and once behind it. What is answered in the first of these
 * reaches the client before it sends the body, but libmicrohttpd closes the connection then: where the body is small, or there is
 * none, the answer rather waits for the last call. */
enum MHD_Result request_step(struct request *rq, const char *method, const char *version, const char *p, size_t *n)
{
    rq->method = method;
    if (*n) {
        bool goes_on = take_body(rq, p, *n);
        *n = 0;
        return !goes_on ? MHD_NO : rq->waits ? suspend(rq) : MHD_YES;
    }
    bool first = rq->step < STEP_BODY;
    advance(rq, version);
    if (rq->waits)
        return suspend(rq);
    if (!rq->answered)
        return MHD_YES;
    if (first && rq->length <= REQUEST_DRAIN_MAX && (!rq->length || !request_header(rq, MHD_HTTP_HEADER_EXPECT))) {
        rq->step = STEP_BODY;
        return MHD_YES;
    }
    return send_answer(rq);
}
