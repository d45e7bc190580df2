#include "serve.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "query/query.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_REQUEST = 64 << 10, MAX_ANSWER = 1 << 20, MAX_CPU_S = 10, MAX_MEMORY = 512 << 20, NICE = 10 };

/* Of all that lib/query answers: what the verbs of a tenant's are made of. */
static const char *const questions[] = {"files", "file", "runs", "run", "log", "rejects", "ids", "agreement", "usage", "bill"};
/* Of these, which need the configuration. */
static const char *const about_terms[] = {"agreement", "usage", "bill"};

static bool is_among(const char *op, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(words[i], op))
            return true;
    return false;
}
#define IS_AMONG(op, words) is_among(op, words, sizeof(words) / sizeof *(words))

/* What the platform is busy with comes first; and one that wants too much ends. */
static void bound(int fd)
{
    const struct timeval quiet = {SERVE_MAX_QUIET_S, 0};
    setpriority(PRIO_PROCESS, 0, NICE);
    setrlimit(RLIMIT_CPU, &(struct rlimit){MAX_CPU_S, MAX_CPU_S});
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes */
    setrlimit(RLIMIT_AS, &(struct rlimit){MAX_MEMORY, MAX_MEMORY});
#endif
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof quiet);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &quiet, sizeof quiet);
    signal(SIGALRM, SIG_DFL);
    alarm(SERVE_MAX_S);
}

/* Reads up to the first newline, which is left out. 0, or negative: it did not come, or too much did. */
static int read_line(int fd, size_t max, struct buf *line)
{
    while (line->n <= max) {
        char part[4096];
        ssize_t n = recv(fd, part, sizeof part, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : ERR_CLOSED;
        const char *end = memchr(part, '\n', (size_t)n);
        buf_add(line, part, end ? (size_t)(end - part) : (size_t)n);
        if (end)
            return 0;
    }
    return -EMSGSIZE;
}

static void send_all(int fd, const struct buf *b)
{
    for (size_t at = 0; at < b->n;) {
        ssize_t n = send(fd, b->p + at, b->n - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* who asked is gone, or does not read */
        at += (size_t)n;
    }
}

static void tell(int fd, const char *tenant, const struct query_answer *a)
{
    AUTO_BUF struct buf out = {0};
    buf_adds(&out, "{");
    if (a->head.n)
        buf_add(&out, a->head.p, a->head.n);
    json_i64(&out, "status", a->status);
    json_str(&out, "code", a->code);
    json_str(&out, "detail", *a->detail ? a->detail : NULL);
    json_str(&out, "tenant_id", tenant);
    json_i64(&out, "bytes", (int64_t)a->body.n);
    json_end(&out, '}');
    buf_adds(&out, "\n");
    send_all(fd, &out);
    send_all(fd, &a->body);
}

void serve_status(int fd, const struct desk_status *s)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "pid", getpid());
    json_time(&out, "started_at", s->started_wall_ms);
    json_i64(&out, "serving", s->serving);
    json_i64(&out, "served", s->served);
    json_i64(&out, "refused", s->refused);
    json_end(&out, '}');
    buf_adds(&out, "\n");
    if (send(fd, out.p, out.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("desk", NULL, NULL, "who asked how it is is gone");
}

void serve_refusal(int fd, int status, const char *code)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_i64(&out, "status", status);
    json_str(&out, "code", code);
    json_i64(&out, "bytes", 0);
    json_end(&out, '}');
    buf_adds(&out, "\n");
    if (send(fd, out.p, out.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("desk", NULL, NULL, "who was refused is gone");
}

/* By the socket where batchmgr takes few verbs, each for one tenant: whatever this process may be made to say. */
static bson_t *order(const struct home *h, const char *tenant, const char *file_id)
{
    AUTO_FREE char *path = home_socket(h, "batchmgr.gateway.sock");
    AUTO_FD int fd = fd_unix_connect(path, true);
    AUTO_BUF struct buf rq = {0}, answer = {0};
    if (fd < 0)
        return NULL;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", "retry");
    json_str(&rq, "tenant_id", tenant);
    if (file_id)
        json_str(&rq, "file_id", file_id);
    json_end(&rq, '}');
    buf_adds(&rq, "\n");
    send_all(fd, &rq);
    return read_line(fd, MAX_ANSWER, &answer) < 0 ? NULL : json_parse(answer.p, answer.n, NULL);
}

static void retry(const struct home *h, const char *tenant, const bson_t *rq, struct query_answer *ret)
{
    const char *id = json_get_str(rq, "file_id", NULL);
    if (id && !home_valid_id(id)) {
        *ret = (struct query_answer){.status = 404, .code = "not_found"};
        return;
    }
    AUTO_BSON bson_t *answer = order(h, tenant, id);
    ret->status = !answer ? 503 : json_get_bool(answer, "ok", false) ? 200 : 409;
    if (!answer) {
        ret->code = "busy";
        return;
    }
    if (ret->status == 409) {
        ret->code = "refused";
        snprintf(ret->detail, sizeof ret->detail, "%s", json_get_str(answer, "error", "refused without a reason"));
        json_str(&ret->head, "reason", json_get_str(answer, "code", NULL));
    } else if (bson_has_field(answer, "n")) {
        json_i64(&ret->head, "n", json_get_i64(answer, "n", 0));
        json_bool(&ret->head, "more", json_get_bool(answer, "more", false));
    }
}

static void ask(const struct home *h, const char *tenant, const char *op, const bson_t *rq, struct query_answer *ret)
{
    struct queries *q = queries_new(h);
    struct conf *conf = NULL;
    struct err e = {0};
    bson_t params, none = BSON_INITIALIZER;
    bson_iter_t it;
    bool has = bson_iter_init_find(&it, rq, "params") && BSON_ITER_HOLDS_DOCUMENT(&it) && json_iter_doc(&it, &params);
    /* Read here, as it lies there: the process that listens reads nothing that tenants write, and they write a part of it. */
    if (IS_AMONG(op, about_terms) && conf_load(h->path, &conf, &e) < 0)
        log_warn("configuration", tenant, NULL, "%s", e.msg);
    queries_set_conf(q, conf);
    query(q, op, &(struct query_scope){tenant, NULL}, has ? &params : &none, ret);
    if (*ret->why)
        log_error("query", tenant, NULL, "%s: %s", op, ret->why);
    queries_free(q);
    conf_free(conf);
    bson_destroy(&none);
}

noreturn void serve(const struct home *h, int fd, const char *tenant)
{
    AUTO_BUF struct buf line = {0};
    struct query_answer a = {0};
    bound(fd);
    int r = read_line(fd, MAX_REQUEST, &line);
    AUTO_BSON bson_t *rq = r == 0 ? json_parse(line.p ? line.p : "", line.n, NULL) : NULL;
    const char *op = rq ? json_get_str(rq, "op", "") : "", *wanted = rq ? json_get_str(rq, "tenant_id", tenant) : tenant;
    if (r == ERR_CLOSED)
        _exit(0);
    if (!rq)
        a = (struct query_answer){.status = 400, .code = "request"};
    else if (strcmp(wanted, tenant) != 0)
        a = (struct query_answer){.status = 404, .code = "tenant"};
    else if (!strcmp(op, "retry"))
        retry(h, tenant, rq, &a);
    else if (IS_AMONG(op, questions))
        ask(h, tenant, op, rq, &a);
    else
        a = (struct query_answer){.status = 403, .code = "forbidden"};
    tell(fd, tenant, &a);
    query_answer_fini(&a);
    shutdown(fd, SHUT_WR);
    _exit(0);
}
