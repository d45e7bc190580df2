/* What is in a backup, and in which order it is read while the home runs.
 *
 * A backup's point is the time at which its first part was read. Each part is read later, as it is at one moment then: databases in
 * one transaction, the broker's log up to one record. So all that was confirmed before the point is in its part, whatever the order
 * of parts is. Of what is confirmed while the backup lasts some may be in it, and some not. What is left to the order is that no
 * part says something that another one contradicts when the home starts from them:
 *
 *   1. accounts.db, after state/audit.head.   The head may be behind the log, never ahead (lib/accounts/audit.c): the log comes
 * last.
 *   2. streams.db, then ledger.db.            Each has the mark that says it is the one this home had, made of the copy: marks of
 * the running home are ahead of it. They do not refer to one another.
 *   3. The bytes of unfinished files.         Behind the ledger that names them, and at once (files.c). Bytes that no row names are
 * not copied; batchmgr would not know what they are.
 *   4. state/broker.                          state/broker.mark is not in it: without it the broker begins new epochs, as `mysimbdp
 *                                             restored` orders, so that what is published from then on never gets the _id of what
 *                                             was published after the point, which may be stored already.
 *   5. The small files, conf/, keys/, apps/.  Behind the ledger and the log, so that the tenants, apps and versions that these name
 *                                             are there. A tenant that was purged since is suspended then, and nothing of it
 * deleted.
 *   6. logs/tenants, the audit log.           Behind the log of the broker: what it counts as written to stream.jsonl is there.
 * Lines that it does not count yet are written again, with the same number (`line`).
 *   7. done/ and quarantine/, if wanted.
 *
 * What was done after the point and is not known to the restored home is done again, to the same effect: files that are loaded
 * again and messages that are delivered again make the same _ids; orders are absolute; a key that was used within a day is in the
 * ledger. What may be doubled is what apps do by themselves, as after any kill of them (docs/runs.md): their runs are lost ones.
 *
 * Not in it: MongoDB's data; staging/ (what batchmgr has not seen is still the tenant's); runs/ (of ended runs logs and rejects, of
 * living ones what the next attempt makes again), but for outputs that wait to be loaded; state/warden, state/images, locks,
 * sockets, logs of programs. */
#include "collect.h"
#include "pieces/copy.h"
#include "databases.h"
#include "files.h"
#include "logs.h"
#include "segments.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "db/continuity.h"
#include "db/db.h"
#include "host/move_record.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_NAME = 256 };

static const char *const small_files[] = {"state/home.json",
                                          "state/silences.json",
                                          "state/batchmgr.clock",
                                          "state/broker/clock",
                                          "state/mongo.mark",
                                          HOME_MONGO_MARKS,
                                          "state/configurations", /* conf/history.h */
                                          "conf",
                                          "keys",
                                          "apps"};
static const char *const directories[] = {"staging/-", "work/-", "done/-", "quarantine/-", "logs/tenants/-", "runs/-", "state/-"};

/* ---- where copies of databases are made ---- */

struct scratch {
    char *dir;
    bool own; /* to be removed */
};

