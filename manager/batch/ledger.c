/* Schema, version 2. Times are wall-clock milliseconds since the epoch, 0: none; counts are -1 when unknown.
 *   meta(key, value)                      schema_version
 *   tenants(id, uid, suspended, purging)  a uid is never given twice; purging: 1 being removed, 2 removed
 *   files(...), runs(...)                 one column a field of struct file and struct run
 *   quality(file_id, quality)             a file's figures, a kilobyte or more: apart, so that they are written once and not with
 *                                         every state of the file (files.quality holds those of older versions)
 * Readers (the command line) open the database on their own; docs/architecture.md lists the columns they rely on. */
#include "ledger.h"
#include "common/conf.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum { SCHEMA_VERSION = 2, RETRY_S = 1, LAZY_MS = 20 };

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);"
    "INSERT OR IGNORE INTO meta VALUES('schema_version','2');"
    "CREATE TABLE IF NOT EXISTS tenants(id TEXT PRIMARY KEY, uid INTEGER UNIQUE, suspended INTEGER NOT NULL DEFAULT 0,"
    " purging INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE IF NOT EXISTS files(file_id TEXT PRIMARY KEY, tenant TEXT, dataset TEXT, name TEXT, raw_name BLOB,"
    " safe TEXT, source TEXT, app TEXT, state TEXT, place TEXT, reason TEXT, detail TEXT, size INTEGER, rows INTEGER,"
    " columns INTEGER, hash TEXT, rows_parsed INTEGER, rows_loaded INTEGER, rows_rejected INTEGER, quality TEXT,"
    " attempts INTEGER, losses INTEGER, force INTEGER, received_at INTEGER, started_at INTEGER, ended_at INTEGER,"
    " not_before INTEGER, first_temp INTEGER, run_id TEXT, output_run TEXT, prefix TEXT, old_prefixes TEXT,"
    " checkpoint INTEGER, released_at INTEGER NOT NULL DEFAULT 0, checked INTEGER NOT NULL DEFAULT 0,"
    " solo INTEGER NOT NULL DEFAULT 0, group_n INTEGER NOT NULL DEFAULT 1, expired INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS quality(file_id TEXT PRIMARY KEY, quality TEXT) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS files_live ON files(file_id) WHERE state IN('received','queued','running','waiting') OR"
    " place='work';"
    "CREATE INDEX IF NOT EXISTS files_content ON files(tenant, dataset, hash) WHERE state='ingested';"
    "CREATE INDEX IF NOT EXISTS files_tenant ON files(tenant, received_at);"
    "CREATE INDEX IF NOT EXISTS files_filed ON files(tenant, ended_at) WHERE place IN('done','quarantine');"
    "CREATE INDEX IF NOT EXISTS files_stored ON files(tenant, ended_at) WHERE state='ingested' AND expired=0 AND prefix<>'';"
    "CREATE INDEX IF NOT EXISTS files_failed ON files(state, tenant, file_id) WHERE state IN('rejected','duplicate','vanished',"
    "'quarantined');"
    "CREATE TABLE IF NOT EXISTS runs(run_id TEXT PRIMARY KEY, file_id TEXT, tenant TEXT, app TEXT, step TEXT,"
    " attempt INTEGER, state TEXT, outcome TEXT, exit_code INTEGER, signal INTEGER, lim TEXT, error TEXT, node TEXT,"
    " forced INTEGER, started_at INTEGER, ended_at INTEGER, wall_s REAL, cpu_s REAL, max_rss INTEGER,"
    " output_dropped INTEGER, n_files INTEGER NOT NULL DEFAULT 1, rows_parsed INTEGER NOT NULL DEFAULT -1,"
    " rows_loaded INTEGER NOT NULL DEFAULT -1, rows_rejected INTEGER NOT NULL DEFAULT -1, pruned INTEGER NOT NULL DEFAULT 0)"
    " WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS runs_live ON runs(run_id) WHERE state<>'ended';"
    "CREATE INDEX IF NOT EXISTS runs_kept ON runs(tenant, ended_at) WHERE state='ended' AND pruned=0;"
    "CREATE INDEX IF NOT EXISTS runs_tenant ON runs(tenant, started_at);"
    "CREATE INDEX IF NOT EXISTS runs_file ON runs(file_id);"
    "COMMIT;";

static const char from_1_to_2[] = "BEGIN IMMEDIATE;"
                                  "ALTER TABLE tenants ADD COLUMN purging INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN released_at INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN solo INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN group_n INTEGER NOT NULL DEFAULT 1;"
                                  "ALTER TABLE files ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE runs ADD COLUMN n_files INTEGER NOT NULL DEFAULT 1;"
                                  "ALTER TABLE runs ADD COLUMN rows_parsed INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN rows_loaded INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN rows_rejected INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;"
                                  "CREATE TABLE IF NOT EXISTS quality(file_id TEXT PRIMARY KEY, quality TEXT) WITHOUT ROWID;"
                                  "UPDATE meta SET value='2' WHERE key='schema_version';"
                                  "COMMIT;";

