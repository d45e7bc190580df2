#include "keeper.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "public_conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* UNDER_WAY: questions that the keeper was sent; others wait here, so that sending never has to wait for it. */
enum { MAX_TOLD = 256 << 20, MAX_ANSWER = 16 << 20, UNDER_WAY = 16 };

struct ask {
    struct ask *next;
    enum keeper_op op;
    keeper_answer_fn *fn;
    void *arg;
    size_t n;
    char text[];
};

extern char **environ;

struct keeper {
    int fd;
    pid_t pid;
    uint64_t generation;
    struct event_base *base;
    struct event *ev;
    struct ask *asks, **last, *unsent; /* in order; those in front of `unsent` are under way */
    size_t n_asks, n_under_way;
};

static void take_answer(struct keeper *k);

/* An answer, or its end. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct keeper *k = arg;
    (void)fd;
    (void)what;
    if (k->n_under_way) {
        take_answer(k);
        return;
    }
    log_error("stop", NULL, NULL, "the keeper (simbdp-keeper) ended; this program cannot work without it, and ends");
    event_del(k->ev);
    event_base_loopbreak(k->base);
}

/* The environment may hold secrets (MONGO_URL); commands of alerts get it from the keeper. */
static void forget_environment(void)
{
    for (char **v = environ; v && *v; v++) {
        char *value = strchr(*v, '=');
        if (value)
            explicit_bzero(value, strlen(value));
    }
    clearenv();
}

int keeper_start(struct event_base *base, const struct home *h, const char *program, struct keeper **ret, struct err *e)
{
    AUTO_FREE char *path = home_program(h, "simbdp-keeper");
    char *argv[] = {path, (char *)program, "--home", h->path, NULL};
    int fd;
    pid_t pid;
    int r = spawn_partner(argv, &fd, &pid, e);
    if (r < 0)
        return r;
    forget_environment();
    struct keeper *k = xcalloc(1, sizeof *k);
    *k = (struct keeper){.fd = fd, .pid = pid, .base = base};
    k->last = &k->asks;
    k->ev = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, k); /* it says nothing unasked */
    event_add(k->ev, NULL);
    *ret = k;
    return 0;
}

