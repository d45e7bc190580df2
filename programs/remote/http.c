#include "http.h"
#include "advice.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <sys/random.h>

enum {
    MAX_ANSWER = 64 << 20,
    CONNECT_MS = 15000,
    QUIET_S = 60,         /* nothing comes or goes: the connection is taken for lost */
    CONTINUE_MS = 2000,   /* how long a body waits for the server's word */
    FIRST_PAUSE_MS = 250, /* before another try; doubles */
    MAX_PAUSE_MS = 15000,
    STOP_LOOK_MS = 100,
    TOLD_MS = 1500, /* shorter waits are not worth a line */
    KEY_BYTES = 16,
};

struct http {
    const struct target *target;
    int64_t patience_ms;
    const atomic_bool *stop;
    CURL *curl;
    void (*on_wait)(void *, const struct err *, int64_t);
    void *on_wait_arg;
    bool told;
};

/* One try. */
struct exchange {
    const struct http_request *rq;
    struct http_answer *a;
    int64_t at;            /* bytes of the body that were given away */
    int64_t retry_after_s; /* -1: was not said */
    int file_error;        /* -errno */
    bool is_good;          /* its status is 2xx */
    char said[CURL_ERROR_SIZE];
};

/* What is to be done after a try. */
enum after { DONE, AGAIN, GIVE_UP };

struct http *http_new(const struct target *target, int64_t patience_ms, const atomic_bool *stop)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->target = target;
    h->patience_ms = patience_ms;
    h->stop = stop;
    h->curl = curl_easy_init();
    if (!h->curl)
        mem_exhausted();
    return h;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->curl);
    free(h);
}

void http_on_wait(struct http *h, void (*fn)(void *arg, const struct err *why, int64_t ms), void *arg)
{
    h->on_wait = fn;
    h->on_wait_arg = arg;
}

void http_answer_fini(struct http_answer *a)
{
    buf_fini(&a->body);
}

void http_escape(struct buf *b, const char *text)
{
    for (const char *c = text; *c; c++)
        if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("-._~", *c))
            buf_add(b, c, 1);
        else
            buf_addf(b, "%%%02X", (unsigned char)*c);
}

int64_t http_backoff_ms(int n, uint32_t random)
{
    int64_t pause = FIRST_PAUSE_MS;
    while (--n > 0 && pause < MAX_PAUSE_MS)
        pause *= 2;
    if (pause > MAX_PAUSE_MS)
        pause = MAX_PAUSE_MS;
    return pause / 2 + (int64_t)random % (pause / 2 + 1);
}

/* ---- what curl calls ---- */

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    (void)size;
    if (x->rq->on_data && x->is_good)
        return x->rq->on_data(x->rq->arg, p, n) ? n : 0;
    if (x->a->body.n + n > MAX_ANSWER)
        return 0;
    buf_add(&x->a->body, p, n);
    return n;
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    const struct http_body *b = x->rq->body;
    (void)size;
    if ((int64_t)n > b->n - x->at)
        n = (size_t)(b->n - x->at);
    if (b->p) {
        memcpy(p, (const char *)b->p + x->at, n);
    } else if (n) {
        ssize_t got = pread(b->fd, p, n, b->offset + x->at);
        if (got <= 0) {
            x->file_error = got < 0 ? -errno : -ENODATA;
            return CURL_READFUNC_ABORT;
        }
        n = (size_t)got;
    }
    x->at += (int64_t)n;
    if (x->rq->on_sent)
        x->rq->on_sent(x->rq->arg, (int64_t)n);
    return n;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct exchange *x = arg;
    if (origin != SEEK_SET)
        return CURL_SEEKFUNC_FAIL;
    if (x->rq->on_sent)
        x->rq->on_sent(x->rq->arg, offset - x->at);
    x->at = offset;
    return CURL_SEEKFUNC_OK;
}

