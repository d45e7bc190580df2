/* About the platform itself: is it alive, is it ready, its figures for Prometheus, its description, who asks. */
#include "figures.h"
#include "gateway.h"
#include "handlers.h"
#include "openapi.h"
#include "pool.h"
#include "request.h"

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

static void answer_metrics(void *arg, const bson_t *status)
{
    struct request *rq = arg;
    struct buf b = {0};
    bool up[N_PEERS];
    for (int i = 0; i < N_PEERS; i++)
        up[i] = pool_is_up(rq->g->peers[i]);
    figures_write(&b, programs, up, N_PEERS, status);
    request_answer(rq, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &b);
    request_go_on(rq);
}

void get_metrics(struct request *rq)
{
    if (pool_ask(rq->g->peers[PEER_batchmgr], status_request, strlen(status_request), answer_metrics, rq))
        request_wait(rq);
    else
        answer_metrics(rq, NULL);
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