void keeper_stop(struct keeper *k)
{
    if (!k)
        return;
    for (struct ask *a = k->asks, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    event_free(k->ev);
    spawn_part(k->fd, k->pid);
    free(k);
}

static int tell(struct keeper *k, struct keeper_request rq, const char *text, size_t n)
{
    struct iovec v[] = {{&rq, sizeof rq}, {(void *)text, n}};
    ssize_t w;
    if (n > KEEPER_MAX_TEXT)
        return -EMSGSIZE;
    do
        w = sendmsg(k->fd, &(struct msghdr){.msg_iov = v, .msg_iovlen = 2}, MSG_NOSIGNAL);
    while (w < 0 && errno == EINTR);
    return w < 0 ? -errno : 0;
}

/* A descriptor, or the keeper's error. */
static int ask(struct keeper *k, enum keeper_op op, struct err *e)
{
    struct keeper_answer a;
    while (k->n_under_way) /* answers come in order */
        take_answer(k);
    int fd = -1, r = tell(k, (struct keeper_request){.op = op}, "", 0);
    size_t n_fds = 0;
    ssize_t n = r < 0 ? r : fd_recv(k->fd, &a, sizeof a, &fd, 1, &n_fds);
    if (n != (ssize_t)sizeof a)
        return err_sys(e, n < 0 ? (int)n : ERR_CLOSED, "cannot ask the keeper");
    a.msg[sizeof a.msg - 1] = 0;
    return a.code < 0 ? err_set(e, a.code, "%s", a.msg) : n_fds == 1 ? fd : err_set(e, ERR_FORMAT, "the keeper sent no descriptor");
}

static bson_t *ask_for_doc(struct keeper *k, enum keeper_op op, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FD int fd = ask(k, op, e);
    int r = fd < 0 ? fd : fd_read_all(fd, &text, MAX_TOLD);
    if (r < 0) {
        if (fd >= 0)
            err_sys(e, r, "cannot read the keeper's answer");
        return NULL;
    }
    return json_parse(text.p, text.n, e);
}

int keeper_conf(struct keeper *k, struct conf **ret, struct err *e)
{
    AUTO_BSON bson_t *doc = ask_for_doc(k, KEEPER_CONF, e);
    int r = doc ? conf_told(doc, ret, e) : e->code;
    if (r == 0)
        k->generation = (uint64_t)json_get_i64(doc, "generation", 0);
    return r;
}

uint64_t keeper_generation(const struct keeper *k)
{
    return k->generation;
}

int keeper_tenants(struct keeper *k, struct tenant_state **ret, size_t *ret_n, struct err *e)
{
    AUTO_BSON bson_t *doc = ask_for_doc(k, KEEPER_TENANTS, e);
    bson_iter_t it;
    bson_t one;
    *ret = NULL;
    *ret_n = 0;
    if (!doc)
        return e->code;
    if (json_get_iter(doc, "tenants", &it))
        while (json_next_doc(&it, &one)) {
            *ret = xgrow(*ret, *ret_n, sizeof **ret);
            (*ret)[(*ret_n)++] =
                (struct tenant_state){xstrdup(json_get_str(&one, "id", "")), json_get_i64(&one, "uid", -1),
                                      json_get_bool(&one, "suspended", true), json_get_bool(&one, "removed", true)};
        }
    return 0;
}

int keeper_log(struct keeper *k, const char *tenant, const char *text, size_t n)
{
    struct keeper_request rq = {.op = KEEPER_LOG};
    snprintf(rq.tenant, sizeof rq.tenant, "%s", tenant ? tenant : "");
    return tell(k, rq, text, n);
}

int keeper_rotate(struct keeper *k)
{
    return ask(k, KEEPER_ROTATE, NULL);
}

int keeper_alert(struct keeper *k, uint64_t generation, size_t index, const char *json)
{
    return tell(k, (struct keeper_request){.op = KEEPER_ALERT, .index = (uint32_t)index, .generation = generation}, json,
                strlen(json));
}

int keeper_pem(struct keeper *k, struct buf *ret_chain, struct buf *ret_key, struct err *e)
{
    AUTO_BSON bson_t *doc = ask_for_doc(k, KEEPER_PEM, e);
    if (!doc)
        return e->code;
    buf_adds(ret_chain, json_get_str(doc, "chain", ""));
    buf_adds(ret_key, json_get_str(doc, "key", ""));
    return 0;
}

/* ---- questions on the loop ---- */

static void send_unsent(struct keeper *k)
{
    while (k->unsent && k->n_under_way < UNDER_WAY) {
        struct ask *a = k->unsent;
        if (tell(k, (struct keeper_request){.op = a->op}, a->text, a->n) < 0)
            return; /* its end is seen by the loop */
        k->unsent = a->next;
        k->n_under_way++;
    }
}

/* Head and body of an answer: a line, and what follows. */
static void tell_asker(struct ask *a, const struct buf *text)
{
    const char *lf = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = lf ? (size_t)(lf - text->p) : text->n;
    AUTO_BSON bson_t *head = text->n ? json_parse(text->p, n, NULL) : NULL;
    a->fn(a->arg, head ? 0 : -EIO, head, lf ? lf + 1 : "", lf ? text->n - n - 1 : 0);
}

static void take_answer(struct keeper *k)
{
    struct keeper_answer answer;
    AUTO_BUF struct buf text = {0};
    AUTO_FD int fd = -1;
    size_t n_fds = 0;
    struct ask *a = k->asks;
    ssize_t n = fd_recv(k->fd, &answer, sizeof answer, &fd, 1, &n_fds);
    k->n_under_way--;
    if (n != (ssize_t)sizeof answer) { /* it is gone */
        k->n_under_way = 0;
        on_readable(k->fd, 0, k);
        return;
    }
    k->asks = a->next;
    k->n_asks--;
    if (!k->asks)
        k->last = &k->asks;
    send_unsent(k);
    if (answer.code < 0 || n_fds != 1 || fd_read_all(fd, &text, MAX_ANSWER) < 0)
        a->fn(a->arg, answer.code < 0 ? answer.code : -EIO, NULL, "", 0);
    else
        tell_asker(a, &text);
    free(a);
}

int keeper_ask(struct keeper *k, enum keeper_op op, const char *text, size_t n, keeper_answer_fn *fn, void *arg)
{
    if (n > KEEPER_MAX_TEXT)
        return -EMSGSIZE;
    if (k->n_asks == KEEPER_ASKS)
        return -EAGAIN;
    struct ask *a = xmalloc(sizeof *a + n);
    *a = (struct ask){.op = op, .fn = fn, .arg = arg, .n = n};
    memcpy(a->text, text, n);
    *k->last = a;
    k->last = &a->next;
    k->n_asks++;
    if (!k->unsent)
        k->unsent = a;
    send_unsent(k);
    return 0;
}
