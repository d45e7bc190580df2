#include "figures.h"

#include <stdio.h>
#include <string.h>

/* Upper bounds of the histogram, in milliseconds. */
static const int bounds[] = {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10000};
enum { N_BOUNDS = sizeof bounds / sizeof *bounds, N_CLASSES = 6 };

static struct {
    uint64_t by_class[N_CLASSES], below[N_BOUNDS], n;
    uint64_t us, bytes;
} counts;

void figures_count(unsigned status, int64_t us, int64_t bytes)
{
    counts.by_class[status / 100 < N_CLASSES ? status / 100 : 0]++;
    for (int i = 0; i < N_BOUNDS; i++)
        counts.below[i] += us <= bounds[i] * INT64_C(1000);
    counts.n++;
    counts.us += (uint64_t)us;
    counts.bytes += (uint64_t)bytes;
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_own(struct buf *out)
{
    head(out, "mysimbdp_http_requests_total", "counter", "Requests that were answered, by class of status.");
    for (int i = 1; i < N_CLASSES; i++)
        buf_addf(out, "mysimbdp_http_requests_total{class=\"%dxx\"} %llu\n", i, (unsigned long long)counts.by_class[i]);
    head(out, "mysimbdp_http_body_bytes_total", "counter", "Bytes of requests' bodies.");
    buf_addf(out, "mysimbdp_http_body_bytes_total %llu\n", (unsigned long long)counts.bytes);
    head(out, "mysimbdp_http_request_seconds", "histogram", "From a request's first line to its answer.");
    for (int i = 0; i < N_BOUNDS; i++)
        buf_addf(out, "mysimbdp_http_request_seconds_bucket{le=\"%g\"} %llu\n", bounds[i] / 1000.0,
                 (unsigned long long)counts.below[i]);
    buf_addf(out, "mysimbdp_http_request_seconds_bucket{le=\"+Inf\"} %llu\n", (unsigned long long)counts.n);
    buf_addf(out, "mysimbdp_http_request_seconds_sum %.6f\nmysimbdp_http_request_seconds_count %llu\n", (double)counts.us / 1e6,
             (unsigned long long)counts.n);
}

/* Ids of tenants need no escaping (conf_valid_id). */
static void write_tenants(struct buf *out, const bson_t *status, const char *key, const char *name, const char *help)
{
    bson_iter_t it;
    bson_t one;
    head(out, name, "gauge", help);
    if (json_get_iter(status, "tenants", &it))
        while (json_next_doc(&it, &one))
            buf_addf(out, "%s{tenant=\"%s\"} %lld\n", name, json_get_str(&one, "tenant_id", ""),
                     (long long)json_get_i64(&one, key, 0));
}

void figures_write(struct buf *out, const char *const *programs, const bool *up, size_t n, const bson_t *status)
{
    write_own(out);
    head(out, "mysimbdp_program_up", "gauge", "Whether a program of the platform is connected.");
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "mysimbdp_program_up{program=\"%s\"} %d\n", programs[i], up[i]);
    if (!status)
        return;
    head(out, "mysimbdp_database_up", "gauge", "Whether MongoDB answers.");
    buf_addf(out, "mysimbdp_database_up %d\n", !strcmp(json_get_str(status, "database", ""), "up"));
    head(out, "mysimbdp_intake_open", "gauge", "Whether files are taken in.");
    buf_addf(out, "mysimbdp_intake_open %d\n", !strcmp(json_get_str(status, "intake", ""), "open"));
    write_tenants(out, status, "unfinished", "mysimbdp_files_unfinished", "Files that have no verdict yet.");
    write_tenants(out, status, "queued", "mysimbdp_files_queued", "Files that wait for a run.");
    write_tenants(out, status, "running", "mysimbdp_runs", "Batch runs that are going.");
}
