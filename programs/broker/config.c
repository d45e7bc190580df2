#include "config.h"
#include "auth.h"
#include "consume.h"
#include "deliver.h"
#include "kafka.h"
#include "parts.h"
#include "spans.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* ---- the broker's records of what is in the store ---- */

static struct broker_sub *record_of_sub(struct broker_stream *st, struct sub *sub)
{
    struct broker_sub *bs = sub_tag(sub);
    if (!bs) {
        uint64_t acked = sub_tally(sub)->v[TALLY_MESSAGES];
        bs = xcalloc(1, sizeof *bs);
        *bs = (struct broker_sub){.sub = sub, .stream = st, .whole = bs, .due_ms = -1, .rate_seen = acked};
        bs->minute.begun_ms = clk_now_ms();
        bs->minute.acked = acked;
        sub_set_tag(sub, bs);
    }
    return bs;
}

/* And of its subscriptions. */
static struct broker_stream *record_of(struct broker *b, struct stream *stream)
{
    struct broker_stream *st = stream_tag(stream);
    size_t i = 0, n;
    if (!st) {
        const char *full = stream_name(stream), *slash = strchr(full, '/');
        AUTO_FREE char *tenant = xstrndup(full, (size_t)(slash - full));
        uint32_t part = parts_of_name(full, &n);
        AUTO_FREE char *first = xstrndup(full, n);
        st = xcalloc(1, sizeof *st);
        *st = (struct broker_stream){.b = b, .stream = stream, .tenant = auth_tenant(b, tenant)};
        st->rate_seen = stream_tally(stream)->v[TALLY_MESSAGES];
        stream_set_tag(stream, st);
        struct stream *whole = part && part < CONF_MAX_PARTITIONS ? streams_find(b->streams, first) : NULL;
        st->name = xstrdup((part && !whole ? full : first) + (slash + 1 - full));
        parts_add(whole ? record_of(b, whole) : st, st, whole ? part : 0);
    }
    for (struct sub *s; (s = stream_next_sub(stream, &i));)
        record_of_sub(st, s);
    parts_add(st->whole, st, st->part); /* its subscriptions, too */
    return st;
}

void config_forget(struct broker_stream *st)
{
    size_t i = 0;
    kafka_forget_stream(st);
    for (struct sub *s; (s = stream_next_sub(st->stream, &i));) {
        deliver_forget(sub_tag(s));
        kafka_forget_sub(sub_tag(s));
        free(sub_tag(s));
        sub_set_tag(s, NULL);
    }
    spans_forget(st);
    stream_set_tag(st->stream, NULL);
    breaches_fini(&st->breaches);
    parts_remove(st);
    free(st->name);
    free(st);
}

/* ---- the configuration ---- */

/* A partition whose first one was not in the store (it was damaged, or a copy) has passed for a stream of its own. */
static void tie(struct broker_stream *whole, struct broker_stream *st, uint32_t part)
{
    if (st->whole == whole)
        return;
    free(st->parts);
    st->parts = NULL;
    st->n_parts = 0;
    xstr_set(&st->name, whole->name);
    parts_add(whole, st, part);
}

/* One of its partitions. */
static int apply_part(struct broker *b, const struct conf_tenant *t, const struct conf_stream *c, struct broker_stream *whole,
                      size_t part, struct err *e)
{
    char full[WIRE_MAX_NAME + 1], number[16];
    struct stream *stream;
    const struct conf_stream_app *a = t->stream_apps.v;
    snprintf(number, sizeof number, "#%zu", part);
    snprintf(full, sizeof full, "%s/%s%s", t->id, c->name, part ? number : "");
    int r = streams_add(b->streams, full, &stream);
    if (r < 0)
        return err_sys(e, r, "cannot make stream %s", full);
    struct broker_stream *st = record_of(b, stream);
    tie(whole ? whole : st, st, (uint32_t)part);
    st->conf = *c;
    st->configured = true;
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        struct sub *s;
        if (strcmp(a[i].stream, c->name))
            continue;
        r = stream_add_sub(stream, a[i].app, &s);
        if (r < 0)
            return err_sys(e, r, "cannot make the subscription of app %s", a[i].app);
        record_of_sub(st, s)->configured = true;
    }
    record_of(b, stream);
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(stream, &i));)
        sub_configure(s, c->lease_ms, (int)c->max_deliveries);
    return 0;
}

/* Partitions that are there stay: where a publisher's messages go is decided by how many there are. */
static int apply_stream(struct broker *b, const struct conf_tenant *t, const struct conf_stream *c, struct err *e)
{
    char full[WIRE_MAX_NAME + 1];
    int r = apply_part(b, t, c, NULL, 0, e);
    if (r < 0)
        return r;
    snprintf(full, sizeof full, "%s/%s", t->id, c->name);
    struct broker_stream *whole = stream_tag(streams_find(b->streams, full));
    size_t n = whole->n_parts > (size_t)c->partitions ? whole->n_parts : (size_t)c->partitions, before = whole->n_parts;
    if (n > (size_t)c->partitions)
        log_warn("partitions", t->id, NULL,
                 "stream %s has %zu partitions, and cannot have fewer: `partitions` = %lld is passed over", c->name, n,
                 (long long)c->partitions);
    for (size_t part = 1; r == 0 && part < n; part++)
        r = apply_part(b, t, c, whole, part, e);
    if (r == 0 && n > before)
        consume_join(b, whole);
    return r;
}

int config_apply(struct broker *b, struct conf *c, struct err *e)
{
    size_t i = 0;
    int r = 0;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        struct broker_stream *st = record_of(b, stream);
        size_t k = 0;
        st->configured = false;
        st->conf =
            (struct conf_stream){.retention_s = -1, .dead_retention_s = -1, .dedup_window_s = 600, .on_breach = ON_BREACH_refuse};
        for (struct sub *s; (s = stream_next_sub(stream, &k));)
            record_of_sub(st, s)->configured = false;
    }
    for (size_t t = 0; r == 0 && t < c->n_tenants; t++) {
        const struct conf_stream *v = c->tenants[t].streams.v;
        auth_tenant(b, c->tenants[t].id);
        for (size_t k = 0; r == 0 && k < c->tenants[t].streams.n; k++)
            r = apply_stream(b, &c->tenants[t], &v[k], e);
    }
    if (c != b->conf)
        conf_free(b->conf);
    b->conf = c;
    streams_commit(b->streams, true);
    kafka_apply(b);
    deliver_want_all(b);
    return r;
}

void config_limit_messages(struct broker *b)
{
    int64_t most = WIRE_MIN_REQUEST_BYTES;
    for (size_t t = 0; t < b->conf->n_tenants; t++) {
        const struct conf_stream *v = b->conf->tenants[t].streams.v;
        for (size_t k = 0; k < b->conf->tenants[t].streams.n; k++)
            most = v[k].max_message_bytes > most ? v[k].max_message_bytes : most;
    }
    most += most / 2; /* so that what is a little too large is told so */
    znet_limit(&b->net, (size_t)most);
}

int config_reload(struct broker *b, struct err *e)
{
    struct conf *c = NULL;
    int r = keeper_conf(b->keeper, &c, e);
    if (r == 0) {
        auth_read_tenants(b);
        r = config_apply(b, c, e);
    }
    if (r < 0)
        log_error("reload", NULL, NULL, "%s; the configuration stays as it was", e->msg);
    else
        log_info("reloaded", NULL, NULL, "%zu tenants", b->conf->n_tenants);
    if (r == 0)
        config_limit_messages(b);
    return r;
}
