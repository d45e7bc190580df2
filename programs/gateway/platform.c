/* About the platform itself: is it alive, is it ready, its figures for Prometheus, its description, who asks. */
#include "figures.h"
#include "gateway.h"
#include "handlers.h"
#include "openapi.h"
#include "orders.h"
#include "platform.h"
#include "pool.h"
#include "request.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/prom.h"
#include "front/keeper.h"
#include "loop/timer.h"

#include <string.h>
#include <unistd.h>

/* MACHINE: what the keeper knows. */
enum { PART_MACHINE = N_PEERS, N_PARTS };

static const char *const programs[N_PARTS] = {"batchmgr", "streammgr", "broker", "monitor", "machine"};

void get_healthz(struct request *rq)
{
    struct buf b = {0};
    buf_adds(&b, "{\"healthy\":true}");
    request_answer(rq, MHD_HTTP_OK, NULL, &b);
}

/* batchmgr's answer, or NULL. */
static void answer_ready(void *arg, const bson_t *status)
{
    struct request *rq = arg;
    struct buf b = {0};
    bool ready = true;
    json_begin(&b, NULL, '{');
    json_begin(&b, "programs", '[');
    for (int i = 0; i < N_PEERS; i++) {
        const char *why = !pool_is_up(rq->g->peers[i]) || (i == PEER_batchmgr && !status) ? "it does not answer" : NULL;
        if (i == PEER_batchmgr && status && strcmp(json_get_str(status, "intake", ""), "open"))
            why = json_get_str(status, "intake", "");
        if (i == PEER_batchmgr && status && strcmp(json_get_str(status, "database", ""), "up"))
            why = "MongoDB does not answer; files are taken in and wait";
        json_begin(&b, NULL, '{');
        json_str(&b, "program", programs[i]);
        json_bool(&b, "ready", !why);
        json_str(&b, "why", why);
        json_end(&b, '}');
        ready &= !why;
    }
    json_end(&b, ']');
    json_bool(&b, "ready", ready);
    json_end(&b, '}');
    request_answer(rq, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, NULL, &b);
    request_go_on(rq);
}

static const char status_request[] = "{\"op\":\"status\"}";

void get_readyz(struct request *rq)
{
    if (pool_ask(rq->g->peers[PEER_batchmgr], status_request, strlen(status_request), answer_ready, rq))
        request_wait(rq);
    else
        answer_ready(rq, NULL);
}

/* ---- figures ---- */

/* Prometheus says with quality values which of the formats it would rather have; it never prefers the older one. */
static bool wants_open_metrics(const struct request *rq)
{
    const char *accept = request_header(rq, MHD_HTTP_HEADER_ACCEPT);
    return accept && strstr(accept, "application/openmetrics-text");
}

/* Where the keeper has no answer, the gateway's own figures are there all the same. */
static void answer_metrics(void *arg, int code, const bson_t *head, int told, int64_t at, int64_t end)
{
    struct request *rq = arg;
    AUTO_FD int fd = told;
    struct buf own = {0};
    bool open = wants_open_metrics(rq);
    const char *type =
        open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8";
    int64_t status = code < 0 ? 0 : json_get_i64(head, "status", 0);
    if (status == MHD_HTTP_UNAUTHORIZED || status == MHD_HTTP_FORBIDDEN) {
        request_refuse(rq, status == MHD_HTTP_FORBIDDEN ? "forbidden" : "unauthorized", "the account may not do this any more");
        request_go_on(rq);
        return;
    }
    /* In the file that the keeper made: it is millions of bytes, which nobody here reads. */
    if (status == MHD_HTTP_OK && lseek(fd, end, SEEK_SET) == end && fd_write_all(fd, PROM_END, strlen(PROM_END)) == 0) {
        request_answer_file(rq, type, fd, at, end + (int64_t)strlen(PROM_END));
        fd = -1;
    } else {
        figures_write(&own, open);
        buf_adds(&own, PROM_END);
        request_answer(rq, MHD_HTTP_OK, type, &own);
    }
    request_go_on(rq);
}

void get_metrics(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "ticket", rq->ticket);
    json_str(&b, "format", wants_open_metrics(rq) ? "openmetrics" : "text");
    json_end(&b, '}');
    request_wait(rq);
    if (keeper_ask_file(rq->g->keepers[KEEPER_OF_FIGURES], KEEPER_FIGURES, b.p, b.n, answer_metrics, rq) < 0)
        answer_metrics(rq, -1, NULL, -1, 0, 0);
}

/* ---- what the provider's page shows: each program's answer, as it came, and what the keeper knows ---- */

enum { PATIENCE_MS = 2000 };

struct answer {
    struct platform_asked *of;
    bool waits;
    bson_t *doc; /* NULL: it does not answer */
};

/* Freed when all answered, which may be long after `fn` was called. */
struct platform_asked {
    struct gateway *g;
    struct platform_asked *next; /* of the gateway's */
    platform_fn *fn;             /* NULL: it was called */
    void *arg;
    struct event *patience;
    struct answer answers[N_PARTS];
    int n_waiting;
};

