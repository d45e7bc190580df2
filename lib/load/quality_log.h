/* Gathers the quality of messages while an instance reads them, a UTC day at a time, and writes it as the member "quality" of its
 * result file: an array of days (lib/read/quality.h), the youngest first, of which the oldest are left out when there is no
 * room. streammgr looks there now and then, and takes it over at the end.
 *
 * What is delivered again is counted again. Memory: FIGURES_MAX_COLUMNS columns of about 4 KiB, and two days of text. */
#ifndef SIMBDP_LOAD_QUALITY_LOG_H
#define SIMBDP_LOAD_QUALITY_LOG_H

#include "drain.h"
#include "read/quality.h"
#include "result_file.h"

struct quality_log;

/* NULL: SIMBDP_QUALITY of the environment says "0". All calls accept NULL. */
struct quality_log *quality_log_open(void);
void quality_log_close(struct quality_log *l);
AUTO_DEFINE(quality_log, quality_log_close)
#define AUTO_QUALITY_LOG __attribute__((cleanup(quality_log_close_auto)))

/* Where the rows of message `seq` are to be counted. Valid until the next call; NULL: nowhere. */
struct figures *quality_log_begin(struct quality_log *l, uint64_t seq);
/* It was read: with so many rows, or it was refused (rows -1). */
void quality_log_end(struct quality_log *l, int64_t published_ms, int64_t rows);
/* It was refused for a reason that no row has. rule: static, lower case and underscores. */
void quality_log_refuse(struct quality_log *l, uint64_t seq, int64_t published_ms, const char *rule);

/* Puts what d has counted (NULL: nothing) and the quality into the report; valid until the next call. */
void quality_log_fill(struct quality_log *l, const struct drain *d, struct result_file *r);
/* The same, and writes it, at most once a second and only when there is something new. Returns how long until it is to be called
 * again, ms; -1: when there was another message. */
int64_t quality_log_tell(struct quality_log *l, const struct drain *d, struct result_file *r);

#endif
