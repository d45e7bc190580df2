/* Our place among the brokers that share streams: a member of a consumer group of Kafka's, which says whose partition is whose. The
 * group's consumer takes no records (traffic.c does, from where the broker says); it is there for the assignment, and commits with
 * the group's generation, so that a member that was given up moves nothing.
 *
 *   broker                     here                                   Kafka
 *   JOIN topics           ->   subscribe                         ->
 *                         <-   ASSIGNMENT (all that is ours)     <-   assigned
 *   KEEP offset, text     ->   commit                            ->
 *                         <-   KEPT                              <-
 *                         <-   ASSIGNMENT without them, `wait`   <-   revoked
 *   KEEP, then RELEASE    ->   once that is committed, or after RELEASE_MS: given back
 *   (silence)                  It is not known whether the broker lives. After the session's time we end, and Kafka gives our
 *                              partitions to others once that has passed again
 *                         <-   ASSIGNMENT, why              <-        another one has our name: we are fenced, for good */
#include "client.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RELEASE_MS = 3000, MAX_TOPICS = 4096 };

struct member {
    struct client *client;
    rd_kafka_t *rk;
    rd_kafka_queue_t *events;
    rd_kafka_topic_partition_list_t *leaving; /* revoked, and not given back yet; NULL: none */
    int64_t leaving_ms, session_ms, heard_ms;
    bool released, fenced;
    size_t n_commits; /* under way */
};

/* ---- what the broker is told ---- */

static void tell(struct member *m, const char *why)
{
    AUTO_BUF struct buf b = {0};
    rd_kafka_topic_partition_list_t *mine = NULL;
    uint32_t n = 0;
    kafka_frame_begin(&b, KAFKA_ASSIGNMENT, 0);
    kafka_frame_add_str(&b, why);
    le_add_u32(&b, m->leaving != NULL);
    size_t at = b.n;
    le_add_u32(&b, 0);
    if (*why || rd_kafka_assignment(m->rk, &mine))
        mine = NULL;
    for (int i = 0; mine && i < mine->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &mine->elems[i];
        if (m->leaving && rd_kafka_topic_partition_list_find(m->leaving, p->topic, p->partition))
            continue;
        kafka_frame_add_str(&b, p->topic);
        le_add_u32(&b, (uint32_t)p->partition);
        n++;
    }
    le_set_u32(b.p + at, n);
    frame_send(m->client, &b);
    if (mine)
        rd_kafka_topic_partition_list_destroy(mine);
}

static void tell_kept(const struct member *m, const char *topic, int32_t part, const char *why)
{
    AUTO_BUF struct buf b = {0};
    struct topic *t = client_topic(m->client, topic, (uint32_t)part);
    if (!t)
        return;
    kafka_frame_begin(&b, KAFKA_KEPT, t->stream);
    kafka_frame_add_str(&b, why);
    frame_send(m->client, &b);
}

/* ---- what Kafka tells ---- */

