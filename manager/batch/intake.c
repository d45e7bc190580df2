/* A file is claimed in steps, each of which recovery can find half done:
 *
 *   row       state received, place staging: committed before anything moves
 *   rename    staging/<tenant>/<dataset>/<name> -> work/<file_id>/in/<safe name>, from a held directory descriptor
 *   own       owner the platform, group the tenant, mode 0440: no new writer can come, not even through /proc
 *   lease     a read lease is refused while anybody has it open for writing; a writer that got in is waited for
 *
 * A name is looked at when inotify says that something closed or moved, and in a walk (walk.c) at start, after an inotify
 * overflow and every rescan_ms: inotify is a hint. Where leases are not to be had (network file systems, files of others
 * without privilege) a file counts as complete when size, mtime and ctime did not change for two seconds. Where the
 * rename is not possible, or the owner cannot be changed, an inspector copies the bytes:
 *
 *   copy      in/.copy is written and fsynced; renamed to in/.copied; the source is unlinked if it is still what was
 *             copied (size and mtime, which the copy carries); in/.copied is renamed to in/<safe name>
 */
#include "intake.h"
#include "admit.h"
#include "filing.h"
#include "inspect.h"
#include "retention.h"

#include "common/beneath.h"
#include "common/clk.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum {
    CLAIMS_PER_TURN = 32, /* per tenant, so that a flood does not hold up a quiet one */
    READS_PER_TURN = 64,  /* of inotify: as much as it holds by default */
    MAX_CLAIMING = 128,   /* likewise, between the row and the rename, which are done as many at once as there are */
    STABLE_MS = 2000,
    WRITER_POLL_MS = 200,
    RETRY_MS = 1000,
    DISK_POLL_MS = 1000,
    OVERFLOW_LOG_MS = 60000,
    SLOWED_MS = 100,
};

struct watch {
    char *tenant, *dataset;
};

struct upload {
    struct file *file;
    char *path;
};

static void wd_key(int wd, char out[16])
{
    snprintf(out, 16, "%d", wd);
}

char *intake_shown_name(const char *raw)
{
    AUTO_BUF struct buf b = {0};
    size_t n = strlen(raw);
    for (size_t i = 0; i < n;) {
        size_t len = utf8_len((const unsigned char *)raw + i, n - i);
        if (len)
            buf_add(&b, raw + i, len);
        else
            buf_addf(&b, "\\x%02x", (unsigned char)raw[i]);
        i += len ? len : 1;
    }
    return xstrndup(b.n ? b.p : "", b.n);
}

char *intake_safe_name(const char *raw)
{
    size_t n = strlen(raw), skip = n > 100 ? n - 100 : 0; /* the ending tells the format */
    char *safe = xstrdup(raw + skip);
    for (char *p = safe; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *p) || (p == safe && *p == '.'))
            *p = '_';
    if (!strcmp(safe, FILING_REASON)) /* which the platform writes beside it */
        safe[0] = '_';
    return safe;
}

static char *staged_key(const char *from, const char *raw_name)
{
    return xasprintf("%s/%s", from, raw_name);
}

bool intake_is_our_trouble(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* ---- claiming ---- */

static void check_claimed(struct batchmgr *m, struct file *f);
static void move_to_work(struct batchmgr *m, struct file *f);

static void on_check_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    file_timer_stop(arg);
    check_claimed(batchmgr_the(), arg);
}

static void on_move_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    file_timer_stop(arg);
    move_to_work(batchmgr_the(), arg);
}

static char *in_path(const struct file *f, const char *name)
{
    return xasprintf("work/%s/in/%s", f->file_id, name);
}

static void refuse(struct batchmgr *m, struct file *f, const char *reason, const char *detail)
{
    log_info("rejected", f->tenant, NULL, "%s (%s/%s): %s: %s", f->file_id, f->dataset, f->name, reason, detail);
    filing_finish(m, f, FILE_rejected, reason, detail, NULL);
}

