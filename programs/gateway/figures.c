#include "figures.h"

#include "base/prom.h"

#include <stdio.h>

static const struct prom_bound bounds[] = {
    {"0.001", 0.001}, {"0.002", 0.002}, {"0.005", 0.005}, {"0.01", 0.01}, {"0.025", 0.025}, {"0.05", 0.05},
    {"0.1", 0.1},     {"0.25", 0.25},   {"0.5", 0.5},     {"1.0", 1},     {"2.5", 2.5},     {"10.0", 10},
};
enum { N_BOUNDS = sizeof bounds / sizeof *bounds, N_CLASSES = 6 };

static struct {
    uint64_t by_class[N_CLASSES], took[N_BOUNDS + 1];
    uint64_t us, bytes;
} counts;

void figures_count(unsigned status, int64_t us, int64_t bytes)
{
    unsigned i = 0;
    while (i < N_BOUNDS && (double)us > bounds[i].at * 1e6)
        i++;
    counts.by_class[status / 100 < N_CLASSES ? status / 100 : 0]++;
    counts.took[i]++;
    counts.us += (uint64_t)us;
    counts.bytes += (uint64_t)bytes;
}

void figures_write(struct buf *out, bool open_metrics)
{
    static const struct prom_family requests = {"mysimbdp_http_requests_total", PROM_COUNTER,
                                                "Requests that were answered, by class of status."},
                                    bytes = {"mysimbdp_http_body_bytes_total", PROM_COUNTER, "Bytes of requests' bodies."},
                                    seconds = {"mysimbdp_http_request_seconds", PROM_HISTOGRAM,
                                               "From a request's first line to its answer."};
    struct prom p;
    prom_init(&p, out, open_metrics, PROM_PART_BYTES);
    prom_family(&p, &requests);
    for (int i = 1; i < N_CLASSES; i++) {
        char label[16];
        snprintf(label, sizeof label, "class=\"%dxx\"", i);
        prom_sample(&p, label, (double)counts.by_class[i]);
    }
    prom_family(&p, &bytes);
    prom_sample(&p, NULL, (double)counts.bytes);
    prom_family(&p, &seconds);
    prom_histogram(&p, NULL, bounds, N_BOUNDS, counts.took, (double)counts.us / 1e6, NULL);
}
