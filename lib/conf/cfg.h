/* Table-driven reading of libconfig files: one row a key. The table drives parsing, defaults, ranges, `mysimbdp check --keys`. */
#ifndef SIMBDP_CONF_CFG_H
#define SIMBDP_CONF_CFG_H

#include "base/err.h"
#include "base/strs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cfg_type {
    CFG_INT,   /* int64_t; "-1" in `def` and min -1 mean that -1 is "no limit" */
    CFG_F64,   /* double; integers are accepted */
    CFG_BOOL,  /* bool */
    CFG_STR,   /* char *, owned */
    CFG_ENUM,  /* an enum whose values count from 0 in the order of `one_of` */
    CFG_STRS,  /* struct strs: an array or list of strings */
    CFG_GROUP, /* a nested table at the same struct: `offset` is added to its keys' offsets */
    CFG_LIST,  /* struct cfg_list of nested structs */
    CFG_LATER, /* in the file format, but not in this version: an error that says so, unless it has the value `def` */
};

struct cfg_list {
    void *v; /* n structs of the row's item_size, each starting with `int line` */
    size_t n;
};

struct cfg_key {
    const char *name;
    enum cfg_type type;
    size_t offset;
    const char *def;    /* NULL: required. Strings as they are, lists separated by blanks */
    double min, max;    /* CFG_INT and CFG_F64 */
    const char *one_of; /* CFG_ENUM, CFG_STR and CFG_STRS: allowed values separated by '|', NULL any */
    bool reloadable;
    const char *help;           /* with the unit */
    const struct cfg_key *keys; /* CFG_GROUP, CFG_LIST; ends with a NULL name */
    size_t item_size;           /* CFG_LIST */
};

struct buf;

/* Reads FILE into `out` (zeroed by the caller) by the table. Every error names file:line and key. A missing file is
 * -ENOENT. On failure call cfg_free all the same. */
int cfg_load(const char *file, const struct cfg_key *keys, void *out, struct err *e);

/* The same, but all errors of the file are told, a line each behind what `all` has; ERR_CONFIG then says CFG_TOLD only. NULL: as
 * cfg_load. What could not be read is NULL or has its default, so that nobody must use `out`. */
#define CFG_TOLD "the configuration has errors"
int cfg_load_all(const char *file, const struct cfg_key *keys, void *out, struct buf *all, struct err *e);

/* Writes of `in` what `names` (ends with NULL) list as text that cfg_read_part reads: keys with dots between ("streams",
 * "batch.app"), with all that is below them. They have finite numbers. */
void cfg_print(const struct cfg_key *keys, const void *in, const char *const *names, struct buf *out);
/* The same way back, as cfg_load; what was not written has its default, or NULL where there is none. */
int cfg_read_part(const char *text, const struct cfg_key *keys, void *out, struct err *e);

/* The nth of such choices, as text. Caller frees. */
char *cfg_choice(const char *one_of, int n);

/* Fills in defaults only. */
void cfg_defaults(const struct cfg_key *keys, void *out);
void cfg_free(const struct cfg_key *keys, void *out);

/* The table as text, a line a key: for --help and the manual. */
void cfg_help(const struct cfg_key *keys, int indent, struct buf *out);

#endif
