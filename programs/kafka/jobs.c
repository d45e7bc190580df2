/* What waits for Kafka: a topic is made and looked at, offsets are kept and read, records are given up. One thread does one of them
 * after the other; each gives up after WAIT_MS, and whoever wants it asks again. */
#include "client.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WAIT_MS = 8000,
    ORDER_MS = 6000,
    MAX_GROUPS = 4096,
    SPARE_BYTES = 64 << 10,
    LEAST_BYTES = 1 << 20,
    MIN_REPLICAS = 3,
    MAY_NOT = 1,
};

enum kind { OPEN, COMMIT, TRIM, LOOK };

struct job {
    struct job *next;
    enum kind kind;
    struct topic *topic;
    uint32_t replicas, n_parts, n_groups;
    uint64_t max_bytes, offset;
    char **groups, *text;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *first, **last;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .last = &queue.first};

static void job_free(struct job *j)
{
    for (uint32_t i = 0; i < j->n_groups; i++)
        free(j->groups[i]);
    free(j->groups);
    free(j->text);
    free(j);
}

/* ---- asking ---- */

typedef char why_text[512];

static int say(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(char *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why_text), fmt, ap);
    va_end(ap);
    return -1;
}

/* What was made a moment ago is not known to every node yet: that is asked again soon. */
static int refused(char *why, const struct job *j, rd_kafka_resp_err_t error)
{
    bool soon = error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || error == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE ||
                error == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION || error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
    return say(why, "%stopic %s cannot be looked at: %s", soon ? KAFKA_SOON : "", j->topic->name, rd_kafka_err2str(error));
}

struct asking {
    rd_kafka_queue_t *queue;
    rd_kafka_AdminOptions_t *options;
};

static struct asking ask_begin(struct client *c, rd_kafka_admin_op_t op)
{
    struct asking a = {rd_kafka_queue_new(c->producer), rd_kafka_AdminOptions_new(c->producer, op)};
    rd_kafka_AdminOptions_set_request_timeout(a.options, ORDER_MS, NULL, 0);
    return a;
}

/* NULL: there is no answer, or it is an error. */
static rd_kafka_event_t *ask_end(struct asking *a, const char *what, char *why)
{
    rd_kafka_event_t *ev = rd_kafka_queue_poll(a->queue, WAIT_MS);
    rd_kafka_AdminOptions_destroy(a->options);
    rd_kafka_queue_destroy(a->queue);
    if (!ev)
        say(why, "%s: Kafka does not answer", what);
    else if (rd_kafka_event_error(ev))
        say(why, "%s: %s", what, rd_kafka_event_error_string(ev));
    if (!ev || !rd_kafka_event_error(ev))
        return ev;
    rd_kafka_event_destroy(ev);
    return NULL;
}

/* librdkafka 2.0 does not survive each order whose node goes away meanwhile (an assertion of its own; the broker starts us again
 * then). So none is given while nobody answers. */
static int look_for_kafka(const struct job *j, char *why)
{
    const struct rd_kafka_metadata *m = NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(j->topic->client->producer, 0, NULL, &m, WAIT_MS);
    if (error)
        return say(why, "Kafka does not answer: %s", rd_kafka_err2str(error));
    rd_kafka_metadata_destroy(m);
    return 0;
}

/* ---- the topic ---- */

