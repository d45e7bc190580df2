/* The home that a tenant comes to. Each step may be done again; the record (lib/host/move_record.h) and the hold in the ledger are
 * the first, so that whatever is cut short leaves a tenant that stands still here, and that only `move --resume` or `--undo`
 * touches. */
#include "accept.h"
#include "account_change.h"
#include "tenant_move.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "term/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_MANIFEST = 65536, MAX_CONF = 4 << 20 };

struct arrival {
    struct cli *c;
    const struct home *h;
    bson_t *manifest;
    const char *tenant;
    struct move_record record;
    bool ahead, shared;
    int64_t uid;
};

/* ---- what stands against it ---- */

static int check_record(struct arrival *a, struct err *e)
{
    const char *t = a->tenant;
    int r = move_record_read(a->h, t, &a->record, e);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    if (a->record.source && a->record.phase >= MOVE_moved)
        return err_set(e, ERR_REFUSED,
                       "%s was moved away from here, and its rest is here still: `mysimbdp tenant remove %s --purge` first", t, t);
    if (a->record.source)
        return err_set(e, ERR_REFUSED, "%s is being moved away from here to %s", t, a->record.other);
    if (strcmp(a->record.id, json_get_str(a->manifest, "move", "")) != 0 && a->record.phase == MOVE_arriving)
        return err_set(e, ERR_REFUSED,
                       "an earlier move of %s to this home was not finished; `mysimbdp tenant move %s --forget %s --home %s` "
                       "removes what came of it",
                       t, t, a->record.id, a->h->path);
    return a->record.phase == MOVE_arriving ? 0 : err_set(e, ERR_REFUSED, "%s is here and works already", t);
}

static int check_new(struct arrival *a, struct err *e)
{
    AUTO_FREE char *conf = xasprintf("conf/tenants/%s.conf", a->tenant),
                   *aside = xasprintf("conf/tenants/%s.conf.removed", a->tenant);
    int r = check_record(a, e);
    if (r == 0 && !cli_is_running(a->h))
        r = err_set(e, ERR_REFUSED, "%s does not run; `mysimbdp up --home %s` starts it", a->h->path, a->h->path);
    if (r == 0 && !a->record.tenant && (fd_exists(a->h->dirfd, conf) || fd_exists(a->h->dirfd, aside)))
        r = err_set(e, ERR_REFUSED,
                    "%s has a tenant %s already, and nothing was changed; one of the two has to get another name, or go",
                    a->h->path, a->tenant);
    return r;
}

static int write_record(struct arrival *a, struct err *e)
{
    if (!a->record.tenant) {
        snprintf(a->record.id, sizeof a->record.id, "%s", json_get_str(a->manifest, "move", ""));
        a->record.tenant = xstrdup(a->tenant);
        a->record.other = xstrdup(json_get_str(a->manifest, "home", ""));
        a->record.phase = MOVE_arriving;
    }
    a->record.shared = a->shared;
    a->record.suspended = json_get_bool(a->manifest, "suspended", false);
    return move_record_write(a->h, &a->record, e);
}

/* ---- steps ---- */

static void add_arrival(void *arg, struct buf *b)
{
    const struct arrival *a = arg;
    json_bool(b, "suspended", json_get_bool(a->manifest, "suspended", false));
    json_bool(b, "shared", a->shared);
}

static int arrive(struct arrival *a, struct err *e)
{
    AUTO_BSON bson_t *doc = NULL;
    int r = tenant_order_batchmgr(a->h, "move_arrive", a->tenant, add_arrival, a, &doc, e);
    if (r == 0)
        a->uid = json_get_i64(doc, "uid", -1);
    return r;
}

static int lay(struct arrival *a, struct err *e)
{
    AUTO_FREE char *program = tenant_program("simbdp-move"), *uid = xasprintf("%lld", (long long)a->uid);
    char *const argv[] = {program, "lay", a->h->path, (char *)a->tenant, uid, NULL};
    const int r = tenant_run(argv, e);
    return r <= 0 ? r : err_set(e, ERR_REFUSED, "its files could not be laid");
}

