/* The listener's sense of time, with a clock of our own: what takes too long is ended, what is only slow is not. The linker gives
 * us every call of clk_now_ms and of event_add (meson.build): its quarter of a second is a millisecond here. */
#include "check.h"

#include "base/clk.h"
#include "zmtp/server.h"

#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEP_MS = 4000, LONG_MS = 120000, SMALL = 1000, LARGE = 40000 };

int64_t __wrap_clk_now_ms(void);
int __wrap_event_add(struct event *ev, const struct timeval *tv);
int __real_event_add(struct event *ev, const struct timeval *tv);

static int64_t now_ms = 1000;

int64_t __wrap_clk_now_ms(void)
{
    return now_ms;
}

int __wrap_event_add(struct event *ev, const struct timeval *tv)
{
    return __real_event_add(ev, tv && tv->tv_usec ? &(struct timeval){0, 1000} : tv);
}

struct seen {
    int n_messages, n_closed;
    size_t bytes;
};

static int may_connect(void *arg, int64_t uid)
{
    (void)arg;
    (void)uid;
    return 4;
}

static void on_open(void *arg, struct zmtp_conn *c)
{
    (void)arg;
    (void)c;
}

static void on_message(void *arg, struct zmtp_conn *c, struct zmtp_message *m)
{
    struct seen *seen = arg;
    (void)c;
    seen->n_messages++;
    seen->bytes = m->data.n;
}

static void on_close(void *arg, struct zmtp_conn *c)
{
    struct seen *seen = arg;
    (void)c;
    seen->n_closed++;
}

static const struct zmtp_ops ops = {"ROUTER", " DEALER ", may_connect, NULL, on_open, on_message, NULL, on_close};

struct peer {
    struct event_base *base;
    struct zmtp_server *server;
    struct seen seen;
    int fd;
    bool ended;
};

static void say(struct peer *p, const void *bytes, size_t n)
{
    char answer[4096];
    ssize_t r = send(p->fd, bytes, n, MSG_NOSIGNAL);
    (void)r; /* an ended connection says so below */
    event_base_loop(p->base, EVLOOP_NONBLOCK);
    while ((r = recv(p->fd, answer, sizeof answer, MSG_DONTWAIT)) > 0) {
    }
    p->ended |= r == 0;
}

/* One look of the server's at its connections, and what follows from it. */
static void tick(struct peer *p, int64_t ms)
{
    now_ms += ms;
    event_base_loop(p->base, EVLOOP_ONCE);
    event_base_loop(p->base, EVLOOP_NONBLOCK);
}

static void meet(struct peer *p)
{
    static const unsigned char greeting[64] = {0xff, [9] = 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
    static const char ready[] = "\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER";
    int pair[2];
    *p = (struct peer){.base = event_base_new()};
    p->server = zmtp_server_new(p->base, -1, NULL, &ops, &p->seen);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    zmtp_server_adopt(p->server, pair[0]);
    p->fd = pair[1];
    say(p, greeting, sizeof greeting);
    say(p, ready, sizeof ready - 1);
    assert_int_equal(zmtp_server_connections(p->server), 1);
}

static void part(struct peer *p)
{
    close(p->fd);
    zmtp_server_free(p->server);
    event_base_free(p->base);
}

/* A frame's head and first byte; then so many bytes, one each STEP_MS: shorter than the silence that ends a connection. */
static void trickle(struct peer *p, size_t size, int64_t for_ms)
{
    const unsigned char head[10] = {2,  0, 0, 0, 0, 0, (unsigned char)(size >> 16), (unsigned char)(size >> 8), (unsigned char)size,
                                    'x'};
    say(p, head, sizeof head);
    for (int64_t at = 0; at < for_ms && !p->ended; at += STEP_MS) {
        tick(p, STEP_MS);
        say(p, "x", 1);
    }
}

static void a_frame_that_is_only_slow_arrives(void **state)
{
    static const char rest[LARGE];
    struct peer p;
    (void)state;
    for (int i = 0; i < 2; i++) {
        const size_t size = i ? LARGE : SMALL, had = 1 + (LONG_MS - STEP_MS) / STEP_MS;
        meet(&p);
        trickle(&p, size, LONG_MS - STEP_MS);
        assert_false(p.ended);
        assert_int_equal(p.seen.n_messages, 0);
        say(&p, rest, size - had);
        tick(&p, 0);
        assert_int_equal(p.seen.n_messages, 1);
        assert_int_equal(p.seen.bytes, size);
        tick(&p, STEP_MS); /* it owes nothing any more */
        assert_int_equal(p.seen.n_closed, 0);
        part(&p);
    }
}

static void a_frame_without_end_ends_its_connection(void **state)
{
    struct peer p;
    (void)state;
    for (int i = 0; i < 2; i++) {
        meet(&p);
        trickle(&p, i ? LARGE : SMALL, 2 * LONG_MS);
        assert_true(p.ended);
        assert_int_equal(p.seen.n_closed, 1);
        assert_int_equal(p.seen.n_messages, 0);
        part(&p);
    }
}

/* Another message that came meanwhile does not help: the time is the unfinished one's. */
static void the_time_is_of_the_frame_that_is_under_way(void **state)
{
    struct peer p;
    int64_t began;
    (void)state;
    meet(&p);
    say(&p, "\0\1x", 3);
    assert_int_equal(p.seen.n_messages, 1);
    began = now_ms;
    trickle(&p, LARGE, 2 * LONG_MS);
    assert_true(p.ended);
    assert_in_range(now_ms - began, LONG_MS, LONG_MS + 3 * STEP_MS);
    part(&p);
}

static void who_says_nothing_is_asked_and_then_ended(void **state)
{
    struct peer p;
    char ping[64];
    (void)state;
    meet(&p);
    tick(&p, 2500);
    assert_in_range(recv(p.fd, ping, sizeof ping, 0), 9, 9);
    assert_memory_equal(ping + 2, "\4PING", 5);
    say(&p, "\4\7\4PONG\0\0", 9);
    tick(&p, 6000);
    assert_int_equal(p.seen.n_closed, 0);
    tick(&p, 6000);
    assert_int_equal(p.seen.n_closed, 1);
    part(&p);
}

static void a_handshake_has_its_time(void **state)
{
    struct peer p = {.base = event_base_new()};
    int pair[2];
    (void)state;
    p.server = zmtp_server_new(p.base, -1, NULL, &ops, &p.seen);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    zmtp_server_adopt(p.server, pair[0]);
    p.fd = pair[1];
    for (int i = 0; i < 4; i++) {
        say(&p, i ? "\0" : "\xff", 1);
        assert_false(p.ended);
        tick(&p, 1400);
    }
    say(&p, "\0", 1);
    assert_true(p.ended);
    part(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_that_is_only_slow_arrives),
        cmocka_unit_test(a_frame_without_end_ends_its_connection),
        cmocka_unit_test(the_time_is_of_the_frame_that_is_under_way),
        cmocka_unit_test(who_says_nothing_is_asked_and_then_ended),
        cmocka_unit_test(a_handshake_has_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
