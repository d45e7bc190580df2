/* A file's directory is renamed as it goes on: work/ID/in, done|quarantine/TENANT/DATASET/ID, and back by `retry`. The ledger's
 * copy says where it was at one moment; by the time it is looked for, it may be elsewhere, or gone, when it is ingested and
 * `on_success = "delete"`. So it is looked for in all these places, and what is found goes into the backup where the ledger's copy
 * has it. What is found nowhere is done by now, and the ledger as it is now says so. So the ledger is looked at in one transaction
 * after another, until there is one whose files were all found while it lasted; that one is copied. What was put already is not put
 * again: between such a transaction's begin and its end are moments, whatever there is to copy, and however large the ledger is.
 *
 * Of files that were just seen in staging/ nothing is certain but their rows: batchmgr renames them at once. What a writer has open
 * is no file yet, and is left out. */
#include "files.h"
#include "databases.h"

#include "base/fd.h"
#include "base/mem.h"
#include "db/db.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOKS = 400, /* at the ledger */
    MISSES = 40, /* of a file, until it counts as one whose bytes are not there */
    WAIT_MS = 25,
    IN_MODE = 0750,
};

/* New files of one look that are copied while its transaction lasts; more would make the write-ahead log grow. */
#define AT_ONCE (64L << 20)

#define REASON_FILE "reason.json" /* what is beside a file in quarantine/, and nowhere else */

/* A row, as far as it says where the bytes are. */
struct row {
    const char *id, *tenant, *dataset, *safe, *place, *source, *raw, *output_run;
    int64_t size;
};

/* What was put of a file. */
struct kept {
    bool put;
    int missed;      /* looks that did not find it */
    struct stat dir; /* st_mode 0: it had none yet */
    struct bytes *v;
    size_t n;
};

static void kept_free(struct kept *x)
{
    for (size_t i = 0; i < x->n; i++)
        bytes_fini(&x->v[i]);
    free(x->v);
    free(x);
}

static int put_bytes(struct copying *k, struct kept *x, int fd, const char *path, const char *name, struct err *e)
{
    struct bytes b = {0};
    int r = copy_bytes(k, fd, path, COPY_WHOLE, &b, e);
    if (r < 0) {
        bytes_fini(&b);
        return r;
    }
    xstr_set(&b.name, name);
    x->v = xgrow(x->v, x->n, sizeof *x->v);
    x->v[x->n++] = b;
    return 0;
}

/* -ENOENT: there is none. What the disk does not tell is no reason to leave something out. */
static int open_dir(struct copying *k, const char *path, struct err *e)
{
    int fd = openat(k->home->dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? -ENOENT
                                                                 : err_sys(e, -errno, "cannot open %s/%s", k->home->path, path);
}

/* The same of a regular file; path: for what is said. */
static int open_file(struct copying *k, int dir, const char *name, const char *path, struct stat *st, struct err *e)
{
    AUTO_FD int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if ((fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENXIO) || (fd >= 0 && fstat(fd, st) < 0))
        return err_sys(e, -errno, "cannot open %s/%s", k->home->path, path);
    return fd < 0 || !S_ISREG(st->st_mode) ? -ENOENT : fd_take(&fd);
}

/* What is in a file's directory, which was opened and may be anywhere now. 1: its bytes were there. */
static int put_dir(struct copying *k, struct kept *x, int fd, const char *path, const struct row *row, struct err *e)
{
    DIR *d = fd_open_dir(fd, ".");
    int r = 0;
    bool found = false;
    if (!d || fstat(fd, &x->dir) < 0) {
        if (d)
            closedir(d);
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot read %s/%s", k->home->path, path);
    }
    int unread = 0;
    for (struct dirent *ent; r == 0 && (ent = fd_next_name(d, &unread));) {
        if (!strcmp(ent->d_name, REASON_FILE))
            continue;
        struct stat st;
        AUTO_FREE char *below = xasprintf("%s/%s", path, ent->d_name);
        AUTO_FD int file = open_file(k, fd, ent->d_name, below, &st, e);
        if (file == -ENOENT)
            continue;
        r = file < 0 ? file : put_bytes(k, x, file, below, ent->d_name, e);
        found |= !strcmp(ent->d_name, row->safe);
    }
    closedir(d);
    if (r == 0 && unread < 0)
        r = err_sys(e, unread, "cannot read %s/%s", k->home->path, path);
    return r < 0 ? r : found;
}

/* Where the directory of a file is when the file is there; NULL: it has none of its own there. */
static char *dir_at(const struct row *row, const char *place)
{
    if (!strcmp(place, "done") || !strcmp(place, "quarantine"))
        return xasprintf("%s/%s/%s/%s", place, row->tenant, row->dataset, row->id);
    return xasprintf("work/%s/in", row->id);
}

static int put_found(struct copying *k, struct kept *x, const struct row *row, struct err *e)
{
    static const char *const places[] = {"work", "done", "quarantine", "work"}; /* retry: back again */
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof places / sizeof *places; i++) {
        AUTO_FREE char *path = dir_at(row, places[i]);
        AUTO_FD int fd = open_dir(k, path, e);
        r = fd >= 0 ? put_dir(k, x, fd, path, row, e) : fd == -ENOENT ? r : fd;
    }
    return r;
}

