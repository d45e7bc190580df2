#include "keeper.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "public_conf.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* UNDER_WAY: questions that the keeper was sent; others wait here, so that sending never has to wait for it. */
enum { MAX_TOLD = 256 << 20, MAX_ANSWER = 64 << 20, MAX_HEAD = 4096, UNDER_WAY = 16 };

struct ask {
    struct ask *next;
    enum keeper_op op;
    keeper_answer_fn *fn; /* or */
    keeper_file_fn *file_fn;
    void *arg;
    int code;          /* of its answer, when there is one */
    struct buf answer; /* likewise; for file_fn, its beginning */
    int fd;            /* for file_fn: all of it */
    int64_t end;
    size_t n;
    char text[]; /* may be a password: overwritten once it is sent */
};

/* In order. */
struct asks {
    struct ask *first, **last;
};

extern char **environ;

struct keeper {
    int fd;
    pid_t pid;
    uint64_t generation;
    struct event_base *base;
    struct event *ev, *ev_writable, *ev_answered;
    /* A question goes from one to the next. Whoever waits for an answer on the spot (ask) takes the answers before it, and their
     * askers are only told by the loop: they may do anything, and not in the middle of something else. */
    struct asks unsent, under_way, answered;
    size_t n_asks, n_under_way;
    bool ended;
};

/* ---- questions on the loop ---- */

static void push(struct asks *to, struct ask *a)
{
    a->next = NULL;
    *(to->first ? to->last : &to->first) = a;
    to->last = &a->next;
}

static struct ask *pop(struct asks *from)
{
    struct ask *a = from->first;
    from->first = a->next;
    return a;
}

static void forget(struct ask *a)
{
    explicit_bzero(a->text, a->n);
    buf_fini(&a->answer);
    if (a->fd >= 0)
        close(a->fd);
    free(a);
}

static void forget_all(struct asks *v)
{
    while (v->first)
        forget(pop(v));
}

static void say_ended(struct keeper *k)
{
    if (k->ended)
        return;
    k->ended = true;
    log_error("stop", NULL, NULL, "the keeper (simbdp-keeper) ended; this program cannot work without it, and ends");
    event_del(k->ev);
    event_del(k->ev_writable);
    event_base_loopbreak(k->base);
}

static int tell(struct keeper *k, struct keeper_request rq, const char *text, size_t n, int flags)
{
    struct iovec v[] = {{&rq, sizeof rq}, {(void *)text, n}};
    ssize_t w;
    if (n > KEEPER_MAX_TEXT)
        return -EMSGSIZE;
    do
        w = sendmsg(k->fd, &(struct msghdr){.msg_iov = v, .msg_iovlen = 2}, MSG_NOSIGNAL | flags);
    while (w < 0 && errno == EINTR);
    return w < 0 ? -errno : 0;
}

/* Few long questions fill the socket: the rest waits until the loop says that there is room. */
static void send_unsent(struct keeper *k)
{
    while (!k->ended && k->unsent.first && k->n_under_way < UNDER_WAY) {
        struct ask *a = k->unsent.first;
        int r = tell(k, (struct keeper_request){.op = a->op}, a->text, a->n, MSG_DONTWAIT);
        if (r == -EAGAIN)
            event_add(k->ev_writable, NULL);
        if (r < 0)
            return; /* its end is seen by the loop */
        push(&k->under_way, pop(&k->unsent));
        k->n_under_way++;
        explicit_bzero(a->text, a->n);
    }
}

/* What is read of an answer that stays in its file: a line. */
static int read_head(struct ask *a)
{
    char head[MAX_HEAD];
    struct stat st;
    ssize_t n = fstat(a->fd, &st) < 0 || st.st_size > MAX_ANSWER ? -1 : pread(a->fd, head, sizeof head, 0);
    if (n < 0)
        return -EIO;
    buf_add(&a->answer, head, (size_t)n);
    a->end = st.st_size;
    return 0;
}