/* MAY_NOT: an administrator makes our topics; why is set for where it is not there. */
static int make_topic(const struct job *j, char *why)
{
    struct client *c = j->topic->client;
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%" PRIu64, j->max_bytes);
    const char *const settings[][2] = {{"min.insync.replicas", "2"},    {"cleanup.policy", "delete"},
                                       {"retention.ms", "-1"},          {"retention.bytes", "-1"},
                                       {"max.message.bytes", bytes},    {"unclean.leader.election.enable", "false"},
                                       {"compression.type", "producer"}};
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(j->topic->name, (int)j->n_parts, (int)j->replicas, why, sizeof(why_text));
    if (!t)
        return -1;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        rd_kafka_NewTopic_set_config(t, settings[i][0], settings[i][1]);
    struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_operation_timeout(a.options, ORDER_MS, NULL, 0);
    rd_kafka_CreateTopics(c->producer, &t, 1, a.options, a.queue);
    rd_kafka_NewTopic_destroy(t);
    rd_kafka_event_t *ev = ask_end(&a, "making the topic", why);
    if (!ev)
        return -1;
    size_t n = 0;
    const rd_kafka_topic_result_t **v = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
    rd_kafka_resp_err_t error = n ? rd_kafka_topic_result_error(v[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
    int r = 0;
    if (error == RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR)
        r = say(why, "Kafka has not as many nodes as `replicas` says (%" PRIu32 "): %s", j->replicas,
                rd_kafka_topic_result_error_string(v[0]));
    else if (error && error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        r = say(why, "topic %s cannot be made: %s", j->topic->name, rd_kafka_err2str(error));
    if (error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        r = MAY_NOT;
    rd_kafka_event_destroy(ev);
    return r;
}

/* Of a topic that has fewer. */
static int add_partitions(const struct job *j, char *why)
{
    struct client *c = j->topic->client;
    rd_kafka_NewPartitions_t *v = rd_kafka_NewPartitions_new(j->topic->name, j->n_parts, why, sizeof(why_text));
    if (!v)
        return -1;
    struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS);
    rd_kafka_AdminOptions_set_operation_timeout(a.options, ORDER_MS, NULL, 0);
    rd_kafka_CreatePartitions(c->producer, &v, 1, a.options, a.queue);
    rd_kafka_NewPartitions_destroy(v);
    rd_kafka_event_t *ev = ask_end(&a, "making partitions", why);
    if (!ev)
        return -1;
    size_t n = 0;
    const rd_kafka_topic_result_t **r = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(ev), &n);
    rd_kafka_resp_err_t error = n ? rd_kafka_topic_result_error(r[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
    if (error && error != RD_KAFKA_RESP_ERR_INVALID_PARTITIONS) /* that: another one of them was quicker */
        say(why, "topic %s cannot be given %" PRIu32 " partitions: %s", j->topic->name, j->n_parts, rd_kafka_err2str(error));
    else
        say(why, KAFKA_SOON "topic %s has got more partitions", j->topic->name);
    rd_kafka_event_destroy(ev);
    return -1;
}

static int look_at_partitions(const struct job *j, char *why)
{
    const struct rd_kafka_metadata *m = NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(j->topic->client->producer, 0, j->topic->out, &m, WAIT_MS);
    if (error)
        return say(why, "looking at the topic: %s", rd_kafka_err2str(error));
    const rd_kafka_metadata_topic_t *t = m->topic_cnt == 1 ? &m->topics[0] : NULL;
    int r = 0, n_parts = t && !t->err ? t->partition_cnt : 0;
    if (!n_parts)
        r = refused(why, j, t ? t->err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    else if (n_parts > (int)j->n_parts)
        r = say(why, "topic %s has %d partitions, the stream has %" PRIu32 ": its `partitions` cannot be fewer", j->topic->name,
                n_parts, j->n_parts);
    for (int i = 0; r == 0 && i < n_parts; i++)
        if (t->partitions[i].replica_cnt < MIN_REPLICAS)
            r = say(why, "topic %s has %d replicas; with fewer than %d a confirmed message could be lost with a node",
                    j->topic->name, t->partitions[i].replica_cnt, MIN_REPLICAS);
    rd_kafka_metadata_destroy(m);
    return r == 0 && n_parts < (int)j->n_parts ? add_partitions(j, why) : r;
}

/* It could not be made, for lack of the right: it may be there all the same. */
static int look_at_theirs(const struct job *j, char *why)
{
    why_text found = "";
    int r = look_at_partitions(j, found);
    bool there = strncmp(found, KAFKA_SOON, strlen(KAFKA_SOON)) != 0;
    if (there)
        say(why, "%s", found);
    return r;
}

static int look_at_setting(const struct job *j, const char *name, const char *value, char *why)
{
    const char *topic = j->topic->name;
    if (!strcmp(name, "min.insync.replicas") && atoi(value) < 2)
        return say(why, "topic %s has min.insync.replicas = %s; with less than 2 a confirmed message could be lost with a node",
                   topic, value);
    if (!strcmp(name, "cleanup.policy") && strcmp(value, "delete") != 0)
        return say(why,
                   "topic %s has cleanup.policy = %s; a stream's topic has \"delete\", or records would go before they are taken",
                   topic, value);
    if ((!strcmp(name, "retention.ms") || !strcmp(name, "retention.bytes")) && strcmp(value, "-1") != 0)
        return say(why, "topic %s has %s = %s; a stream's topic has -1: the broker gives up what is too old (retention_s)", topic,
                   name, value);
    if (!strcmp(name, "unclean.leader.election.enable") && strcmp(value, "false") != 0)
        return say(why, "topic %s has unclean.leader.election.enable; with it confirmed messages could be lost", topic);
    if (!strcmp(name, "max.message.bytes") && strtoull(value, NULL, 10) < j->max_bytes)
        return say(why, "topic %s has max.message.bytes = %s; max_message_bytes of the stream needs %" PRIu64, topic, value,
                   j->max_bytes);
    return 0;
}

static int look_at_settings(const struct job *j, char *why)
{
    struct client *c = j->topic->client;
    rd_kafka_ConfigResource_t *res = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, j->topic->name);
    struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(c->producer, &res, 1, a.options, a.queue);
    rd_kafka_ConfigResource_destroy(res);
    rd_kafka_event_t *ev = ask_end(&a, "looking at the topic's settings", why);
    if (!ev)
        return -1;
    size_t n = 0, n_entries = 0;
    const rd_kafka_ConfigResource_t **v = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev), &n);
    rd_kafka_resp_err_t error = n ? rd_kafka_ConfigResource_error(v[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
    int r = error ? refused(why, j, error) : 0;
    const rd_kafka_ConfigEntry_t **entries = r == 0 ? rd_kafka_ConfigResource_configs(v[0], &n_entries) : NULL;
    for (size_t i = 0; r == 0 && i < n_entries; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        r = look_at_setting(j, rd_kafka_ConfigEntry_name(entries[i]), value ? value : "", why);
    }
    rd_kafka_event_destroy(ev);
    return r;
}

/* ---- offsets ---- */

/* Adds offset + 1 and the text. */
static int read_group(const struct job *j, const char *group, struct buf *out, char *why)
{
    struct client *c = j->topic->client;
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(parts, j->topic->name, (int32_t)j->topic->part);
    rd_kafka_ListConsumerGroupOffsets_t *q = rd_kafka_ListConsumerGroupOffsets_new(group, parts);
    struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
    rd_kafka_ListConsumerGroupOffsets(c->producer, &q, 1, a.options, a.queue);
    rd_kafka_ListConsumerGroupOffsets_destroy(q);
    rd_kafka_topic_partition_list_destroy(parts);
    rd_kafka_event_t *ev = ask_end(&a, "reading what is committed", why);
    if (!ev)
        return -1;
    size_t n = 0;
    const rd_kafka_group_result_t **v =
        rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(ev), &n);
    const rd_kafka_topic_partition_list_t *got = n ? rd_kafka_group_result_partitions(v[0]) : NULL;
    const rd_kafka_error_t *error = n ? rd_kafka_group_result_error(v[0]) : NULL;
    const rd_kafka_topic_partition_t *one = got && got->cnt ? &got->elems[0] : NULL;
    int r = 0;
    if (error || (one && one->err)) {
        r = say(why, "what group %s has committed cannot be read: %s", group,
                error ? rd_kafka_error_string(error) : rd_kafka_err2str(one->err));
    } else {
        bool any = one && one->offset >= 0;
        le_add_u64(out, any ? (uint64_t)one->offset + 1 : 0);
        le_add_u32(out, any ? (uint32_t)one->metadata_size : 0);
        buf_add(out, any && one->metadata ? one->metadata : "", any ? one->metadata_size : 0);
    }
    rd_kafka_event_destroy(ev);
    return r;
}

/* By the call that gives up after a while: rd_kafka_query_watermark_offsets waits for a leader that is gone. */
static rd_kafka_resp_err_t offset_of(const struct job *j, int64_t which, int64_t *ret)
{
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *one = rd_kafka_topic_partition_list_add(parts, j->topic->name, (int32_t)j->topic->part);
    one->offset = which;
    rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(j->topic->client->producer, parts, WAIT_MS);
    if (!error)
        error = one->err;
    if (!error && one->offset < 0)
        error = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    *ret = one->offset;
    rd_kafka_topic_partition_list_destroy(parts);
    return error;
}

static int look_at_end(const struct job *j, struct buf *out, char *why)
{
    int64_t first = 0, end = 0;
    rd_kafka_resp_err_t error = offset_of(j, RD_KAFKA_OFFSET_BEGINNING, &first);
    if (!error)
        error = offset_of(j, RD_KAFKA_OFFSET_END, &end);
    if (error)
        return refused(why, j, error);
    le_add_u64(out, (uint64_t)first);
    le_add_u64(out, (uint64_t)end);
    return 0;
}

static int look_at_groups(const struct job *j, struct buf *out, char *why)
{
    int r = look_at_end(j, out, why);
    le_add_u32(out, j->n_groups);
    for (uint32_t i = 0; r == 0 && i < j->n_groups; i++)
        r = read_group(j, j->groups[i], out, why);
    return r;
}

/* ---- the jobs ---- */

static void do_open(const struct job *j)
{
    AUTO_BUF struct buf b = {0}, rest = {0};
    why_text why = "";
    int r = look_for_kafka(j, why);
    if (r == 0)
        r = make_topic(j, why);
    if (r == MAY_NOT)
        r = look_at_theirs(j, why);
    else if (r == 0)
        r = look_at_partitions(j, why);
    if (r == 0)
        r = look_at_settings(j, why);
    if (r == 0)
        r = look_at_groups(j, &rest, why);
    kafka_frame_begin(&b, KAFKA_OPENED, j->topic->stream);
    kafka_frame_add_str(&b, r < 0 && !*why ? "it cannot be opened" : why);
    if (r == 0)
        buf_add(&b, rest.p, rest.n);
    frame_send(j->topic->client, &b);
}

/* NULL: there is no answer, or why is set. */
static rd_kafka_event_t *alter_offset(const struct job *j, char *why)
{
    struct client *c = j->topic->client;
    if (look_for_kafka(j, why) < 0)
        return NULL;
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *one = rd_kafka_topic_partition_list_add(parts, j->topic->name, (int32_t)j->topic->part);
    one->offset = (int64_t)j->offset;
    one->metadata = strdup(j->text); /* librdkafka frees it */
    one->metadata_size = strlen(j->text);
    rd_kafka_AlterConsumerGroupOffsets_t *q = rd_kafka_AlterConsumerGroupOffsets_new(j->groups[0], parts);
    struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS);
    rd_kafka_AlterConsumerGroupOffsets(c->producer, &q, 1, a.options, a.queue);
    rd_kafka_AlterConsumerGroupOffsets_destroy(q);
    rd_kafka_topic_partition_list_destroy(parts);
    return ask_end(&a, "committing", why);
}

static void do_commit(const struct job *j)
{
    AUTO_BUF struct buf b = {0};
    why_text why = "";
    size_t n = 0;
    rd_kafka_event_t *ev = alter_offset(j, why);
    const rd_kafka_group_result_t **v =
        ev ? rd_kafka_AlterConsumerGroupOffsets_result_groups(rd_kafka_event_AlterConsumerGroupOffsets_result(ev), &n) : NULL;
    const rd_kafka_error_t *error = n ? rd_kafka_group_result_error(v[0]) : NULL;
    const rd_kafka_topic_partition_list_t *got = n ? rd_kafka_group_result_partitions(v[0]) : NULL;
    if (error)
        say(why, "%s", rd_kafka_error_string(error));
    else if (got && got->cnt && got->elems[0].err)
        say(why, "%s", rd_kafka_err2str(got->elems[0].err));
    if (ev)
        rd_kafka_event_destroy(ev);
    kafka_frame_begin(&b, KAFKA_COMMITTED, j->topic->stream);
    kafka_frame_add_str(&b, j->groups[0]);
    kafka_frame_add_str(&b, why);
    frame_send(j->topic->client, &b);
}

static void give_up(const struct job *j, char *why)
{
    struct client *c = j->topic->client;
    if (look_for_kafka(j, why) < 0)
        return;
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(parts, j->topic->name, (int32_t)j->topic->part)->offset = (int64_t)j->offset;
    rd_kafka_DeleteRecords_t *q = rd_kafka_DeleteRecords_new(parts);
    struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_DELETERECORDS);
    rd_kafka_DeleteRecords(c->producer, &q, 1, a.options, a.queue);
    rd_kafka_DeleteRecords_destroy(q);
    rd_kafka_topic_partition_list_destroy(parts);
    rd_kafka_event_t *ev = ask_end(&a, "giving up records", why);
    const rd_kafka_topic_partition_list_t *got =
        ev ? rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(ev)) : NULL;
    if (got && got->cnt && got->elems[0].err)
        say(why, "%s", rd_kafka_err2str(got->elems[0].err));
    if (ev)
        rd_kafka_event_destroy(ev);
}