/* 1: put; 0: it is not there, or somebody writes to it. */
static int put_staged(struct copying *k, struct kept *x, const struct row *row, struct err *e)
{
    if (!row->source || !row->raw || !*row->raw || strchr(row->raw, '/'))
        return 0;
    AUTO_FREE char *path = xasprintf("%s/%s", row->source, row->raw);
    struct stat st;
    AUTO_FD int dir = open_dir(k, row->source, e);
    AUTO_FD int fd = dir < 0 ? dir : open_file(k, dir, row->raw, path, &st, e);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN)
        return 0;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    int r = put_bytes(k, x, fd, path, row->safe, e);
    return r < 0 ? r : 1;
}

/* 1: its bytes were put; 0: they are nowhere. What is in staging/ is about to be renamed, unless batchmgr is not there. */
static int put_file(struct copying *k, struct kept *x, const struct row *row, struct err *e)
{
    int r = put_found(k, x, row, e);
    const bool is_first = !x->missed, is_last = x->missed + 1 == MISSES;
    return r == 0 && (is_first || is_last) && !strcmp(row->place, "staging") ? put_staged(k, x, row, e) : r;
}

/* ---- the ledger ---- */

static const char *text(sqlite3_stmt *s, int i)
{
    const char *t = (const char *)sqlite3_column_text(s, i);
    return t ? t : "";
}

/* from: a table, and which of its rows. */
static int each_row(sqlite3 *db, const char *from, int (*fn)(void *arg, const struct row *row, struct err *e), void *arg,
                    struct err *e)
{
    AUTO_FREE char *sql =
        xasprintf("SELECT file_id, tenant, dataset, safe, place, source, raw_name, output_run, size FROM %s", from);
    sqlite3_stmt *s = NULL;
    int r = 0, code = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    while (r == 0 && code == SQLITE_OK && (code = sqlite3_step(s)) == SQLITE_ROW) {
        struct row row = {text(s, 0), text(s, 1), text(s, 2),
                          text(s, 3), text(s, 4), text(s, 5),
                          text(s, 6), text(s, 7), sqlite3_column_int64(s, 8)};
        if (home_valid_id(row.id))
            r = fn(arg, &row, e);
        code = SQLITE_OK;
    }
    if (r == 0 && code != SQLITE_DONE)
        r = err_set(e, -EIO, "cannot read the ledger: %s", db_why(db));
    sqlite3_finalize(s);
    return r;
}

/* ---- files that are not done ---- */

struct unfinished {
    struct copying *k;
    struct database ledger;
    struct map kept; /* id -> struct kept */
    struct map output_runs;
    int64_t missing, to_come; /* of one look: files that were not found, and may be done by now; bytes of those that are new */
};