static const char put_file_sql[] = "INSERT OR REPLACE INTO files VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,"
                                   "?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,?35,?36,?37,0)";
static const char put_quality_sql[] = "INSERT OR REPLACE INTO quality VALUES(?1,?2)";
static const char put_run_sql[] = "INSERT OR REPLACE INTO runs VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,"
                                  "?16,?17,?18,?19,?20,?21,?22,?23,?24,0)";

struct op {
    enum { OP_FILE, OP_RUN, OP_THEN, OP_SYNC, OP_PRUNED, OP_EXPIRED } kind;
    union {
        char *dir, *id;
        struct file *file;
        struct run *run;
        struct {
            void (*fn)(void *arg);
            void *arg;
        } then;
    };
    struct op *next;
};

struct batch {
    struct op *first, **last;
};

struct ledger {
    sqlite3 *reader, *writer;
    sqlite3_stmt *put_file, *put_quality, *put_run, *mark_pruned, *mark_expired;
    struct event *kick_ev, *lazy_ev, *done_ev;
    bool urgent; /* something in `pending` is waited for */
    int done_fd, home_fd;
    struct batch pending; /* loop only */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct batch working; /* owned by the worker while `busy` */
    bool busy, quit, stalled;
    char why[256];
};

static void batch_init(struct batch *b)
{
    b->first = NULL;
    b->last = &b->first;
}

static void op_free(struct op *op)
{
    if (op->kind == OP_FILE)
        file_free(op->file);
    else if (op->kind == OP_RUN)
        run_free(op->run);
    else if (op->kind == OP_SYNC)
        free(op->dir);
    else if (op->kind == OP_PRUNED || op->kind == OP_EXPIRED)
        free(op->id);
    free(op);
}

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

static int put_file(struct ledger *l, const struct file *f)
{
    sqlite3_stmt *s = l->put_file;
    const char *texts[] = {f->file_id, f->tenant, f->dataset, f->name};
    for (int i = 0; i < 4; i++)
        bind_text(s, i + 1, texts[i]);
    sqlite3_bind_blob(s, 5, f->raw_name, f->raw_name ? (int)strlen(f->raw_name) : 0, SQLITE_STATIC);
    bind_text(s, 6, f->safe);
    bind_text(s, 7, f->from);
    bind_text(s, 8, f->app);
    bind_text(s, 9, file_state_name(f->state));
    bind_text(s, 10, file_place_name(f->place));
    bind_text(s, 11, f->reason);
    bind_text(s, 12, f->detail);
    sqlite3_bind_int64(s, 13, f->size);
    sqlite3_bind_int64(s, 14, f->rows);
    sqlite3_bind_int64(s, 15, f->columns);
    bind_text(s, 16, f->hash);
    sqlite3_bind_int64(s, 17, f->rows_parsed);
    sqlite3_bind_int64(s, 18, f->rows_loaded);
    sqlite3_bind_int64(s, 19, f->rows_rejected);
    sqlite3_bind_null(s, 20); /* see put_quality */
    sqlite3_bind_int64(s, 21, f->attempts);
    sqlite3_bind_int64(s, 22, f->losses);
    sqlite3_bind_int(s, 23, f->force);
    sqlite3_bind_int64(s, 24, f->received_wall_ms);
    sqlite3_bind_int64(s, 25, f->started_wall_ms);
    sqlite3_bind_int64(s, 26, f->ended_wall_ms);
    sqlite3_bind_int64(s, 27, f->not_before_wall_ms);
    sqlite3_bind_int64(s, 28, f->first_temp_wall_ms);
    bind_text(s, 29, f->run_id);
    bind_text(s, 30, f->output_run);
    bind_text(s, 31, f->prefix);
    bind_text(s, 32, f->old_prefixes);
    sqlite3_bind_int64(s, 33, f->checkpoint);
    sqlite3_bind_int64(s, 34, f->released_wall_ms);
    sqlite3_bind_int(s, 35, f->checked);
    sqlite3_bind_int(s, 36, f->solo);
    sqlite3_bind_int64(s, 37, f->group_n);
    int r = sqlite3_step(s);
    sqlite3_reset(s);
    if (r == SQLITE_DONE && f->quality) {
        bind_text(l->put_quality, 1, f->file_id);
        bind_text(l->put_quality, 2, f->quality);
        r = sqlite3_step(l->put_quality);
        sqlite3_reset(l->put_quality);
    }
    return r == SQLITE_DONE ? SQLITE_OK : r;
}

