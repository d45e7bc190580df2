/* Curves as characters: Unicode's block elements (U+2581 to U+2588), or ASCII where the locale has no UTF-8. */
#ifndef SIMBDP_TERM_PLOT_H
#define SIMBDP_TERM_PLOT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether this process' locale (setlocale) shows UTF-8. */
bool plot_has_blocks(void);
/* The largest of the values, at least 0; NaN counts for nothing. */
double plot_top(const double *v, size_t n);
/* Makes `to` values of n: means where there are fewer, else each as often as it takes. NaN: none of them is known. */
void plot_resample(const double *v, size_t n, double *ret, size_t to);
/* Appends one of `height` rows (0 is the lowest) of the curve of n values, whose largest is `top`: n characters of one column
 * each. What is not known is blank; zero is not. */
void plot_row(struct buf *out, const double *v, size_t n, double top, size_t height, size_t row, bool blocks);

#endif
