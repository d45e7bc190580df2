/* Whether the streams that are kept in Kafka reach it, and what of it does not keep the promise. The broker says so, since it is
 * the broker whose way counts. */
#include "doctor.h"

#include "base/mem.h"
#include "cli.h"

#include <string.h>
#include <sys/stat.h>

static bool any_stream(const struct conf *c)
{
    for (size_t t = 0; t < c->n_tenants; t++) {
        const struct conf_stream *s = c->tenants[t].streams.v;
        for (size_t i = 0; i < c->tenants[t].streams.n; i++)
            if (s[i].store == CONF_STORE_kafka)
                return true;
    }
    return false;
}

static void properties(struct doctor *d)
{
    const char *path = d->conf->platform.kafka.properties_file;
    struct stat st;
    if (!*path)
        return;
    bool there = stat(path, &st) == 0, closed = there && !(st.st_mode & 077);
    doctor_say(d, "kafka", path, closed ? "ok" : "failed",
               closed  ? "readable by its owner alone"
               : there ? "others than its owner may read it"
                       : "it is not there",
               closed ? NULL : "put the settings for TLS and SASL there, and chmod 600 it");
}

static const char *remedy_of(const char *why)
{
    if (strstr(why, "uthorization failed"))
        return "give its user the rights that docs/kafka.md lists (kafka-acls --add --allow-principal ...)";
    if (strstr(why, "min.insync.replicas") || strstr(why, "cleanup.policy") || strstr(why, "retention.") ||
        strstr(why, "unclean") || strstr(why, "max.message.bytes"))
        return "change the topic's setting with kafka-configs --alter --entity-type topics";
    if (strstr(why, "another broker is member"))
        return "give one of the two homes another kafka.member; `mysimbdp reload` has this one try again";
    if (strstr(why, "other brokers serve"))
        return "take `shared` out of the other homes, or stop them, first";
    if (strstr(why, "messages that this home has of its own"))
        return "let its apps take them; replay or drop its dead letters (`mysimbdp dead list`)";
    if (strstr(why, "cannot be fewer"))
        return "give the stream as many `partitions` as its topic has";
    if (strstr(why, "replica") || strstr(why, "nodes"))
        return "give Kafka at least three nodes, and the topic three replicas (kafka-reassign-partitions)";
    if (strstr(why, "another home"))
        return "give each home a kafka.prefix of its own";
    if (strstr(why, "kafka.prefix_before"))
        return "docs/kafka.md says what becomes of topics of another prefix";
    return "look whether Kafka's nodes run and this machine reaches them (kafka.brokers, kafka.properties_file); nothing that was "
           "confirmed is lost, and publishers send again";
}

static void stream(struct doctor *d, const bson_t *q)
{
    const char *why = json_get_str(q, "kafka", NULL);
    AUTO_FREE char *subject = xasprintf("%s/%s", json_get_str(q, "tenant_id", ""), json_get_str(q, "stream", ""));
    AUTO_FREE char *good = xasprintf("topic %s has its replicas and keeps what is confirmed", json_get_str(q, "topic", ""));
    doctor_say(d, "kafka", subject, why ? "failed" : "ok", why ? why : good, why ? remedy_of(why) : NULL);
}

void doctor_kafka(struct doctor *d)
{
    AUTO_BSON bson_t *doc = NULL;
    AUTO_FREE char *last = NULL;
    struct err e = {0};
    bson_iter_t it;
    bson_t q;
    if (!any_stream(d->conf))
        return;
    properties(d);
    if (cli_request_now(&d->h, "broker.sock", "{\"op\":\"queues\"}", &doc, &e) < 0) {
        doctor_say(d, "kafka", d->conf->platform.kafka.brokers, "unknown", "the broker does not run, and it alone talks to Kafka",
                   NULL);
        return;
    }
    if (!json_get_iter(doc, "queues", &it))
        return;
    while (json_next_doc(&it, &q)) {
        AUTO_FREE char *name = xasprintf("%s/%s", json_get_str(&q, "tenant_id", ""), json_get_str(&q, "stream", ""));
        bool seen = last && !strcmp(last, name);
        xstr_set(&last, name);
        if (!seen && !strcmp(json_get_str(&q, "store", ""), "kafka")) /* a stream has a line for each of its apps */
            stream(d, &q);
    }
}
