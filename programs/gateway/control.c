/* Requests, one JSON object a line:
 *
 * - status: {ok,pid,url,ready,fingerprint,accounts_uploading,event_streams}; ready: it has batchmgr and the broker
 * - figures {format?}: {bytes,left_out}, and so many bytes of Prometheus' text behind the line (figures.h)
 * - reload */
#include "control.h"
#include "broker_link.h"
#include "certificate.h"
#include "events.h"
#include "figures.h"
#include "gateway.h"
#include "pool.h"

#include "base/mem.h"
#include "loop/ctl.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static void status(struct gateway *g, struct ctl_conn *c)
{
    AUTO_BUF struct buf b = {0};
    char fingerprint[FINGERPRINT_SIZE] = "";
    if (g->certificates[0])
        certificate_fingerprint(g->certificates[0], fingerprint);
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "pid", getpid());
    json_str(&b, "url", g->url);
    json_bool(&b, "ready", pool_is_up(g->peers[PEER_batchmgr]) && broker_link_is_up(g->broker));
    json_str(&b, "fingerprint", *fingerprint ? fingerprint : NULL);
    json_i64(&b, "accounts_uploading", (int64_t)g->uploads.n);
    json_i64(&b, "event_streams", (int64_t)events_open(g->events));
    json_end(&b, '}');
    ctl_send(c, &b);
}

static void figures(struct ctl_conn *c, const char *format)
{
    struct buf text = {0};
    figures_write(&text, !strcmp(format, "openmetrics"));
    ctl_send_text(c, &text, 0);
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *op = json_get_str(rq, "op", "");
    if (!strcmp(op, "status"))
        return status(arg, c), 1;
    if (!strcmp(op, "figures"))
        return figures(c, json_get_str(rq, "format", "")), 1;
    if (!strcmp(op, "reload"))
        return gateway_reload(arg, e);
    if (!strcmp(op, "tenants"))
        return 0; /* who is a tenant, batchmgr and the keepers know */
    return err_set(e, ERR_USAGE, "the gateway does not know \"%s\"", op);
}

int control_start(struct gateway *g, const char *url, struct err *e)
{
    AUTO_FREE char *path = home_socket(&g->home, "gateway.sock");
    g->url = xstrdup(url);
    return ctl_new(g->base, path, &(struct ctl_ops){.serve = serve, .arg = g}, &g->ctl, e);
}

void control_stop(struct gateway *g)
{
    ctl_free(g->ctl);
    free(g->url);
}