/* Both homes on one MongoDB: nothing is copied. A tenant that has its own takes it along. */
static bool is_shared(const struct arrival *a, const struct conf_tenant *t)
{
    AUTO_BUF struct buf b = {0};
    const char *theirs = json_get_str(a->manifest, "mongo", "");
    AUTO_BSON bson_t *doc =
        fd_read_file(a->h->dirfd, "state/mongo.json", &b, MAX_MANIFEST, NULL) < 0 ? NULL : json_parse(b.n ? b.p : "", b.n, NULL);
    const char *url = doc && !strcmp(json_get_str(doc, "kind", ""), "url") ? json_get_str(doc, "url", "") : "";
    const char *hosts = strstr(url, "://");
    const char *at = hosts ? strchr(hosts + 3, '@') : NULL;
    hosts = at ? at + 1 : hosts ? hosts + 3 : "";
    return *t->mongo_url || (*theirs && strcspn(hosts, "/?") == strlen(theirs) && !strncmp(hosts, theirs, strlen(theirs)));
}

/* Its datasets' limits, profiles and whatever else the file names have to be there: conf_load says what is not. */
static int configure(struct arrival *a, struct err *e)
{
    AUTO_FREE char *from = xasprintf(MOVES_DIR "/%s.conf", a->tenant), *to = xasprintf("conf/tenants/%s.conf", a->tenant),
                   *what = xasprintf("tenant import %s", a->tenant), *who = account_who();
    AUTO_BUF struct buf text = {0};
    struct conf *conf = NULL;
    int r = fd_read_file(a->h->dirfd, from, &text, MAX_CONF, e);
    if (r == 0)
        r = fd_write_file(a->h->dirfd, to, text.n ? text.p : "", text.n, 0640, e);
    if (r == 0)
        r = conf_load(a->h->path, &conf, e);
    const struct conf_tenant *t = r == 0 ? conf_tenant(conf, a->tenant) : NULL;
    if (t)
        r = tenant_streams_check(t, e);
    if (t)
        a->shared = is_shared(a, t);
    conf_free(conf);
    if (r < 0) { /* a bad file must not stop the next start */
        err_context(e, "%s cannot be a tenant of %s as it is configured", a->tenant, a->h->path);
        unlinkat(a->h->dirfd, to, 0);
        return r;
    }
    crash_at(CRASH_move_configured);
    return accept_change(a->h, who, what, false, e);
}

static int accounts(struct arrival *a, bool check, struct err *e)
{
    AUTO_FREE char *program = tenant_program("simbdp-move");
    char *const argv[] = {program, "accounts", a->h->path, (char *)a->tenant, check ? "--check" : NULL, NULL};
    const int r = tenant_run(argv, e);
    return r <= 0 ? r : err_set(e, ERR_REFUSED, "its users could not be taken");
}

static void add_path(void *arg, struct buf *b)
{
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.rows.db", (const char *)arg);
    json_str(b, "path", path);
}

static int documents(struct arrival *a, struct err *e)
{
    AUTO_FREE char *program = tenant_program("mysimbdp"), *dir = xasprintf("%s/" MOVES_DIR "/%s.mongo", a->h->path, a->tenant);
    char *const argv[] = {program, "mongo", "restore", dir, "--tenant", (char *)a->tenant, "--home", a->h->path, "--quiet", NULL};
    if (a->shared)
        return 0;
    if (!json_get_bool(a->manifest, "documents", false))
        return err_set(e, ERR_REFUSED,
                       "the stream has no documents, and this home has another MongoDB; export without --no-documents");
    if (access(dir, F_OK) < 0) /* it never stored any */
        return 0;
    AUTO_FD int out = open("/dev/null", O_WRONLY | O_CLOEXEC), kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    const int r = tenant_run(argv, e);
    dup2(kept, STDOUT_FILENO);
    return r <= 0 ? r : err_set(e, ERR_REFUSED, "its documents could not be restored");
}

/* To the program that owns such, if any came. */
static int hand_over_to(const struct arrival *a, const char *name, const char *program, const char *op, struct err *e)
{
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.%s", a->tenant, name);
    return fd_is_gone(a->h->dirfd, path) ? 0 : tenant_order(a->h, program, op, a->tenant, e);
}

static int hand_over(struct arrival *a, struct err *e)
{
    int r = tenant_order_batchmgr(a->h, "move_rows", a->tenant, add_path, (void *)a->tenant, NULL, e);
    if (r == 0)
        r = hand_over_to(a, "streams", "broker", "move_import", e);
    if (r == 0)
        r = hand_over_to(a, "book.db", "streammgr", "move_rows", e);
    if (r == 0)
        r = documents(a, e);
    return r == 0 ? accounts(a, false, e) : r;
}