/* What is not given up now is another time. */
static void do_trim(const struct job *j)
{
    AUTO_BUF struct buf b = {0};
    why_text why = "";
    give_up(j, why);
    kafka_frame_begin(&b, KAFKA_TRIMMED, j->topic->stream);
    kafka_frame_add_str(&b, why);
    frame_send(j->topic->client, &b);
}

/* Where Kafka does not say, the next time will do. */
static void do_look(const struct job *j)
{
    AUTO_BUF struct buf b = {0};
    struct client *c = j->topic->client;
    why_text why = "";
    size_t n = 0;
    rd_kafka_event_t *ev = NULL;
    if (look_for_kafka(j, why) == 0) {
        rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new((int)j->n_parts);
        for (uint32_t i = 0; i < j->n_parts; i++)
            rd_kafka_topic_partition_list_add(parts, j->topic->name, (int32_t)i);
        rd_kafka_ListConsumerGroupOffsets_t *q = rd_kafka_ListConsumerGroupOffsets_new(j->groups[0], parts);
        struct asking a = ask_begin(c, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
        rd_kafka_ListConsumerGroupOffsets(c->producer, &q, 1, a.options, a.queue);
        rd_kafka_ListConsumerGroupOffsets_destroy(q);
        rd_kafka_topic_partition_list_destroy(parts);
        ev = ask_end(&a, "looking at what others keep", why);
    }
    const rd_kafka_group_result_t **v =
        ev ? rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(ev), &n) : NULL;
    const rd_kafka_topic_partition_list_t *got = n ? rd_kafka_group_result_partitions(v[0]) : NULL;
    kafka_frame_begin(&b, KAFKA_LOOKED, j->topic->stream);
    for (int i = 0; got && i < got->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &got->elems[i];
        if (p->err || p->offset < 0 || !p->metadata)
            continue;
        le_add_u32(&b, (uint32_t)p->partition);
        le_add_u32(&b, (uint32_t)p->metadata_size);
        buf_add(&b, p->metadata, p->metadata_size);
    }
    if (ev)
        rd_kafka_event_destroy(ev);
    frame_send(c, &b);
}