/* Waits for the next answer, and keeps it for tell_askers. */
static void take_answer(struct keeper *k)
{
    struct keeper_answer answer;
    AUTO_FD int fd = -1;
    size_t n_fds = 0;
    ssize_t n = fd_recv(k->fd, &answer, sizeof answer, &fd, 1, &n_fds);
    if (n != (ssize_t)sizeof answer) {
        say_ended(k);
        return;
    }
    struct ask *a = pop(&k->under_way);
    k->n_under_way--;
    a->code = answer.code < 0 ? answer.code : n_fds != 1 ? -EIO : 0;
    if (a->code == 0 && a->file_fn) {
        a->fd = fd;
        fd = -1;
        a->code = read_head(a);
    } else if (a->code == 0 && fd_read_all(fd, &a->answer, MAX_ANSWER) < 0) {
        a->code = -EIO;
    }
    push(&k->answered, a);
}

/* Head and body of an answer: a line, and what follows. */
static void tell_asker(struct ask *a)
{
    const struct buf *text = &a->answer;
    const char *lf = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = lf ? (size_t)(lf - text->p) : text->n;
    AUTO_BSON bson_t *head = a->code == 0 && text->n ? json_parse(text->p, n, NULL) : NULL;
    int code = head ? 0 : a->code < 0 ? a->code : -EIO;
    if (a->file_fn) {
        a->file_fn(a->arg, code, head, head ? a->fd : -1, (int64_t)n + (lf != NULL), a->end);
        a->fd = head ? -1 : a->fd;
    } else if (head)
        a->fn(a->arg, 0, head, lf ? lf + 1 : "", lf ? text->n - n - 1 : 0);
    else
        a->fn(a->arg, code, NULL, "", 0);
}

static void tell_askers(struct keeper *k)
{
    while (k->answered.first) {
        struct ask *a = pop(&k->answered);
        k->n_asks--;
        tell_asker(a);
        forget(a);
    }
}

static void on_answered(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    tell_askers(arg);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    send_unsent(arg);
}

/* An answer, or its end; or neither: the loop found an answer that a callback before this one has taken (ask). */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct keeper *k = arg;
    struct pollfd p = {fd, POLLIN, 0};
    (void)what;
    if (poll(&p, 1, 0) <= 0)
        return;
    if (!k->n_under_way) {
        say_ended(k); /* it says nothing unasked */
        return;
    }
    take_answer(k);
    send_unsent(k);
    tell_askers(k);
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
    k->ev = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, k);
    k->ev_writable = event_new(base, fd, EV_WRITE, on_writable, k);
    k->ev_answered = event_new(base, -1, 0, on_answered, k);
    event_add(k->ev, NULL);
    *ret = k;
    return 0;
}

void keeper_stop(struct keeper *k)
{
    if (!k)
        return;
    forget_all(&k->unsent);
    forget_all(&k->under_way);
    forget_all(&k->answered);
    event_free(k->ev);
    event_free(k->ev_writable);
    event_free(k->ev_answered);
    spawn_part(k->fd, k->pid);
    free(k);
}

/* A descriptor, or the keeper's error. Answers come in order: those of questions under way are taken first. Nothing else is sent
 * meanwhile, or it would be waited for too. */
static int ask_now(struct keeper *k, const struct keeper_request *rq, struct err *e)
{
    struct keeper_answer a;
    while (k->n_under_way && !k->ended)
        take_answer(k);
    size_t n_fds = 0;
    int fd = -1, r = k->ended ? ERR_CLOSED : tell(k, *rq, "", 0, 0);
    ssize_t n = r < 0 ? r : fd_recv(k->fd, &a, sizeof a, &fd, 1, &n_fds);
    if (n != (ssize_t)sizeof a)
        return err_sys(e, n < 0 ? (int)n : ERR_CLOSED, "cannot ask the keeper");
    a.msg[sizeof a.msg - 1] = 0;
    return a.code < 0 ? err_set(e, a.code, "%s", a.msg) : n_fds == 1 ? fd : err_set(e, ERR_FORMAT, "the keeper sent no descriptor");
}

static int ask_for(struct keeper *k, const struct keeper_request *rq, struct err *e)
{
    int r = ask_now(k, rq, e);
    if (k->answered.first)
        event_active(k->ev_answered, 0, 0);
    send_unsent(k);
    return r;
}

static int ask(struct keeper *k, enum keeper_op op, struct err *e)
{
    return ask_for(k, &(struct keeper_request){.op = op}, e);
}

