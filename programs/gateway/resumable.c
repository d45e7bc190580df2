#include "resumable.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DESCRIPTION = 64 << 10 };

struct resumables {
    struct spool *spool;
    struct map all; /* id -> struct resumable */
};

static void resumable_free(struct resumable *r)
{
    spool_free(r->file);
    free(r->account);
    free(r->tenant);
    free(r->dataset);
    free(r->name);
    free(r->app);
    free(r->trace);
    free(r);
}

static int64_t new_expiry(void)
{
    return clk_wall_ms() + SPOOL_RESUMABLE_S * INT64_C(1000);
}

/* ---- on the disk ---- */

static int write_description(const struct resumables *all, const struct resumable *r, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s.json", r->id);
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", 1);
    json_str(&b, "account", r->account);
    json_str(&b, "tenant_id", r->tenant);
    json_str(&b, "dataset", r->dataset);
    json_str(&b, "name", r->name);
    json_str(&b, "app", r->app);
    json_str(&b, "trace", r->trace);
    json_bool(&b, "force", r->force);
    json_i64(&b, "length", r->length);
    json_end(&b, '}');
    return fd_write_file(spool_resumable_dir(all->spool), path, b.p, b.n, 0600, e);
}

static void remove_files(struct spool *s, const char *id)
{
    AUTO_FREE char *description = xasprintf("%s.json", id);
    unlinkat(spool_resumable_dir(s), id, 0);
    unlinkat(spool_resumable_dir(s), description, 0);
}

/* When its last byte came or, where what came is not there (any more), its description changed last. */
static int64_t changed_ms(int dir, const char *id, const char *description)
{
    struct stat a = {0}, b = {0};
    fstatat(dir, id, &a, AT_SYMLINK_NOFOLLOW);
    fstatat(dir, description, &b, AT_SYMLINK_NOFOLLOW);
    return (int64_t)(a.st_mtim.tv_sec > b.st_mtim.tv_sec ? a.st_mtim.tv_sec : b.st_mtim.tv_sec) * 1000;
}

/* Of one that an earlier gateway knew; NULL: it is none. Its time goes on from the file's last change. */
static struct resumable *read_one(struct spool *s, const char *id)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s.json", id);
    struct stat st;
    if (fd_read_file(spool_resumable_dir(s), path, &b, MAX_DESCRIPTION, NULL) < 0)
        return NULL;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    int64_t length = doc ? json_get_i64(doc, "length", -1) : -1;
    bool complete = fstatat(spool_resumable_dir(s), id, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
    if (complete && fstatat(spool_resumable_dir(s), path, &st, AT_SYMLINK_NOFOLLOW) == 0)
        st.st_size = length;
    if (!doc || json_get_i64(doc, "v", 0) != 1 || !S_ISREG(st.st_mode) || length < 0 || st.st_size > length)
        return NULL;
    struct resumable *r = xcalloc(1, sizeof *r);
    *r = (struct resumable){.account = xstrdup(json_get_str(doc, "account", "")),
                            .tenant = xstrdup(json_get_str(doc, "tenant_id", "")),
                            .dataset = xstrdup(json_get_str(doc, "dataset", "")),
                            .name = xstrdup(json_get_str(doc, "name", "")),
                            .app = xstrdup(json_get_str(doc, "app", NULL)),
                            .trace = xstrdup(json_get_str(doc, "trace", "")),
                            .force = json_get_bool(doc, "force", false),
                            .length = json_get_i64(doc, "length", 0),
                            .offset = st.st_size,
                            .complete = complete,
                            .expires_ms = changed_ms(spool_resumable_dir(s), id, path) + SPOOL_RESUMABLE_S * INT64_C(1000)};
    snprintf(r->id, sizeof r->id, "%s", id);
    return r;
}