static const char board_request[] = "{\"op\":\"board\"}";

static void asked_free(struct platform_asked *a)
{
    struct platform_asked **at = &a->g->platform_asked;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    for (int i = 0; i < N_PARTS; i++)
        if (a->answers[i].doc)
            bson_destroy(a->answers[i].doc);
    event_free(a->patience);
    free(a);
}

static void tell(struct platform_asked *a)
{
    struct platform_part parts[N_PARTS];
    platform_fn *fn = a->fn;
    for (int i = 0; i < N_PARTS; i++)
        parts[i] = (struct platform_part){programs[i], a->answers[i].doc};
    a->fn = NULL;
    fn(a->arg, parts, N_PARTS);
    if (!a->n_waiting)
        asked_free(a);
}

/* TAKE: doc; NULL: it does not answer. */
static void take_part(struct answer *answer, bson_t *doc)
{
    struct platform_asked *a = answer->of;
    answer->waits = false;
    answer->doc = doc;
    a->n_waiting--;
    if (!a->n_waiting && a->fn)
        tell(a);
    else if (!a->n_waiting)
        asked_free(a);
}

static void on_view(void *arg, const bson_t *doc)
{
    struct answer *answer = arg;
    bson_t *own = doc && answer->of->fn ? bson_new() : NULL;
    if (own)
        bson_copy_to_excluding_noinit(doc, own, "ok", NULL);
    take_part(answer, own);
}

/* Where there is no answer, what the programs say is there all the same. */
static void on_machine(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    struct answer *answer = arg;
    const bool ok = code >= 0 && json_get_i64(head, "status", 0) == MHD_HTTP_OK && answer->of->fn;
    take_part(answer, ok ? json_parse(body, n, NULL) : NULL);
}

static void on_patience(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    tell(arg);
}

/* A program that hangs has one question of this kind to answer, however often it is asked. */
static bool is_asked_already(const struct gateway *g, int part)
{
    for (const struct platform_asked *a = g->platform_asked; a; a = a->next)
        if (!a->fn && a->answers[part].waits)
            return true;
    return false;
}

static bool ask_machine(struct platform_asked *a, const char *ticket)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "ticket", ticket);
    json_end(&b, '}');
    return keeper_ask(a->g->keepers[KEEPER_OF_FIGURES], KEEPER_MACHINE, b.p, b.n, on_machine, &a->answers[PART_MACHINE]) == 0;
}

static bool ask_part(struct platform_asked *a, int i, const char *ticket)
{
    const char *request = i == PEER_monitor ? board_request : status_request;
    if (is_asked_already(a->g, i))
        return false;
    return i == PART_MACHINE ? ask_machine(a, ticket) : pool_ask(a->g->peers[i], request, strlen(request), on_view, &a->answers[i]);
}

void platform_collect(struct gateway *g, const char *ticket, platform_fn *fn, void *arg)
{
    struct platform_asked *a = xcalloc(1, sizeof *a);
    *a = (struct platform_asked){.g = g, .next = g->platform_asked, .fn = fn, .arg = arg, .n_waiting = 1};
    a->patience = event_new(g->base, -1, 0, on_patience, a);
    g->platform_asked = a;
    for (int i = 0; i < N_PARTS; i++) {
        a->answers[i].of = a;
        a->answers[i].waits = ask_part(a, i, ticket);
        a->n_waiting += a->answers[i].waits;
    }
    if (--a->n_waiting)
        timer_set(a->patience, PATIENCE_MS);
    else
        tell(a);
}

void platform_free(struct gateway *g)
{
    while (g->platform_asked)
        asked_free(g->platform_asked);
}

static void on_platform(void *arg, const struct platform_part *parts, size_t n)
{
    struct buf b = {0};
    platform_write(parts, n, &b);
    request_answer(arg, MHD_HTTP_OK, NULL, &b);
    request_go_on(arg);
}

void get_platform(struct request *rq)
{
    request_wait(rq);
    platform_collect(rq->g, rq->ticket, on_platform, rq);
}

void get_openapi(struct request *rq)
{
    struct buf b = {0};
    buf_add(&b, openapi_yaml, openapi_yaml_size);
    request_answer(rq, MHD_HTTP_OK, "application/yaml", &b);
}

void get_whoami(struct request *rq)
{
    struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "account", rq->who.name);
    json_str(&b, "role", account_role_text(rq->who.role));
    json_str(&b, "tenant_id", rq->who.tenant);
    json_str(&b, "token_id", rq->who.token_id);
    json_begin(&b, "verbs", '[');
    for (int i = 0; i < N_VERBS; i++)
        if (rq->who.verbs & 1U << i)
            json_str(&b, NULL, account_verb_text((enum verb)i));
    json_end(&b, ']');
    json_end(&b, '}');
    request_answer(rq, MHD_HTTP_OK, NULL, &b);
}
