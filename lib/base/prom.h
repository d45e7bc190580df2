/* Figures as Prometheus reads them: its text format 0.0.4, or OpenMetrics 1.0 (prometheus.io/docs/instrumenting/exposition_formats,
 * openmetrics.io), which has exemplars. A family's samples stand together, below its head. A program may write only a part of what
 * is scraped; who puts the parts together ends it with PROM_END. No I/O. */
#ifndef SIMBDP_BASE_PROM_H
#define SIMBDP_BASE_PROM_H

#include "buf.h"

#include <stddef.h>

/* With it, a part of what a program tells stays far below what its readers take (front/keeper.h). */
#define PROM_PART_BYTES ((size_t)10 << 20)
#define PROM_END        "# EOF\n" /* of OpenMetrics; a comment in the other format */

enum prom_type { PROM_GAUGE, PROM_COUNTER, PROM_HISTOGRAM };

/* name: of a counter, it ends with _total; of what has a unit, with it (_seconds, _bytes), before _total. help: a sentence without
 * line feed and backslash. */
struct prom_family {
    const char *name;
    enum prom_type type;
    const char *help;
};

struct prom {
    struct buf *out;
    bool open_metrics;
    const struct prom_family *family;
    bool begun;
    size_t max_bytes; /* beyond, series are left out, and counted in n_left_out */
    size_t n_left_out;
    size_t from; /* where the part begins in `out` */
};

/* Begins a part behind what is in `out`. */
void prom_init(struct prom *p, struct buf *out, bool open_metrics, size_t max_bytes);
/* The samples that follow are of this family, which has to live as long. Without a sample, nothing is written of it. */
void prom_family(struct prom *p, const struct prom_family *f);

/* Adds a label to the text between a sample's braces. The value may be any text: what is not UTF-8 becomes U+FFFD. */
void prom_label(struct buf *labels, const char *name, const char *value);

/* labels: such a text; "" or NULL: none. A value that is not known (NaN) is left out. */
void prom_sample(struct prom *p, const char *labels, double value);

/* An observation to look at, by one label. */
struct prom_exemplar {
    const char *name, *value;
    double observed;
    int64_t wall_ms;
};

/* bounds: n upper bounds, as text and as numbers, rising; counts: n + 1, of which the last is of what lies above all. exemplar:
 * NULL for none; OpenMetrics alone has it. Nothing is written when nothing was counted. */
struct prom_bound {
    const char *text;
    double at;
};
void prom_histogram(struct prom *p, const char *labels, const struct prom_bound *bounds, size_t n, const uint64_t *counts,
                    double sum, const struct prom_exemplar *exemplar);

#endif
