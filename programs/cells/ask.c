#include "ask.h"
#include "head.h"
#include "link.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "cells/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { AT_ONCE = 64, ANSWER_MAX = 64 << 20, TOKEN_MAX = 256, REQUESTS_MAX = 128 << 20, CONNECT_MS = 5000 };

struct job { /* of a cell: lines of the requests, from..to */
    const struct cells_cell *cell;
    char **paths;
    size_t n;
};

struct ask {
    const struct ask_settings *s;
    struct cells_map *map;
    gnutls_certificate_credentials_t authorities;
    int tokens;
    int64_t deadline_ms;
    struct job *jobs;
    size_t n_jobs;
    pthread_mutex_t lock; /* of what is below, and of stdout */
    size_t next;
};

/* ---- what is printed ---- */

static void print(struct ask *a, const struct job *j, const char *path, const char *error, const struct buf *body)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "cell", j->cell->name);
    json_str(&b, "path", path);
    if (error)
        json_str(&b, "error", error);
    else
        json_raw(&b, "body", body->p);
    json_end(&b, '}');
    pthread_mutex_lock(&a->lock);
    puts(b.p);
    pthread_mutex_unlock(&a->lock);
}

/* ---- one question ---- */

static int read_token(struct ask *a, const char *cell, char ret[TOKEN_MAX + 1], struct err *e)
{
    struct stat st;
    struct buf b = {0};
    if (fstatat(a->tokens, cell, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 077))
        return err_set(e, ERR_REFUSED, "others may read its token (mode %03o)", st.st_mode & 0777);
    int r = fd_read_file(a->tokens, cell, &b, TOKEN_MAX, e);
    if (r == 0) {
        size_t n = b.n ? strcspn(b.p, "\r\n") : 0;
        memcpy(ret, b.p ? b.p : "", n);
        ret[n] = 0;
        for (size_t i = 0; i < n; i++)
            if (ret[i] <= ' ' || ret[i] > '~')
                r = err_set(e, ERR_FORMAT, "its token is none");
    } else {
        err_context(e, "its token");
    }
    if (b.p)
        sodium_memzero(b.p, b.n);
    buf_fini(&b);
    return r;
}

static int more(struct channel *c, int64_t deadline_ms, struct err *e)
{
    int r = channel_fill(c);
    if (r == 0 && !channel_has_more(c) && channel_wait(c, POLLIN, deadline_ms) < 0)
        return err_set(e, -ETIMEDOUT, "it does not answer in time");
    return r < 0 ? err_set(e, r, "the connection broke") : 0;
}

static int read_head(struct channel *c, int64_t deadline_ms, struct buf *text, struct head *ret, struct err *e)
{
    size_t n;
    while (!(n = head_end(c->in, c->n))) {
        if (c->n >= HEAD_MAX || c->ended)
            return err_set(e, ERR_FORMAT, "what it sent is no answer");
        int r = more(c, deadline_ms, e);
        if (r < 0)
            return r;
    }
    buf_add(text, c->in, n);
    channel_use(c, n);
    return head_parse_answer(text->p, text->n, false, ret) && ret->status >= 200
               ? 0
               : err_set(e, ERR_FORMAT, "what it sent is no answer");
}

