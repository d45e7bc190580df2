/* Tenants' text on its way to a terminal. */
#ifndef SIMBDP_TERM_TEXT_H
#define SIMBDP_TERM_TEXT_H

#include "base/buf.h"

#include <stdbool.h>

enum { TEXT_MAX_CHARACTER = 4 }; /* bytes */

/* Appends p[0..n) to `out` with everything that a terminal could obey as \xNN: control characters (C0 but for tab and newline, DEL,
 * C1 in UTF-8; ECMA-48) and bytes that are no UTF-8 (8-bit C1 among them). Returns how many bytes it took: fewer than n where p
 * ends in the middle of a character, and `more` says that the rest may come. */
size_t text_append(struct buf *out, const char *p, size_t n, bool more);

/* The same to stdout, of a whole string. */
void text_print(const char *s);

/* From here on everything written to stdout and stderr passes through text_append, whoever wrote the words: names, reasons,
 * configuration, messages of servers. Only what writes to the descriptors directly does not: files as they are, progress bars. */
void text_guard(void);
/* From here on, or no longer: lines of both that are longer than the terminal is wide (where it is one) are broken between words,
 * and what is broken off stands below where their text begins. Not for what is to be read or copied as it is: JSON, CSV, files. */
void text_fold(bool on);
/* Undoes that, for a program that draws on the terminal itself. */
void text_unguard(void);

#endif