static int take(struct arrival *a, struct err *e)
{
    int r = check_new(a, e);
    if (r == 0)
        r = write_record(a, e);
    if (r == 0)
        r = arrive(a, e);
    if (r == 0)
        r = lay(a, e);
    if (r == 0)
        r = configure(a, e);
    if (r == 0)
        r = arrive(a, e); /* again, since it is known now whether its documents stay where they are */
    if (r == 0)
        r = write_record(a, e);
    if (r == 0)
        r = accounts(a, true, e);
    if (r == 0 && !a->ahead)
        r = hand_over(a, e);
    return r == 0 ? tenant_tell_others(a->h, a->tenant, e) : r;
}

int tenant_import(struct cli *c, const struct home *h)
{
    struct arrival a = {.c = c, .h = h};
    struct err e = {0};
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *program = tenant_program("simbdp-move");
    char *const argv[] = {program, "receive", h->path, NULL};
    int status = 0, r = spawn_output(argv, environ, &b, MAX_MANIFEST, &status, &e);
    if (r == 0 && status)
        return CLI_FAILED; /* it said why */
    AUTO_BSON bson_t *doc = r == 0 ? json_parse(b.n ? b.p : "", b.n, &e) : NULL;
    if (!doc)
        return cli_fail(c, &e);
    a.manifest = doc;
    a.tenant = json_get_str(doc, "tenant", "");
    a.ahead = json_get_bool(doc, "ahead", false);
    r = take(&a, &e);
    tenant_tidy(h, a.tenant);
    move_record_fini(&a.record);
    if (r < 0)
        return cli_fail(c, &e);
    if (!a.ahead && !progress_is_quiet())
        printf("tenant %s is here, and is held until its home gives it up: `mysimbdp tenant move %s --arrived %s` then\n", a.tenant,
               a.tenant, json_get_str(doc, "move", ""));
    return CLI_DONE;
}

/* ---- the end ---- */

static int record_of(const struct home *h, const char *tenant, const char *id, struct move_record *ret, struct err *e)
{
    int r = move_record_read(h, tenant, ret, e);
    if (r == -ENOENT)
        return err_set(e, ERR_REFUSED, "%s is not on its way to %s", tenant, h->path);
    if (r == 0 && (ret->source || strcmp(ret->id, id) != 0))
        return err_set(e, ERR_REFUSED, "%s/" MOVES_DIR "/%s.json is of another move", h->path, tenant);
    return r;
}

int tenant_arrived(struct cli *c, const struct home *h, const char *tenant, const char *id)
{
    struct err e = {0};
    AUTO_MOVE struct move_record rec = {0};
    int r = record_of(h, tenant, id, &rec, &e);
    if (r == 0)
        r = tenant_order(h, "broker", "move_take_up", tenant, &e);
    if (r == 0)
        r = tenant_order_batchmgr(h, "move_take_up", tenant, NULL, NULL, NULL, &e);
    if (r == 0)
        r = tenant_tell_others(h, tenant, &e);
    rec.phase = MOVE_here;
    if (r == 0)
        r = move_record_write(h, &rec, &e);
    return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

/* A purge goes by the tenant's file, which may not have been there yet. */
static int forget(struct cli *c, const struct home *h, const char *tenant, struct err *e)
{
    AUTO_FREE char *conf = xasprintf("conf/tenants/%s.conf", tenant), *who = account_who();
    AUTO_BSON bson_t *doc = NULL;
    if (!fd_exists(h->dirfd, conf)) {
        int r = tenant_order_batchmgr(h, "move_arrive", tenant, NULL, NULL, &doc, e); /* held, before the file is there */
        if (r == 0)
            r = fd_write_file(h->dirfd, conf, "", 0, 0640, e);
        if (r == 0)
            r = accept_change(h, who, "tenant move --forget", true, e);
        if (r < 0)
            return r;
    }
    return tenant_remove(c, h, who, tenant, true) == CLI_DONE
               ? 0
               : err_set(e, ERR_REFUSED, "what came of %s could not be removed", tenant);
}

int tenant_forget(struct cli *c, const struct home *h, const char *tenant, const char *id)
{
    struct err e = {0};
    AUTO_MOVE struct move_record rec = {0};
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.json", tenant);
    if (fd_is_gone(h->dirfd, path)) { /* nothing of it came but its stream */
        tenant_tidy(h, tenant);
        return CLI_DONE;
    }
    int r = record_of(h, tenant, id, &rec, &e);
    if (r == 0 && rec.phase == MOVE_here)
        r = err_set(&e, ERR_REFUSED, "%s arrived and works here", tenant);
    if (r == 0)
        r = forget(c, h, tenant, &e);
    tenant_tidy(h, tenant);
    if (r == 0)
        r = move_record_remove(h, tenant, &e);
    return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}