static int scratch_init(struct scratch *x, const struct store *s, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    if (store_dir(s) >= 0) {
        x->dir = xasprintf("%s/tmp", store_path(s));
        return 0;
    }
    x->dir = xasprintf("%s/mysimbdp-backup-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
    x->own = mkdtemp(x->dir) != NULL;
    return x->own ? 0 : err_sys(e, -errno, "cannot make a directory like %s; set TMPDIR", x->dir);
}

static void scratch_fini(struct scratch *x)
{
    if (x->own)
        fd_remove_tree(AT_FDCWD, x->dir);
    free(x->dir);
}

/* ---- databases ---- */

static int put_mark(struct copying *k, const struct continuity_of *of, const char *copy, struct err *e)
{
    char text[CONTINUITY_MARK_SIZE] = "";
    const struct stat st = {.st_mode = 0600, .st_mtim.tv_sec = time(NULL)};
    sqlite3 *db = NULL;
    struct stat as = st;
    fstatat(k->home->dirfd, continuity_mark_path(of), &as, AT_SYMLINK_NOFOLLOW);
    if (db_open(copy, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK)
        continuity_mark_text(db, text);
    sqlite3_close(db);
    return *text ? copy_memory(k, continuity_mark_path(of), text, strlen(text), &as, e) : 0;
}

static int put_database(struct copying *k, const char *path, const char *copy, const struct continuity_of *of, struct err *e)
{
    int r = database_put(k, path, copy, e);
    if (r == 0 && of)
        r = put_mark(k, of, copy, e);
    return r;
}

static int copy_database(struct copying *k, const char *path, const char *scratch, const struct continuity_of *of, struct err *e)
{
    AUTO_FREE char *copy = xasprintf("%s/other.db", scratch);
    copy_phase(k, path);
    int r = database_snapshot(k->home, path, copy, e);
    if (r == 0)
        r = put_database(k, path, copy, of, e);
    unlink(copy);
    return r == -ENOENT ? 0 : r;
}

/* -ENOENT: the home never ran. */
static int copy_ledger(struct copying *k, const char *copy, struct err *e)
{
    copy_phase(k, "ledger and files under way");
    int r = files_copy_unfinished(k, copy, e);
    return r < 0 ? r : put_database(k, "state/ledger.db", copy, &continuity_ledger, e);
}

/* ---- the rest ---- */

/* Names in a directory that end so. */
static int copy_named(struct copying *k, const char *dir, const char *end, struct err *e)
{
    DIR *d = fd_open_dir(k->home->dirfd, dir);
    int r = 0;
    int unread = 0;
    for (struct dirent *ent; d && r == 0 && (ent = fd_next_name(d, &unread));) {
        size_t n = strlen(ent->d_name), m = strlen(end);
        AUTO_FREE char *path = xasprintf("%s/%s", dir, ent->d_name);
        if (n >= m && !strcmp(ent->d_name + n - m, end))
            r = copy_path(k, path, COPY_WHOLE, e);
    }
    if (d)
        closedir(d);
    return r == 0 && unread < 0 ? err_sys(e, unread, "cannot read %s/%s", k->home->path, dir) : r;
}

static int copy_small(struct copying *k, struct err *e)
{
    int r = 0;
    copy_phase(k, "configuration, keys and apps");
    for (size_t i = 0; r == 0 && i < sizeof small_files / sizeof *small_files; i++)
        r = copy_path(k, small_files[i], COPY_WHOLE, e);
    if (r == 0)
        r = copy_named(k, "state", ".port", e);
    if (r == 0)
        r = copy_named(k, MOVES_DIR, ".json", e); /* behind the ledger, which holds those that are moved */
    for (size_t i = 0; r == 0 && i < sizeof directories / sizeof *directories; i++)
        r = copy_add_above(k, directories[i], e);
    return r;
}

static int copy_all(struct copying *k, const struct backup_order *o, const char *scratch, struct err *e)
{
    AUTO_FREE char *ledger = xasprintf("%s/ledger.db", scratch);
    int r = copy_path(k, "state/uids.json", COPY_WHOLE, e); /* first: owners depend on it when it is restored */
    if (r == 0)
        r = copy_path(k, "state/audit.head", COPY_WHOLE, e);
    if (r == 0)
        r = copy_database(k, "state/accounts.db", scratch, NULL, e);
    if (r == 0)
        r = copy_database(k, "state/streams.db", scratch, &continuity_book, e);
    const int known = r < 0 ? r : copy_ledger(k, ledger, e);
    r = known == -ENOENT ? 0 : known;
    copy_phase(k, "streams");
    if (r == 0)
        r = segments_copy(k, e);
    if (r == 0)
        r = copy_small(k, e);
    copy_phase(k, "logs");
    if (r == 0)
        r = logs_copy(k, e);
    copy_phase(k, "files that are done");
    if (r == 0 && o->files && o->before)
        r = copy_before(k, o->before, e);
    if (r == 0 && o->files && known == 0)
        r = files_copy_filed(k, ledger, e);
    unlink(ledger);
    return r;
}

static int64_t uid_base(const struct home *h)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc =
        fd_read_file(h->dirfd, "state/uids.json", &b, 65536, NULL) < 0 ? NULL : json_parse(b.p ? b.p : "", b.n, NULL);
    return doc ? json_get_i64(doc, "uid_base", -1) : -1;
}

static void describe(struct point *p, const struct backup_order *o)
{
    char host[HOST_NAME] = "";
    struct stat st = {.st_mode = 0755};
    gethostname(host, sizeof host - 1);
    fstat(o->home->dirfd, &st);
    p->at_ms = clk_wall_ms();
    point_name(p->at_ms, p->name);
    p->home = xstrdup(o->home->path);
    p->host = xstrdup(host);
    p->version = xstrdup(SIMBDP_VERSION);
    p->uid_base = uid_base(o->home);
    p->files = o->files;
    p->mode = st.st_mode & 0777;
    p->uid = st.st_uid;
    p->gid = st.st_gid;
}

int collect(const struct backup_order *o, struct point *ret, struct err *e)
{
    struct copying k;
    struct scratch scratch = {0};
    copy_init(&k, o->home, o->store);
    describe(&k.w.p, o);
    int r = scratch_init(&scratch, o->store, e);
    if (r == 0)
        r = copy_all(&k, o, scratch.dir, e);
    if (r == 0)
        r = point_finish(&k.w, e);
    *ret = k.w.p;
    k.w.p = (struct point){0};
    scratch_fini(&scratch);
    copy_fini(&k);
    return r;
}
