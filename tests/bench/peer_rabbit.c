/* RabbitMQ's side of scripts/bench stream.
 *
 *     peer_rabbit publish PORT N BYTES     persistent messages into a durable queue, made anew; all confirmed
 *     peer_rabbit consume PORT N           acknowledged, many at once */
#include <amqp.h>
#include <amqp_tcp_socket.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { UNCONFIRMED = 4000, PREFETCH = 2000, ACK_EVERY = 500 };

static void die(const char *what)
{
    fprintf(stderr, "peer_rabbit: %s failed\n", what);
    exit(1);
}

static void check(amqp_rpc_reply_t r, const char *what)
{
    if (r.reply_type != AMQP_RESPONSE_NORMAL)
        die(what);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The number up to which all is confirmed. */
static uint64_t confirmed(amqp_connection_state_t c, uint64_t before)
{
    amqp_frame_t f;
    amqp_maybe_release_buffers(c);
    if (amqp_simple_wait_frame(c, &f) != AMQP_STATUS_OK || f.frame_type != AMQP_FRAME_METHOD ||
        f.payload.method.id != AMQP_BASIC_ACK_METHOD)
        die("confirm");
    const amqp_basic_ack_t *a = f.payload.method.decoded;
    return a->delivery_tag > before ? a->delivery_tag : before;
}

static void publish(amqp_connection_state_t c, long n, size_t size)
{
    amqp_bytes_t queue = amqp_cstring_bytes("bench"), m = amqp_bytes_malloc(size);
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
    uint64_t done = 0;
    memset(m.bytes, 'x', size);
    amqp_queue_delete(c, 1, queue, 0, 0);
    amqp_queue_declare(c, 1, queue, 0, 1, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c), "queue");
    amqp_confirm_select(c, 1);
    check(amqp_get_rpc_reply(c), "confirms");
    double began = now_s();
    for (long i = 0; i < n; i++) {
        if (amqp_basic_publish(c, 1, amqp_empty_bytes, queue, 0, 0, &p, m) != AMQP_STATUS_OK)
            die("publish");
        while ((uint64_t)i + 1 - done > UNCONFIRMED)
            done = confirmed(c, done);
    }
    while (done < (uint64_t)n)
        done = confirmed(c, done);
    printf("%.0f\n", (double)n / (now_s() - began));
}

static void consume(amqp_connection_state_t c, long n)
{
    amqp_basic_qos(c, 1, 0, PREFETCH, 0);
    amqp_basic_consume(c, 1, amqp_cstring_bytes("bench"), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c), "consume");
    double began = now_s();
    for (long i = 1; i <= n; i++) {
        amqp_envelope_t e;
        amqp_maybe_release_buffers(c);
        check(amqp_consume_message(c, &e, NULL, 0), "a message");
        if ((i % ACK_EVERY == 0 || i == n) && amqp_basic_ack(c, 1, e.delivery_tag, 1) != AMQP_STATUS_OK)
            die("ack");
        amqp_destroy_envelope(&e);
    }
    printf("%.0f\n", (double)n / (now_s() - began));
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *s = amqp_tcp_socket_new(c);
    if (!s || amqp_socket_open(s, "127.0.0.1", atoi(argv[2])))
        die("connect");
    check(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
    amqp_channel_open(c, 1);
    check(amqp_get_rpc_reply(c), "channel");
    if (!strcmp(argv[1], "publish") && argc == 5)
        publish(c, atol(argv[3]), (size_t)atol(argv[4]));
    else if (!strcmp(argv[1], "consume") && argc == 4)
        consume(c, atol(argv[3]));
    else
        return 2;
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
    return 0;
}