struct resumables *resumables_open(struct spool *s)
{
    struct resumables *all = xcalloc(1, sizeof *all);
    all->spool = s;
    DIR *d = fd_open_dir(spool_resumable_dir(s), ".");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        AUTO_FREE char *id = xstrndup(ent->d_name, strcspn(ent->d_name, "."));
        if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..") || map_get(&all->all, id))
            continue;
        errno = 0;
        struct resumable *r = home_valid_id(id) ? read_one(s, id) : NULL;
        if (!r && errno == EIO) {
            log_error("resumable", NULL, NULL,
                      "cannot read " SPOOL "/" SPOOL_RESUMABLE "/%s: %s; it is not known until the next start", ent->d_name,
                      strerror(errno));
            continue;
        }
        if (r) {
            map_put(&all->all, r->id, r);
            continue;
        }
        log_warn("resumable", NULL, NULL, SPOOL "/" SPOOL_RESUMABLE "/%s is no upload that can be gone on with; removed",
                 ent->d_name);
        unlinkat(spool_resumable_dir(s), ent->d_name, 0);
    }
    if (d)
        closedir(d);
    return all;
}

void resumables_close(struct resumables *all)
{
    size_t i = 0;
    if (!all)
        return;
    for (struct resumable *r; (r = map_next(&all->all, &i));)
        resumable_free(r);
    map_fini(&all->all);
    free(all);
}

/* ---- one ---- */

int resumable_new(struct resumables *all, const struct resumable *what, struct resumable **ret, struct err *e)
{
    struct resumable *r = xcalloc(1, sizeof *r);
    *r = (struct resumable){.account = xstrdup(what->account),
                            .tenant = xstrdup(what->tenant),
                            .dataset = xstrdup(what->dataset),
                            .name = xstrdup(what->name),
                            .app = xstrdup(what->app),
                            .trace = xstrdup(what->trace),
                            .force = what->force,
                            .length = what->length,
                            .expires_ms = new_expiry()};
    home_new_id(r->id);
    int n = spool_resume(all->spool, r->id, true, &r->file, e);
    if (n == 0)
        n = write_description(all, r, e);
    spool_free(r->file);
    r->file = NULL;
    if (n < 0) {
        remove_files(all->spool, r->id);
        resumable_free(r);
        return n;
    }
    map_put(&all->all, r->id, r);
    *ret = r;
    return 0;
}

struct resumable *resumable_find(struct resumables *all, const char *tenant, const char *id)
{
    struct resumable *r = map_get(&all->all, id);
    return r && !strcmp(r->tenant, tenant) && r->expires_ms > clk_wall_ms() ? r : NULL;
}

size_t resumable_count(const struct resumables *all, const char *account)
{
    size_t n = 0, i = 0;
    for (const struct resumable *r; (r = map_next(&all->all, &i));)
        n += !strcmp(r->account, account);
    return n;
}

void resumable_advance(struct resumable *r, int64_t offset)
{
    r->offset = offset;
    r->expires_ms = new_expiry();
}

int resumable_complete(struct resumables *all, struct resumable *r, struct err *e)
{
    AUTO_FREE char *description = xasprintf("%s.json", r->id);
    /* First its time, by which batchmgr's sweep and the next gateway go when the file is not beside it any more. */
    if (utimensat(spool_resumable_dir(all->spool), description, NULL, AT_SYMLINK_NOFOLLOW) < 0) /* lint: ours */
        return err_sys(e, -errno, "cannot change the description of upload %s", r->id);
    r->expires_ms = new_expiry();
    return spool_complete(r->file, e);
}

void resumable_remove(struct resumables *all, struct resumable *r)
{
    map_remove(&all->all, r->id);
    remove_files(all->spool, r->id);
    resumable_free(r);
}

void resumable_make_room(struct resumables *all, const char *account, size_t most)
{
    struct resumable *first = NULL;
    size_t i = 0;
    for (struct resumable *r; (r = map_next(&all->all, &i));)
        if (r->taken && !r->file && !strcmp(r->account, account) && (!first || r->expires_ms < first->expires_ms))
            first = r;
    if (first && resumable_count(all, account) >= most)
        resumable_remove(all, first);
}

void resumables_sweep(struct resumables *all)
{
    size_t i = 0;
    int64_t now_ms = clk_wall_ms();
    for (struct resumable *r; (r = map_next(&all->all, &i));)
        if (!r->file && r->expires_ms <= now_ms)
            resumable_remove(all, r);
}
