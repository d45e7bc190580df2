/* Bytes go both ways at once: an answer may begin before the request is whole (messages are confirmed while they come), and one
 * that follows events has no end. What one side does not take is not read from the other. Nothing is kept but two buffers. */
#include "exchange.h"

#include "base/clk.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

/* One way: `ready` bytes of from->in belong to the body, and are to be sent. */
struct pump {
    struct channel *from, *to;
    struct body *body;
    size_t ready;
    bool open; /* the head was passed on */
};

struct state {
    struct exchange *x;
    struct pump up, down;
    struct buf head; /* of the answer, to be sent to the client */
    struct head answer;
    bool has_answer, began; /* a final head came; something was sent to the client */
    int64_t progress_ms, sent_ms;
};

static bool is_over(const struct pump *p)
{
    return p->open && p->body->done && !p->ready;
}

/* Sends what is ready. -errno: `to` is broken; -EPROTO as well where the body is malformed. */
static int pump(struct pump *p, bool *ret_moved)
{
    if (!p->open)
        return 0;
    if (!p->ready && p->from->n)
        p->ready = body_take(p->body, p->from->in, p->from->n);
    while (p->ready) {
        int64_t n = channel_send(p->to, p->from->in, p->ready);
        if (n <= 0)
            return (int)n;
        channel_use(p->from, (size_t)n);
        p->ready -= (size_t)n;
        *ret_moved = true;
    }
    return p->body->bad ? -EBADMSG : 0;
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {{200, "OK"},
                 {201, "Created"},
                 {204, "No Content"},
                 {207, "Multi-Status"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {409, "Conflict"},
                 {413, "Content Too Large"},
                 {429, "Too Many Requests"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].reason;
    return "";
}

/* Looks for heads in what the cell sent. -EBADMSG: that is no answer. */
static int take_heads(struct state *s)
{
    struct channel *cell = s->x->cell;
    while (!s->has_answer) {
        size_t n = head_end(cell->in, cell->n);
        if (!n)
            return cell->n >= HEAD_MAX ? -EBADMSG : 0;
        if (!head_parse_answer(cell->in, n, s->x->is_head, &s->answer) || s->answer.status == 101)
            return -EBADMSG;
        s->has_answer = s->answer.status >= 200;
        s->x->cell_closes = s->answer.closes;
        s->x->closes |= s->answer.body.kind == BODY_UNTIL_CLOSE;
        if (s->has_answer || (s->answer.status == 100 && s->x->request->expects))
            head_write_answer(&s->answer, reason_of(s->answer.status), s->x->closes, &s->head);
        channel_use(cell, n);
        s->down.open = s->has_answer;
    }
    return 0;
}

/* Of the answer's head what the client takes. */
static int send_head(struct state *s, bool *ret_moved)
{
    while (s->head.n) {
        int64_t n = channel_send(s->x->client, s->head.p, s->head.n);
        if (n <= 0)
            return (int)n;
        buf_consume(&s->head, (size_t)n);
        s->began = true;
        *ret_moved = true;
    }
    return 0;
}

/* Everything that can be done now. 0; 1: the answer is whole; negative: it cannot be. */
static int turn(struct state *s, bool *ret_moved)
{
    struct exchange *x = s->x;
    int r;
    if (!is_over(&s->up) && channel_fill(x->client) < 0)
        return x->client_left = true, -EPIPE;
    int filled = channel_fill(x->cell);
    *ret_moved |= filled > 0 && x->cell->n;
    x->had_any |= x->cell->n > 0;
    r = pump(&s->up, ret_moved);
    if (r == -EBADMSG || (!is_over(&s->up) && x->client->ended && !x->client->n))
        return *(r == -EBADMSG ? &x->bad_body : &x->client_left) = true, -EPIPE;
    if (r < 0)
        s->up.ready = 0; /* the cell takes no more; it may have said why */
    bool refuses = r < 0;
    if ((r = take_heads(s)) < 0)
        return r;
    if (send_head(s, ret_moved) < 0)
        return x->client_left = true, -EPIPE;
    if (!s->head.n && s->down.open) {
        r = pump(&s->down, ret_moved);
        if (r < 0 && r != -EBADMSG)
            return x->client_left = true, -EPIPE;
        if (r < 0)
            return r;
    }
    if (s->down.open && s->answer.body.kind == BODY_UNTIL_CLOSE && x->cell->ended && !x->cell->n)
        s->answer.body.done = true;
    if (is_over(&s->down) && !s->head.n)
        return 1;
    if ((x->cell->ended && !x->cell->n) || filled < 0 || (refuses && x->cell->ended))
        return -ECONNRESET;
    return 0;
}

static short events_of_client(const struct state *s)
{
    short events = 0;
    if (!is_over(&s->up) && s->x->client->n < CHANNEL_ROOM && !s->x->client->ended)
        events |= POLLIN;
    if (s->head.n || (s->down.open && s->x->cell->n))
        events |= POLLOUT;
    return events;
}

static short events_of_cell(const struct state *s)
{
    short events = 0;
    if (s->x->cell->n < CHANNEL_ROOM && !s->x->cell->ended)
        events |= POLLIN;
    if (s->up.ready)
        events |= POLLOUT;
    return events;
}

/* -ETIMEDOUT: neither side moved, or the cell does not answer. */
static int wait_for(struct state *s)
{
    struct exchange *x = s->x;
    int64_t now = clk_now_ms(), until = s->progress_ms + x->idle_ms;
    struct pollfd p[2] = {{x->client->fd, events_of_client(s), 0}, {x->cell->fd, events_of_cell(s), 0}};
    if (is_over(&s->up) && !s->has_answer) {
        s->sent_ms = s->sent_ms ? s->sent_ms : now;
        until = s->sent_ms + x->answer_ms;
    }
    if ((!is_over(&s->up) && channel_has_more(x->client) && x->client->n < CHANNEL_ROOM) ||
        (channel_has_more(x->cell) && x->cell->n < CHANNEL_ROOM))
        return 0;
    if (now >= until)
        return -ETIMEDOUT;
    if (!p[1].events)
        p[1].fd = -1; /* its end is known, and would be told again and again */
    poll(p, 2, (int)(until - now));
    if ((p[0].revents & (POLLERR | POLLHUP)) && !(p[0].revents & (POLLIN | POLLOUT)))
        return x->client_left = true, -EPIPE;
    return 0;
}

enum exchanged exchange_run(struct exchange *x)
{
    struct state s = {.x = x,
                      .up = {x->client, x->cell, &x->request->body, 0, true},
                      .down = {x->cell, x->client, NULL, 0, false},
                      .progress_ms = clk_now_ms()};
    int r = 0;
    s.down.body = &s.answer.body;
    while (r == 0) {
        bool moved = false;
        r = turn(&s, &moved);
        if (moved)
            s.progress_ms = clk_now_ms();
        if (r == 0)
            r = wait_for(&s);
    }
    buf_fini(&s.head);
    x->timed_out = r == -ETIMEDOUT;
    if (r != 1)
        return s.began ? EXCHANGED_BROKEN : EXCHANGED_NOTHING;
    return x->closes || !is_over(&s.up) ? EXCHANGED_LAST : EXCHANGED_ALL;
}
