/* What a peer sends to the broker's and the monitor's listener: the first byte says in what pieces, and whether the server wants
 * CURVE; every message is sent back. What is parsed must lie within its message, and a connection never takes more than it may. */
#include "zmtp/server.h"

#include <assert.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_MESSAGE = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t sum;

static int may_connect(void *arg, int64_t uid)
{
    (void)arg;
    (void)uid;
    return 4;
}

static const char *user_of_key(void *arg, const unsigned char key[CURVE_KEY], int *ret_max)
{
    (void)arg;
    *ret_max = 4;
    return key[0] & 1 ? "tenant" : NULL;
}

static void on_open(void *arg, struct zmtp_conn *c)
{
    zmtp_set_tag(c, arg);
}

static void on_message(void *arg, struct zmtp_conn *c, struct zmtp_message *m)
{
    size_t total = 0;
    assert(zmtp_tag(c) == arg && m->n >= 1 && m->n <= ZMTP_MAX_FRAMES);
    for (size_t i = 0; i < m->n; i++) {
        const unsigned char *p = m->f[i].p;
        total += m->f[i].n;
        for (size_t k = 0; k < m->f[i].n; k++)
            sum += p[k];
    }
    assert(total == m->data.n && total <= MAX_MESSAGE);
    zmtp_send(c, m->f, m->n);
}

static void on_close(void *arg, struct zmtp_conn *c)
{
    assert(zmtp_tag(c) == arg);
}

static struct zmtp_server *server_new(struct event_base *base, const struct curve_server *curve)
{
    static const struct zmtp_ops ops = {"ROUTER", " DEALER REQ ", may_connect, user_of_key, on_open, on_message, NULL, on_close};
    struct zmtp_server *s = zmtp_server_new(base, -1, curve, &ops, base);
    zmtp_server_limit(s, MAX_MESSAGE);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct event_base *base;
    static struct curve_server keys;
    static struct zmtp_server *servers[2];
    int pair[2];
    char drain[4096];
    if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return 0;
    if (!base) {
        base = event_base_new();
        crypto_box_keypair(keys.public_key, keys.secret_key);
        servers[0] = server_new(base, NULL);
        servers[1] = server_new(base, &keys);
    }
    struct zmtp_server *s = servers[data[0] & 1];
    size_t piece = (size_t)1 << (data[0] >> 4);
    zmtp_server_adopt(s, pair[0]);
    for (size_t at = 1; at < size; at += piece) {
        if (send(pair[1], data + at, at + piece < size ? piece : size - at, MSG_NOSIGNAL) < 0)
            break;
        event_base_loop(base, EVLOOP_NONBLOCK);
        while (recv(pair[1], drain, sizeof drain, 0) > 0) {
        }
    }
    close(pair[1]);
    for (int turns = 0; turns < 64 && (turns < 2 || zmtp_server_connections(s)); turns++) /* it may wait for its turn */
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert(zmtp_server_connections(s) == 0);
    return 0;
}