static void check(rd_kafka_error_t *error, const char *what)
{
    if (!error)
        return;
    log_warn("kafka", NULL, NULL, "%s: %s", what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

static bool is_cooperative(const struct member *m)
{
    return !strcmp(rd_kafka_rebalance_protocol(m->rk), "COOPERATIVE");
}

/* What is ours is fetched by nobody here. */
static void on_assigned(struct member *m, rd_kafka_topic_partition_list_t *parts)
{
    for (int i = 0; i < parts->cnt; i++)
        parts->elems[i].offset = RD_KAFKA_OFFSET_END;
    if (is_cooperative(m))
        check(rd_kafka_incremental_assign(m->rk, parts), "taking partitions");
    else
        rd_kafka_assign(m->rk, parts);
    rd_kafka_pause_partitions(m->rk, parts);
    tell(m, "");
}

static void give_back(struct member *m)
{
    if (is_cooperative(m))
        check(rd_kafka_incremental_unassign(m->rk, m->leaving), "giving partitions back");
    else
        rd_kafka_assign(m->rk, NULL);
    rd_kafka_topic_partition_list_destroy(m->leaving);
    m->leaving = NULL;
    m->released = false;
}

static void on_revoked(struct member *m, const rd_kafka_topic_partition_list_t *parts)
{
    if (m->leaving)
        give_back(m);
    m->leaving = rd_kafka_topic_partition_list_copy(parts);
    m->leaving_ms = clk_now_ms();
    m->released = false;
    tell(m, "");
}

static void on_committed(rd_kafka_t *rk, rd_kafka_resp_err_t all, rd_kafka_topic_partition_list_t *parts, void *arg)
{
    struct member *m = arg;
    (void)rk;
    m->n_commits -= m->n_commits > 0;
    for (int i = 0; parts && i < parts->cnt; i++) {
        rd_kafka_resp_err_t error = parts->elems[i].err ? parts->elems[i].err : all;
        tell_kept(m, parts->elems[i].topic, parts->elems[i].partition, error ? rd_kafka_err2str(error) : "");
    }
}

static void on_failed(struct member *m, const rd_kafka_event_t *ev)
{
    char text[400];
    rd_kafka_resp_err_t code = rd_kafka_event_error((rd_kafka_event_t *)ev);
    log_debug("kafka", NULL, NULL, "the group: %s", rd_kafka_event_error_string((rd_kafka_event_t *)ev));
    if (code != RD_KAFKA_RESP_ERR__FATAL && code != RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        return;
    if (!rd_kafka_fatal_error(m->rk, text, sizeof text))
        snprintf(text, sizeof text, "%s", rd_kafka_err2str(code));
    m->fenced = true; /* for good: who comes back takes the name from the other one */
    tell(m, text);
}

void member_poll(struct client *c)
{
    struct member *m = c->member;
    rd_kafka_event_t *ev;
    while (m && !m->fenced && (ev = rd_kafka_queue_poll(m->events, 0))) {
        rd_kafka_event_type_t type = rd_kafka_event_type(ev);
        if (type == RD_KAFKA_EVENT_REBALANCE && rd_kafka_event_error(ev) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
            on_assigned(m, rd_kafka_event_topic_partition_list(ev));
        else if (type == RD_KAFKA_EVENT_REBALANCE)
            on_revoked(m, rd_kafka_event_topic_partition_list(ev));
        else if (type == RD_KAFKA_EVENT_OFFSET_COMMIT)
            on_committed(m->rk, rd_kafka_event_error(ev), rd_kafka_event_topic_partition_list(ev), m);
        else if (type == RD_KAFKA_EVENT_ERROR)
            on_failed(m, ev);
        rd_kafka_event_destroy(ev);
    }
    if (m && m->leaving && ((m->released && !m->n_commits) || clk_now_ms() - m->leaving_ms > RELEASE_MS))
        give_back(m);
}

bool member_is_orphan(const struct client *c)
{
    return c->member && clk_now_ms() - c->member->heard_ms > c->member->session_ms;
}

/* ---- what the broker says ---- */

void member_alive(struct client *c)
{
    AUTO_BUF struct buf b = {0};
    if (c->member)
        c->member->heard_ms = clk_now_ms();
    kafka_frame_begin(&b, KAFKA_ALIVE, 0);
    frame_send(c, &b);
}

static struct member *member_new(struct client *c, const char *group, const char *name, uint32_t session_ms)
{
    struct err e = {0};
    char session[16], beat[16];
    snprintf(session, sizeof session, "%" PRIu32, session_ms);
    snprintf(beat, sizeof beat, "%" PRIu32, session_ms / 4);
    const char *const own[][2] = {{"group.id", group},
                                  {"group.instance.id", name},
                                  {"partition.assignment.strategy", "cooperative-sticky"},
                                  {"session.timeout.ms", session},
                                  {"heartbeat.interval.ms", beat},
                                  {"max.poll.interval.ms", "86400000"}, /* whether we are well is told by the broker's word */
                                  {"enable.auto.commit", "false"},
                                  {"enable.auto.offset.store", "false"},
                                  {"auto.offset.reset", "latest"},
                                  {NULL, NULL}};
    rd_kafka_t *rk = client_open_group(c, own, &e);
    if (!rk) {
        log_error("kafka", NULL, NULL, "%s", e.msg);
        _exit(1);
    }
    struct member *m = xcalloc(1, sizeof *m);
    *m = (struct member){.client = c, .rk = rk, .session_ms = session_ms, .heard_ms = clk_now_ms()};
    rd_kafka_poll_set_consumer(rk);
    m->events = rd_kafka_queue_get_consumer(rk);
    client_wake_by(c, m->events);
    return m;
}

void member_join(struct client *c, struct reader *r)
{
    AUTO_FREE char *group = read_str(r);
    AUTO_FREE char *name = read_str(r);
    uint32_t session_ms = read_u32(r), n = read_u32(r);
    r->ok = r->ok && n <= MAX_TOPICS && *name && session_ms;
    if (!r->ok || (!n && !c->member))
        return;
    if (!c->member)
        c->member = member_new(c, group, name, session_ms);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new((int)n + 1);
    for (uint32_t i = 0; i < n; i++) {
        AUTO_FREE char *topic = read_str(r);
        rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    }
    if (n)
        rd_kafka_subscribe(c->member->rk, topics);
    else
        rd_kafka_unsubscribe(c->member->rk);
    rd_kafka_topic_partition_list_destroy(topics);
}

void member_keep(struct topic *t, struct reader *r)
{
    struct member *m = t->client->member;
    uint64_t offset = read_u64(r);
    AUTO_FREE char *text = read_str(r);
    if (!r->ok)
        return;
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *one = rd_kafka_topic_partition_list_add(parts, t->name, (int32_t)t->part);
    one->offset = (int64_t)offset;
    one->metadata = strdup(text); /* librdkafka frees it */
    one->metadata_size = strlen(text);
    rd_kafka_resp_err_t error =
        m && !m->fenced ? rd_kafka_commit_queue(m->rk, parts, m->events, on_committed, m) : RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    rd_kafka_topic_partition_list_destroy(parts);
    if (error)
        tell_kept(&(struct member){.client = t->client}, t->name, (int32_t)t->part, rd_kafka_err2str(error));
    else
        m->n_commits++;
}

void member_release(struct client *c)
{
    if (c->member)
        c->member->released = true;
}
