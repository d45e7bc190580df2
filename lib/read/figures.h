/* Quality figures of the columns of a file, or of messages, gathered while their rows become documents. */
#ifndef SIMBDP_READ_FIGURES_H
#define SIMBDP_READ_FIGURES_H

#include "base/buf.h"
#include "value.h"

struct figures;

/* Columns beyond this have no figures. */
enum { FIGURES_MAX_COLUMNS = 256 };

struct figures *figures_new(void);
void figures_free(struct figures *f); /* accepts NULL */

/* Names column i, once before anything is added to it; columns are named in rising order. */
void figures_column(struct figures *f, size_t i, const char *name);
size_t figures_n_columns(const struct figures *f);
/* The column of that name, made when it is new; FIGURES_MAX_COLUMNS when there are too many, or the name is too long. */
size_t figures_find(struct figures *f, const char *name);
/* Columns with longer names get no figures from now on. */
void figures_limit_names(struct figures *f, size_t max);
/* What is added from now on is of a message, whose number stands where a file has a line. */
void figures_place(struct figures *f, int64_t place);

void figures_add(struct figures *f, size_t i, const struct value *v, int64_t line);
/* A row was rejected for `rule` (static text), in column i (-1: no column). */
void figures_reject(struct figures *f, int i, const char *rule);
/* A row was repaired. */
void figures_repair(struct figures *f, const char *rule);

/* Members "rejects_by_rule":{rule:n}, "repaired_by_rule" (where there are some) and "by_column":{name:{...}} of an open JSON
 * object. A column has type        the narrowest that holds all its values, or "mixed"; with "types":{type:n} and "changed_at_line"
 * (the first line whose value is of another kind than those before) nulls, values, rejects, min, max (numbers, dates and texts; of
 * texts the first 40 bytes) distinct    how many different values, estimated: HyperLogLog (Flajolet et al., 2007), 4096
 * registers, 1.6 % off newest_age_s of dates: how long before now_ms the newest one is. histogram of numbers and dates that differ:
 * {"from","to","counts":[...]}, BINS bins of the same width at most, `from` and `to` as min (bins.h) */
void figures_json(const struct figures *f, int64_t now_ms, struct buf *out);

/* Members "rejects_by_rule", "repaired_by_rule" and "columns" of an open JSON object, from which figures_add_kept gets it all back
 * but what had no room: they take at most about max_bytes. Fewer registers are kept then (1024, 256 or 64; 64 are 13 % off, and
 * without histograms), and of columns the first ones. */
void figures_keep(const struct figures *f, size_t max_bytes, struct buf *out);
/* Adds what was kept, from anybody. What of it makes no sense is left out. */
void figures_add_kept(struct figures *f, const bson_t *kept);

/* Appends why rows were refused, for people: "type 3, max 1". */
void figures_rules(const struct figures *f, struct buf *out);

/* For tables: the type, nulls and values of column i. */
const char *figures_type(const struct figures *f, size_t i);
int64_t figures_nulls(const struct figures *f, size_t i);
const char *figures_name(const struct figures *f, size_t i);
int64_t figures_changed_at(const struct figures *f, size_t i); /* line, 0: never */

#endif
