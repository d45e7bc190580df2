/* The connection to simbdp-kafka, which the keeper for Kafka starts and hands over. When it ends, another one is asked for. */
#include "kafka_parts.h"

#include "base/err.h"
#include "base/fd.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <unistd.h>

enum { AGAIN_MS = 500, FORBIDDEN_MS = 5000, READ_BYTES = 256 << 10 };

struct kafka_link {
    struct broker *b;
    struct bufferevent *bev; /* NULL: it is down */
    struct event *again;
    struct err why;
};

/* ---- fields ---- */

bool kafka_take_u32(const unsigned char **p, size_t *n, uint32_t *ret)
{
    if (*n < sizeof *ret)
        return false;
    *ret = le_u32(*p);
    *p += sizeof *ret;
    *n -= sizeof *ret;
    return true;
}

bool kafka_take_u64(const unsigned char **p, size_t *n, uint64_t *ret)
{
    if (*n < sizeof *ret)
        return false;
    *ret = le_u64(*p);
    *p += sizeof *ret;
    *n -= sizeof *ret;
    return true;
}

char *kafka_take_str(const unsigned char **p, size_t *n)
{
    uint32_t len;
    if (!kafka_take_u32(p, n, &len) || *n < len)
        return NULL;
    char *s = xstrndup((const char *)*p, len);
    *p += len;
    *n -= len;
    return s;
}

void kafka_frame_send(struct kafka_link *l, struct buf *f)
{
    kafka_frame_end(f);
    if (l && l->bev)
        bufferevent_write(l->bev, f->p, f->n);
}

/* ---- the connection ---- */

static void go_down(struct kafka_link *l)
{
    bufferevent_free(l->bev);
    l->bev = NULL;
    kafka_on_down(l->b);
    bool forbidden = strstr(l->b->kafka->down, "uthorization failed"); /* the next one will end for that, too */
    timer_set(l->again, forbidden ? FORBIDDEN_MS : AGAIN_MS);
}

/* False: it makes no sense. */
static bool take_frames(struct kafka_link *l)
{
    struct evbuffer *in = bufferevent_get_input(l->bev);
    unsigned char head[4];
    while (evbuffer_copyout(in, head, sizeof head) == (ssize_t)sizeof head) {
        size_t n = le_u32(head);
        if (n < KAFKA_FRAME_HEAD || n > KAFKA_MAX_FRAME)
            return false;
        if (evbuffer_get_length(in) < 4 + n)
            break;
        const unsigned char *p = evbuffer_pullup(in, (ssize_t)(4 + n)) + 4;
        if (!kafka_on_frame(l->b, le_u32(p), le_u32(p + 4), p + KAFKA_FRAME_HEAD, n - KAFKA_FRAME_HEAD))
            return false;
        evbuffer_drain(in, 4 + n);
    }
    kafka_on_read_end(l->b);
    return true;
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    struct kafka_link *l = arg;
    (void)bev;
    broker_look_at_clocks(l->b);
    if (take_frames(l))
        return;
    log_error("kafka", NULL, NULL, "simbdp-kafka says what makes no sense; another one is started");
    go_down(l);
}

static void on_ended(struct bufferevent *bev, short what, void *arg)
{
    struct kafka_link *l = arg;
    (void)bev;
    (void)what;
    broker_look_at_clocks(l->b);
    log_error("kafka", NULL, NULL, "simbdp-kafka ended; another one is started");
    err_set(&l->why, ERR_CLOSED, "simbdp-kafka has ended, and is started again");
    go_down(l);
}

static void on_again(evutil_socket_t none, short what, void *arg)
{
    struct kafka_link *l = arg;
    struct err e = {0};
    (void)none;
    (void)what;
    broker_look_at_clocks(l->b);
    int fd = keeper_kafka(l->b->kafka->keeper, &e);
    if (fd < 0) {
        if (strcmp(e.msg, l->why.msg) != 0)
            log_error("kafka", NULL, NULL, "%s", e.msg);
        l->why = e;
        timer_set(l->again, AGAIN_MS * 4);
        return;
    }
    fd_set_nonblock(fd);
    l->why = (struct err){0};
    l->bev = bufferevent_socket_new(l->b->base, fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_set_max_single_read(l->bev, READ_BYTES);
    bufferevent_set_max_single_write(l->bev, READ_BYTES);
    bufferevent_setcb(l->bev, on_readable, NULL, on_ended, l);
    bufferevent_enable(l->bev, EV_READ | EV_WRITE);
    kafka_on_up(l->b);
}

void kafka_link_restart(struct kafka_link *l)
{
    err_set(&l->why, ERR_CLOSED, "simbdp-kafka is started again, with what is configured now");
    if (l->bev)
        go_down(l);
    timer_set(l->again, 0);
}

struct kafka_link *kafka_link_new(struct broker *b)
{
    struct kafka_link *l = xcalloc(1, sizeof *l);
    l->b = b;
    l->again = event_new(b->base, -1, 0, on_again, l);
    err_set(&l->why, ERR_CLOSED, "simbdp-kafka is being started");
    timer_set(l->again, 0);
    return l;
}

void kafka_link_free(struct kafka_link *l)
{
    if (!l)
        return;
    if (l->bev)
        bufferevent_free(l->bev);
    event_free(l->again);
    free(l);
}

bool kafka_link_is_up(const struct kafka_link *l)
{
    return l && l->bev;
}

const char *kafka_link_why(const struct kafka_link *l)
{
    return l ? l->why.msg : "`kafka` was not in the configuration when the broker started: `mysimbdp down`, then `up`";
}
