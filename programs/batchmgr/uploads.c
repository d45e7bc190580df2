#include "uploads.h"
#include "admit.h"
#include "claim.h"
#include "files.h"
#include "filing.h"
#include "ledger.h"
#include "moving.h"
#include "state.h"
#include "tenants.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

enum { DRAINING_RETRY_S = 10, DISK_RETRY_S = 30, LEDGER_RETRY_S = 5, SLOWED_RETRY_S = 1 };

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

/* What stands against taking any file now. 0: nothing does. */
static int check_intake(struct batchmgr *m, struct err *e)
{
    char why[256];
    if (m->draining)
        return err_refuse(e, "draining", DRAINING_RETRY_S, "the platform is going down");
    if (m->disk_low)
        return err_refuse(e, "disk_low", DISK_RETRY_S, "intake is paused: less than min_free_bytes or min_free_inodes is free");
    if (ledger_stalled(m->ledger, why, sizeof why))
        return err_refuse(e, "ledger", LEDGER_RETRY_S, "intake is paused: the ledger cannot be written (%s)", why);
    return 0;
}

/* The tenant and the dataset that are meant, unless something stands against this file that is not worth a row. */
static int check_request(struct batchmgr *m, const struct upload_request *rq, struct tenant **ret_tenant,
                         const struct conf_dataset **ret_dataset, struct err *e)
{
    struct tenant *t = map_get(&m->tenants, rq->tenant);
    const struct conf_tenant *c = t && !t->purging ? tenant_conf(m, t) : NULL;
    const struct conf_dataset *d = c ? conf_dataset(c, rq->dataset) : NULL;
    if (!c)
        return err_refuse(e, "not_found", 0, "no tenant \"%s\"; `mysimbdp tenant list` shows them", rq->tenant);
    if (moving_refuse(m, rq->tenant, e) < 0)
        return ERR_REFUSED;
    if (t->suspended)
        return err_refuse(e, "suspended", 0, "tenant %s is suspended", rq->tenant);
    if (!d)
        return err_refuse(e, "no_dataset", 0, "tenant %s has no dataset \"%s\"; see %s", rq->tenant, rq->dataset, c->file);
    if (rq->app && !conf_app(c, rq->app))
        return err_refuse(e, "no_app", 0, "tenant %s has no app \"%s\"; see %s", rq->tenant, rq->app, c->file);
    if ((!*rq->name && !rq->no_name) || strchr(rq->name, '/') || !strcmp(rq->name, ".") || !strcmp(rq->name, "..") ||
        strlen(rq->name) > 255)
        return err_refuse(e, "name", 0, "\"%s\" is no file name", rq->name);
    *ret_tenant = t;
    *ret_dataset = d;
    return check_intake(m, e);
}

int uploads_check(struct batchmgr *m, const struct upload_request *rq, int64_t *ret_max_bytes, struct err *e)
{
    struct tenant *t = NULL;
    const struct conf_dataset *d = NULL;
    int r = check_request(m, rq, &t, &d, e);
    if (r < 0)
        return r;
    for (const char *p = rq->name; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return err_refuse(e, "name", 0, "a file name has no control characters");
    if (tenant_is_slowed(t))
        return err_refuse(e, "slowed", SLOWED_RETRY_S, "too many files of tenant %s were refused lately", rq->tenant);
    r = rq->no_name ? 0 : admit_check(m, t, d, &(struct offer){rq->name, rq->app, rq->size, false}, e);
    if (r == 0)
        *ret_max_bytes = admit_max_bytes(m, t, d);
    return r;
}

int uploads_begin(struct batchmgr *m, const struct upload_request *rq, char ret_id[ID_SIZE], char **ret_path, struct err *e)
{
    struct tenant *t = NULL;
    const struct conf_dataset *d = NULL;
    int r = check_request(m, rq, &t, &d, e);
    if (r < 0)
        return r;
    struct conf_limits l = conf_effective_limits(tenant_conf(m, t), d);
    struct file *f = claim_new_file(m, t, d->name, "staging/.incoming", rq->name);
    f->app = xstrdup(rq->app);
    f->force = rq->force;
    f->trace = trace_keep_again(rq->trace);
    memcpy(ret_id, f->file_id, ID_SIZE);
    if (l.max_file_bytes >= 0 && rq->size > l.max_file_bytes) {
        /* Refused before the transfer; the ledger gets a row like any other refusal. */
        char detail[200];
        f->size = rq->size;
        snprintf(detail, sizeof detail, "%lld bytes; %lld are allowed", (long long)rq->size, (long long)l.max_file_bytes);
        xstr_set(&f->raw_name, NULL);
        filing_finish(m, f, FILE_rejected, "max_file_bytes", detail, NULL);
        return err_refuse(e, "max_file_bytes", 0, "rejected: max_file_bytes: %s (file %s)", detail, ret_id);
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
        return err_refuse(e, "not_found", 0, "no upload %s is open (was batchmgr restarted?); upload the file again", id);
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
