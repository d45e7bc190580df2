#include "uid_owners.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "db/tenants.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { MAX_BYTES = 16 << 20 };

struct tenant_uids {
    int fd;
    off_t end; /* of the last whole line, when it was read last */
    struct uid_block block;
    struct map owners; /* uid as text -> tenant */
};

/* Reads all lines but a last one that a crash cut short: that uid is nobody's yet. */
static int read_all(struct tenant_uids *p)
{
    AUTO_BUF struct buf b = {0};
    int r = lseek(p->fd, 0, SEEK_SET) < 0 ? -errno : fd_read_all(p->fd, &b, MAX_BYTES);
    if (r < 0)
        return r;
    char *last = b.n ? memrchr(b.p, '\n', b.n) : NULL;
    p->end = last ? last + 1 - b.p : 0;
    if (!last)
        return 0;
    for (char *line = b.p, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        char *space = strchr(line, ' ');
        if (!space)
            continue;
        *space = 0;
        if (!map_get(&p->owners, line))
            map_put(&p->owners, line, xstrdup(space + 1));
    }
    return 0;
}

/* Under the lock, after read_all. Over a line that was cut short: behind it, this one would be part of it. */
static int add(struct tenant_uids *p, const char *uid, const char *tenant)
{
    AUTO_FREE char *line = xasprintf("%s %s\n", uid, tenant);
    if (ftruncate(p->fd, p->end) < 0 || lseek(p->fd, p->end, SEEK_SET) < 0)
        return -errno;
    int r = fd_write_all(p->fd, line, strlen(line));
    if (r == 0 && fdatasync(p->fd) < 0)
        r = -errno;
    if (r == 0)
        map_put(&p->owners, uid, xstrdup(tenant));
    return r;
}

static bool is_ours(const struct tenant_uids *p, int64_t uid)
{
    return uid >= uid_tenant_begin(p->block.base) && uid < p->block.base + p->block.n;
}

/* The other manager's warden may have noted an owner meanwhile: looks again, then notes this one, under the file's lock. */
static int learn(struct tenant_uids *p, const char *uid, const char *tenant)
{
    while (flock(p->fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -errno;
    int r = read_all(p);
    if (r == 0 && !map_get(&p->owners, uid))
        r = add(p, uid, tenant);
    flock(p->fd, LOCK_UN);
    return r;
}

int tenant_uids_check(struct tenant_uids *p, int64_t uid, const char *tenant, struct err *e)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, uid);
    if (!is_ours(p, uid) && !map_get(&p->owners, text) && read_all(p) == 0 && !map_get(&p->owners, text))
        return err_set(e, ERR_REFUSED, "uid %s is none of this home's tenants", text);
    int r = map_get(&p->owners, text) ? 0 : learn(p, text, tenant);
    if (r < 0)
        return err_sys(e, r, "cannot note that uid %s is the tenant's", text);
    const char *owner = map_get(&p->owners, text);
    return strcmp(owner, tenant) ? err_set(e, ERR_REFUSED, "uid %s is tenant %s's", text, owner) : 0;
}

/* What the first version gave by itself: above people's accounts (Debian's adduser ends at 59999), and no other home's block. */
enum { EARLIER_FIRST = 60000, EARLIER_LAST = 65533 };

/* Lines for tenants that the home had before it had a block of its own: they keep their uids. */
static void earlier_lines(const struct tenant_state *v, size_t n, const struct uid_block *block, struct buf *b)
{
    const struct tenant_uids p = {.block = *block};
    for (size_t i = 0; i < n; i++)
        if (!is_ours(&p, v[i].uid) && v[i].uid >= EARLIER_FIRST && v[i].uid <= EARLIER_LAST)
            buf_addf(b, "%" PRId64 " %s\n", v[i].uid, v[i].id);
}

static bool has_begun(const struct home *h, const char *rel)
{
    struct stat st;
    return fstatat(h->dirfd, rel, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

/* Makes the file with all that it takes over, at once: uids of no block count only as long as no owner was ever noted, so when no
 * tenant's run was ever started by a warden. What is in the ledger then, a manager that could take any uid by itself has written.
 * A warden that was killed between two of them would have left the other tenants without. */
static int begin(const struct home *h, const char *rel, const struct uid_block *block, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct tenant_state *v = NULL;
    struct err why = {0};
    size_t n = 0;
    int r = 0;
    if (has_begun(h, rel))
        return 0;
    if (tenant_states(h, &v, &n, &why) < 0) /* as the ledger of a new home that is just being made */
        log_warn("uids", NULL, NULL, "%s; uids are noted when they are first used", why.msg);
    else
        earlier_lines(v, n, block, &b);
    if (b.n) {
        crash_at(CRASH_uids_begin);
        r = fd_write_file(h->dirfd, rel, b.p, b.n, 0600, e);
    }
    tenant_states_free(v, n);
    return r;
}

/* One warden at a time. */
static int begin_locked(const struct home *h, const char *rel, const struct uid_block *block, struct err *e)
{
    AUTO_FD int dir = openat(h->dirfd, "state/warden", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;
    while ((r = dir < 0 || flock(dir, LOCK_EX) < 0 ? -errno : 0) == -EINTR)
        ;
    return r < 0 ? err_sys(e, r, "cannot lock %s/state/warden", h->path) : begin(h, rel, block, e);
}

/* Takes over what the ledger has of the home's block: uids that were given before there was a warden, or since its last start. */
static void take_ledger(struct tenant_uids *p, const struct home *h)
{
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    if (tenant_states(h, &v, &n, &e) < 0) {
        log_warn("uids", NULL, NULL, "%s; uids are noted when they are first used", e.msg);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (is_ours(p, v[i].uid) && tenant_uids_check(p, v[i].uid, v[i].id, &e) < 0)
            log_error("uids", v[i].id, NULL, "%s", e.msg);
    tenant_states_free(v, n);
}

int tenant_uids_open(const struct home *h, const struct uid_block *block, struct tenant_uids **ret, struct err *e)
{
    AUTO_FREE char *rel = xasprintf("state/warden/uids-%" PRId64, block->base);
    int r = fd_mkdirs(h->dirfd, "state/warden", 0700);
    if (r < 0)
        return err_sys(e, r, "cannot make %s/state/warden", h->path);
    r = begin_locked(h, rel, block, e);
    if (r < 0)
        return r;
    int fd = openat(h->dirfd, rel, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s/%s", h->path, rel);
    struct tenant_uids *p = xcalloc(1, sizeof *p);
    *p = (struct tenant_uids){.fd = fd, .block = *block};
    r = read_all(p);
    if (r < 0) {
        tenant_uids_free(p);
        return err_sys(e, r, "cannot read %s/%s", h->path, rel);
    }
    take_ledger(p, h);
    *ret = p;
    return 0;
}

void tenant_uids_free(struct tenant_uids *p)
{
    size_t i = 0;
    if (!p)
        return;
    for (char *owner; (owner = map_next(&p->owners, &i));)
        free(owner);
    map_fini(&p->owners);
    close(p->fd);
    free(p);
}
