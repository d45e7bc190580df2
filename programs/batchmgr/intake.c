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
#include "names.h"
#include "retention.h"
#include "staging.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "base/space.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    CLAIMS_PER_TURN = 32, /* per tenant, so that a flood does not hold up a quiet one */
    MAX_CLAIMING = 128,   /* likewise, between the row and the rename, which are done as many at once as there are */
    STABLE_MS = 2000,
    WRITER_POLL_MS = 200,
    RETRY_MS = 1000,
    DISK_POLL_MS = 1000,
    SLOWED_MS = 100,
};

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
    intake_move(batchmgr_the(), arg);
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

int intake_open_copy(struct batchmgr *m, struct file *f, int fds[2])
{
    AUTO_FREE char *copy = in_path(f, ".copy");
    AUTO_FREE char *final = in_path(f, f->safe);
    AUTO_FREE char *staged = staged_key(f->from, f->raw_name ? f->raw_name : "");
    const char *source = fd_exists(m->home.dirfd, final) ? final : staged;
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
        fds[0] = fd_take(&from);
        fds[1] = fd_take(&to);
        return 0;
    }
    return -1;
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
void intake_move(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *work = xasprintf("work/%s", f->file_id);
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    AUTO_FREE char *to = in_path(f, f->safe);
    AUTO_FREE char *copied = in_path(f, ".copied");
    AUTO_FREE char *from = staged_key(f->from, f->raw_name ? f->raw_name : "");
    int r = fd_mkdirs(m->home.dirfd, in, 0711);
    crash_at(CRASH_intake_mkdir);
    if (r < 0) {
        if (!m->disk_low) /* which was said already, and a line a file and second would fill what is left */
            log_error("claim", f->tenant, NULL, "cannot make %s: %s; trying again", work, err_text(r));
        file_timer(m, f, RETRY_MS, on_move_again);
        return;
    }
    if (fd_exists(m->home.dirfd, copied)) {
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
            inspect_copy(m, f);
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
static int own(struct batchmgr *m, struct file *f, int fd)
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
    if (st.st_uid != geteuid() && !privs_is_root())
        return inspect_copy(m, f), 1;
    if (fchown(fd, geteuid(), t->gid >= 0 ? (gid_t)t->gid : (gid_t)-1) < 0 || fchmod(fd, 0440) < 0)
        return refuse(m, f, "unreadable", strerror(errno)), 1;
    crash_at(CRASH_intake_own);
    f->size = st.st_size;
    return 0;
}

/* Which this process' mounts do not open. */
static bool is_device(struct batchmgr *m, const char *path)
{
    struct stat st;
    return fstatat(m->home.dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
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
    if (fd < 0 && (errno == ENXIO || errno == ENODEV || (errno == EACCES && is_device(m, path)))) {
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
    if (own(m, f, fd))
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
    intake_move(m, f);
}

struct file *intake_new_file(struct batchmgr *m, struct tenant *t, const char *dataset, const char *from, const char *raw)
{
    struct file *f = file_new(t->id, dataset);
    home_new_id(f->file_id);
    f->raw_name = xstrdup(raw);
    f->name = names_shown(raw);
    f->safe = names_safe(raw);
    f->from = xstrdup(from);
    f->received_wall_ms = clk_wall_ms();
    map_put(&m->files, f->file_id, f);
    tenant_count_live(m, f, 1);
    return f;
}

/* ---- candidates ---- */

bool intake_is_ignored(const char *name)
{
    size_t n = strlen(name);
    return name[0] == '.' || (n >= 5 && !strcmp(name + n - 5, ".part"));
}

void intake_saw(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name)
{
    if (intake_is_ignored(name))
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
    struct file *f = intake_new_file(m, t, c->dataset, from, c->name);
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
    const int64_t min_bytes = m->conf->platform.min_free_bytes, min_inodes = m->conf->platform.min_free_inodes;
    bool low = false;
    (void)fd;
    (void)what;
    for (size_t i = 0; i < sizeof places / sizeof *places && !low; i++) {
        struct space s;
        AUTO_FREE char *path = home_path(&m->home, places[i]);
        if (space_of(path, &s) < 0)
            continue;
        low = space_is_low(&s, min_bytes, min_inodes);
        AUTO_FREE char *text = low && !m->disk_low ? space_text(&s, min_bytes, min_inodes) : NULL;
        if (text)
            log_error("disk_low", NULL, NULL, "%s: %s: intake and dispatch pause until there is space", path, text);
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

/* ---- start ---- */

int intake_start(struct batchmgr *m, struct err *e)
{
    signal(SIGIO, SIG_IGN); /* breaking a lease raises it */
    int r = staging_start(m, e);
    if (r < 0)
        return r;
    m->claim_ev = event_new(m->base, -1, 0, on_claim, m);
    m->rescan_ev = event_new(m->base, -1, 0, on_rescan, m);
    m->disk_ev = event_new(m->base, -1, EV_PERSIST, on_disk, m);
    walk_start(m);
    struct timeval tv = {DISK_POLL_MS / 1000, 0};
    event_add(m->disk_ev, &tv);
    on_disk(-1, 0, m);
    event_active(m->rescan_ev, EV_TIMEOUT, 0);
    return 0;
}

void intake_stop(struct batchmgr *m)
{
    struct event **evs[] = {&m->claim_ev, &m->rescan_ev, &m->disk_ev};
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
    staging_stop(m);
}

void intake_resume(struct batchmgr *m, struct file *f)
{
    if (f->place == PLACE_staging && f->raw_name) {
        AUTO_FREE char *key = staged_key(f->from, f->raw_name);
        map_put(&m->staged, key, f);
    }
    intake_move(m, f);
}

void intake_check_again(struct batchmgr *m, struct file *f)
{
    f->writer_since_ms = 0;
    check_claimed(m, f);
}
