#include "watcher.h"
#include "streammgr.h"

#include "base/clk.h"
#include "base/mem.h"
#include "loop/peer.h"

#include <string.h>

enum { PATIENCE_MS = 3000 };

struct watcher {
    struct streammgr *m;
    const struct watcher_ops *ops;
    struct peer *broker;
    char *endpoint;
    bool asked, again; /* a request is under way; another is to follow it */
    int64_t asked_ms;
};

static void on_down(void *arg)
{
    struct watcher *w = arg;
    w->asked = w->again = false;
    w->ops->down(w->m);
}

static void activate(struct watcher *w, const bson_t *what)
{
    w->ops->activate(w->m, json_get_str(what, "tenant_id", ""), json_get_str(what, "app", ""));
}

/* The answer to `consumers`. */
static void on_consumers(struct watcher *w, const bson_t *doc, const bson_iter_t *consumers)
{
    bson_iter_t it;
    bson_t what;
    bool once_more = w->again;
    w->asked = w->again = false;
    w->ops->consumers(w->m, consumers);
    if (json_get_iter(doc, "waiting", &it)) /* a notice that came when no instance could be started is not repeated */
        while (json_next_doc(&it, &what))
            activate(w, &what);
    if (once_more)
        watcher_ask(w);
}

static void on_line(void *arg, const bson_t *doc)
{
    struct watcher *w = arg;
    bson_iter_t it;
    bson_t what;
    if (bson_iter_init_find(&it, doc, "activate") && json_iter_doc(&it, &what)) {
        activate(w, &what);
    } else if (json_get_iter(doc, "consumers", &it)) {
        on_consumers(w, doc, &it);
    } else if (json_get_str(doc, "ipc", NULL)) {
        const char *endpoint = json_get_str(doc, "ipc", NULL);
        if (!w->endpoint || strcmp(w->endpoint, endpoint) != 0) {
            xstr_set(&w->endpoint, endpoint);
            w->m->version++;
        }
        w->ops->up(w->m);
    }
}

static void on_up(void *arg)
{
    static const char asks[] = "{\"op\":\"status\"}\n{\"op\":\"watch\"}";
    peer_send(((struct watcher *)arg)->broker, asks, sizeof asks - 1);
}

struct watcher *watcher_new(struct streammgr *m, const struct watcher_ops *ops)
{
    struct watcher *w = xcalloc(1, sizeof *w);
    AUTO_FREE char *path = home_socket(&m->home, "broker.sock");
    w->m = m;
    w->ops = ops;
    w->broker = peer_new(m->base, path, &(struct peer_ops){on_up, on_line, on_down, w});
    return w;
}

void watcher_free(struct watcher *w)
{
    if (!w)
        return;
    peer_free(w->broker);
    free(w->endpoint);
    free(w);
}

bool watcher_ask(struct watcher *w)
{
    AUTO_BUF struct buf held = {0}, ask = {0};
    if (!w || !peer_is_up(w->broker))
        return false;
    if (w->asked) {
        w->again = true;
        return clk_now_ms() - w->asked_ms < PATIENCE_MS;
    }
    w->asked = true;
    w->asked_ms = clk_now_ms();
    bool hold = w->ops->hold(w->m, &held);
    buf_addf(&ask, "{\"op\":\"consumers\"%s%s}", hold ? "," : "", hold ? held.p : "");
    return peer_send(w->broker, ask.p, ask.n);
}

const char *watcher_endpoint(const struct watcher *w)
{
    return w ? w->endpoint : NULL;
}
