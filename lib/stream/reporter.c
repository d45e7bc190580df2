#include "reporter.h"
#include "link.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/hist.h"
#include "base/mem.h"
#include "base/mem_try.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { SUB_BITS = 4, SLOTS = 64 << SUB_BITS, SEND_QUEUE = 16, LINGER_MS = 100, MAX_ERROR = 200 };

struct reporter {
    void *zmq, *socket;
    const char *tenant, *app, *instance;
    char boot[17];
    int64_t interval_us, due_us, begun_ms, from_ms, seq;
    uint64_t messages, bytes, errors, busy_us;
    uint64_t sent_messages, sent_bytes, sent_busy_us;
    /* Times by their highest bits: cheap to count, and made into a histogram's buckets when a report is due. */
    uint64_t slots[SLOTS];
    char error[MAX_ERROR + 1]; /* the last one since the last report */
};

static unsigned slot_of(uint64_t us)
{
    if (us < 1 << SUB_BITS)
        return (unsigned)us;
    unsigned shift = 63 - (unsigned)__builtin_clzll(us) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (unsigned)(us >> shift & ((1 << SUB_BITS) - 1));
}

static double time_of(unsigned slot)
{
    if (slot < 1 << SUB_BITS)
        return slot;
    unsigned shift = (slot >> SUB_BITS) - 1, low = (slot & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS);
    return ((double)low + 0.5) * ldexp(1, (int)shift);
}

static bool set_up(struct reporter *r, const char *endpoint)
{
    struct link_keys keys = {getenv("SIMBDP_MONITOR_SERVER_KEY"), getenv("SIMBDP_CURVE_PUBLIC_KEY"),
                             getenv("SIMBDP_CURVE_SECRET_KEY")};
    int queue = SEND_QUEUE, linger = LINGER_MS, one = 1;
    r->zmq = zmq_ctx_new();
    r->socket = r->zmq ? zmq_socket(r->zmq, ZMQ_PUSH) : NULL;
    if (!r->socket)
        return false;
    zmq_setsockopt(r->socket, ZMQ_SNDHWM, &queue, sizeof queue);
    zmq_setsockopt(r->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(r->socket, ZMQ_IMMEDIATE, &one, sizeof one); /* nothing is kept for a monitor that is not there */
    return link_use_keys(r->socket, &keys, NULL) == 0 && zmq_connect(r->socket, endpoint) == 0;
}

struct reporter *reporter_open(void)
{
    const char *endpoint = getenv("ZMQ_MONITOR_ENDPOINT"), *interval = getenv("SIMBDP_REPORT_INTERVAL_S");
    uint64_t boot;
    if (!endpoint || !*endpoint)
        return NULL;
    struct reporter *r = xcalloc(1, sizeof *r);
    double s = interval ? strtod(interval, NULL) : 1;
    r->tenant = getenv("SIMBDP_TENANT_ID");
    r->app = getenv("SIMBDP_APP");
    r->instance = getenv("SIMBDP_INSTANCE_ID");
    r->interval_us = (int64_t)((s >= 0.05 && s < 3600 ? s : 1) * 1e6);
    r->begun_ms = r->from_ms = clk_wall_ms();
    if (sodium_init() < 0 || !set_up(r, endpoint)) {
        reporter_close(r);
        return NULL;
    }
    randombytes_buf(&boot, sizeof boot);
    snprintf(r->boot, sizeof r->boot, "%016llx", (unsigned long long)boot);
    return r;
}

static void add_histogram(const struct reporter *r, struct buf *b)
{
    uint64_t counts[HIST_BUCKETS] = {0};
    for (unsigned i = 0; i < SLOTS; i++)
        if (r->slots[i])
            counts[hist_bucket(time_of(i))] += r->slots[i];
    json_begin(b, "histogram", '[');
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        if (counts[i]) {
            json_begin(b, NULL, '[');
            json_i64(b, NULL, i);
            json_i64(b, NULL, (int64_t)counts[i]);
            json_end(b, ']');
        }
    json_end(b, ']');
}

static void send_report(struct reporter *r)
{
    AUTO_BUF struct buf b = {0};
    int64_t now = clk_wall_ms();
    double s = (double)(now - r->from_ms) / 1000, n = (double)(r->messages - r->sent_messages),
           busy_s = (double)(r->busy_us - r->sent_busy_us) / 1e6;
    json_begin(&b, NULL, '{');
    json_begin(&b, "metrics", '{');
    json_f64(&b, "processing_rate", s > 0 ? n / s : 0);
    json_f64(&b, "throughput", s > 0 ? (double)(r->bytes - r->sent_bytes) / s : 0);
    json_f64(&b, "average_ingestion_time", n > 0 ? busy_s / n : NAN);
    json_f64(&b, "total_ingestion_data_size", (double)r->bytes / 1e6);
    json_i64(&b, "total_number_of_messages", (int64_t)r->messages);
    json_end(&b, '}');
    json_begin(&b, "timeframe", '{');
    json_i64(&b, "ingestion_start_time", r->begun_ms);
    json_i64(&b, "measurement_start_time", r->from_ms);
    json_i64(&b, "measurement_end_time", now);
    json_end(&b, '}');
    json_begin(&b, "origin", '{');
    json_str(&b, "streaming_app_id", r->app);
    json_str(&b, "tenant_id", r->tenant);
    json_end(&b, '}');
    json_str(&b, "instance_id", r->instance);
    json_str(&b, "boot_id", r->boot);
    json_i64(&b, "seq", r->seq++);
    if (*r->error)
        json_str(&b, "error", r->error);
    json_begin(&b, "counters", '{');
    json_i64(&b, "messages", (int64_t)r->messages);
    json_i64(&b, "bytes", (int64_t)r->bytes);
    json_i64(&b, "errors", (int64_t)r->errors);
    json_f64(&b, "busy_s", (double)r->busy_us / 1e6);
    add_histogram(r, &b);
    json_end(&b, '}');
    json_end(&b, '}');
    r->from_ms = now;
    r->sent_messages = r->messages;
    r->sent_bytes = r->bytes;
    r->sent_busy_us = r->busy_us;
    if (zmq_send(r->socket, b.p, b.n, ZMQ_DONTWAIT) >= 0)
        r->error[0] = 0;
}

static void send_last(void *arg)
{
    send_report(arg);
}

void reporter_close(struct reporter *r)
{
    if (!r)
        return;
    if (r->boot[0])
        mem_try(send_last, r); /* it is closed either way */
    if (r->socket)
        zmq_close(r->socket);
    link_end_context(r->zmq);
    free(r);
}

void reporter_done(struct reporter *r, uint64_t n, uint64_t bytes, int64_t busy_us)
{
    if (!r || !n)
        return;
    uint64_t us = busy_us > 0 ? (uint64_t)busy_us : 0;
    r->messages += n;
    r->bytes += bytes;
    r->busy_us += us;
    r->slots[slot_of(us / n)] += n;
}

void reporter_error(struct reporter *r, const char *what)
{
    if (!r)
        return;
    r->errors++;
    snprintf(r->error, sizeof r->error, "%s", what);
}

int64_t reporter_tick(struct reporter *r, int64_t now_us)
{
    if (!r)
        return INT64_MAX;
    if (now_us >= r->due_us) {
        if (r->due_us)
            send_report(r);
        r->due_us = now_us + r->interval_us;
    }
    return r->due_us;
}
