#include "plot.h"

#include <langinfo.h>
#include <math.h>
#include <string.h>

enum { LEVELS = 8 };

bool plot_has_blocks(void)
{
    return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

double plot_top(const double *v, size_t n)
{
    double top = 0;
    for (size_t i = 0; i < n; i++)
        top = v[i] > top ? v[i] : top;
    return top;
}

void plot_resample(const double *v, size_t n, double *ret, size_t to)
{
    for (size_t i = 0; i < to; i++) {
        const size_t from = i * n / to, next = (i + 1) * n / to, end = next > from ? next : from + 1;
        double sum = 0;
        size_t known = 0;
        for (size_t k = from; k < end && k < n; k++)
            if (!isnan(v[k])) {
                sum += v[k];
                known++;
            }
        ret[i] = known ? sum / (double)known : NAN;
    }
}

/* Of LEVELS * height; 0: not known. What is more than zero is higher than zero. */
static int level_of(double v, double top, int levels)
{
    if (isnan(v))
        return 0;
    if (!(v > 0) || !(top > 0))
        return 1;
    const int step = v < top ? (int)(v / top * (levels - 1)) : levels;
    return 2 + step < levels ? 2 + step : levels;
}

void plot_row(struct buf *out, const double *v, size_t n, double top, size_t height, size_t row, bool blocks)
{
    static const char *const block[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {" ", "_", ".", ":", "-", "=", "+", "*", "#"};
    buf_add(out, "", 0);
    for (size_t i = 0; i < n; i++) {
        const int level = level_of(v[i], top, LEVELS * (int)height) - LEVELS * (int)row;
        buf_adds(out, (blocks ? block : ascii)[level < 0 ? 0 : level > LEVELS ? LEVELS : level]);
    }
}