/* The value of the field, when the line is one of that name. */
static const char *field(const char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

static int64_t number(const char *text)
{
    char *end;
    errno = 0;
    int64_t v = strtoll(text, &end, 10);
    return end == text || *end || errno || v < 0 ? -1 : v;
}

static void take_field(struct exchange *x, const char *line)
{
    struct http_answer *a = x->a;
    const char *v;
    if ((v = field(line, "Content-Type")))
        snprintf(a->type, sizeof a->type, "%.*s", (int)strcspn(v, "; "), v);
    else if ((v = field(line, "X-Request-Id")))
        snprintf(a->request_id, sizeof a->request_id, "%s", v);
    else if ((v = field(line, "Location")) || (v = field(line, "Content-Location")))
        snprintf(a->location, sizeof a->location, "%s", v);
    else if ((v = field(line, "ETag")))
        snprintf(a->etag, sizeof a->etag, "%s", v);
    else if ((v = field(line, "X-Position")))
        snprintf(a->position, sizeof a->position, "%s", v);
    else if ((v = field(line, "X-Next")))
        a->next = number(v);
    else if ((v = field(line, "X-Ended")))
        a->ended = !strcasecmp(v, "true");
    else if ((v = field(line, "Upload-Offset")))
        a->upload_offset = number(v);
    else if ((v = field(line, "Upload-Length")))
        a->upload_length = number(v);
    else if ((v = field(line, "Retry-After"))) /* a date is by another clock than ours */
        x->retry_after_s = number(v) >= 0 ? number(v) : 1;
}

/* Each answer begins with its status: what came before, as 100, is none. */
static void forget(struct exchange *x)
{
    struct http_answer *a = x->a;
    buf_reset(&a->body);
    *a = (struct http_answer){.body = a->body, .next = -1, .upload_offset = -1, .upload_length = -1};
    x->retry_after_s = -1;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    char line[1024];
    (void)size;
    if (n >= 5 && !memcmp(p, "HTTP/", 5))
        forget(x);
    if (n >= sizeof line)
        return n;
    memcpy(line, p, n);
    line[n] = 0;
    if (!strncmp(line, "HTTP/", 5))
        x->is_good = line[strcspn(line, " ")] && line[strcspn(line, " ") + 1] == '2';
    line[strcspn(line, "\r\n")] = 0;
    take_field(x, line);
    return n;
}

/* ---- a try ---- */

static struct curl_slist *fields_of(const struct http *h, const struct http_request *rq)
{
    AUTO_FREE char *login = xasprintf("Authorization: Bearer %s", h->target->token ? h->target->token : "");
    AUTO_FREE char *accept = xasprintf("Accept: %s", rq->accept ? rq->accept : "application/json");
    struct curl_slist *all = curl_slist_append(NULL, accept);
    if (all && h->target->token)
        all = curl_slist_append(all, login);
    /* Whoever called us may have said of which trace this is a part. */
    AUTO_FREE char *trace = trace_keep(getenv("TRACEPARENT"), getenv("TRACESTATE"));
    AUTO_FREE char *parent = trace ? xasprintf("traceparent: %.*s", TRACE_PARENT_SIZE - 1, trace) : NULL;
    AUTO_FREE char *state = *trace_kept_state(trace) ? xasprintf("tracestate: %s", trace_kept_state(trace)) : NULL;
    if (all && parent)
        all = curl_slist_append(all, parent);
    if (all && state)
        all = curl_slist_append(all, state);
    for (const char *const *f = rq->fields; all && f && *f; f++)
        all = curl_slist_append(all, *f);
    if (!all)
        mem_exhausted();
    explicit_bzero(login, strlen(login));
    return all;
}

static bool may_repeat(const struct http_request *rq)
{
    return rq->again || !strcmp(rq->method, "GET") || !strcmp(rq->method, "HEAD");
}

static void set_method(CURL *c, struct exchange *x)
{
    const struct http_request *rq = x->rq;
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
    if (!strcmp(rq->method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    if (!rq->body)
        return;
    curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)rq->body->n);
    curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(c, CURLOPT_READDATA, x);
    curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    curl_easy_setopt(c, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)CONTINUE_MS);
}

