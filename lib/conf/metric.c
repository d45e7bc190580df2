#include "metric.h"

#include <string.h>

static const struct {
    const char *name;
    bool is_text;
    const char *help;
} metrics[] = {
#define X(name, is_text, help) {#name, is_text, help},
    METRICS(X)
#undef X
};

const char *metric_name(enum metric m)
{
    return metrics[m].name;
}

bool metric_is_text(enum metric m)
{
    return metrics[m].is_text;
}

const char *metric_help(enum metric m)
{
    return metrics[m].help;
}

int metric_find(const char *name, size_t n)
{
    for (int m = 0; m < N_METRICS; m++)
        if (strlen(metrics[m].name) == n && !memcmp(metrics[m].name, name, n))
            return m;
    return -1;
}

const char *metric_trend_name(enum metric_trend c)
{
    static const char *const names[] = {"in_per_s", "acked_per_s", "backlog", "instances"};
    return names[c];
}