static bson_t *read_doc(int answer, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FD int fd = answer;
    int r = fd < 0 ? fd : fd_read_all(fd, &text, MAX_TOLD);
    if (r < 0) {
        if (fd >= 0)
            err_sys(e, r, "cannot read the keeper's answer");
        return NULL;
    }
    return json_parse(text.p, text.n, e);
}

static bson_t *ask_for_doc(struct keeper *k, enum keeper_op op, struct err *e)
{
    return read_doc(ask(k, op, e), e);
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
            (*ret)[(*ret_n)++] = (struct tenant_state){.id = xstrdup(json_get_str(&one, "id", "")),
                                                       .uid = json_get_i64(&one, "uid", -1),
                                                       .suspended = json_get_bool(&one, "suspended", true),
                                                       .removed = json_get_bool(&one, "removed", true),
                                                       .held = json_get_bool(&one, "held", false),
                                                       .moved = json_get_bool(&one, "moved", false)};
        }
    return 0;
}

int keeper_run_key(struct keeper *k, const char *key, struct run_key *ret)
{
    struct keeper_request rq = {.op = KEEPER_RUN_KEY};
    struct err e = {0};
    snprintf(rq.tenant, sizeof rq.tenant, "%s", key);
    AUTO_BSON bson_t *doc = read_doc(ask_for(k, &rq, &e), &e);
    if (!doc)
        return e.code;
    snprintf(ret->tenant, sizeof ret->tenant, "%s", json_get_str(doc, "tenant_id", ""));
    snprintf(ret->run_id, sizeof ret->run_id, "%s", json_get_str(doc, "run_id", ""));
    return 0;
}

int keeper_log(struct keeper *k, const char *tenant, const char *text, size_t n)
{
    struct keeper_request rq = {.op = KEEPER_LOG};
    snprintf(rq.tenant, sizeof rq.tenant, "%s", tenant ? tenant : "");
    return tell(k, rq, text, n, 0);
}

int keeper_spans(struct keeper *k, const char *tenant, const char *text, size_t n)
{
    struct keeper_request rq = {.op = KEEPER_SPANS};
    snprintf(rq.tenant, sizeof rq.tenant, "%s", tenant);
    return tell(k, rq, text, n, MSG_DONTWAIT);
}

int keeper_kafka(struct keeper *k, struct err *e)
{
    return ask(k, KEEPER_KAFKA, e);
}

int keeper_rotate(struct keeper *k)
{
    return ask(k, KEEPER_ROTATE, NULL);
}

int keeper_streams(struct keeper *k, const char *tenant, struct err *e)
{
    struct keeper_request rq = {.op = KEEPER_STREAMS};
    snprintf(rq.tenant, sizeof rq.tenant, "%s", tenant);
    return ask_for(k, &rq, e);
}

int keeper_alert(struct keeper *k, uint64_t generation, size_t index, const char *json)
{
    return tell(k, (struct keeper_request){.op = KEEPER_ALERT, .index = (uint32_t)index, .generation = generation}, json,
                strlen(json), 0);
}

int keeper_alive(struct keeper *k)
{
    return tell(k, (struct keeper_request){.op = KEEPER_ALIVE}, "", 0, 0);
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

static int ask_later(struct keeper *k, struct ask question, const char *text)
{
    if (question.n > KEEPER_MAX_TEXT)
        return -EMSGSIZE;
    if (k->n_asks == KEEPER_ASKS)
        return -EAGAIN;
    struct ask *a = xmalloc(sizeof *a + question.n);
    *a = question;
    memcpy(a->text, text, question.n);
    push(&k->unsent, a);
    k->n_asks++;
    send_unsent(k);
    return 0;
}

int keeper_ask(struct keeper *k, enum keeper_op op, const char *text, size_t n, keeper_answer_fn *fn, void *arg)
{
    return ask_later(k, (struct ask){.op = op, .fn = fn, .arg = arg, .n = n, .fd = -1}, text);
}

int keeper_ask_file(struct keeper *k, enum keeper_op op, const char *text, size_t n, keeper_file_fn *fn, void *arg)
{
    return ask_later(k, (struct ask){.op = op, .file_fn = fn, .arg = arg, .n = n, .fd = -1}, text);
}
