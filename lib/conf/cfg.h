/* Reads libconfig files by a table with one row for each key. The table gives parsing, defaults, ranges and `mysimbdp check
 * --keys`. */
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
    CFG_LATER, /* known, but not implemented in this version: an error that says so, unless it has the value `def` */
};

struct cfg_list {
    void *v; /* n structs of the row's item_size, each starting with `int line` */
    size_t n;
};

struct cfg_key {
    const char *name;
    enum cfg_type type;
    size_t offset;
    const char *def;    /* the default; NULL: the key is required. Strings as they are, lists separated by blanks */
    double min, max;    /* CFG_INT and CFG_F64 */
    const char *one_of; /* CFG_ENUM, CFG_STR and CFG_STRS: allowed values separated by '|', NULL any */
    bool reloadable;
    const char *help;           /* with the unit */
    const struct cfg_key *keys; /* CFG_GROUP, CFG_LIST; ends with a NULL name */
    size_t item_size;           /* CFG_LIST */
};

struct buf;

/* Reads FILE into `out` (zeroed by the caller) by the table. Every error names file:line and key. A missing file is -ENOENT.
 * cfg_free has to be called on failure, too. */
int cfg_load(const char *file, const struct cfg_key *keys, void *out, struct err *e);

/* The same, but goes on after an error: each is added to `all`, a line each, and ERR_CONFIG says no more than CFG_TOLD. all NULL:
 * as cfg_load. What could not be read is NULL or has its default, so `out` must not be used after an error. */
#define CFG_TOLD "the configuration has errors"
int cfg_load_all(const char *file, const struct cfg_key *keys, void *out, struct buf *all, struct err *e);

/* Writes a part of `in` as text that cfg_read_part reads. `names` (ends with NULL) are keys with dots between ("streams",
 * "batch.app"); all that is below them is written. Numbers there are finite. */
void cfg_print(const struct cfg_key *keys, const void *in, const char *const *names, struct buf *out);
/* Reads such a text, as cfg_load does. What was not written has its default, or NULL where there is none. */
int cfg_read_part(const char *text, const struct cfg_key *keys, void *out, struct err *e);

/* The nth of such choices, as text. Caller frees. */
char *cfg_choice(const char *one_of, int n);

/* Only fills in the defaults. */
void cfg_defaults(const struct cfg_key *keys, void *out);
void cfg_free(const struct cfg_key *keys, void *out);

/* The table as text, a line a key: for --help and the manual. */
void cfg_help(const struct cfg_key *keys, int indent, struct buf *out);

#endif