static struct kept *kept_of(struct unfinished *u, const char *id)
{
    struct kept *x = map_get(&u->kept, id);
    if (!x)
        map_put(&u->kept, id, x = xcalloc(1, sizeof *x));
    return x;
}

static int count_new(void *arg, const struct row *row, struct err *e)
{
    (void)e;
    struct unfinished *u = arg;
    struct kept *x = map_get(&u->kept, row->id);
    u->to_come += !x && row->size > 0 ? row->size : 0;
    return 0;
}

static int on_unfinished(void *arg, const struct row *row, struct err *e)
{
    struct unfinished *u = arg;
    struct kept *x = kept_of(u, row->id);
    if (x->put || x->missed >= MISSES)
        return 0;
    int r = put_file(u->k, x, row, e);
    x->put = r > 0;
    x->missed += r == 0;
    u->missing += r == 0 && x->missed < MISSES;
    return r < 0 ? r : 0;
}

static int add_unfinished(void *arg, const struct row *row, struct err *e)
{
    struct unfinished *u = arg;
    struct kept *x = map_get(&u->kept, row->id);
    AUTO_FREE char *dir = xasprintf("work/%s/in", row->id), *below = xasprintf("%s/-", dir);
    if (*row->output_run && home_valid_id(row->output_run))
        map_put(&u->output_runs, row->output_run, u);
    if (!x || !x->put) {
        point_note(&u->k->w, "the bytes of file %s (%s) are not there, or are still being written", row->id, row->tenant);
        return 0;
    }
    int r = x->dir.st_mode && fd_is_gone(u->k->home->dirfd, dir) ? 1 : 0;
    if (r || !x->dir.st_mode) { /* not to be seen there any more, or not yet */
        AUTO_FREE char *work = xasprintf("work/%s", row->id), *in = xasprintf("%s/-", work);
        struct stat st = x->dir.st_mode ? x->dir : x->v[0].st;
        st.st_mode = x->dir.st_mode ? x->dir.st_mode : S_IFDIR | IN_MODE;
        r = copy_add_above(u->k, in, e);
        if (r == 0 && !map_get(&u->k->dirs, dir)) {
            map_put(&u->k->dirs, dir, u);
            r = point_add_dir(&u->k->w, dir, &st, e);
        }
    }
    if (r == 0)
        r = copy_add_above(u->k, below, e);
    for (size_t i = 0; r == 0 && i < x->n; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, x->v[i].name);
        r = copy_add(u->k, path, &x->v[i], e);
    }
    return r;
}

static int add_outputs(struct unfinished *u, struct err *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < u->output_runs.cap; i++) {
        const char *run = u->output_runs.slots[i].value ? u->output_runs.slots[i].key : NULL;
        AUTO_FREE char *path = run ? xasprintf("runs/%s/output", run) : NULL;
        r = path ? copy_path(u->k, path, COPY_WHOLE, e) : 0;
    }
    return r;
}

/* As the index has it. */
#define UNFINISHED "files WHERE (state IN('received','queued','running','waiting') OR place='work') AND place IN('staging','work')"

