#include "uploads.h"
#include "claim.h"
#include "files.h"
#include "filing.h"
#include "ledger.h"
#include "state.h"
#include "tenants.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

struct uploads {
    struct map open; /* file id -> struct upload */
};

struct upload {
    struct file *file;
    char *path;
};

void uploads_clean(struct batchmgr *m)
{
    DIR *d = fd_open_dir(m->home.dirfd, "staging/.incoming");
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (home_valid_id(ent->d_name) && !file_find(m, ent->d_name))
            unlinkat(dirfd(d), ent->d_name, 0);
    if (d)
        closedir(d);
}

int uploads_begin(struct batchmgr *m, const char *tenant, const char *dataset, const char *name, int64_t size, const char *app,
                  bool force, char ret_id[ID_SIZE], char **ret_path, struct err *e)
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
        return err_set(e, ERR_REFUSED, "intake is paused: less than min_free_bytes or min_free_inodes is free");
    if (ledger_stalled(m->ledger, why, sizeof why))
        return err_set(e, ERR_REFUSED, "intake is paused: the ledger cannot be written (%s)", why);
    struct conf_limits l = conf_effective_limits(c, d);
    struct file *f = claim_new_file(m, t, dataset, "staging/.incoming", name);
    f->app = xstrdup(app);
    f->force = force;
    memcpy(ret_id, f->file_id, ID_SIZE);
    if (l.max_file_bytes >= 0 && size > l.max_file_bytes) {
        /* Refused before the transfer; the ledger gets a row like any other refusal. */
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
    map_put(&m->uploads->open, f->file_id, u);
    *ret_path = xstrdup(u->path);
    return 0;
}

static struct file *take_upload(struct batchmgr *m, const char *id)
{
    struct upload *u = map_remove(&m->uploads->open, id);
    struct file *f = u ? u->file : NULL;
    if (u)
        free(u->path);
    free(u);
    return f;
}

struct committed {
    struct batchmgr *m;
    struct file *f;
    const struct uploads_ops *ops;
    void *arg;
};

static void on_upload_committed(void *arg)
{
    struct committed *c = arg;
    crash_at(CRASH_upload_commit);
    c->ops->done(c->arg, c->f->file_id);
    claim_move(c->m, c->f);
    free(c);
}

static void drop_committed(void *arg)
{
    struct committed *c = arg;
    c->ops->dropped(c->arg);
    free(c);
}

int uploads_commit(struct batchmgr *m, const char *id, const struct uploads_ops *ops, void *arg, struct err *e)
{
    struct file *f = take_upload(m, id);
    if (!f)
        return err_set(e, ERR_REFUSED, "no upload %s is open (was batchmgr restarted?); upload the file again", id);
    struct committed *c = xmalloc(sizeof *c);
    *c = (struct committed){m, f, ops, arg};
    ledger_put_file(m->ledger, f);
    ledger_then(m->ledger, on_upload_committed, c, drop_committed);
    return 0;
}

void uploads_abort_all(struct batchmgr *m, const char *tenant)
{
    size_t i = 0;
    for (struct upload *u; (u = map_next(&m->uploads->open, &i));)
        if (!strcmp(u->file->tenant, tenant)) {
            char id[ID_SIZE];
            memcpy(id, u->file->file_id, ID_SIZE); /* the file is freed on the way */
            uploads_abort(m, id);
        }
}

void uploads_abort(struct batchmgr *m, const char *id)
{
    struct file *f = take_upload(m, id);
    if (!f)
        return;
    AUTO_FREE char *path = xasprintf("staging/.incoming/%s", id);
    unlinkat(m->home.dirfd, path, 0);
    file_remove(m, f);
    file_free(f);
}

void uploads_start(struct batchmgr *m)
{
    m->uploads = xcalloc(1, sizeof *m->uploads);
}

void uploads_stop(struct batchmgr *m)
{
    size_t i = 0;
    if (!m->uploads)
        return;
    for (struct upload *u; (u = map_next(&m->uploads->open, &i));) {
        free(u->path);
        free(u);
    }
    map_fini(&m->uploads->open);
    free(m->uploads);
    m->uploads = NULL;
}
