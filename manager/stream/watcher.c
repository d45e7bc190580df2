/* A connection to the broker's control socket, made again whenever it ends. Asks where the broker listens, then watches: a message
 * for an app without an instance starts one. */
#include "streammgr.h"

#include "common/clk.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <string.h>

enum { AGAIN_MS = 200, PATIENCE_MS = 3000, MAX_LINE = 16 << 20 };

struct watcher {
    struct streammgr *m;
    struct bufferevent *bev;
    struct event *timer;
    char *endpoint;
    bool asked, again; /* a request is under way; another is wanted then */
    int64_t asked_ms;
};

static void open_connection(struct watcher *w);

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    open_connection(arg);
}

static void again(struct watcher *w)
{
    struct timeval tv = {0, AGAIN_MS * 1000};
    if (w->bev) {
        bufferevent_free(w->bev);
        instances_broker_gone(w->m);
    }
    w->bev = NULL;
    w->asked = w->again = false;
    event_add(w->timer, &tv);
}

static void activate(struct watcher *w, const bson_t *what)
{
    instances_activate(w->m, json_get_str(what, "tenant", ""), json_get_str(what, "app", ""));
}

/* The answer to `consumers`. */
static void on_consumers(struct watcher *w, const bson_t *doc, const bson_iter_t *consumers)
{
    bson_iter_t it;
    bson_t what;
    bool once_more = w->again;
    w->asked = w->again = false;
    instances_see_consumers(w->m, consumers);
    if (json_get_iter(doc, "waiting", &it)) /* a notice may have come when it could not be followed */
        while (bson_iter_next(&it))
            if (json_iter_doc(&it, &what))
                activate(w, &what);
    if (once_more)
        watcher_ask(w);
}

static void on_line(struct watcher *w, const char *line)
{
    AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
    bson_iter_t it;
    bson_t what;
    if (doc && bson_iter_init_find(&it, doc, "activate") && json_iter_doc(&it, &what)) {
        activate(w, &what);
    } else if (doc && json_get_iter(doc, "consumers", &it)) {
        on_consumers(w, doc, &it);
    } else if (doc && json_get_str(doc, "ipc", NULL)) {
        const char *endpoint = json_get_str(doc, "ipc", NULL);
        if (!w->endpoint || strcmp(w->endpoint, endpoint) != 0) {
            xstr_set(&w->endpoint, endpoint);
            w->m->version++;
        }
        instances_reconcile(w->m);
    }
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct watcher *w = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    for (char *line; (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF));) {
        on_line(w, line);
        free(line);
    }
    if (evbuffer_get_length(in) > MAX_LINE)
        again(w);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        again(arg);
}

static void open_connection(struct watcher *w)
{
    static const char asks[] = "{\"op\":\"status\"}\n{\"op\":\"watch\"}\n";
    AUTO_FREE char *path = home_socket(&w->m->home, "broker.sock");
    int fd = fd_unix_connect(path);
    if (fd < 0) {
        again(w);
        return;
    }
    fd_set_nonblock(fd);
    w->bev = bufferevent_socket_new(w->m->base, fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(w->bev, on_read, NULL, on_event, w);
    bufferevent_enable(w->bev, EV_READ | EV_WRITE);
    bufferevent_write(w->bev, asks, sizeof asks - 1);
}

struct watcher *watcher_new(struct streammgr *m)
{
    struct watcher *w = xcalloc(1, sizeof *w);
    w->m = m;
    w->timer = event_new(m->base, -1, 0, on_timer, w);
    open_connection(w);
    return w;
}

void watcher_free(struct watcher *w)
{
    if (!w)
        return;
    if (w->bev)
        bufferevent_free(w->bev);
    event_free(w->timer);
    free(w->endpoint);
    free(w);
}

bool watcher_ask(struct watcher *w)
{
    AUTO_BUF struct buf held = {0}, ask = {0};
    if (!w || !w->bev)
        return false;
    if (w->asked) {
        w->again = true;
        return clk_now_ms() - w->asked_ms < PATIENCE_MS;
    }
    w->asked = true;
    w->asked_ms = clk_now_ms();
    bool hold = instances_held(w->m, &held);
    buf_addf(&ask, "{\"op\":\"consumers\"%s%s}\n", hold ? "," : "", hold ? held.p : "");
    bufferevent_write(w->bev, ask.p, ask.n);
    return true;
}

const char *watcher_endpoint(const struct watcher *w)
{
    return w ? w->endpoint : NULL;
}