static int put_run(struct ledger *l, const struct run *r)
{
    sqlite3_stmt *s = l->put_run;
    bind_text(s, 1, r->run_id);
    bind_text(s, 2, r->file_id);
    bind_text(s, 3, r->tenant);
    bind_text(s, 4, r->app);
    bind_text(s, 5, r->step);
    sqlite3_bind_int64(s, 6, r->attempt);
    bind_text(s, 7, run_state_name(r->state));
    bind_text(s, 8, r->outcome < 0 ? NULL : run_outcome_name((enum run_outcome)r->outcome));
    sqlite3_bind_int(s, 9, r->exit_code);
    sqlite3_bind_int(s, 10, r->signal);
    bind_text(s, 11, r->limit);
    bind_text(s, 12, r->error);
    bind_text(s, 13, r->node);
    sqlite3_bind_int(s, 14, r->forced);
    sqlite3_bind_int64(s, 15, r->started_wall_ms);
    sqlite3_bind_int64(s, 16, r->ended_wall_ms);
    sqlite3_bind_double(s, 17, r->wall_s);
    sqlite3_bind_double(s, 18, r->cpu_s);
    sqlite3_bind_int64(s, 19, r->max_rss_bytes);
    sqlite3_bind_int64(s, 20, r->output_bytes_dropped);
    sqlite3_bind_int64(s, 21, r->n_files);
    sqlite3_bind_int64(s, 22, r->rows_parsed);
    sqlite3_bind_int64(s, 23, r->rows_loaded);
    sqlite3_bind_int64(s, 24, r->rows_rejected);
    int n = sqlite3_step(s);
    sqlite3_reset(s);
    return n == SQLITE_DONE ? SQLITE_OK : n;
}

static int mark(sqlite3_stmt *s, const char *id)
{
    bind_text(s, 1, id);
    int r = sqlite3_step(s);
    sqlite3_reset(s);
    return r == SQLITE_DONE ? SQLITE_OK : r;
}

static int write_op(struct ledger *l, const struct op *op)
{
    switch (op->kind) {
    case OP_FILE:
        return put_file(l, op->file);
    case OP_RUN:
        return put_run(l, op->run);
    case OP_PRUNED:
        return mark(l->mark_pruned, op->id);
    case OP_EXPIRED:
        return mark(l->mark_expired, op->id);
    case OP_THEN:
    case OP_SYNC:
        break;
    }
    return SQLITE_OK;
}

/* Each directory once a batch: the journal commit it costs is shared by all files of a turn. */
static int sync_dirs(struct ledger *l, const struct batch *b)
{
    struct map done = {0};
    int r = 0;
    for (const struct op *op = b->first; op && r == 0; op = op->next) {
        if (op->kind != OP_SYNC || map_get(&done, op->dir))
            continue;
        map_put(&done, op->dir, l);
        r = fd_sync_dir(l->home_fd, op->dir);
        if (r < 0)
            snprintf(l->why, sizeof l->why, "cannot sync %s: %s", op->dir, err_text(r));
    }
    map_fini(&done);
    return r < 0 ? SQLITE_IOERR : SQLITE_OK;
}