/* What there is much of, from a list of its own: the transaction has ended. */
static int put_apart(struct unfinished *u, struct err *e)
{
    sqlite3 *db = u->ledger.db;
    int r = 0;
    if (sqlite3_exec(db, "CREATE TEMP TABLE apart AS SELECT * FROM " UNFINISHED, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot read the ledger: %s", db_why(db));
    r = each_row(db, "apart", on_unfinished, u, e);
    sqlite3_exec(db, "DROP TABLE apart", NULL, NULL, NULL);
    return r;
}

/* Until a look at the ledger that missed nothing: its transaction is left open. */
static int look(struct unfinished *u, struct err *e)
{
    int r = 0;
    for (int i = 0; r == 0 && i < LOOKS; i++) {
        if (i)
            r = database_again(&u->ledger, e);
        u->to_come = u->missing = 0;
        if (r == 0)
            r = each_row(u->ledger.db, UNFINISHED, count_new, u, e);
        const bool is_much = u->to_come > AT_ONCE;
        if (r == 0 && is_much)
            r = put_apart(u, e);
        else if (r == 0)
            r = each_row(u->ledger.db, UNFINISHED, on_unfinished, u, e);
        if (r == 0 && !is_much && !u->missing)
            break;
        if (!is_much)
            poll(NULL, 0, WAIT_MS);
    }
    return r;
}

static int copy_ledger(struct unfinished *u, const char *scratch, struct err *e)
{
    int r = database_copy(&u->ledger, scratch, e);
    if (r == 0)
        r = each_row(u->ledger.db, UNFINISHED, add_unfinished, u, e);
    if (r == 0)
        r = add_outputs(u, e);
    return r;
}

int files_copy_unfinished(struct copying *k, const char *scratch, struct err *e)
{
    struct unfinished u = {.k = k};
    int r = database_begin(k->home, "state/ledger.db", &u.ledger, e);
    if (r == 0)
        r = look(&u, e);
    if (r == 0)
        r = copy_ledger(&u, scratch, e);
    database_end(&u.ledger);
    size_t i = 0;
    for (struct kept *x; (x = map_next(&u.kept, &i));)
        kept_free(x);
    map_fini(&u.kept);
    map_fini(&u.output_runs);
    return r;
}

/* ---- files that are done ---- */

static int add_known(struct copying *k, const char *path, int dir, const char *name, bool *known, struct err *e)
{
    struct stat st;
    struct bytes b = {0};
    *known = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && copy_known(k, path, &st, &b);
    int r = *known ? copy_add(k, path, &b, e) : 0;
    bytes_fini(&b);
    return r;
}

static int add_filed(void *arg, const struct row *row, struct err *e)
{
    struct copying *k = arg;
    AUTO_FREE char *to = dir_at(row, row->place);
    AUTO_FREE char *work = dir_at(row, "work");
    const char *from[] = {to, work}; /* a retry may have taken it back since */
    int r = 0;
    for (size_t i = 0; r == 0 && i < 2; i++) {
        AUTO_FD int fd = open_dir(k, from[i], e);
        if (fd == -ENOENT)
            continue;
        DIR *d = fd < 0 ? NULL : fd_open_dir(fd, ".");
        if (!d)
            return fd < 0 ? fd : err_sys(e, -errno, "cannot read %s/%s", k->home->path, from[i]);
        int unread = 0;
        for (struct dirent *ent; r == 0 && (ent = fd_next_name(d, &unread));) {
            AUTO_FREE char *path = xasprintf("%s/%s", to, ent->d_name);
            bool known;
            if (ent->d_name[0] == '.')
                continue;
            r = add_known(k, path, fd, ent->d_name, &known, e);
            if (r < 0 || known)
                continue;
            struct bytes b = {0};
            struct stat st;
            AUTO_FD int file = open_file(k, fd, ent->d_name, path, &st, e);
            if (file >= 0)
                r = copy_bytes(k, file, path, COPY_WHOLE, &b, e);
            else if (file != -ENOENT)
                r = file;
            if (r == 0 && b.name)
                r = copy_add(k, path, &b, e);
            bytes_fini(&b);
        }
        closedir(d);
        if (r == 0 && unread < 0)
            r = err_sys(e, unread, "cannot read %s/%s", k->home->path, from[i]);
        break;
    }
    return r;
}

int files_copy_filed(struct copying *k, const char *scratch, struct err *e)
{
    sqlite3 *db = NULL;
    int r = db_open(scratch, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK
                ? each_row(db, "files WHERE place IN('done','quarantine')", add_filed, k, e)
                : err_set(e, -EIO, "cannot read the copy of the ledger: %s", db_why(db));
    sqlite3_close(db);
    return r;
}