static void unstage(struct batchmgr *m, struct file *f)
{
    if (!f->raw_name)
        return;
    AUTO_FREE char *key = staged_key(f->from, f->raw_name);
    if (map_get(&m->staged, key) == f)
        map_remove(&m->staged, key);
}

static void start_copy(struct batchmgr *m, struct file *f, const char *source)
{
    AUTO_FREE char *copy = in_path(f, ".copy");
    AUTO_FD int from = openat(m->home.dirfd, source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    AUTO_FD int to = from < 0 ? -1 : openat(m->home.dirfd, copy, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (from < 0 && errno == ENOENT) {
        filing_finish(m, f, FILE_vanished, "vanished", "it was removed before it could be claimed", NULL);
    } else if (from < 0 && (errno == EACCES || errno == ELOOP)) {
        refuse(m, f, errno == ELOOP ? "symlink" : "unreadable", "the platform may not open it");
    } else if (to < 0 || fstat(from, &st) < 0) {
        file_timer(m, f, RETRY_MS, on_move_again);
    } else if (!S_ISREG(st.st_mode)) {
        refuse(m, f, "not_regular", "only regular files can be ingested");
    } else {
        inspect_copy(m, f, fd_take(&from), fd_take(&to));
    }
}

static bool same_content_stamp(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* From in/.copied on: removes the source if it is what was copied, then gives the copy its name. */
static void finish_copy(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *copied = in_path(f, ".copied");
    AUTO_FREE char *final = in_path(f, f->safe);
    AUTO_FREE char *source = f->raw_name ? staged_key(f->from, f->raw_name) : NULL;
    struct stat a, b;
    if (source && fstatat(m->home.dirfd, copied, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
        fstatat(m->home.dirfd, source, &b, AT_SYMLINK_NOFOLLOW) == 0 && same_content_stamp(&a, &b))
        unlinkat(m->home.dirfd, source, 0);
    if (renameat(m->home.dirfd, copied, m->home.dirfd, final) < 0) {
        file_timer(m, f, RETRY_MS, on_move_again);
        return;
    }
    crash_at(CRASH_intake_copy);
    unstage(m, f);
    check_claimed(m, f);
}

void intake_copied(struct batchmgr *m, struct file *f, bool ok, const char *detail)
{
    AUTO_FREE char *copy = in_path(f, ".copy");
    AUTO_FREE char *copied = in_path(f, ".copied");
    AUTO_FREE char *source = staged_key(f->from, f->raw_name);
    AUTO_FREE char *final = in_path(f, f->safe);
    struct stat st;
    bool from_work = fstatat(m->home.dirfd, final, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!ok || (!from_work && fstatat(m->home.dirfd, source, &st, AT_SYMLINK_NOFOLLOW) < 0)) {
        log_warn("copy", f->tenant, NULL, "%s (%s): %s; trying again", f->file_id, f->name, detail);
        file_timer(m, f, STABLE_MS, on_move_again);
        return;
    }
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    utimensat(m->home.dirfd, copy, times, 0); /* lint: ours */
    if (renameat(m->home.dirfd, copy, m->home.dirfd, copied) < 0) {
        file_timer(m, f, RETRY_MS, on_move_again);
        return;
    }
    crash_at(CRASH_intake_copy);
    finish_copy(m, f);
}

/* After the row is committed. Also the way recovery takes: every step is skipped when its effect is there. */
static void move_to_work(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *work = xasprintf("work/%s", f->file_id);
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    AUTO_FREE char *to = in_path(f, f->safe);
    AUTO_FREE char *copied = in_path(f, ".copied");
    AUTO_FREE char *from = staged_key(f->from, f->raw_name ? f->raw_name : "");
    int r = fd_mkdirs(m->home.dirfd, in, 0711);
    crash_at(CRASH_intake_mkdir);
    if (r < 0) {
        log_error("claim", f->tenant, NULL, "cannot make %s: %s; trying again", work, err_text(r));
        file_timer(m, f, RETRY_MS, on_move_again);
        return;
    }
    if (faccessat(m->home.dirfd, copied, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        finish_copy(m, f);
        return;
    }
    struct stat st;
    bool there = fstatat(m->home.dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && renameat(m->home.dirfd, from, m->home.dirfd, to) < 0) {
        if (errno == ENOENT) {
            unstage(m, f);
            filing_finish(m, f, FILE_vanished, "vanished", "it was removed or renamed before it could be claimed", NULL);
        } else if (errno == EXDEV || errno == EPERM || errno == EACCES) {
            start_copy(m, f, from);
        } else {
            log_error("claim", f->tenant, NULL, "cannot move %s to %s: %s; trying again", from, to, strerror(errno));
            file_timer(m, f, RETRY_MS, on_move_again);
        }
        return;
    }
    crash_at(CRASH_intake_rename);
    unstage(m, f);
    check_claimed(m, f);
}

/* Regular, one link, then the platform's. 0, or 1 when it was finished or put off here. */
static int own(struct batchmgr *m, struct file *f, int fd, const char *path)
{
    const struct tenant *t = tenant_get(m, f->tenant);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return refuse(m, f, "unreadable", strerror(errno)), 1;
    if (S_ISDIR(st.st_mode))
        return refuse(m, f, "directory", "drop files, not directories"), 1;
    if (!S_ISREG(st.st_mode))
        return refuse(m, f, "not_regular", "only regular files can be ingested"), 1;
    if (st.st_nlink != 1)
        return refuse(m, f, "hard_link", "it has another name somewhere; copy it instead of linking it"), 1;
    if (st.st_uid != geteuid() && geteuid() != 0)
        return start_copy(m, f, path), 1;
    if (fchown(fd, geteuid(), t->gid >= 0 ? (gid_t)t->gid : (gid_t)-1) < 0 || fchmod(fd, 0440) < 0)
        return refuse(m, f, "unreadable", strerror(errno)), 1;
    crash_at(CRASH_intake_own);
    f->size = st.st_size;
    return 0;
}

static void check_claimed(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *path = in_path(f, f->safe);
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    const struct tenant *t = tenant_get(m, f->tenant);
    AUTO_FD int fd = openat(m->home.dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP) {
        refuse(m, f, "symlink", "links are not followed; drop the file itself");
        return;
    }
    if (fd < 0 && (errno == ENXIO || errno == ENODEV)) {
        refuse(m, f, "not_regular", "only regular files can be ingested");
        return;
    }
    if (fd < 0 && intake_is_our_trouble(errno)) {
        file_timer(m, f, RETRY_MS, on_check_again);
        return;
    }
    if (fd < 0) {
        refuse(m, f, "unreadable", strerror(errno));
        return;
    }
    if (own(m, f, fd, path))
        return;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN) {
        if (!f->writer_since_ms)
            f->writer_since_ms = clk_now_ms();
        if (clk_now_ms() - f->writer_since_ms >= m->conf->platform.writer_wait_s * 1000)
            refuse(m, f, "writer", "somebody still has it open for writing after writer_wait_s");
        else
            file_timer(m, f, WRITER_POLL_MS, on_check_again);
        return;
    }
    fcntl(fd, F_SETLEASE, F_UNLCK);
    struct stat st;
    if (fstat(fd, &st) == 0)
        f->size = st.st_size; /* the writer that was waited for may have added to it */
    if (t->gid >= 0 && beneath_own_dir(m->home.dirfd, in, -1, t->gid, 0750) < 0)
        log_warn("claim", f->tenant, NULL, "cannot give %s to the tenant's group: %s", in, strerror(errno));
    f->place = PLACE_work;
    ledger_note_file(m->ledger, f);
    admit_claimed(m, f);
}

static void claim_soon(struct batchmgr *m)
{
    struct timeval now = {0, 0}; /* after what came in meanwhile: an active event would come before it */
    if (m->n_candidates)
        event_add(m->claim_ev, &now);
}

static void on_row_committed(void *arg)
{
    struct batchmgr *m = batchmgr_the();
    struct file *f = arg;
    struct tenant *t = tenant_get(m, f->tenant);
    crash_at(CRASH_intake_row_commit);
    if (t->n_claiming-- == MAX_CLAIMING)
        claim_soon(m);
    move_to_work(m, f);
}

static struct file *new_file(struct batchmgr *m, struct tenant *t, const char *dataset, const char *from, const char *raw)
{
    struct file *f = file_new(t->id, dataset);
    home_new_id(f->file_id);
    f->raw_name = xstrdup(raw);
    f->name = intake_shown_name(raw);
    f->safe = intake_safe_name(raw);
    f->from = xstrdup(from);
    f->received_wall_ms = clk_wall_ms();
    map_put(&m->files, f->file_id, f);
    tenant_count_live(m, f, 1);
    return f;
}

/* ---- candidates ---- */

static bool is_ignored(const char *name)
{
    size_t n = strlen(name);
    return name[0] == '.' || (n >= 5 && !strcmp(name + n - 5, ".part"));
}

void intake_saw(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name)
{
    if (is_ignored(name))
        return;
    if (t->n_candidates >= INTAKE_MAX_CANDIDATES) {
        walk_begin(m, t, true); /* which waits until some of them are looked at */
        return;
    }
    struct candidate *c = xcalloc(1, sizeof *c);
    c->dataset = xstrdup(dataset);
    c->name = xstrdup(name);
    *t->last = c;
    t->last = &c->next;
    t->n_candidates++;
    m->n_candidates++;
    event_active(m->claim_ev, EV_TIMEOUT, 0);
}

/* A file that may still have a writer is looked at again. */
struct later {
    struct batchmgr *m;
    char *tenant, *dataset, *name;
    struct event *ev;
    LIST_ENTRY(later) others;
};

static void later_free(struct later *l)
{
    LIST_REMOVE(l, others);
    event_free(l->ev);
    free(l->tenant);
    free(l->dataset);
    free(l->name);
    free(l);
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
    struct later *l = arg;
    (void)fd;
    (void)what;
    intake_saw(l->m, tenant_get(l->m, l->tenant), l->dataset, l->name);
    later_free(l);
}

static void look_later(struct batchmgr *m, const struct tenant *t, const struct candidate *c, int64_t ms)
{
    struct later *l = xmalloc(sizeof *l);
    *l = (struct later){.m = m, .tenant = xstrdup(t->id), .dataset = xstrdup(c->dataset), .name = xstrdup(c->name)};
    l->ev = event_new(m->base, -1, 0, on_later, l);
    LIST_INSERT_HEAD(&m->laters, l, others);
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    event_add(l->ev, &tv);
}

/* True when nobody writes to it any more, as far as this host can tell. */
static bool is_complete(struct batchmgr *m, const struct tenant *t, const struct candidate *c, int dir, const struct stat *st)
{
    AUTO_FD int fd = openat(dir, c->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        fcntl(fd, F_SETLEASE, F_UNLCK);
        return true;
    }
    if (fd >= 0 && errno == EAGAIN)
        return false; /* closing it will raise an inotify event */
    int64_t changed = (int64_t)(st->st_mtim.tv_sec > st->st_ctim.tv_sec ? st->st_mtim.tv_sec : st->st_ctim.tv_sec);
    int64_t left = (changed + 1) * 1000 + STABLE_MS - clk_wall_ms();
    if (left <= 0)
        return true;
    look_later(m, t, c, left > STABLE_MS + 1000 ? STABLE_MS : left);
    return false;
}

static void try_claim(struct batchmgr *m, struct tenant *t, const struct candidate *c)
{
    AUTO_FREE char *from = xasprintf("staging/%s/%s", t->id, c->dataset);
    AUTO_FREE char *key = staged_key(from, c->name);
    struct stat st;
    if (map_get(&m->staged, key) || !tenant_accepts(t))
        return;
    AUTO_FD int dir = openat(m->home.dirfd, from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || fstatat(dir, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        m->rescan_wanted |= intake_is_our_trouble(errno);
        return;
    }
    if (S_ISREG(st.st_mode) && !is_complete(m, t, c, dir, &st))
        return;
    struct file *f = new_file(m, t, c->dataset, from, c->name);
    map_put(&m->staged, key, f);
    t->n_claiming++;
    ledger_put_file(m->ledger, f);
    ledger_then(m->ledger, on_row_committed, f);
}

bool intake_refused(struct tenant *t)
{
    int64_t now_ms = clk_now_ms();
    refusals_count(&t->refusals, now_ms);
    if (refusals_must_tell(&t->refusals, now_ms))
        log_warn("slowed", t->id, NULL, "%d of its files were refused; until it delivers others, about %d a second are taken in",
                 REFUSALS_AT_ONCE, REFUSALS_PER_S);
    return refusals_slow_down(&t->refusals, now_ms);
}

static bool is_slowed(struct tenant *t)
{
    return refusals_slow_down(&t->refusals, clk_now_ms());
}

bool intake_is_slowed(struct tenant *t)
{
    return t->first && is_slowed(t);
}

static bool may_claim(struct tenant *t)
{
    return t->first && t->n_claiming < MAX_CLAIMING && !is_slowed(t);
}

static bool is_paused(struct batchmgr *m)
{
    return m->disk_low || m->draining || ledger_stalled(m->ledger, NULL, 0);
}

static void free_candidate(struct candidate *c)
{
    free(c->dataset);
    free(c->name);
    free(c);
}

static void on_claim(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    size_t i = 0;
    (void)fd;
    (void)what;
    bool more = false, slowed = false;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        for (int n = 0; n < CLAIMS_PER_TURN && may_claim(t); n++) {
            struct candidate *c = t->first;
            t->first = c->next;
            if (!t->first)
                t->last = &t->first;
            t->n_candidates--;
            m->n_candidates--;
            if (is_paused(m))
                m->rescan_wanted = true; /* the scan after the pause finds it again */
            else
                try_claim(m, t, c);
            free_candidate(c);
        }
        more |= may_claim(t);
        slowed |= t->first && is_slowed(t);
        if (t->walk.on)
            walk_go_on(m);
    }
    struct timeval later = {0, SLOWED_MS * 1000};
    if (more)
        claim_soon(m);
    else if (slowed)
        event_add(m->claim_ev, &later);
}

static void walk_all(struct batchmgr *m, bool missed)
{
    size_t i = 0;
    m->rescan_wanted = false;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        if (missed || !t->n_candidates) /* what is still to be looked at comes first */
            walk_begin(m, t, missed);
}

void intake_rescan(struct batchmgr *m)
{
    walk_all(m, true);
}

static void on_rescan(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    walk_all(m, false);
    retention_kick(m);
    struct timeval tv = {m->conf->platform.rescan_ms / 1000, m->conf->platform.rescan_ms % 1000 * 1000};
    event_add(m->rescan_ev, &tv);
}

/* Below the floor intake pauses; it goes on by itself. */
static void on_disk(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    static const char *const places[] = {"staging", "state", "logs", "runs", "work"};
    bool low = false;
    (void)fd;
    (void)what;
    for (size_t i = 0; i < sizeof places / sizeof *places && !low; i++) {
        struct statvfs v;
        AUTO_FREE char *path = home_path(&m->home, places[i]);
        if (statvfs(path, &v) < 0)
            continue;
        int64_t free_bytes = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
        low = free_bytes < m->conf->platform.min_free_bytes;
        if (low && !m->disk_low)
            log_error("disk_low", NULL, NULL,
                      "%lld bytes are free under %s, min_free_bytes is %lld: intake and dispatch "
                      "pause until there is space",
                      (long long)free_bytes, path, (long long)m->conf->platform.min_free_bytes);
    }
    if (!low && m->disk_low) {
        log_info("disk_ok", NULL, NULL, "there is disk space again: intake goes on");
        m->disk_low = false;
        intake_rescan(m);
        batchmgr_kick(m);
    }
    m->disk_low = low;
    if (m->rescan_wanted && !is_paused(m))
        intake_rescan(m);
}

static void on_overflow(struct batchmgr *m)
{
    int64_t now_ms = clk_now_ms();
    if (!m->overflow_logged_ms || now_ms - m->overflow_logged_ms > OVERFLOW_LOG_MS) {
        log_warn("inotify_overflow", NULL, NULL, "too many changes at once; looking at everything");
        m->overflow_logged_ms = now_ms;
    }
    intake_rescan(m);
}

static bool read_inotify(struct batchmgr *m)
{
    char chunk[16384] __attribute__((aligned(8)));
    ssize_t n = read(m->inotify_fd, chunk, sizeof chunk);
    for (ssize_t i = 0; i < n;) {
        const struct inotify_event *ev = (const struct inotify_event *)(chunk + i);
        char key[16];
        i += (ssize_t)(sizeof *ev + ev->len);
        if (ev->mask & IN_Q_OVERFLOW) {
            on_overflow(m);
            continue;
        }
        if (!ev->len || is_ignored(ev->name))
            continue;
        wd_key(ev->wd, key);
        const struct watch *w = map_get(&m->watches, key);
        if (w)
            intake_saw(m, tenant_get(m, w->tenant), w->dataset, ev->name);
    }
    return n > 0;
}

/* All that there is, or a quiet tenant's name would wait behind a flood of another's: claims are shared, this queue is not. */
static void on_inotify(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    for (int i = 0; i < READS_PER_TURN && read_inotify(arg); i++)
        ;
}

/* ---- start ---- */

/* Owner and mode are changed by descriptor: whatever a tenant put there before the directory was wanted, no link is followed. */
static int make_staging(struct batchmgr *m, const struct tenant *t, const char *path, mode_t mode, struct err *e)
{
    if (mkdirat(m->home.dirfd, path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", path);
    int r = beneath_own_dir(m->home.dirfd, path, t->gid >= 0 ? (int64_t)geteuid() : -1, t->gid, mode);
    if (r == -ELOOP || r == -ENOTDIR)
        return err_set(e, ERR_REFUSED, "%s is no directory; remove it", path);
    return r < 0 ? err_sys(e, r, "cannot give %s to tenant %s", path, t->id) : 0;
}

/* Of the tenant alone from when it is made, or from when it was open to all (a version before this): whoever narrowed it otherwise,
 * for a group that deploys, say, is left alone. A link is the provider's too: only he can write there. */
static void keep_others_out(struct batchmgr *m, const struct tenant *t, const char *path)
{
    struct stat st;
    mkdirat(m->home.dirfd, path, 0755);
    if (fstatat(m->home.dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || !(st.st_mode & 0007))
        return;
    int r = beneath_own_dir(m->home.dirfd, path, -1, t->gid, st.st_mode & 07770);
    if (r < 0)
        log_warn("modes", t->id, NULL, "%s stays readable for every account: %s", path, err_text(r));
}

static int add_dataset(struct batchmgr *m, const struct tenant *t, const char *dataset, struct err *e)
{
    AUTO_FREE char *rel = xasprintf("staging/%s/%s", t->id, dataset);
    AUTO_FREE char *path = home_path(&m->home, rel);
    int r = make_staging(m, t, rel, 01770, e);
    if (r == ERR_REFUSED) { /* the tenant's own doing: nobody else waits for that */
        log_error("staging", t->id, NULL, "%s; until then nothing is taken in for this dataset", e->msg);
        return 0;
    }
    if (r < 0)
        return r;
    int wd = inotify_add_watch(m->inotify_fd, path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW);
    if (wd < 0) {
        log_warn("inotify", t->id, NULL, "cannot watch %s: %s; new files there are found every rescan_ms", path, strerror(errno));
        return 0;
    }
    char key[16];
    wd_key(wd, key);
    if (map_get(&m->watches, key))
        return 0;
    struct watch *w = xmalloc(sizeof *w);
    *w = (struct watch){xstrdup(t->id), xstrdup(dataset)};
    map_put(&m->watches, key, w);
    return 0;
}

int intake_add_tenant(struct batchmgr *m, struct tenant *t, struct err *e)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    const struct conf_dataset *d = c->datasets.v;
    AUTO_FREE char *rel = xasprintf("staging/%s", t->id);
    AUTO_FREE char *apps = xasprintf("apps/%s", t->id);
    int r = make_staging(m, t, rel, 0750, e); /* what lies in it is ours to make */
    AUTO_FREE char *logs = xasprintf("logs/tenants/%s", t->id);
    keep_others_out(m, t, apps);
    keep_others_out(m, t, logs);
    for (size_t i = 0; r == 0 && i < c->datasets.n; i++)
        r = add_dataset(m, t, d[i].name, e);
    return r;
}

void intake_clean_uploads(struct batchmgr *m)
{
    DIR *d = fd_open_dir(m->home.dirfd, "staging/.incoming");
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (home_valid_id(ent->d_name) && !map_get(&m->files, ent->d_name))
            unlinkat(dirfd(d), ent->d_name, 0);
    if (d)
        closedir(d);
}

int intake_start(struct batchmgr *m, struct err *e)
{
    signal(SIGIO, SIG_IGN); /* breaking a lease raises it */
    m->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (m->inotify_fd < 0)
        return err_sys(e, -errno, "cannot use inotify (too many instances? see /proc/sys/fs/inotify)");
    m->inotify_ev = event_new(m->base, m->inotify_fd, EV_READ | EV_PERSIST, on_inotify, m);
    m->claim_ev = event_new(m->base, -1, 0, on_claim, m);
    m->rescan_ev = event_new(m->base, -1, 0, on_rescan, m);
    m->disk_ev = event_new(m->base, -1, EV_PERSIST, on_disk, m);
    walk_start(m);
    event_add(m->inotify_ev, NULL);
    struct timeval tv = {DISK_POLL_MS / 1000, 0};
    event_add(m->disk_ev, &tv);
    on_disk(-1, 0, m);
    event_active(m->rescan_ev, EV_TIMEOUT, 0);
    return 0;
}

void intake_stop(struct batchmgr *m)
{
    struct event **evs[] = {&m->inotify_ev, &m->claim_ev, &m->rescan_ev, &m->disk_ev};
    size_t i = 0;
    for (size_t k = 0; k < sizeof evs / sizeof *evs; k++)
        if (*evs[k]) {
            event_free(*evs[k]);
            *evs[k] = NULL;
        }
    walk_stop(m);
    while (!LIST_EMPTY(&m->laters))
        later_free(LIST_FIRST(&m->laters));
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        for (struct candidate *c; (c = t->first);) {
            t->first = c->next;
            free_candidate(c);
        }
    i = 0;
    if (m->inotify_fd >= 0)
        close(fd_take(&m->inotify_fd));
    for (struct watch *w; (w = map_next(&m->watches, &i));) {
        free(w->tenant);
        free(w->dataset);
        free(w);
    }
    map_fini(&m->watches);
}

void intake_resume(struct batchmgr *m, struct file *f)
{
    if (f->place == PLACE_staging && f->raw_name) {
        AUTO_FREE char *key = staged_key(f->from, f->raw_name);
        map_put(&m->staged, key, f);
    }
    move_to_work(m, f);
}

void intake_check_again(struct batchmgr *m, struct file *f)
{
    f->writer_since_ms = 0;
    check_claimed(m, f);
}

/* ---- uploads ---- */

int intake_upload_begin(struct batchmgr *m, const char *tenant, const char *dataset, const char *name, int64_t size,
                        const char *app, bool force, char ret_id[ID_SIZE], char **ret_path, struct err *e)
{
    struct tenant *t = map_get(&m->tenants, tenant);
    const struct conf_tenant *c = t ? tenant_conf(m, t) : NULL;
    char why[256];
    if (!c)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (t->suspended)
        return err_set(e, ERR_REFUSED, "tenant %s is suspended", tenant);
    const struct conf_dataset *d = conf_dataset(c, dataset);
    if (!d)
        return err_set(e, ERR_REFUSED, "tenant %s has no dataset \"%s\"; see %s", tenant, dataset, c->file);
    if (app && !conf_app(c, app))
        return err_set(e, ERR_REFUSED, "tenant %s has no app \"%s\"; see %s", tenant, app, c->file);
    if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..") || strlen(name) > 255)
        return err_set(e, ERR_REFUSED, "\"%s\" is no file name", name);
    if (m->draining)
        return err_set(e, ERR_REFUSED, "the platform is going down");
    if (m->disk_low)
        return err_set(e, ERR_REFUSED, "intake is paused: less than min_free_bytes of disk space is free");
    if (ledger_stalled(m->ledger, why, sizeof why))
        return err_set(e, ERR_REFUSED, "intake is paused: the ledger cannot be written (%s)", why);
    struct conf_limits l = conf_effective_limits(c, d);
    struct file *f = new_file(m, t, dataset, "staging/.incoming", name);
    f->app = xstrdup(app);
    f->force = force;
    memcpy(ret_id, f->file_id, ID_SIZE);
    if (l.max_file_bytes >= 0 && size > l.max_file_bytes) {
        /* Not worth the transfer; the ledger says so all the same. */
        char detail[200];
        f->size = size;
        snprintf(detail, sizeof detail, "%lld bytes; %lld are allowed", (long long)size, (long long)l.max_file_bytes);
        xstr_set(&f->raw_name, NULL);
        filing_finish(m, f, FILE_rejected, "max_file_bytes", detail, NULL);
        return err_set(e, ERR_REFUSED, "rejected: max_file_bytes: %s (file %s)", detail, ret_id);
    }
    struct upload *u = xmalloc(sizeof *u);
    AUTO_FREE char *rel = xasprintf("staging/.incoming/%s", f->file_id);
    xstr_set(&f->raw_name, f->file_id); /* its name in .incoming */
    *u = (struct upload){f, home_path(&m->home, rel)};
    map_put(&m->uploads, f->file_id, u);
    *ret_path = xstrdup(u->path);
    return 0;
}

static struct file *take_upload(struct batchmgr *m, const char *id)
{
    struct upload *u = map_remove(&m->uploads, id);
    struct file *f = u ? u->file : NULL;
    if (u)
        free(u->path);
    free(u);
    return f;
}

struct committed {
    struct batchmgr *m;
    struct file *f;
    void (*done)(void *arg, const char *file_id);
    void *arg;
};

static void on_upload_committed(void *arg)
{
    struct committed *c = arg;
    crash_at(CRASH_upload_commit);
    c->done(c->arg, c->f->file_id);
    move_to_work(c->m, c->f);
    free(c);
}

int intake_upload_commit(struct batchmgr *m, const char *id, void (*done)(void *arg, const char *file_id), void *arg, struct err *e)
{
    struct file *f = take_upload(m, id);
    if (!f)
        return err_set(e, ERR_REFUSED, "no upload %s is open (was batchmgr restarted?); upload the file again", id);
    struct committed *c = xmalloc(sizeof *c);
    *c = (struct committed){m, f, done, arg};
    ledger_put_file(m->ledger, f);
    ledger_then(m->ledger, on_upload_committed, c);
    return 0;
}

void intake_abort_uploads(struct batchmgr *m, const char *tenant)
{
    for (bool again = true; again;) {
        size_t i = 0;
        again = false;
        for (struct upload *u; !again && (u = map_next(&m->uploads, &i));)
            if (!strcmp(u->file->tenant, tenant)) {
                char id[ID_SIZE];
                memcpy(id, u->file->file_id, ID_SIZE);
                intake_upload_abort(m, id);
                again = true;
            }
    }
}

void intake_upload_abort(struct batchmgr *m, const char *id)
{
    struct file *f = take_upload(m, id);
    if (!f)
        return;
    AUTO_FREE char *path = xasprintf("staging/.incoming/%s", id);
    unlinkat(m->home.dirfd, path, 0);
    map_remove(&m->files, f->file_id);
    tenant_count_live(m, f, -1);
    file_free(f);
}
