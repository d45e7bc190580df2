/* Configurations that were accepted: the texts of conf/mysimbdp.conf, conf/profiles.conf and conf/tenants/<tenant>.conf as they
 * stood, with who asked and when. (What tenants configure themselves is theirs, and not in it; nor are files that these @include.)
 *
 * Each is a file state/configurations/<number, 8 digits>, for its owner alone, since configurations hold secrets:
 *   a line of JSON: {"v":1,"number","at_ms","who","what","files":[{"path","bytes"},…]}
 *   the files' bytes, one after the other
 *   64 hex digits of BLAKE2b-256 over all before them, and a line's end
 * It is written durably and atomically, and never changed but when a tenant is purged. One that does not fit its hash is told as
 * damaged and passed over; the others are not concerned. The newest HISTORY_MAX are kept, as far as they have HISTORY_MAX_BYTES
 * together. */
#ifndef SIMBDP_CONF_HISTORY_H
#define SIMBDP_CONF_HISTORY_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_DIR "state/configurations"
enum { HISTORY_MAX = 100, HISTORY_MAX_BYTES = 64 << 20 };

struct conf_text {
    char *path; /* relative to the home: "conf/profiles.conf" */
    struct buf text;
};

/* By path, in the order of strcmp. */
struct conf_texts {
    struct conf_text *v;
    size_t n;
};

/* The files as they are now. dirfd: the home's. Blocks. */
int conf_texts_read(int dirfd, struct conf_texts *ret, struct err *e);
bool conf_texts_equal(const struct conf_texts *a, const struct conf_texts *b);
const struct conf_text *conf_texts_find(const struct conf_texts *t, const char *path); /* NULL: it has none */
/* Writes them below `dir` (an empty directory, relative to dirfd) as they stand below conf/, so that conf_load_dir reads them. */
int conf_texts_extract(const struct conf_texts *t, int dirfd, const char *dir, struct err *e);
void conf_texts_fini(struct conf_texts *t);

struct conf_entry {
    int64_t number; /* from 1 */
    int64_t at_wall_ms;
    char *who, *what; /* unix user; "up", "reload", "rollback to 3", … */
    struct conf_texts texts;
};
void conf_entry_fini(struct conf_entry *entry);

/* Appends one, unless the newest has the same texts. *ret_number is its number, or that of the newest. To be called with the lock
 * of configuration_lock. Blocks; durable. On failure nothing is there, and the earlier ones stay. */
int history_add(int dirfd, const struct conf_entry *entry, int64_t *ret_number, struct err *e);

/* number 0: the newest. -ENOENT: there is none; ERR_FORMAT: it is damaged. conf_entry_fini after 0. */
int history_read(int dirfd, int64_t number, struct conf_entry *ret, struct err *e);

/* The numbers that there are, ascending; *ret is freed with free. Returns how many, or -errno. */
int64_t history_numbers(int dirfd, int64_t **ret, struct err *e);

/* Takes a tenant's file out of all of them: it was purged. Damaged ones are removed, since what they hold cannot be told. */
int history_forget(int dirfd, const char *tenant, struct err *e);

#endif