static void set_connection(const struct http *h, const struct http_request *rq)
{
    CURL *c = h->curl;
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (h->target->ca)
        curl_easy_setopt(c, CURLOPT_CAINFO, h->target->ca);
    if (!strncmp(h->target->url, "http:", 5))
        curl_easy_setopt(c, CURLOPT_PROXY, ""); /* the token stays on this host */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)QUIET_S);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "mysimbdp/" SIMBDP_VERSION);
    if (!may_repeat(rq)) /* curl itself sends again what an old connection did not take */
        curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
}

static CURLcode exchange(struct http *h, struct exchange *x)
{
    CURL *c = h->curl;
    AUTO_FREE char *url = xasprintf("%s%s", h->target->url, x->rq->path);
    struct curl_slist *fields = fields_of(h, x->rq);
    curl_easy_reset(c);
    set_connection(h, x->rq);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->said);
    set_method(c, x);
    CURLcode r = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &x->a->status);
    if (r != CURLE_OK && x->rq->on_sent) /* all of it goes again, or is not there */
        x->rq->on_sent(x->rq->arg, -x->at);
    curl_slist_free_all(fields);
    return r;
}

/* ---- what came of it ---- */

static void set_problem(const struct http_answer *a, const bson_t *doc, struct err *e)
{
    const char *title = json_get_str(doc, "title", "refused"), *detail = json_get_str(doc, "detail", NULL);
    const char *code = json_get_str(doc, "code", ""), *id = json_get_str(doc, "request_id", a->request_id);
    err_set(e, ERR_REFUSED, "%s%s%s (%s%s%s)", title, detail && *detail ? ": " : "", detail ? detail : "", code,
            *id ? ", request " : "", id);
    if (e)
        e->reason = advice_word(code);
}

static void set_refusal(const struct exchange *x, struct err *e)
{
    const struct http_answer *a = x->a;
    AUTO_BSON bson_t *doc =
        a->body.n && !strcmp(a->type, "application/problem+json") ? json_parse(a->body.p, a->body.n, NULL) : NULL;
    if (doc && json_get_str(doc, "code", NULL)) {
        set_problem(a, doc, e);
    } else {
        AUTO_BUF struct buf said = {0};
        buf_add(&said, a->body.p ? a->body.p : "", a->body.n < 200 ? a->body.n : 200);
        buf_make_plain(&said, 0);
        if (*a->request_id)
            err_set(e, ERR_REFUSED, "HTTP %ld (request %s)", a->status, a->request_id);
        else
            err_set(e, ERR_REFUSED, "HTTP %ld%s%s (from something that is not the gateway, or is in front of it)", a->status,
                    said.n ? ": " : "", said.p);
        if (e)
            e->reason = advice_word(a->status == 401 ? "unauthorized" : "");
    }
    if (e)
        e->retry_after_s = x->retry_after_s > 0 ? x->retry_after_s : 0;
}

/* Whether a failure came before anything of the request was sent. */
static bool was_unsent(CURLcode r)
{
    return r == CURLE_COULDNT_CONNECT || r == CURLE_COULDNT_RESOLVE_HOST || r == CURLE_COULDNT_RESOLVE_PROXY ||
           r == CURLE_SSL_CONNECT_ERROR;
}

