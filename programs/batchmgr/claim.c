/* A file is claimed in steps, each of which recovery can find half done:
 *
 *   row       state received, place staging: committed before anything moves
 *   rename    staging/<tenant>/<dataset>/<name> -> work/<file_id>/in/<safe name>, from a held directory descriptor
 *   own       owner the platform, group the tenant, mode 0440: no new writer can come, not even through /proc
 *   lease     a read lease is refused while anybody has it open for writing; a writer that got in is waited for
 *
 * Where leases are not to be had (network file systems, files of others without privilege) a file counts as complete when
 * size, mtime and ctime did not change for two seconds. Where the rename is not possible, or the owner cannot be changed, an
 * inspector copies the bytes:
 *
 *   copy      in/.copy is written and fsynced; renamed to in/.copied; the source is unlinked if it is still what was
 *             copied (size and mtime, which the copy carries); in/.copied is renamed to in/<safe name>
 */
#include "claim.h"
#include "admit.h"
#include "candidates.h"
#include "files.h"
#include "filing.h"
#include "inspect.h"
#include "ledger.h"
#include "names.h"
#include "spool.h"
#include "state.h"
#include "tenants.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { STABLE_MS = 2000, WRITER_POLL_MS = 200, RETRY_MS = 1000 };

struct claims {
    struct map staged; /* "directory/name" -> the file that is made of it */
};

static void check_claimed(struct batchmgr *m, struct file *f);

static char *staged_key(const char *from, const char *raw_name)
{
    return xasprintf("%s/%s", from, raw_name);
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
    if (map_get(&m->claims->staged, key) == f)
        map_remove(&m->claims->staged, key);
}

void claim_stage(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *key = staged_key(f->from, f->raw_name);
    map_put(&m->claims->staged, key, f);
}

bool claim_is_staged(struct batchmgr *m, const char *from, const char *name)
{
    AUTO_FREE char *key = staged_key(from, name);
    return map_get(&m->claims->staged, key) != NULL;
}

/* It could not even be moved. What a tenant dropped stays there and is not looked at again; the spool is swept. */
static void refuse_staged(struct batchmgr *m, struct file *f, const char *reason, const char *detail)
{
    if (spool_brought(f))
        unstage(m, f);
    refuse(m, f, reason, detail);
}

/* What is wrong with who has it. NULL: nothing; else the reason, whose text is in *ret_detail. What a tenant's directory holds may
 * be anybody's: the tenant let him put it there. */
static const char *whose_is_wrong(struct batchmgr *m, const struct file *f, const struct stat *st, const char **ret_detail)
{
    if (st->st_nlink != 1) {
        *ret_detail = "it has another name somewhere; copy it instead of linking it";
        return "hard_link";
    }
    if (spool_brought(f) && !spool_may_hold(m, st)) {
        *ret_detail = "it is not the gateway's, which handed it in";
        return "owner";
    }
    return NULL;
}

/* ---- by copying ---- */

