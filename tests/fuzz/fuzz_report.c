/* Reports of instances, as JSON or BSON, and what windows make of them. */
#include "programs/monitor/report.h"
#include "programs/monitor/windows.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define NOW 1700000000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(double v)
{
    assert(isnan(v) || (v >= 0 && v <= 1e15));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct report r;
    struct err e = {0};
    enum report_refusal why = REPORT_N_REFUSALS;
    struct windows w = {0};
    struct windows_figures f;
    if (report_parse(data, size, NOW, &r, &why, &e) < 0) {
        assert(why < REPORT_N_REFUSALS && e.msg[0]);
        return 0;
    }
    check(r.processing_rate);
    check(r.throughput);
    check(r.average_s);
    check(r.messages);
    check(r.busy_s);
    assert(r.n_buckets <= 448 && memchr(r.error, 0, sizeof r.error) && memchr(r.instance, 0, sizeof r.instance));
    for (int i = 1; i < 4; i++)
        windows_take(&w, &r, *r.instance ? r.instance : "x", 2, 1000 * i, NOW, &why, &e);
    windows_figures(&w, 5000, &f);
    assert(isnan(f.messages_per_s) || f.messages_per_s >= 0);
    windows_fini(&w);
    return 0;
}
