/* What the files of simbdp-kafka share: the two clients of librdkafka (a producer, which also asks and orders, and a consumer), the
 * streams, and what the broker is told. */
#ifndef SIMBDP_KAFKA_CLIENT_H
#define SIMBDP_KAFKA_CLIENT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/le.h"
#include "base/map.h"
#include "wire/kafka_frames.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdbool.h>

struct client;
struct member;

/* A partition of a stream of the broker's. Never freed: what librdkafka still holds of it may come late. */
struct topic {
    struct client *client;
    uint32_t stream, part;
    char *name;
    rd_kafka_topic_t *out, *in; /* in NULL: it is not followed */
    bool closed;
};

struct client {
    rd_kafka_t *producer, *consumer;
    rd_kafka_queue_t *records; /* of all that is followed */
    struct map topics;         /* by number */
    struct map followed;       /* by topic of librdkafka's and partition: it has one for all partitions */
    struct topic *last;        /* of which a record came last, as it is followed; NULL: none */
    struct member *member;     /* NULL: it never was one */
    char *brokers, *settings;
    int wake_fd;          /* an eventfd: librdkafka has something, or a job ended */
    bool dead;            /* librdkafka says that it cannot go on; why is under way to the broker */
    char why[300];        /* a node could not be spoken to, last; where that has a reason of its own */
    pthread_mutex_t lock; /* of `out` */
    struct buf out;       /* frames for the broker */
};

/* A frame's fields, as far as they are there. */
struct reader {
    const unsigned char *p;
    size_t n;
    bool ok;
};
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
char *read_str(struct reader *r); /* "" where it is not there; caller frees */

/* Ends a frame and gives it away whole, from any thread. */
void frame_send(struct client *c, struct buf *b);

/* settings: lines NAME=VALUE, on top of ours. */
int client_open(struct client *c, const char *brokers, const char *settings, struct err *e);

/* A consumer of a group, by these settings, whose events come in queues. NULL: it cannot be. */
rd_kafka_t *client_open_group(struct client *c, const char *const own[][2], struct err *e);
void client_wake_by(const struct client *c, rd_kafka_queue_t *q); /* what comes in it wakes us */
/* NULL: the broker has not opened it. */
struct topic *client_topic(struct client *c, const char *name, uint32_t part);

/* ---- member.c: the group of the brokers that share streams; never blocks ---- */
void member_join(struct client *c, struct reader *r);
void member_keep(struct topic *t, struct reader *r);
void member_release(struct client *c);
void member_alive(struct client *c); /* the broker is */
void member_poll(struct client *c);
/* The broker has said nothing for the session's time. */
bool member_is_orphan(const struct client *c);

/* ---- traffic.c: never blocks ---- */
void traffic_produce(struct topic *t, struct reader *r);
void traffic_follow(struct topic *t, uint64_t offset);
void traffic_close(struct topic *t);
void traffic_poll(struct client *c);
size_t traffic_take_records(struct client *c, size_t max); /* how many */
void traffic_on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque);

/* ---- jobs.c: a thread of its own, which waits for Kafka ---- */
int jobs_start(struct client *c);
void jobs_open(struct topic *t, struct reader *r);
void jobs_commit(struct topic *t, struct reader *r);
void jobs_trim(struct topic *t, struct reader *r);
void jobs_look(struct topic *t, struct reader *r);

#endif
