/* What Kafka takes from its own C library, without us:
 *
 *     peer_kafka BROKERS TOPIC N BYTES      messages a second, all confirmed (acks=all, idempotent) */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long confirmed;

static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    if (m->err) {
        fprintf(stderr, "peer_kafka: %s\n", rd_kafka_err2str(m->err));
        exit(1);
    }
    confirmed++;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    char why[300];
    if (argc != 5) {
        fprintf(stderr, "usage: peer_kafka BROKERS TOPIC N BYTES\n");
        return 2;
    }
    long n = atol(argv[3]);
    size_t size = (size_t)atol(argv[4]);
    char *m = calloc(1, size);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *const set[][2] = {
        {"bootstrap.servers", argv[1]}, {"acks", "all"}, {"enable.idempotence", "true"}, {"linger.ms", "5"}};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (rd_kafka_conf_set(conf, set[i][0], set[i][1], why, sizeof why) != RD_KAFKA_CONF_OK) {
            fprintf(stderr, "peer_kafka: %s\n", why);
            return 1;
        }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!m || !rk) {
        fprintf(stderr, "peer_kafka: %s\n", why);
        return 1;
    }
    memset(m, 'x', size);
    double began = now_s();
    for (long i = 0; i < n;)
        if (rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(argv[2]), RD_KAFKA_V_VALUE(m, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                              RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR_NO_ERROR)
            i++, rd_kafka_poll(rk, 0);
        else
            rd_kafka_poll(rk, 10);
    while (confirmed < n)
        rd_kafka_poll(rk, 100);
    printf("%.0f\n", (double)n / (now_s() - began));
    rd_kafka_destroy(rk);
    free(m);
    return 0;
}
