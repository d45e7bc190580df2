/* A client's connection, and the one to a cell that belongs to it. A connection to a cell never serves two clients: whatever a
 * client manages to leave behind on it, the next request that meets it is his own. It is used again while his requests go to the
 * same cell, and closed where they go to another one. */
#include "answer.h"
#include "exchange.h"
#include "front.h"
#include "link.h"
#include "route.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

enum {
    HANDSHAKE_MS = 10000,
    CONNECT_MS = 5000,
    LINGER_MS = 2000,
    RETRY_S = 2,
    MOVING_S = 5,
    SAY_EVERY_MS = 1000,
    SAY_PLACES = 256
};

struct connection {
    struct front *f;
    struct view *view; /* of this request */
    const char *address;
    struct channel client, cell;
    char cell_url[CELLS_URL_MAX + 1], cell_pin[CELLS_PIN_SIZE]; /* where cell is connected to */
    struct buf head;
    struct head request;
    bool is_head, reused;
};

/* ---- what the front answers itself ---- */

static bool tell(struct connection *c, struct head_problem p, int retry_after_s)
{
    AUTO_BUF struct buf b = {0};
    answer_problem(&p, retry_after_s, c->is_head, &b);
    if (channel_send_all(&c->client, b.p, b.n, clk_now_ms() + LINGER_MS) == 0)
        channel_linger(&c->client, clk_now_ms() + LINGER_MS);
    return false;
}

static bool tell_text(struct connection *c, int status, const char *text)
{
    AUTO_BUF struct buf b = {0};
    answer_text(status, text, c->is_head, &b);
    if (channel_send_all(&c->client, b.p, b.n, clk_now_ms() + LINGER_MS) == 0)
        channel_linger(&c->client, clk_now_ms() + LINGER_MS);
    return false;
}

static unsigned place_of(const char *name)
{
    unsigned h = 0;
    for (; *name; name++)
        h = h * 31 + (unsigned char)*name;
    return h % SAY_PLACES;
}

/* Of a cell once a second at most (or of several, where they share a place here): one that is away is asked often. */
static void say(const struct cells_cell *cell, const char *what)
{
    static _Atomic int64_t said_ms[SAY_PLACES];
    _Atomic int64_t *place = &said_ms[place_of(cell->name)];
    int64_t now = clk_now_ms(), last = *place;
    if (now - last >= SAY_EVERY_MS && atomic_compare_exchange_strong(place, &last, now))
        log_warn("cell", NULL, NULL, "%s: %s", cell->name, what);
}

/* ---- the head ---- */

/* 1: it is there; 0: the client went away, or was too slow with nothing said; -1: it was refused. */
static int read_head(struct connection *c)
{
    int64_t deadline = clk_now_ms() + c->f->s.idle_s * 1000;
    size_t n;
    while (!(n = head_end(c->client.in, c->client.n))) {
        if (c->client.n >= HEAD_MAX)
            return tell(c, (struct head_problem){431, "header_too_large", "a head has at most 16 KiB"}, 0), -1;
        if (channel_fill(&c->client) < 0 || c->client.ended)
            return 0;
        if (head_end(c->client.in, c->client.n) || channel_has_more(&c->client))
            continue;
        if (channel_wait(&c->client, POLLIN, deadline) < 0)
            return 0;
    }
    if (n > HEAD_MAX)
        return tell(c, (struct head_problem){431, "header_too_large", "a head has at most 16 KiB"}, 0), -1;
    buf_reset(&c->head);
    buf_add(&c->head, c->client.in, n);
    channel_use(&c->client, n);
    return 1;
}

/* ---- the cell ---- */

static bool is_connected_to(struct connection *c, const struct cells_cell *cell)
{
    struct pollfd p = {c->cell.fd, POLLIN, 0};
    return c->cell.fd >= 0 && !strcmp(c->cell_url, cell->url) && !strcmp(c->cell_pin, cell->pin) && !c->cell.n &&
           !channel_has_more(&c->cell) && poll(&p, 1, 0) == 0;
}

static int connect_cell(struct connection *c, const struct cells_cell *cell, struct err *e)
{
    c->reused = is_connected_to(c, cell);
    if (c->reused)
        return 0;
    channel_close(&c->cell, false);
    int r = link_open(&c->cell, cell, c->f->authorities, clk_now_ms() + CONNECT_MS, e);
    if (r < 0)
        return r;
    memcpy(c->cell_url, cell->url, strlen(cell->url) + 1);
    memcpy(c->cell_pin, cell->pin, sizeof c->cell_pin);
    return 0;
}

static enum exchanged exchange_with(struct connection *c, struct exchange *x)
{
    AUTO_BUF struct buf b = {0};
    head_write_request(&c->request, c->address, &b);
    *x = (struct exchange){.client = &c->client,
                           .cell = &c->cell,
                           .request = &c->request,
                           .is_head = c->is_head,
                           .idle_ms = c->f->s.idle_s * 1000,
                           .answer_ms = c->f->s.answer_s * 1000,
                           .closes = c->request.closes};
    if (channel_send_all(&c->cell, b.p, b.n, clk_now_ms() + CONNECT_MS) < 0)
        return EXCHANGED_NOTHING;
    return exchange_run(x);
}

static bool is_safe(const struct connection *c)
{
    return (span_is(c->request.method, "GET") || c->is_head) && c->request.body.done;
}