static int open_copy(struct batchmgr *m, struct file *f, int fds[2])
{
    AUTO_FREE char *copy = file_in_path(f, ".copy");
    AUTO_FREE char *final = file_in_path(f, f->safe);
    AUTO_FREE char *staged = staged_key(f->from, f->raw_name ? f->raw_name : "");
    const char *source = fd_exists(m->home.dirfd, final) ? final : staged;
    AUTO_FD int from = openat(m->home.dirfd, source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const char *reason, *detail;
    AUTO_FD int to = from < 0 ? -1 : openat(m->home.dirfd, copy, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (from < 0 && errno == ENOENT) {
        unstage(m, f);
        filing_finish(m, f, FILE_vanished, "vanished", "it was removed before it could be claimed", NULL);
    } else if (from < 0 && (errno == EACCES || errno == ELOOP)) {
        refuse_staged(m, f, errno == ELOOP ? "symlink" : "unreadable", "the platform may not open it");
    } else if (to < 0 || fstat(from, &st) < 0) {
        file_timer(m, f, RETRY_MS, claim_move);
    } else if (!S_ISREG(st.st_mode)) {
        refuse_staged(m, f, "not_regular", "only regular files can be ingested");
    } else if (spool_brought(f) && (reason = whose_is_wrong(m, f, &st, &detail))) {
        refuse_staged(m, f, reason, detail);
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
    AUTO_FREE char *copied = file_in_path(f, ".copied");
    AUTO_FREE char *final = file_in_path(f, f->safe);
    AUTO_FREE char *source = f->raw_name ? staged_key(f->from, f->raw_name) : NULL;
    struct stat a, b;
    if (source && fstatat(m->home.dirfd, copied, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
        fstatat(m->home.dirfd, source, &b, AT_SYMLINK_NOFOLLOW) == 0 && same_content_stamp(&a, &b))
        unlinkat(m->home.dirfd, source, 0);
    if (renameat(m->home.dirfd, copied, m->home.dirfd, final) < 0) {
        file_timer(m, f, RETRY_MS, claim_move);
        return;
    }
    crash_at(CRASH_intake_copy);
    f->unsynced = false;
    unstage(m, f);
    check_claimed(m, f);
}

static void on_copied(struct batchmgr *m, struct file *f, bool ok, const char *detail)
{
    AUTO_FREE char *copy = file_in_path(f, ".copy");
    AUTO_FREE char *copied = file_in_path(f, ".copied");
    AUTO_FREE char *source = staged_key(f->from, f->raw_name);
    AUTO_FREE char *final = file_in_path(f, f->safe);
    struct stat st;
    bool from_work = fstatat(m->home.dirfd, final, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!ok || (!from_work && fstatat(m->home.dirfd, source, &st, AT_SYMLINK_NOFOLLOW) < 0)) {
        log_warn("copy", f->tenant, NULL, "%s (%s): %s; trying again", f->file_id, f->name, detail);
        file_timer(m, f, STABLE_MS, claim_move);
        return;
    }
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    utimensat(m->home.dirfd, copy, times, 0); /* lint: ours */
    if (renameat(m->home.dirfd, copy, m->home.dirfd, copied) < 0) {
        file_timer(m, f, RETRY_MS, claim_move);
        return;
    }
    crash_at(CRASH_intake_copy);
    finish_copy(m, f);
}

static const struct inspect_copy_ops copy_ops = {open_copy, on_copied};

/* ---- by renaming ---- */

/* Runs after the row's commit, and again in recovery: a step whose effect is there already is skipped. */
void claim_move(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *work = xasprintf("work/%s", f->file_id);
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    AUTO_FREE char *to = file_in_path(f, f->safe);
    AUTO_FREE char *copied = file_in_path(f, ".copied");
    AUTO_FREE char *from = staged_key(f->from, f->raw_name ? f->raw_name : "");
    int r = fd_mkdirs(m->home.dirfd, in, 0711);
    crash_at(CRASH_intake_mkdir);
    if (r < 0) {
        if (!m->disk_low) /* the low disk is logged already; a line for each file and second would fill the rest of it */
            log_error("claim", f->tenant, NULL, "cannot make %s: %s; trying again", work, err_text(r));
        file_timer(m, f, RETRY_MS, claim_move);
        return;
    }
    if (fd_exists(m->home.dirfd, copied)) {
        finish_copy(m, f);
        return;
    }
    if (f->unsynced) {
        inspect_copy(m, f, &copy_ops);
        return;
    }
    struct stat st;
    bool there = fstatat(m->home.dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && renameat(m->home.dirfd, from, m->home.dirfd, to) < 0) {
        if (errno == ENOENT) {
            unstage(m, f);
            filing_finish(m, f, FILE_vanished, "vanished", "it was removed or renamed before it could be claimed", NULL);
        } else if (errno == EXDEV || errno == EPERM || errno == EACCES) {
            inspect_copy(m, f, &copy_ops);
        } else {
            log_error("claim", f->tenant, NULL, "cannot move %s to %s: %s; trying again", from, to, strerror(errno));
            file_timer(m, f, RETRY_MS, claim_move);
        }
        return;
    }
    crash_at(CRASH_intake_rename);
    unstage(m, f);
    check_claimed(m, f);
}

/* Checks that it is a regular file with one link, and makes the platform its owner. 1: the file was finished or put off instead. */
static int own(struct batchmgr *m, struct file *f, int fd)
{
    const struct tenant *t = tenant_get(m, f->tenant);
    const char *reason, *detail;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return refuse(m, f, "unreadable", strerror(errno)), 1;
    if (S_ISDIR(st.st_mode))
        return refuse(m, f, "directory", "drop files, not directories"), 1;
    if (!S_ISREG(st.st_mode))
        return refuse(m, f, "not_regular", "only regular files can be ingested"), 1;
    if ((reason = whose_is_wrong(m, f, &st, &detail)))
        return refuse(m, f, reason, detail), 1;
    if (st.st_uid != geteuid() && !privs_is_root())
        return inspect_copy(m, f, &copy_ops), 1;
    if (fchown(fd, geteuid(), t->gid >= 0 ? (gid_t)t->gid : (gid_t)-1) < 0 || fchmod(fd, 0440) < 0)
        return refuse(m, f, "unreadable", strerror(errno)), 1;
    crash_at(CRASH_intake_own);
    f->size = st.st_size;
    return 0;
}

/* Device nodes cannot be opened here: this process' mounts are nodev. */
static bool is_device(struct batchmgr *m, const char *path)
{
    struct stat st;
    return fstatat(m->home.dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static void check_claimed(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *path = file_in_path(f, f->safe);
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
    if (fd < 0 && fd_is_shortage(errno)) {
        file_timer(m, f, RETRY_MS, check_claimed);
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
            file_timer(m, f, WRITER_POLL_MS, check_claimed);
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

static void on_row_committed(struct batchmgr *m, struct file *f)
{
    crash_at(CRASH_intake_row_commit);
    candidates_claimed(m, tenant_get(m, f->tenant));
    claim_move(m, f);
}

struct file *claim_new_file(struct batchmgr *m, struct tenant *t, const char *dataset, const char *from, const char *raw)
{
    struct file *f = file_new(t->id, dataset);
    home_new_id(f->file_id);
    f->raw_name = xstrdup(raw);
    f->name = names_shown(raw);
    f->safe = names_safe(raw);
    f->from = xstrdup(from);
    f->received_wall_ms = clk_wall_ms();
    file_add(m, f);
    return f;
}

/* ---- names in staging ---- */

/* True when nobody writes to it any more, as far as this host can tell. */
static bool is_complete(struct batchmgr *m, const struct tenant *t, const char *dataset, const char *name, int dir)
{
    struct stat st;
    AUTO_FD int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        fcntl(fd, F_SETLEASE, F_UNLCK);
        return true;
    }
    if (fd >= 0 && errno == EAGAIN)
        return false; /* closing it will raise an inotify event */
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false; /* it was removed meanwhile */
    int64_t changed = (int64_t)(st.st_mtim.tv_sec > st.st_ctim.tv_sec ? st.st_mtim.tv_sec : st.st_ctim.tv_sec);
    int64_t left = (changed + 1) * 1000 + STABLE_MS - clk_wall_ms();
    if (left <= 0)
        return true;
    candidates_saw_later(m, t, dataset, name, left > STABLE_MS + 1000 ? STABLE_MS : left);
    return false;
}

bool claim_try(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name)
{
    AUTO_FREE char *from = xasprintf("staging/%s/%s", t->id, dataset);
    struct stat st;
    if (claim_is_staged(m, from, name) || !tenant_accepts(t))
        return true;
    AUTO_FD int dir = openat(m->home.dirfd, from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return !fd_is_shortage(errno);
    if (S_ISREG(st.st_mode) && !is_complete(m, t, dataset, name, dir))
        return true;
    struct file *f = claim_new_file(m, t, dataset, from, name);
    claim_stage(m, f);
    t->n_claiming++;
    ledger_put_file(m->ledger, f);
    file_then(m, f, on_row_committed);
    return true;
}

void claim_resume(struct batchmgr *m, struct file *f)
{
    if (f->place == PLACE_staging && f->raw_name)
        claim_stage(m, f);
    claim_move(m, f);
}

void claim_check_again(struct batchmgr *m, struct file *f)
{
    f->writer_since_ms = 0;
    check_claimed(m, f);
}

void claim_start(struct batchmgr *m)
{
    m->claims = xcalloc(1, sizeof *m->claims);
}

void claim_stop(struct batchmgr *m)
{
    map_fini(&m->claims->staged);
    free(m->claims);
    m->claims = NULL;
}