static enum after after_failure(const struct http *h, const struct exchange *x, CURLcode r, struct err *e)
{
    const char *why = *x->said ? x->said : curl_easy_strerror(r);
    if (x->file_error) {
        err_sys(e, -EIO, "the file cannot be read as it was (%s)", err_text(x->file_error));
        return GIVE_UP;
    }
    err_set(e, ERR_CLOSED, "cannot reach %s: %s", h->target->url, why);
    e->reason = advice_word("unreachable");
    if (r == CURLE_PEER_FAILED_VERIFICATION || r == CURLE_SSL_CACERT_BADFILE || r == CURLE_SSL_ISSUER_ERROR) {
        err_set(e, ERR_CLOSED, "the certificate of %s is not trusted: %s", h->target->url, why);
        e->reason = advice_word("certificate");
        return GIVE_UP;
    }
    if (r == CURLE_URL_MALFORMAT || r == CURLE_UNSUPPORTED_PROTOCOL || r == CURLE_WRITE_ERROR)
        return GIVE_UP;
    return may_repeat(x->rq) || was_unsent(r) ? AGAIN : GIVE_UP;
}

/* As the gateway says: 429 without Retry-After does not change by waiting. */
static enum after after_answer(const struct exchange *x)
{
    const long status = x->a->status;
    if (status / 100 == 2)
        return DONE;
    if (status == 503 || status == 507 || (status == 429 && x->retry_after_s >= 0))
        return AGAIN;
    return (status == 502 || status == 504) && may_repeat(x->rq) ? AGAIN : GIVE_UP;
}

static enum after try_once(struct http *h, const struct http_request *rq, struct http_answer *a, struct err *e)
{
    struct exchange x = {.rq = rq, .a = a};
    forget(&x);
    CURLcode r = exchange(h, &x);
    if (x.a->status >= 300 && r != CURLE_PEER_FAILED_VERIFICATION && x.a->body.n) /* it was refused before all of the body went */
        r = CURLE_OK;
    if (r != CURLE_OK) {
        x.a->status = 0;
        return after_failure(h, &x, r, e);
    }
    enum after next = after_answer(&x);
    if (next != DONE)
        set_refusal(&x, e);
    return next;
}

void http_new_key(char ret[HTTP_KEY_SIZE])
{
    unsigned char random[KEY_BYTES];
    char key[2 * KEY_BYTES + 1];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(key, sizeof key, random, sizeof random);
    snprintf(ret, HTTP_KEY_SIZE, "Idempotency-Key: %s", key);
}

/* ---- tries ---- */

static uint32_t any_number(void)
{
    uint32_t n = 0;
    return getrandom(&n, sizeof n, 0) == (ssize_t)sizeof n ? n : (uint32_t)clk_now_us();
}

/* False: it was stopped. */
static bool wait_for(struct http *h, const struct err *why, int64_t ms)
{
    if (h->on_wait) {
        h->on_wait(h->on_wait_arg, why, ms);
    } else if (ms >= TOLD_MS && !h->told) {
        fprintf(stderr, "%s; trying again\n", why->msg);
        h->told = true;
    }
    for (int64_t until = clk_now_ms() + ms, left; (left = until - clk_now_ms()) > 0;) {
        if (h->stop && *h->stop)
            return false;
        poll(NULL, 0, (int)(left < STOP_LOOK_MS ? left : STOP_LOOK_MS));
    }
    if (h->on_wait)
        h->on_wait(h->on_wait_arg, NULL, 0);
    return true;
}

bool http_wait(struct http *h, const struct err *why, int n, int64_t until_ms)
{
    int64_t ms = http_backoff_ms(n, any_number()) + why->retry_after_s * 1000;
    return clk_now_ms() + ms <= until_ms && !(h->stop && *h->stop) && wait_for(h, why, ms);
}

int http_ask(struct http *h, const struct http_request *rq, struct http_answer *ret, struct err *e)
{
    struct err why = {0};
    const int64_t until = clk_now_ms() + h->patience_ms;
    h->told = false;
    for (int n = 1;; n++) {
        why = (struct err){0};
        enum after next = try_once(h, rq, ret, &why);
        if (next == DONE)
            return 0;
        if (next == GIVE_UP || rq->once || !http_wait(h, &why, n, until))
            break;
    }
    if (e)
        *e = why;
    return why.code;
}