static int read_body(struct channel *c, struct body *body, int64_t deadline_ms, struct buf *ret, struct err *e)
{
    while (!body->done) {
        size_t n = body_take(body, c->in, c->n);
        buf_add(ret, c->in, n);
        channel_use(c, n);
        if (body->kind == BODY_UNTIL_CLOSE && c->ended && !c->n)
            return 0;
        if (body->bad || ret->n > ANSWER_MAX || (c->ended && !c->n && !body->done))
            return err_set(e, ERR_FORMAT, "its answer breaks off, is malformed, or is too long");
        int r = body->done ? 0 : more(c, deadline_ms, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The data of chunks that body_take found well formed. */
static void join_chunks(struct buf *b)
{
    size_t to = 0;
    for (char *p = b->p;;) {
        char *end;
        size_t n = strtoull(p, &end, 16);
        if (!n)
            break;
        memmove(b->p + to, end + 2, n);
        to += n;
        p = end + 2 + n + 2;
    }
    b->n = to;
}

static int ask_one(struct ask *a, struct channel *c, const struct job *j, const char *path, const char *token, struct buf *ret,
                   struct err *e)
{
    AUTO_BUF struct buf rq = {0};
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf body = {0};
    struct head h;
    buf_addf(&rq, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nAccept: application/json\r\n\r\n", path,
             j->cell->at.at.host, token);
    int r = channel_send_all(c, rq.p, rq.n, a->deadline_ms);
    sodium_memzero(rq.p, rq.n);
    r = r < 0 ? err_set(e, r, "it does not take the question") : read_head(c, a->deadline_ms, &text, &h, e);
    if (r == 0)
        r = read_body(c, &h.body, a->deadline_ms, &body, e);
    if (r < 0)
        return r;
    if (h.body.kind == BODY_CHUNKED)
        join_chunks(&body);
    if (h.status != 200)
        return err_set(e, ERR_REFUSED, "it answers with status %d", h.status);
    AUTO_BSON bson_t *doc = json_parse(body.p ? body.p : "", body.n, NULL);
    if (!doc)
        return err_set(e, ERR_FORMAT, "its answer is no JSON object");
    json_from_bson(doc, ret);
    return 0;
}

/* ---- a cell ---- */

static void ask_cell(struct ask *a, const struct job *j)
{
    struct channel *c = xcalloc(1, sizeof *c);
    struct err e = {0};
    char token[TOKEN_MAX + 1];
    int64_t now = clk_now_ms(), until = now + CONNECT_MS < a->deadline_ms ? now + CONNECT_MS : a->deadline_ms;
    c->fd = -1;
    int r = read_token(a, j->cell->name, token, &e);
    if (r == 0)
        r = link_open(c, j->cell, a->authorities, until, &e);
    if (r < 0)
        print(a, j, j->paths[0], e.msg, NULL);
    for (size_t i = 0; i < j->n && r == 0; i++) {
        AUTO_BUF struct buf body = {0};
        r = ask_one(a, c, j, j->paths[i], token, &body, &e);
        print(a, j, j->paths[i], r < 0 ? e.msg : NULL, &body);
    }
    sodium_memzero(token, sizeof token);
    channel_close(c, false);
    free(c);
}

static void *work(void *arg)
{
    struct ask *a = arg;
    for (;;) {
        pthread_mutex_lock(&a->lock);
        size_t i = a->next++;
        pthread_mutex_unlock(&a->lock);
        if (i >= a->n_jobs)
            return NULL;
        ask_cell(a, &a->jobs[i]);
    }
}

/* ---- the requests ---- */

static const struct cells_cell *cell_of(const struct ask *a, const char *name)
{
    for (size_t i = 0; i < cells_map_n_cells(a->map); i++)
        if (!strcmp(cells_map_cell(a->map, i)->name, name))
            return cells_map_cell(a->map, i);
    return NULL;
}

/* Takes the text apart in place. */
static int take_requests(struct ask *a, char *text, struct err *e)
{
    for (char *line = text, *rest; *line; line = rest) {
        size_t n = strcspn(line, "\n"), blank = strcspn(line, " \n");
        struct job *j = a->n_jobs ? &a->jobs[a->n_jobs - 1] : NULL;
        rest = line + n + (line[n] == '\n');
        line[n] = 0;
        if (blank == n || line[blank + 1] != '/' || line[blank + 1 + strcspn(line + blank + 1, " \t\r")])
            return err_set(e, ERR_FORMAT, "a request is CELL PATH");
        line[blank] = 0;
        if (!j || strcmp(j->cell->name, line) != 0) {
            const struct cells_cell *cell = cell_of(a, line);
            if (!cell)
                return err_set(e, -ENOENT, "there is no cell %s", line);
            a->jobs = xgrow(a->jobs, a->n_jobs, sizeof *a->jobs);
            j = &a->jobs[a->n_jobs++];
            *j = (struct job){.cell = cell};
        }
        j->paths = xgrow(j->paths, j->n, sizeof *j->paths);
        j->paths[j->n++] = line + blank + 1;
    }
    return 0;
}

static void run(struct ask *a)
{
    pthread_t threads[AT_ONCE];
    size_t n = 0;
    for (; n < AT_ONCE && n < a->n_jobs; n++)
        if (pthread_create(&threads[n], NULL, work, a) != 0)
            break;
    if (!n)
        work(a); /* without threads, one after the other */
    while (n--)
        pthread_join(threads[n], NULL);
}

int ask_all(const struct ask_settings *s, struct err *e)
{
    struct ask a = {.s = s, .tokens = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .deadline_ms = clk_now_ms() + s->deadline_s * 1000};
    unsigned char key[CELLS_PUBLIC_BYTES];
    AUTO_BUF struct buf text = {0};
    int r = cells_key_public(AT_FDCWD, s->key, key, e);
    if (r == 0)
        r = cells_map_read(AT_FDCWD, s->map, key, &a.map, e);
    if (r == 0)
        r = fd_read_file(AT_FDCWD, s->requests, &text, REQUESTS_MAX, e);
    if (r == 0)
        r = take_requests(&a, text.p ? text.p : (char[]){""}, e);
    if (r == 0) {
        a.tokens = open(s->tokens, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = a.tokens < 0 ? err_sys(e, -errno, "cannot open %s, where the cells' tokens are", s->tokens) : 0;
    }
    if (r == 0) {
        gnutls_certificate_allocate_credentials(&a.authorities);
        gnutls_certificate_set_x509_system_trust(a.authorities);
        run(&a);
        gnutls_certificate_free_credentials(a.authorities);
    }
    for (size_t i = 0; i < a.n_jobs; i++)
        free(a.jobs[i].paths);
    free(a.jobs);
    cells_map_free(a.map);
    fd_cleanup(&a.tokens);
    return r;
}
