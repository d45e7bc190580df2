/* A family's samples stand together, so what is known of each stream and subscription is gathered first. What waits
 * and how old it is the monitor tells, by app. */
#include "figures.h"
#include "kafka.h"
#include "parts.h"

#include "base/mem.h"
#include "base/prom.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct stream_row {
    const struct broker_stream *st;
    char *labels;
    struct stream_figures f;
};

struct sub_row {
    const struct broker_sub *bs;
    char *labels;
    struct sub_figures f;
};

struct rows {
    struct stream_row *streams;
    struct sub_row *subs;
    size_t n_streams, n_subs;
};

/* ---- what is known ---- */

static void add_sub(struct rows *rows, struct sub *s, const struct buf *of_stream)
{
    struct buf labels = {0};
    buf_add(&labels, of_stream->p, of_stream->n);
    prom_label(&labels, "app", sub_name(s));
    rows->subs = xgrow(rows->subs, rows->n_subs, sizeof *rows->subs);
    struct sub_row *r = &rows->subs[rows->n_subs++];
    *r = (struct sub_row){.bs = sub_tag(s), .labels = labels.p};
    sub_figures(s, &r->f);
}

static void gather(struct broker *b, struct rows *rows)
{
    size_t i = 0;
    for (struct stream *v; (v = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(v);
        struct buf labels = {0};
        size_t k = 0;
        prom_label(&labels, "tenant", st->tenant->id);
        prom_label(&labels, "stream", st->name);
        if (st->whole->n_parts > 1) {
            char part[16];
            snprintf(part, sizeof part, "%" PRIu32, st->part);
            prom_label(&labels, "partition", part);
        }
        rows->streams = xgrow(rows->streams, rows->n_streams, sizeof *rows->streams);
        struct stream_row *r = &rows->streams[rows->n_streams++];
        *r = (struct stream_row){.st = st, .labels = labels.p};
        stream_figures(v, &r->f);
        for (struct sub *s; (s = stream_next_sub(v, &k));)
            add_sub(rows, s, &labels);
    }
}

static void rows_fini(struct rows *rows)
{
    for (size_t i = 0; i < rows->n_streams; i++)
        free(rows->streams[i].labels);
    for (size_t i = 0; i < rows->n_subs; i++)
        free(rows->subs[i].labels);
    free(rows->streams);
    free(rows->subs);
}

/* ---- streams ---- */

static double counted(const struct stream_row *r, enum tally_count c)
{
    return (double)stream_tally(r->st->stream)->v[c];
}

static double published(const struct stream_row *r)
{
    return counted(r, TALLY_MESSAGES);
}

static double published_bytes(const struct stream_row *r)
{
    return counted(r, TALLY_BYTES);
}

static double refused(const struct stream_row *r)
{
    return counted(r, TALLY_REFUSED);
}

static double messages(const struct stream_row *r)
{
    return (double)(r->f.next_seq - r->f.first_seq);
}

static double stored_bytes(const struct stream_row *r)
{
    return (double)r->f.bytes;
}

static double cut_off(const struct stream_row *r)
{
    return r->st->whole->cut_off != 0;
}

static const struct {
    struct prom_family family;
    double (*of)(const struct stream_row *r);
} of_streams[] = {
    {{"mysimbdp_stream_published_messages_total", PROM_COUNTER, "Messages that were published."}, published},
    {{"mysimbdp_stream_published_bytes_total", PROM_COUNTER, "Bytes of the messages that were published."}, published_bytes},
    {{"mysimbdp_stream_refused_requests_total", PROM_COUNTER, "Requests to publish that were refused."}, refused},
    {{"mysimbdp_stream_messages", PROM_GAUGE, "Messages that the stream keeps."}, messages},
    {{"mysimbdp_stream_stored_bytes", PROM_GAUGE, "Bytes on disk, with what is kept for dead letters."}, stored_bytes},
    {{"mysimbdp_stream_cut_off", PROM_GAUGE, "Whether nothing may be published, after too many breaches of its limits."}, cut_off},
};

/* ---- subscriptions ---- */

static double done(const struct sub_row *r, enum tally_count c)
{
    return (double)sub_tally(r->bs->sub)->v[c];
}

static double acked(const struct sub_row *r)
{
    return done(r, TALLY_MESSAGES);
}

static double acked_bytes(const struct sub_row *r)
{
    return done(r, TALLY_BYTES);
}

static double rows_of(const struct sub_row *r)
{
    return done(r, TALLY_ROWS);
}

static double failed(const struct sub_row *r)
{
    return done(r, TALLY_ERRORS);
}

static double died(const struct sub_row *r)
{
    return done(r, TALLY_DEAD);
}

static double redelivered(const struct sub_row *r)
{
    return (double)r->f.redelivered;
}

static double expired(const struct sub_row *r)
{
    return (double)r->f.expired;
}

static double lost(const struct sub_row *r)
{
    return (double)r->f.lost;
}

static double consumers(const struct sub_row *r)
{
    return (double)r->f.n_consumers;
}

static const struct {
    struct prom_family family;
    double (*of)(const struct sub_row *r);
} of_subs[] = {
    {{"mysimbdp_subscription_acked_messages_total", PROM_COUNTER, "Messages that an app acknowledged."}, acked},
    {{"mysimbdp_subscription_acked_bytes_total", PROM_COUNTER, "Bytes of the messages that an app acknowledged."}, acked_bytes},
    {{"mysimbdp_subscription_rows_total", PROM_COUNTER, "Rows of the messages that an app acknowledged."}, rows_of},
    {{"mysimbdp_subscription_failed_deliveries_total", PROM_COUNTER, "Deliveries that ended without an ack."}, failed},
    {{"mysimbdp_subscription_died_messages_total", PROM_COUNTER, "Messages that became dead letters."}, died},
    {{"mysimbdp_subscription_redelivered_messages_total", PROM_COUNTER, "Messages handed out again since the broker started."},
     redelivered},
    {{"mysimbdp_subscription_expired_messages_total", PROM_COUNTER,
      "Messages that were too old before they were settled, since the broker started."},
     expired},
    {{"mysimbdp_subscription_lost_messages_total", PROM_COUNTER,
      "Messages that could not be read from the disk, since the broker started."},
     lost},
    {{"mysimbdp_subscription_consumers", PROM_GAUGE, "Consumers that are connected."}, consumers},
};

static const struct prom_family ack_seconds = {"mysimbdp_subscription_ack_seconds", PROM_HISTOGRAM,
                                               "From a message's delivery to its ack, since the broker started."};

/* As sub_lasted_ms. */
static const struct prom_bound bounds[SUB_LASTED] = {
    {"0.001", 0.001}, {"0.005", 0.005}, {"0.01", 0.01}, {"0.025", 0.025}, {"0.05", 0.05}, {"0.1", 0.1},
    {"0.25", 0.25},   {"0.5", 0.5},     {"1.0", 1},     {"2.5", 2.5},     {"10.0", 10},   {"60.0", 60},
};

/* ---- the broker ---- */

static void write_own(const struct broker *b, struct prom *p)
{
    static const struct prom_family peers = {"mysimbdp_broker_peers", PROM_GAUGE, "Publishers and consumers that are connected."},
                                    requests = {"mysimbdp_broker_requests_total", PROM_COUNTER,
                                                "Requests since the broker started."},
                                    refusals = {"mysimbdp_broker_refused_requests_total", PROM_COUNTER,
                                                "Of them, those that were refused."},
                                    open = {"mysimbdp_broker_publishing_open", PROM_GAUGE,
                                            "Whether messages are taken; 0: the disk is full."},
                                    stopped = {"mysimbdp_broker_kafka_streams_stopped", PROM_GAUGE,
                                               "Streams in Kafka whose messages are not taken or not confirmed now."},
                                    spans = {"mysimbdp_broker_spans_total", PROM_COUNTER, "Spans of messages that were told."},
                                    dropped = {"mysimbdp_broker_spans_dropped_total", PROM_COUNTER,
                                               "Those that were too many, and messages whose span was not followed for that."};
    prom_family(p, &peers);
    prom_sample(p, NULL, (double)b->sessions.n);
    prom_family(p, &requests);
    prom_sample(p, NULL, (double)b->n_requests);
    prom_family(p, &refusals);
    prom_sample(p, NULL, (double)b->n_refused);
    prom_family(p, &open);
    prom_sample(p, NULL, !streams_full(b->streams));
    prom_family(p, &stopped);
    prom_sample(p, NULL, (double)kafka_n_stopped(b));
    prom_family(p, &spans);
    prom_sample(p, NULL, (double)b->n_spans_told);
    prom_family(p, &dropped);
    prom_sample(p, NULL, (double)b->n_spans_dropped);
}

size_t figures_write(struct broker *b, struct buf *out, bool open_metrics)
{
    struct rows rows = {0};
    struct prom p;
    prom_init(&p, out, open_metrics, PROM_PART_BYTES);
    gather(b, &rows);
    write_own(b, &p);
    for (size_t k = 0; k < sizeof of_streams / sizeof *of_streams; k++) {
        prom_family(&p, &of_streams[k].family);
        for (size_t i = 0; i < rows.n_streams; i++)
            prom_sample(&p, rows.streams[i].labels, of_streams[k].of(&rows.streams[i]));
    }
    for (size_t k = 0; k < sizeof of_subs / sizeof *of_subs; k++) {
        prom_family(&p, &of_subs[k].family);
        for (size_t i = 0; i < rows.n_subs; i++)
            prom_sample(&p, rows.subs[i].labels, of_subs[k].of(&rows.subs[i]));
    }
    prom_family(&p, &ack_seconds);
    for (size_t i = 0; i < rows.n_subs; i++) {
        const struct sub_lasted *l = sub_lasted(rows.subs[i].bs->sub);
        prom_histogram(&p, rows.subs[i].labels, bounds, SUB_LASTED, l->n, (double)l->sum_ms / 1000, NULL);
    }
    rows_fini(&rows);
    return p.n_left_out;
}