static void *work(void *arg)
{
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&queue.lock);
        while (!queue.first)
            pthread_cond_wait(&queue.more, &queue.lock);
        struct job *j = queue.first;
        queue.first = j->next;
        if (!queue.first)
            queue.last = &queue.first;
        pthread_mutex_unlock(&queue.lock);
        if (j->kind == OPEN)
            do_open(j);
        else if (j->kind == COMMIT)
            do_commit(j);
        else if (j->kind == LOOK)
            do_look(j);
        else
            do_trim(j);
        job_free(j);
    }
    return NULL;
}

int jobs_start(struct client *c)
{
    pthread_t thread;
    return -pthread_create(&thread, NULL, work, c);
}

static void push(struct job *j, bool ok)
{
    if (!ok) {
        job_free(j);
        return;
    }
    pthread_mutex_lock(&queue.lock);
    *queue.last = j;
    queue.last = &j->next;
    pthread_cond_signal(&queue.more);
    pthread_mutex_unlock(&queue.lock);
}

static struct job *job_new(enum kind kind, struct topic *t)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->kind = kind;
    j->topic = t;
    return j;
}

void jobs_open(struct topic *t, struct reader *r)
{
    struct job *j = job_new(OPEN, t);
    j->n_parts = read_u32(r);
    j->replicas = read_u32(r);
    j->max_bytes = read_u64(r) + SPARE_BYTES;
    j->max_bytes = j->max_bytes < LEAST_BYTES + SPARE_BYTES ? LEAST_BYTES + SPARE_BYTES : j->max_bytes;
    uint32_t n = read_u32(r);
    r->ok = r->ok && n <= MAX_GROUPS;
    j->groups = xcalloc(r->ok ? n + 1 : 1, sizeof *j->groups);
    while (r->ok && j->n_groups < n)
        j->groups[j->n_groups++] = read_str(r);
    push(j, r->ok);
}

void jobs_commit(struct topic *t, struct reader *r)
{
    struct job *j = job_new(COMMIT, t);
    j->groups = xcalloc(1, sizeof *j->groups);
    j->groups[j->n_groups++] = read_str(r);
    j->offset = read_u64(r);
    j->text = read_str(r);
    push(j, r->ok);
}

void jobs_trim(struct topic *t, struct reader *r)
{
    struct job *j = job_new(TRIM, t);
    j->offset = read_u64(r);
    push(j, r->ok);
}

void jobs_look(struct topic *t, struct reader *r)
{
    struct job *j = job_new(LOOK, t);
    j->groups = xcalloc(1, sizeof *j->groups);
    j->groups[j->n_groups++] = read_str(r);
    j->n_parts = read_u32(r);
    r->ok = r->ok && j->n_parts && j->n_parts <= MAX_GROUPS;
    push(j, r->ok);
}
