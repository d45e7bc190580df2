/* About the platform itself: is it alive, is it ready, its figures for Prometheus, its description, who asks. */
#include "figures.h"
#include "gateway.h"
#include "handlers.h"
#include "openapi.h"
#include "orders.h"
#include "pool.h"
#include "request.h"

#include "base/mem.h"
#include "base/prom.h"
#include "front/keeper.h"

#include <string.h>

static const char *const programs[N_PEERS] = {"batchmgr", "streammgr", "broker", "monitor"};

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
static void answer_metrics(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    struct request *rq = arg;
    struct buf b = {0};
    bool open = wants_open_metrics(rq);
    int64_t status = code < 0 ? 0 : json_get_i64(head, "status", 0);
    if (status == MHD_HTTP_UNAUTHORIZED || status == MHD_HTTP_FORBIDDEN) {
        request_refuse(rq, status == MHD_HTTP_FORBIDDEN ? "forbidden" : "unauthorized", "the account may not do this any more");
        request_go_on(rq);
        return;
    }
    figures_write(&b, open);
    if (status == MHD_HTTP_OK)
        buf_add(&b, body, n);
    buf_adds(&b, PROM_END);
    request_answer(rq, MHD_HTTP_OK,
                   open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8",
                   &b);
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
    if (keeper_ask(rq->g->keepers[KEEPER_OF_FIGURES], KEEPER_FIGURES, b.p, b.n, answer_metrics, rq) < 0)
        answer_metrics(rq, -1, NULL, "", 0);
}

/* ---- what the provider's page shows: one program's answer after another's, as it came ---- */

struct asked {
    struct request *rq;
    struct buf b;
    int i;
};

static const char board_request[] = "{\"op\":\"board\"}";

static void ask_next(struct asked *a);

/* NULL: it does not answer. */
static void on_view(void *arg, const bson_t *doc)
{
    struct asked *a = arg;
    AUTO_BUF struct buf text = {0};
    if (doc)
        orders_pass_on(a->rq, doc, &text);
    json_raw(&a->b, programs[a->i++], text.p);
    ask_next(a);
}

static void ask_next(struct asked *a)
{
    struct request *rq = a->rq;
    if (a->i < N_PEERS) {
        const char *request = a->i == PEER_monitor ? board_request : status_request;
        if (!pool_ask(rq->g->peers[a->i], request, strlen(request), on_view, a))
            on_view(a, NULL);
        return;
    }
    json_end(&a->b, '}');
    request_answer(rq, MHD_HTTP_OK, NULL, &a->b);
    free(a);
    request_go_on(rq);
}

void get_platform(struct request *rq)
{
    struct asked *a = xmalloc(sizeof *a);
    *a = (struct asked){.rq = rq};
    json_begin(&a->b, NULL, '{');
    request_wait(rq);
    ask_next(a);
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