static bool explain(struct connection *c, const struct cells_cell *cell, const struct exchange *x)
{
    if (x->bad_body)
        return tell(c, (struct head_problem){400, "bad_request", "a chunk of the body is malformed"}, 0);
    if (x->client_left)
        return false;
    say(cell, x->timed_out ? "does not answer" : x->had_any ? "sent what is no answer" : "ended the connection without an answer");
    if (x->timed_out)
        return tell(c, (struct head_problem){504, "gateway_timeout", "the tenant's cell did not answer in time"}, 0);
    return tell(c, (struct head_problem){502, "bad_gateway", "the tenant's cell did not answer as it should"}, 0);
}

/* Whether another request may follow. */
static bool pass_on(struct connection *c, const struct cells_cell *cell)
{
    struct err e = {0};
    struct exchange x;
    enum exchanged r = EXCHANGED_NOTHING;
    for (int tries = 0; tries < 2; tries++) {
        if (connect_cell(c, cell, &e) < 0) {
            say(cell, e.msg);
            return tell(c, (struct head_problem){503, "unavailable", "the tenant's cell cannot be reached now"}, RETRY_S);
        }
        r = exchange_with(c, &x);
        bool stale = r == EXCHANGED_NOTHING && c->reused && !x.had_any && !x.timed_out && !x.client_left && is_safe(c);
        if (r != EXCHANGED_ALL || x.cell_closes)
            channel_close(&c->cell, r != EXCHANGED_ALL);
        if (!stale) /* else the cell ended the connection just then, and nothing was done */
            break;
    }
    if (r == EXCHANGED_NOTHING)
        return explain(c, cell, &x);
    if (r == EXCHANGED_BROKEN) {
        say(cell, "broke off an answer, or its client did");
        channel_close(&c->client, true);
    }
    if (r == EXCHANGED_LAST)
        channel_linger(&c->client, clk_now_ms() + LINGER_MS);
    return r == EXCHANGED_ALL;
}

/* ---- one request ---- */

/* A stranger is told of a tenant that there is not what he is told of one that there is: log in. */
static bool nobody(struct connection *c)
{
    bool logs_in = head_field(&c->request, "Authorization").p || head_field(&c->request, "Cookie").p;
    return tell(c,
                (struct head_problem){401, "unauthorized",
                                      logs_in
                                          ? "the user, password or token is wrong, expired or revoked"
                                          : "log in with a token (Authorization: Bearer ...) or with user and password (Basic)"},
                0);
}

static bool serve_tenant(struct connection *c, struct span tenant)
{
    bool moving = false;
    if (cells_map_check_time(c->view->map, clk_wall_ms(), NULL) < 0)
        return tell(c, (struct head_problem){503, "unavailable", "the map of cells has expired"}, RETRY_S);
    const struct cells_cell *cell = cells_map_find(c->view->map, tenant.p, tenant.n, &moving);
    if (!cell)
        return nobody(c);
    if (moving)
        return tell(c, (struct head_problem){503, "moving", "the tenant is being moved to another cell; nothing is lost"},
                    MOVING_S);
    /* A cell that hangs may have so many of the front's connections, and no more: the others' tenants go on. */
    AUTO_FREE char *url = xstrdup(cell->url);
    if (!count_enter(c->f, &c->f->cells, url, c->f->s.requests_per_cell))
        return tell(c, (struct head_problem){503, "busy", "as many requests as the front has for one cell are under way"}, RETRY_S);
    bool more = pass_on(c, cell);
    count_leave(c->f, &c->f->cells, url);
    return more;
}

static bool serve_one(struct connection *c)
{
    struct head_problem why;
    c->is_head = false;
    if (read_head(c) != 1)
        return false;
    if (!head_parse_request(c->head.p, c->head.n, &c->request, &why))
        return tell(c, why, 0);
    c->is_head = span_is(c->request.method, "HEAD");
    struct route r = route_of(&c->request, c->f->s.domain);
    if (r.kind == ROUTE_REFUSED)
        return tell(c, r.why, 0);
    if (r.kind == ROUTE_HEALTHZ)
        return tell_text(c, 200, "ok");
    c->view = front_view(c->f);
    bool fresh = cells_map_check_time(c->view->map, clk_wall_ms(), NULL) == 0;
    bool more = r.kind == ROUTE_READYZ ? tell_text(c, fresh ? 200 : 503, fresh ? "ready" : "the map of cells has expired")
                                       : serve_tenant(c, r.tenant);
    view_let_go(c->view);
    return more;
}

static int secure(struct connection *c)
{
    struct front *f = c->f;
    if (gnutls_init(&c->client.tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return -ENOMEM;
    gnutls_priority_set_direct(c->client.tls, CHANNEL_PRIORITIES, NULL);
    gnutls_credentials_set(c->client.tls, GNUTLS_CRD_CERTIFICATE, c->view->certificate);
    gnutls_session_ticket_enable_server(c->client.tls, &f->tickets);
    gnutls_transport_set_int(c->client.tls, c->client.fd);
    return channel_handshake(&c->client, clk_now_ms() + HANDSHAKE_MS);
}

void connection_serve(struct front *f, int fd, const char *address)
{
    struct connection *c = xcalloc(1, sizeof *c);
    struct view *at_first = front_view(f); /* its certificate is this connection's for as long as that lasts */
    c->f = f;
    c->address = address;
    c->client.fd = fd;
    c->cell.fd = -1;
    c->view = at_first;
    if (!at_first->certificate || secure(c) == 0)
        while (serve_one(c))
            continue;
    channel_close(&c->client, false);
    channel_close(&c->cell, false);
    view_let_go(at_first);
    buf_fini(&c->head);
    free(c);
}
