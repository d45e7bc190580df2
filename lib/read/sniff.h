/* Finds out how a CSV file is written, from its beginning. */
#ifndef SIMBDP_READ_SNIFF_H
#define SIMBDP_READ_SNIFF_H

#include "spec.h"

enum { SNIFF_BYTES = 128 << 10 };

/* The encoding of a file that starts with these bytes; *ret_bom: bytes of a byte order mark to skip. *why is added to. */
enum encoding sniff_encoding(const struct spec *s, const char *p, size_t n, size_t *ret_bom, char why[256], double *ret_sure);

/* The dialect of a file whose text (UTF-8, no BOM) starts with p[0, n); `whole`: that is all of it. What the spec says is
 * taken as it is, the rest is found:
 *   delimiter, quote, escape  the candidate that makes rows most alike and cells most like values: the consistency measure
 *                             of van den Burg, Nazabal, Sutton, Wrangling Messy CSV Files by Detecting Row and Type
 *                             Patterns (2019), with fewer type patterns
 *   line end                  LF (also CRLF), or CR where no LF is, or any where a lone CR ends rows among LFs
 *   preamble                  lines before the first full row that have one cell, or at most a third of its cells
 *   header                    the first full row, unless it looks like the data below it; further rows that have words where
 *                             all columns of numbers begin
 * dialect->confidence and ->why say how sure it is. */
void sniff_dialect(const struct spec *s, const char *p, size_t n, bool whole, struct dialect *ret);

/* NA, NULL, \N and the like: null in columns of numbers where no configuration says what is. */
bool sniff_usual_null(const char *p, size_t n);

#endif
