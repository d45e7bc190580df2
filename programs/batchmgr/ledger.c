#include "ledger.h"
#include "ledger_rows.h"

#include "base/cond.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "db/continuity.h"
#include "db/db.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { RETRY_S = 1, LAZY_MS = 20 };

struct op {
    enum { OP_FILE, OP_RUN, OP_THEN, OP_SYNC, OP_PRUNED, OP_EXPIRED, OP_HAND_IN, OP_FORGET } kind;
    union {
        char *dir, *id;
        struct file *file;
        struct run *run;
        struct ledger_hand_in *hand_in;
        int64_t wall_ms; /* OP_FORGET: hand_ins before that */
        struct {
            void (*fn)(void *arg), (*drop)(void *arg);
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
    struct ledger_puts puts;
    struct continuity continuity; /* the worker's */
    struct event *kick_ev, *lazy_ev, *done_ev;
    bool urgent;                      /* something in `pending` is waited for */
    const struct ledger_watch *watch; /* NULL: nobody is told */
    void *watch_arg;
    int done_fd, home_fd;
    struct batch pending; /* loop only */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct batch working; /* owned by the worker while `busy` */
    bool busy, quit, stalled;
    char why[256];         /* of the commit that failed last; the worker's */
    char stalled_why[256]; /* the same for others, who hold the lock */
};

static void batch_init(struct batch *b)
{
    b->first = NULL;
    b->last = &b->first;
}

static void hand_in_free(struct ledger_hand_in *h)
{
    free(h->tenant);
    free(h->key);
    free(h->dataset);
    free(h->name);
    free(h);
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
    else if (op->kind == OP_HAND_IN)
        hand_in_free(op->hand_in);
    free(op);
}

static int write_op(struct ledger *l, const struct op *op)
{
    switch (op->kind) {
    case OP_FILE:
        return ledger_put_file_row(&l->puts, op->file);
    case OP_RUN:
        return ledger_put_run_row(&l->puts, op->run);
    case OP_PRUNED:
        return ledger_mark_row(l->puts.pruned, op->id);
    case OP_EXPIRED:
        return ledger_mark_row(l->puts.expired, op->id);
    case OP_HAND_IN:
        return ledger_put_hand_in_row(&l->puts, op->hand_in);
    case OP_FORGET:
        return ledger_forget_hand_in_rows(&l->puts, op->wall_ms);
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
        r = continuity_count(&l->continuity);
    if (r == SQLITE_OK)
        r = sqlite3_exec(l->writer, "COMMIT", NULL, NULL, NULL);
    if (r == SQLITE_OK)
        continuity_committed(&l->continuity);
    if (r != SQLITE_OK) {
        snprintf(l->why, sizeof l->why, "%s", db_why(l->writer));
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
            memcpy(l->stalled_why, l->why, sizeof l->why);
            if (l->quit)
                break;
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
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

static void tell_watch(struct ledger *l, const struct op *first)
{
    if (!l->watch)
        return;
    for (const struct op *op = first; op; op = op->next) {
        if (op->kind == OP_FILE)
            l->watch->file(l->watch_arg, op->file);
        else if (op->kind == OP_RUN)
            l->watch->run(l->watch_arg, op->run);
    }
    l->watch->committed(l->watch_arg);
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
    tell_watch(l, op);
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
        return; /* committed with an urgent row meanwhile */
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

void ledger_watch(struct ledger *l, const struct ledger_watch *w, void *arg)
{
    l->watch = w;
    l->watch_arg = arg;
}

static void add_file(struct ledger *l, struct file *f, bool urgent)
{
    add(l, OP_FILE, urgent)->file = file_copy(f);
    xstr_set(&f->quality, NULL);
    f->told = (int)f->state + 1;
    f->told_read = *f->hash != 0;
}

void ledger_put_file(struct ledger *l, struct file *f)
{
    add_file(l, f, true);
}

void ledger_note_file(struct ledger *l, struct file *f)
{
    add_file(l, f, false);
}

void ledger_sync_dir(struct ledger *l, const char *path)
{
    add(l, OP_SYNC, false)->dir = xstrdup(path);
}

static void add_run(struct ledger *l, struct run *r, bool urgent)
{
    add(l, OP_RUN, urgent)->run = run_copy(r);
    r->told = (int)r->state + 1;
}

void ledger_put_run(struct ledger *l, struct run *r)
{
    add_run(l, r, true);
}

void ledger_note_run(struct ledger *l, struct run *r)
{
    add_run(l, r, false);
}

void ledger_then(struct ledger *l, void (*fn)(void *arg), void *arg, void (*drop)(void *arg))
{
    struct op *op = add(l, OP_THEN, true);
    op->then.fn = fn;
    op->then.arg = arg;
    op->then.drop = drop;
}

void ledger_note_pruned(struct ledger *l, const char *run_id)
{
    add(l, OP_PRUNED, false)->id = xstrdup(run_id);
}

void ledger_note_expired(struct ledger *l, const char *file_id)
{
    add(l, OP_EXPIRED, false)->id = xstrdup(file_id);
}

void ledger_put_hand_in(struct ledger *l, const struct ledger_hand_in *h)
{
    struct ledger_hand_in *copy = xmalloc(sizeof *copy);
    *copy = *h;
    copy->tenant = xstrdup(h->tenant);
    copy->key = xstrdup(h->key);
    copy->dataset = xstrdup(h->dataset);
    copy->name = xstrdup(h->name);
    add(l, OP_HAND_IN, true)->hand_in = copy;
}

void ledger_forget_hand_ins(struct ledger *l, int64_t wall_ms)
{
    if (ledger_has_hand_in_before(l, wall_ms)) /* else a commit for nothing */
        add(l, OP_FORGET, false)->wall_ms = wall_ms;
}

bool ledger_stalled(struct ledger *l, char *ret_why, size_t size)
{
    pthread_mutex_lock(&l->lock);
    bool stalled = l->stalled;
    if (ret_why)
        snprintf(ret_why, size, "%s", l->stalled_why);
    pthread_mutex_unlock(&l->lock);
    return stalled;
}

static int open_tables(struct ledger *l, const char *path, struct err *e)
{
    int r = ledger_connect(path, &l->writer, e);
    if (r == 0)
        r = ledger_make_tables(l->writer, e);
    if (r == 0)
        r = ledger_puts_init(&l->puts, l->writer, e);
    if (r == 0)
        r = ledger_connect(path, &l->reader, e);
    if (r == ERR_VERSION)
        err_context(e, "the ledger %s cannot be used", path);
    else if (r < 0)
        err_context(e,
                    "the ledger %s cannot be used, and nothing was started. Restore it (with its -wal file) from a "
                    "backup, or free disk space",
                    path);
    return r;
}

int ledger_open(const struct home *h, struct event_base *base, struct ledger **ret, struct err *e)
{
    struct ledger *l = xcalloc(1, sizeof *l);
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    batch_init(&l->pending);
    batch_init(&l->working);
    l->continuity.fd = -1;
    int r = continuity_look(&continuity_ledger, h, e);
    if (r == 0)
        r = open_tables(l, path, e);
    if (r == 0)
        r = continuity_init(&l->continuity, &continuity_ledger, h, l->writer, e);
    if (r < 0) {
        continuity_fini(&l->continuity);
        ledger_puts_fini(&l->puts);
        sqlite3_close(l->writer);
        sqlite3_close(l->reader);
        free(l);
        return r;
    }
    l->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->home_fd = h->dirfd;
    l->kick_ev = event_new(base, -1, 0, on_kick, l);
    l->lazy_ev = event_new(base, -1, 0, on_lazy, l);
    l->done_ev = event_new(base, l->done_fd, EV_READ | EV_PERSIST, on_done, l);
    event_add(l->done_ev, NULL);
    pthread_mutex_init(&l->lock, NULL);
    cond_init_monotonic(&l->wake);
    pthread_create(&l->thread, NULL, work, l);
    *ret = l;
    return 0;
}

static void drop(struct batch *b)
{
    for (struct op *op = b->first; op;) {
        struct op *next = op->next;
        if (op->kind == OP_THEN && op->then.drop)
            op->then.drop(op->then.arg);
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
    if (!l->busy)
        tell_watch(l, l->working.first);
    if (commit(l, &l->pending) != SQLITE_OK)
        log_error("ledger_close", NULL, NULL, "the last rows could not be committed: %s", l->why);
    else
        tell_watch(l, l->pending.first);
    drop(&l->working);
    drop(&l->pending);
    event_free(l->kick_ev);
    event_free(l->lazy_ev);
    event_free(l->done_ev);
    close(l->done_fd);
    continuity_fini(&l->continuity);
    ledger_puts_fini(&l->puts);
    sqlite3_close(l->reader);
    sqlite3_close(l->writer);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

sqlite3 *ledger_reader(struct ledger *l)
{
    return l->reader;
}
