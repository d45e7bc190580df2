/* A file's format, by its name. */
#ifndef SIMBDP_READ_FORMAT_H
#define SIMBDP_READ_FORMAT_H

#include "spec.h"

/* By the ending before .gz or .zst, in either case: csv and tsv are CSV (the delimiter is the dialect's), json, jsonl and ndjson
 * are JSON. 0, or ERR_FORMAT for another ending or none. */
int format_of_name(const char *name, enum reader_format *ret);
/* The word that configurations have for it. */
const char *format_name(enum reader_format f);
/* The ending itself, without the dot; "" where there is none. Caller frees. */
char *format_ending(const char *name);

#endif
