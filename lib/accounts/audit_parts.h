/* The chain of the audit log, record by record. */
#ifndef SIMBDP_ACCOUNTS_AUDIT_PARTS_H
#define SIMBDP_ACCOUNTS_AUDIT_PARTS_H

#include "audit.h"

#include "base/buf.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#define AUDIT_LOG   "logs/audit.jsonl"
#define AUDIT_OLD   "logs/audit.%020" PRId64 ".jsonl" /* up to the record of this number */
#define AUDIT_HEAD  "state/audit.head"
#define AUDIT_ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

/* Room for a record, each text of which may be escaped six-fold. A crash leaves no more than that; more is not passed over as a
 * record that was cut short. */
enum { AUDIT_LINE_MAX = 6 * 6 * AUDIT_FIELD_MAX + 512, AUDIT_CUT_MAX = 2 * AUDIT_LINE_MAX, AUDIT_NAME_SIZE = 48 };

/* A record, and where the log ends behind it. */
struct audit_head {
    int64_t seq, bytes;
    char hash[AUDIT_HASH_SIZE];
};

struct audit_chain {
    struct audit_head last;       /* that fits */
    int64_t first;                /* the number of the first one; 0: there is none yet */
    int64_t n_cut;                /* bytes behind it that do not fit, */
    crypto_generichash_state cut; /* and what they are; whole lines, or up to the end of the log */
    char why[200];                /* the first record among them does not; empty: there is none */
    bool open;                    /* they end without an end of line, */
    bool lacks_end;               /* which is all that the last of them lacks */
    int64_t head_lost_at;         /* the first record that says the head was gone; 0: none does */
};

/* from: the record before it. Where that has the number 0, the chain may begin with a record audit_begin of any number. */
void audit_chain_init(struct audit_chain *c, const struct audit_head *from);
/* The next line, with its end of line unless the log ends within it. */
void audit_chain_line(struct audit_chain *c, const char *line, size_t n);
/* All lines from where the file is. `each` (may be NULL) is called behind each that fits; what it gives other than 0 is the result.
 * -errno. */
int audit_chain_read(struct audit_chain *c, FILE *f, int64_t max_bytes, int (*each)(void *arg, const struct audit_chain *c),
                     void *arg);

/* The hash of p, as hex digits. */
void audit_hash(const void *p, size_t n, char out[AUDIT_HASH_SIZE]);
/* The subject of the record that closes a cut off. */
void audit_cut_subject(const struct audit_chain *c, char out[AUDIT_FIELD_MAX]);

/* ERR_FORMAT: it is none. -ENOENT: there is none. */
int audit_head_read(int dirfd, struct audit_head *ret, struct err *e);

/* ---- files (audit_files.c) ---- */

/* Bytes behind which a new file is begun. Tests have less. */
extern int64_t audit_file_max;

/* Opens the log with these flags of open(2), and waits for that lock of flock(2) on it. 0 or -errno. */
int audit_open(int dirfd, int flags, int lock, int *ret_fd, struct err *e);
/* Whether what the head is of was put aside. */
bool audit_was_put_aside(int dirfd, const struct audit_head *head);
/* Puts the log aside, whose last record is that, and a new one with `first` in its place, durably; *ret_fd has its lock. Under the
 * lock of the old one. 0 or -errno: then the old one is still the log. */
int audit_put_aside(int dirfd, int fd, int64_t last, const struct buf *first, int *ret_fd, struct err *e);

/* The numbers of the last records of the files that were put aside, ascending. log: what is none of them though it has such a name;
 * NULL: there is no log. Under the log's lock. */
struct audit_list {
    int64_t *last;
    size_t n;
};
int audit_list(int dirfd, const struct stat *log, struct audit_list *ret, struct err *e);
void audit_list_fini(struct audit_list *l);
/* ret_name: its path, for messages. */
int audit_open_old(int dirfd, int64_t last, char ret_name[AUDIT_NAME_SIZE], FILE **ret, struct err *e);

#endif