static int commit(struct ledger *l, const struct batch *b)
{
    int r = SQLITE_OK;
    bool rows = false;
    for (const struct op *op = b->first; op && !rows; op = op->next)
        rows = op->kind != OP_THEN && op->kind != OP_SYNC;
    if (!rows)
        return SQLITE_OK;
    r = sync_dirs(l, b);
    if (r != SQLITE_OK)
        return r;
    r = sqlite3_exec(l->writer, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (const struct op *op = b->first; op && r == SQLITE_OK; op = op->next)
        r = write_op(l, op);
    if (r == SQLITE_OK)
        r = sqlite3_exec(l->writer, "COMMIT", NULL, NULL, NULL);
    if (r != SQLITE_OK) {
        snprintf(l->why, sizeof l->why, "%s", sqlite3_errmsg(l->writer));
        sqlite3_exec(l->writer, "ROLLBACK", NULL, NULL, NULL);
    }
    return r;
}

static void *work(void *arg)
{
    struct ledger *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->busy && !l->quit)
            pthread_cond_wait(&l->wake, &l->lock);
        if (!l->busy)
            break;
        pthread_mutex_unlock(&l->lock);
        int r = commit(l, &l->working);
        pthread_mutex_lock(&l->lock);
        if (r != SQLITE_OK) {
            if (!l->stalled)
                log_error("ledger_stalled", NULL, NULL,
                          "cannot commit to the ledger: %s; intake pauses, trying again every "
                          "second; free disk space below HOME/state",
                          l->why);
            l->stalled = true;
            if (l->quit)
                break;
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += RETRY_S;
            pthread_cond_timedwait(&l->wake, &l->lock, &until);
            continue;
        }
        if (l->stalled)
            log_info("ledger_resumed", NULL, NULL, "the ledger can be written again");
        l->stalled = l->busy = false;
        uint64_t one = 1;
        if (write(l->done_fd, &one, sizeof one) < 0) {
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Hands the pending batch to the worker when that is idle. */
static void hand_over(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    if (!l->busy && !l->working.first && l->pending.first && l->urgent) {
        l->working = l->pending;
        batch_init(&l->pending);
        l->urgent = false;
        l->busy = true;
        pthread_cond_signal(&l->wake);
    }
    pthread_mutex_unlock(&l->lock);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    hand_over(arg);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct ledger *l = arg;
    uint64_t n;
    (void)what;
    if (read(fd, &n, sizeof n) < 0)
        return;
    pthread_mutex_lock(&l->lock);
    struct op *op = l->working.first;
    batch_init(&l->working);
    pthread_mutex_unlock(&l->lock);
    while (op) {
        struct op *next = op->next;
        if (op->kind == OP_THEN)
            op->then.fn(op->then.arg);
        op_free(op);
        op = next;
    }
    hand_over(l);
}

static void on_lazy(evutil_socket_t fd, short what, void *arg)
{
    struct ledger *l = arg;
    (void)fd;
    (void)what;
    if (!l->pending.first)
        return; /* it went with others */
    l->urgent = true;
    hand_over(l);
}

static struct op *add(struct ledger *l, int kind, bool urgent)
{
    static const struct timeval lazy = {0, LAZY_MS * 1000};
    struct op *op = xcalloc(1, sizeof *op);
    op->kind = kind;
    if (urgent && !l->urgent)
        event_active(l->kick_ev, EV_TIMEOUT, 0);
    else if (!l->pending.first)
        event_add(l->lazy_ev, &lazy);
    l->urgent |= urgent;
    *l->pending.last = op;
    l->pending.last = &op->next;
    return op;
}

void ledger_put_file(struct ledger *l, struct file *f)
{
    add(l, OP_FILE, true)->file = file_copy(f);
    xstr_set(&f->quality, NULL);
}

void ledger_note_file(struct ledger *l, struct file *f)
{
    add(l, OP_FILE, false)->file = file_copy(f);
    xstr_set(&f->quality, NULL);
}

void ledger_sync_dir(struct ledger *l, const char *path)
{
    add(l, OP_SYNC, false)->dir = xstrdup(path);
}

void ledger_put_run(struct ledger *l, const struct run *r)
{
    add(l, OP_RUN, true)->run = run_copy(r);
}

void ledger_note_run(struct ledger *l, const struct run *r)
{
    add(l, OP_RUN, false)->run = run_copy(r);
}

void ledger_then(struct ledger *l, void (*fn)(void *arg), void *arg)
{
    struct op *op = add(l, OP_THEN, true);
    op->then.fn = fn;
    op->then.arg = arg;
}

void ledger_note_pruned(struct ledger *l, const char *run_id)
{
    add(l, OP_PRUNED, false)->id = xstrdup(run_id);
}

void ledger_note_expired(struct ledger *l, const char *file_id)
{
    add(l, OP_EXPIRED, false)->id = xstrdup(file_id);
}

bool ledger_stalled(const struct ledger *l, const char **ret_why)
{
    *ret_why = l->why;
    return l->stalled;
}

static int open_db(const char *path, sqlite3 **ret, struct err *e)
{
    int r = sqlite3_open_v2(path, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (r == SQLITE_OK) {
        sqlite3_busy_timeout(*ret, 10000);
        r = sqlite3_exec(*ret, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF;", NULL, NULL, NULL);
    }
    return r == SQLITE_OK ? 0 : err_set(e, -EIO, "%s", *ret ? sqlite3_errmsg(*ret) : "out of memory");
}

static int64_t query_i64(sqlite3 *db, const char *sql, const char *text, int64_t def)
{
    sqlite3_stmt *s = NULL;
    int64_t v = def;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
        if (text)
            bind_text(s, 1, text);
        if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
            v = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return v;
}

static int open_both(struct ledger *l, const char *path, struct err *e)
{
    int r = open_db(path, &l->writer, e);
    if (r < 0)
        return r;
    int64_t version = query_i64(l->writer, "SELECT value FROM meta WHERE key='schema_version'", NULL, 0);
    if (version > SCHEMA_VERSION)
        return err_set(e, ERR_VERSION, "schema version %lld is newer than this program's %d", (long long)version, SCHEMA_VERSION);
    if (sqlite3_exec(l->writer, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) != SQLITE_OK ||
        (version == 1 && sqlite3_exec(l->writer, from_1_to_2, NULL, NULL, NULL) != SQLITE_OK) ||
        sqlite3_exec(l->writer, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(l->writer, put_file_sql, -1, &l->put_file, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(l->writer, put_quality_sql, -1, &l->put_quality, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(l->writer, put_run_sql, -1, &l->put_run, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(l->writer, "UPDATE runs SET pruned=1 WHERE run_id=?1", -1, &l->mark_pruned, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(l->writer, "UPDATE files SET expired=1 WHERE file_id=?1", -1, &l->mark_expired, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "%s", sqlite3_errmsg(l->writer));
    return open_db(path, &l->reader, e);
}

int ledger_open(const struct home *h, struct event_base *base, struct ledger **ret, struct err *e)
{
    struct ledger *l = xcalloc(1, sizeof *l);
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    batch_init(&l->pending);
    batch_init(&l->working);
    int r = open_both(l, path, e);
    if (r < 0) {
        sqlite3_finalize(l->put_file);
        sqlite3_finalize(l->put_quality);
        sqlite3_finalize(l->put_run);
        sqlite3_finalize(l->mark_pruned);
        sqlite3_finalize(l->mark_expired);
        sqlite3_close(l->writer);
        sqlite3_close(l->reader);
        free(l);
        err_context(e,
                    "the ledger %s cannot be used, and nothing was started. Restore it (with its -wal file) from a "
                    "backup, or free disk space",
                    path);
        return r;
    }
    l->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->home_fd = h->dirfd;
    l->kick_ev = event_new(base, -1, 0, on_kick, l);
    l->lazy_ev = event_new(base, -1, 0, on_lazy, l);
    l->done_ev = event_new(base, l->done_fd, EV_READ | EV_PERSIST, on_done, l);
    event_add(l->done_ev, NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    pthread_create(&l->thread, NULL, work, l);
    *ret = l;
    return 0;
}

static void drop(struct batch *b)
{
    for (struct op *op = b->first; op;) {
        struct op *next = op->next;
        op_free(op);
        op = next;
    }
    batch_init(b);
}

void ledger_close(struct ledger *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    if (commit(l, &l->pending) != SQLITE_OK)
        log_error("ledger_close", NULL, NULL, "the last rows could not be committed: %s", l->why);
    drop(&l->working);
    drop(&l->pending);
    event_free(l->kick_ev);
    event_free(l->lazy_ev);
    event_free(l->done_ev);
    close(l->done_fd);
    sqlite3_finalize(l->put_file);
    sqlite3_finalize(l->put_quality);
    sqlite3_finalize(l->put_run);
    sqlite3_finalize(l->mark_pruned);
    sqlite3_finalize(l->mark_expired);
    sqlite3_close(l->reader);
    sqlite3_close(l->writer);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int ledger_tenant_uid(struct ledger *l, const char *tenant, int64_t uid_base, int64_t *ret_uid, struct err *e)
{
    int64_t uid = query_i64(l->reader, "SELECT uid FROM tenants WHERE id=?1", tenant, -1);
    if (uid < 0) {
        /* uid_base itself is the inspectors'. */
        int64_t top = query_i64(l->reader, "SELECT max(uid) FROM tenants", NULL, uid_base);
        uid = (top < uid_base ? uid_base : top) + 1;
        AUTO_FREE char *sql = xasprintf("INSERT INTO tenants(id, uid) VALUES('%s', %lld)", tenant, (long long)uid);
        if (sqlite3_exec(l->reader, sql, NULL, NULL, NULL) != SQLITE_OK)
            return err_set(e, -EIO, "cannot give tenant %s a uid: %s", tenant, sqlite3_errmsg(l->reader));
    }
    *ret_uid = uid;
    return 0;
}

int ledger_set_suspended(struct ledger *l, const char *tenant, bool suspended, struct err *e)
{
    AUTO_FREE char *sql = xasprintf("UPDATE tenants SET suspended=%d WHERE id='%s'", suspended, tenant);
    if (!conf_valid_id(tenant) || sqlite3_exec(l->reader, sql, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot store that tenant %s is %s: %s", tenant, suspended ? "suspended" : "active",
                       sqlite3_errmsg(l->reader));
    return 0;
}

bool ledger_is_suspended(struct ledger *l, const char *tenant)
{
    return query_i64(l->reader, "SELECT suspended FROM tenants WHERE id=?1", tenant, 0) != 0;
}

int ledger_set_purging(struct ledger *l, const char *tenant, int purging, struct err *e)
{
    AUTO_FREE char *sql =
        xasprintf("UPDATE tenants SET purging=%d, suspended=%s WHERE id='%s'", purging, purging == 2 ? "0" : "suspended", tenant);
    if (!conf_valid_id(tenant) || sqlite3_exec(l->reader, sql, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot store that tenant %s is removed: %s", tenant, sqlite3_errmsg(l->reader));
    return 0;
}

void ledger_take_up(struct ledger *l, const char *tenant)
{
    AUTO_FREE char *sql = xasprintf("UPDATE tenants SET purging=0 WHERE id='%s'", tenant);
    if (query_i64(l->reader, "SELECT purging FROM tenants WHERE id=?1", tenant, 0) == 2 &&
        sqlite3_exec(l->reader, sql, NULL, NULL, NULL) != SQLITE_OK)
        log_warn("ledger", tenant, NULL, "%s", sqlite3_errmsg(l->reader));
}

static char *column(sqlite3_stmt *s, int i)
{
    return xstrdup((const char *)sqlite3_column_text(s, i));
}

static void column_id(sqlite3_stmt *s, int i, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(s, i);
    snprintf(out, size, "%s", text ? text : "");
}

static struct file *row_to_file(sqlite3_stmt *s)
{
    struct file *f = xcalloc(1, sizeof *f);
    const char *raw = sqlite3_column_blob(s, 4);
    int state = file_state_parse((const char *)sqlite3_column_text(s, 8));
    int place = file_place_parse((const char *)sqlite3_column_text(s, 9));
    column_id(s, 0, f->file_id, sizeof f->file_id);
    f->tenant = column(s, 1);
    f->dataset = column(s, 2);
    f->name = column(s, 3);
    f->raw_name = raw ? xstrndup(raw, (size_t)sqlite3_column_bytes(s, 4)) : NULL;
    f->safe = column(s, 5);
    f->from = column(s, 6);
    f->app = column(s, 7);
    f->state = state < 0 ? FILE_quarantined : (enum file_state)state;
    f->place = place < 0 ? PLACE_gone : (enum file_place)place;
    f->reason = column(s, 10);
    f->detail = column(s, 11);
    f->size = sqlite3_column_int64(s, 12);
    f->rows = sqlite3_column_int64(s, 13);
    f->columns = sqlite3_column_int64(s, 14);
    column_id(s, 15, f->hash, sizeof f->hash);
    f->rows_parsed = sqlite3_column_int64(s, 16);
    f->rows_loaded = sqlite3_column_int64(s, 17);
    f->rows_rejected = sqlite3_column_int64(s, 18);
    f->quality = column(s, 19);
    f->attempts = sqlite3_column_int64(s, 20);
    f->losses = sqlite3_column_int64(s, 21);
    f->force = sqlite3_column_int(s, 22) != 0;
    f->received_wall_ms = sqlite3_column_int64(s, 23);
    f->started_wall_ms = sqlite3_column_int64(s, 24);
    f->ended_wall_ms = sqlite3_column_int64(s, 25);
    f->not_before_wall_ms = sqlite3_column_int64(s, 26);
    f->first_temp_wall_ms = sqlite3_column_int64(s, 27);
    column_id(s, 28, f->run_id, sizeof f->run_id);
    column_id(s, 29, f->output_run, sizeof f->output_run);
    column_id(s, 30, f->prefix, sizeof f->prefix);
    f->old_prefixes = column(s, 31);
    f->checkpoint = sqlite3_column_int64(s, 32);
    f->released_wall_ms = sqlite3_column_int64(s, 33);
    f->checked = sqlite3_column_int(s, 34) != 0;
    f->solo = sqlite3_column_int(s, 35) != 0;
    f->group_n = sqlite3_column_int64(s, 36);
    return f;
}

int ledger_each_live_file(struct ledger *l, void (*fn)(void *arg, struct file *f), void *arg, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(l->reader,
                               "SELECT * FROM files WHERE state IN('received','queued','running','waiting') OR "
                               "place='work' ORDER BY file_id",
                               -1, &s, NULL);
    while (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_ROW) {
        fn(arg, row_to_file(s));
        r = SQLITE_OK;
    }
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : err_set(e, -EIO, "cannot read the ledger: %s", sqlite3_errmsg(l->reader));
}

int ledger_get_file(struct ledger *l, const char *file_id, struct file **ret, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = -ENOENT;
    sqlite3_prepare_v2(l->reader, "SELECT * FROM files WHERE file_id=?1", -1, &s, NULL);
    bind_text(s, 1, file_id);
    if (sqlite3_step(s) == SQLITE_ROW) {
        *ret = row_to_file(s);
        r = 0;
    }
    sqlite3_finalize(s);
    return r < 0 ? err_set(e, r, "no file %s in the ledger", file_id) : 0;
}

int ledger_get_run(struct ledger *l, const char *run_id, struct run **ret, struct err *e)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(l->reader, "SELECT * FROM runs WHERE run_id=?1", -1, &s, NULL);
    bind_text(s, 1, run_id);
    if (sqlite3_step(s) != SQLITE_ROW) {
        sqlite3_finalize(s);
        return err_set(e, -ENOENT, "no run %s in the ledger", run_id);
    }
    struct run *r = run_new();
    const char *state = (const char *)sqlite3_column_text(s, 6), *outcome = (const char *)sqlite3_column_text(s, 7);
    column_id(s, 0, r->run_id, sizeof r->run_id);
    column_id(s, 1, r->file_id, sizeof r->file_id);
    r->tenant = column(s, 2);
    r->app = column(s, 3);
    r->step = column(s, 4);
    r->attempt = sqlite3_column_int64(s, 5);
    r->state = !strcmp(state, "ended") ? RUN_STATE_ended : !strcmp(state, "running") ? RUN_STATE_running : RUN_STATE_starting;
    r->outcome = outcome ? run_outcome_parse(outcome) : -1;
    r->exit_code = sqlite3_column_int(s, 8);
    r->signal = sqlite3_column_int(s, 9);
    r->limit = column(s, 10);
    r->error = column(s, 11);
    r->node = column(s, 12);
    r->forced = sqlite3_column_int(s, 13);
    r->started_wall_ms = sqlite3_column_int64(s, 14);
    r->ended_wall_ms = sqlite3_column_int64(s, 15);
    r->wall_s = sqlite3_column_double(s, 16);
    r->cpu_s = sqlite3_column_double(s, 17);
    r->max_rss_bytes = sqlite3_column_int64(s, 18);
    r->output_bytes_dropped = sqlite3_column_int64(s, 19);
    r->n_files = sqlite3_column_int64(s, 20);
    r->rows_parsed = sqlite3_column_int64(s, 21);
    r->rows_loaded = sqlite3_column_int64(s, 22);
    r->rows_rejected = sqlite3_column_int64(s, 23);
    sqlite3_finalize(s);
    *ret = r;
    return 0;
}

bool ledger_find_ingested(struct ledger *l, const char *tenant, const char *dataset, const char *hash, char ret_file_id[ID_SIZE],
                          char ret_prefix[33], int64_t *ret_group_n)
{
    sqlite3_stmt *s = NULL;
    bool found = false;
    sqlite3_prepare_v2(l->reader,
                       "SELECT file_id, prefix, group_n FROM files WHERE tenant=?1 AND dataset=?2 AND hash=?3 AND state='ingested' "
                       "ORDER BY file_id DESC LIMIT 1",
                       -1, &s, NULL);
    bind_text(s, 1, tenant);
    bind_text(s, 2, dataset);
    bind_text(s, 3, hash);
    if (sqlite3_step(s) == SQLITE_ROW) {
        column_id(s, 0, ret_file_id, ID_SIZE);
        column_id(s, 1, ret_prefix, 33);
        *ret_group_n = sqlite3_column_int64(s, 2);
        found = true;
    }
    sqlite3_finalize(s);
    return found;
}

void ledger_taken_since(struct ledger *l, const char *tenant, const char *dataset, int64_t wall_ms, int64_t *ret_files,
                        int64_t *ret_bytes)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(l->reader,
                       "SELECT count(*), sum(max(size,0)) FROM files WHERE tenant=?1 AND received_at>=?2 AND "
                       "state NOT IN('rejected','vanished') AND size>=0 AND (?3 IS NULL OR dataset=?3)",
                       -1, &s, NULL);
    bind_text(s, 1, tenant);
    bind_text(s, 3, dataset);
    sqlite3_bind_int64(s, 2, wall_ms);
    *ret_files = *ret_bytes = 0;
    if (sqlite3_step(s) == SQLITE_ROW) {
        *ret_files = sqlite3_column_int64(s, 0);
        *ret_bytes = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
}

static char **ids(sqlite3_stmt *s)
{
    char **v = xcalloc(1, sizeof *v);
    size_t n = 0;
    while (sqlite3_step(s) == SQLITE_ROW) {
        v = xrealloc(v, (n + 2) * sizeof *v);
        v[n++] = column(s, 0);
        v[n] = NULL;
    }
    sqlite3_finalize(s);
    return v;
}

char **ledger_purging(struct ledger *l)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(l->reader, "SELECT id FROM tenants WHERE purging=1", -1, &s, NULL);
    return ids(s);
}

static int purge_some(sqlite3 *db, const char *tenant, void (*fn)(void *arg, const char *run_id), void *arg)
{
    static const char *const deletes[] = {
        "DELETE FROM quality WHERE file_id IN(SELECT file_id FROM files WHERE tenant=?1 LIMIT 500)",
        "DELETE FROM files WHERE file_id IN(SELECT file_id FROM files WHERE tenant=?1 LIMIT 500)",
        "DELETE FROM runs WHERE run_id IN(SELECT run_id FROM runs WHERE tenant=?1 LIMIT 500)",
    };
    sqlite3_stmt *s = NULL;
    int n = 0, r = sqlite3_prepare_v2(db, "SELECT run_id FROM runs WHERE tenant=?1 LIMIT 500", -1, &s, NULL);
    bind_text(s, 1, tenant);
    while (r == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        fn(arg, (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (size_t i = 0; r == SQLITE_OK && i < sizeof deletes / sizeof *deletes; i++) {
        r = sqlite3_prepare_v2(db, deletes[i], -1, &s, NULL);
        bind_text(s, 1, tenant);
        if (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_DONE)
            r = SQLITE_OK;
        sqlite3_finalize(s);
        n += r == SQLITE_OK ? sqlite3_changes(db) : 0;
    }
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    return r == SQLITE_OK ? n : -EIO;
}

int ledger_purge(const struct home *h, const char *tenant, void (*fn)(void *arg, const char *run_id), void *arg, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    sqlite3 *db = NULL;
    int r = open_db(path, &db, e);
    while (r == 0) {
        int n = purge_some(db, tenant, fn, arg);
        if (n < 0)
            r = err_set(e, n, "cannot delete the tenant's rows of the ledger: %s", sqlite3_errmsg(db));
        if (n <= 0)
            break;
    }
    sqlite3_close(db);
    return r;
}

/* ?1 tenant, ?2 a time, ?3 how many at most. */
static char **ids_before(struct ledger *l, const char *sql, const char *tenant, int64_t wall_ms, int limit)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(l->reader, sql, -1, &s, NULL);
    bind_text(s, 1, tenant);
    sqlite3_bind_int64(s, 2, wall_ms);
    sqlite3_bind_int(s, 3, limit);
    return ids(s);
}

char **ledger_filed_before(struct ledger *l, const char *tenant, int64_t wall_ms, int limit)
{
    static const char sql[] = "SELECT file_id FROM files WHERE tenant=?1 AND ended_at>0 AND ended_at<?2 AND "
                              "place IN('done','quarantine') LIMIT ?3";
    return ids_before(l, sql, tenant, wall_ms, limit);
}

char **ledger_runs_before(struct ledger *l, const char *tenant, int64_t wall_ms, int limit)
{
    static const char sql[] = "SELECT run_id FROM runs WHERE tenant=?1 AND ended_at<?2 AND state='ended' AND pruned=0 AND run_id "
                              "NOT IN(SELECT output_run FROM files WHERE (state IN('received','queued','running','waiting') OR "
                              "place='work') AND output_run<>'') LIMIT ?3";
    return ids_before(l, sql, tenant, wall_ms, limit);
}

char **ledger_stored_before(struct ledger *l, const char *tenant, const char *dataset, int64_t wall_ms, int limit,
                            char ***ret_prefixes)
{
    sqlite3_stmt *s = NULL;
    char **v[2] = {xcalloc(1, sizeof **v), xcalloc(1, sizeof **v)};
    size_t n = 0;
    sqlite3_prepare_v2(
        l->reader,
        "SELECT file_id, prefix FROM files f WHERE tenant=?1 AND ended_at<?2 AND state='ingested' AND expired=0 AND "
        "prefix<>'' AND dataset=?4 AND NOT EXISTS(SELECT 1 FROM files g WHERE g.tenant=f.tenant AND "
        "g.dataset=f.dataset AND g.hash=f.hash AND g.state='ingested' AND g.prefix=f.prefix AND g.ended_at>=?2) LIMIT ?3",
        -1, &s, NULL);
    bind_text(s, 1, tenant);
    sqlite3_bind_int64(s, 2, wall_ms);
    sqlite3_bind_int(s, 3, limit);
    bind_text(s, 4, dataset);
    for (; sqlite3_step(s) == SQLITE_ROW; n++)
        for (int k = 0; k < 2; k++) {
            v[k] = xrealloc(v[k], (n + 2) * sizeof **v);
            v[k][n] = column(s, k);
            v[k][n + 1] = NULL;
        }
    sqlite3_finalize(s);
    *ret_prefixes = v[1];
    return v[0];
}

char **ledger_retryable(struct ledger *l, const char *tenant)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(
        l->reader,
        "SELECT file_id FROM files WHERE state IN('rejected','duplicate','vanished','quarantined') AND tenant=?1 AND "
        "state IN('quarantined','rejected') AND "
        "place IN('done','quarantine') ORDER BY file_id",
        -1, &s, NULL);
    bind_text(s, 1, tenant);
    return ids(s);
}
