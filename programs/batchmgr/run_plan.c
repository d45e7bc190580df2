#include "run_plan.h"
#include "files.h"
#include "manager/app_env.h"
#include "manager/plan.h"
#include "state.h"
#include "tenants.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/app_version.h"
#include "host/trace_ids.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct run_plans {
    struct map exec_hashes; /* path -> struct exec_hash */
};

enum { EXEC_HASH_BYTES = 64 << 20 };
static const char loader_version[] = "builtin:load 2";

char *run_plan_dir(struct batchmgr *m, const struct run *r)
{
    return xasprintf("%s/runs/%s%s", m->home.path, r->run_id, r->step == RUN_STEP_load ? "/load" : "");
}

char *run_plan_claim(const struct run *r)
{
    return xasprintf("%s%s", r->run_id, r->step == RUN_STEP_load ? "-load" : "");
}

char *run_plan_group_dir(const struct run *r)
{
    return xasprintf("work/group-%s", r->run_id);
}

/* The names that the files of a group have in their common directory: their safe names, made different where they are not. */
static char **group_names(const struct run *r)
{
    char **names = xcalloc((size_t)r->n_files + 1, sizeof *names);
    struct map seen = {0};
    size_t n = 0;
    for (const struct file *f = r->file; f; f = f->mate) {
        names[n] = map_get(&seen, f->safe) ? xasprintf("%s-%s", f->file_id, f->safe) : xstrdup(f->safe);
        map_put(&seen, names[n++], r->file);
    }
    map_fini(&seen);
    return names;
}

static void free_names(char **names)
{
    for (char **at = names; *at; at++)
        free(*at);
    free(names);
}

int run_plan_link_group(struct batchmgr *m, const struct run *r, struct err *e)
{
    const struct tenant *t = tenant_get(m, r->tenant);
    AUTO_FREE char *dir = run_plan_group_dir(r);
    AUTO_FREE char *in = xasprintf("%s/in", dir);
    char **names = group_names(r);
    int n = fd_remove_tree(m->home.dirfd, dir); /* left by a start that failed */
    if (n == 0)
        n = fd_mkdirs(m->home.dirfd, in, 0711);
    size_t i = 0;
    for (const struct file *f = r->file; n == 0 && f; f = f->mate, i++) {
        AUTO_FREE char *from = file_in_path(f, f->safe);
        AUTO_FREE char *to = xasprintf("%s/%s", in, names[i]);
        if (linkat(m->home.dirfd, from, m->home.dirfd, to, 0) < 0)
            n = -errno;
    }
    if (n == 0 && t->gid >= 0 && beneath_own_dir(m->home.dirfd, in, -1, t->gid, 0750) < 0)
        n = -errno;
    free_names(names);
    return n < 0 ? err_sys(e, n, "cannot put the group's files together in %s", in) : 0;
}

static void hash_text(crypto_generichash_state *h, const char *text)
{
    crypto_generichash_update(h, (const unsigned char *)text, strlen(text) + 1);
}

/* The hash of an executable, kept for as long as its inode does not change: reading it for every run would hold up the loop. */
struct exec_hash {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
    unsigned char digest[32];
};

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void read_exec(int fd, const struct stat *st, struct exec_hash *x)
{
    crypto_generichash_state h;
    AUTO_FREE unsigned char *chunk = xmalloc(1 << 20);
    ssize_t n;
    *x = (struct exec_hash){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim, {0}};
    crypto_generichash_init(&h, NULL, 0, sizeof x->digest);
    for (int64_t left = EXEC_HASH_BYTES; left > 0 && (n = read(fd, chunk, 1 << 20)) > 0; left -= n)
        crypto_generichash_update(&h, chunk, (size_t)n);
    crypto_generichash_update(&h, (const unsigned char *)&st->st_size, sizeof st->st_size);
    crypto_generichash_final(&h, x->digest, sizeof x->digest);
}

static void hash_exec(struct batchmgr *m, crypto_generichash_state *h, const char *path)
{
    struct stat st;
    AUTO_FD int fd = fd_open_regular(path, &st);
    if (fd < 0)
        return;
    struct exec_hash *x = map_get(&m->run_plans->exec_hashes, path);
    if (!x)
        map_put(&m->run_plans->exec_hashes, path, x = xcalloc(1, sizeof *x));
    if (x->dev != st.st_dev || x->ino != st.st_ino || x->size != st.st_size || !same_time(x->mtime, st.st_mtim) ||
        !same_time(x->ctime, st.st_ctim))
        read_exec(fd, &st, x);
    crypto_generichash_update(h, x->digest, sizeof x->digest);
}

void run_plan_prefix(struct batchmgr *m, const struct run *r, const struct file *f, bool shared, const struct conf_batch *app,
                     char out[33])
{
    const struct conf_tenant *t = conf_tenant(m->conf, r->tenant);
    crypto_generichash_state h;
    unsigned char hash[16];
    char version[APP_VERSION_SIZE];
    app_version_active(&m->home, f->tenant, app->app, version);
    AUTO_FREE char *exec = plan_exec(&m->home, f->tenant, app->app, version, app->exec);
    const struct conf_dataset *d = conf_dataset(t, f->dataset);
    crypto_generichash_init(&h, NULL, 0, sizeof hash);
    hash_text(&h, f->tenant);
    hash_text(&h, f->dataset);
    for (const struct file *g = f; g; g = shared ? g->mate : NULL)
        hash_text(&h, g->hash);
    hash_text(&h, d ? d->collection : "");
    if (!strcmp(app->exec, BUILTIN_LOAD)) {
        AUTO_BUF struct buf spec = {0};
        conf_spec_json(d, true, -1, 0, &spec);
        hash_text(&h, loader_version);
        hash_text(&h, spec.p);
    } else {
        hash_text(&h, run_output_name(app->output));
        if (r->image_digest)
            hash_text(&h, r->image_digest);
        for (size_t i = 0; i < app->args.n; i++)
            hash_text(&h, app->args.v[i]);
        if (*version) /* its other files count, too */
            hash_text(&h, version);
        if (!r->image_digest || app->exec[0] != '/') /* else it is in the image */
            hash_exec(m, &h, exec);
    }
    crypto_generichash_final(&h, hash, sizeof hash);
    sodium_bin2hex(out, 33, hash, sizeof hash);
}

/* The old prefixes of all files of the run, each once. */
static void add_prefixes(struct buf *b, const struct file *first)
{
    struct map seen = {0};
    json_begin(b, "delete_prefixes", '[');
    for (const struct file *f = first; f; f = f->mate) {
        AUTO_FREE char *copy = xstrdup(f->old_prefixes ? f->old_prefixes : "");
        for (char *save, *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
            if (!map_get(&seen, p)) {
                map_put(&seen, p, b);
                json_str(b, NULL, p);
            }
    }
    json_end(b, ']');
    map_fini(&seen);
}

/* Where the run's files lie. */
static char *input_dir(struct batchmgr *m, const struct run *r)
{
    AUTO_FREE char *group = run_plan_group_dir(r);
    return r->n_files > 1 ? xasprintf("%s/%s/in", m->home.path, group) : xasprintf("%s/work/%s/in", m->home.path, r->file->file_id);
}

/* SIMBDP_INPUT_FILES: one JSON object a line. What libsimbdp is to know of the run stands in the first. */
static void add_inputs(struct batchmgr *m, struct run_spec *s, const struct run *r, const struct conf_tenant *t)
{
    const struct file *first = r->file;
    const struct conf_dataset *d = conf_dataset(t, first->dataset);
    struct conf_limits l = conf_effective_limits(t, d);
    AUTO_FREE char *dir = input_dir(m, r);
    AUTO_FREE char *list = xasprintf("%s/input.jsonl", s->dir);
    AUTO_BUF struct buf b = {0}, spec = {0};
    char **names = group_names(r);
    size_t i = 0;
    for (const struct file *f = first; f; f = f->mate, i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, names[i]);
        json_begin(&b, NULL, '{');
        json_str(&b, "name", names[i]);
        json_str(&b, "path", path);
        json_str(&b, "original_name", f->name);
        json_str(&b, "file_id", f->file_id);
        json_str(&b, "dataset", f->dataset);
        json_i64(&b, "size_bytes", f->size);
        json_str(&b, "content_hash", f->hash);
        if (f == first) { /* for libsimbdp */
            json_str(&b, "prefix", f->prefix);
            add_prefixes(&b, f);
            json_str(&b, "collection", d->collection);
            json_i64(&b, "max_rejects", l.max_rejects);
            json_f64(&b, "max_reject_pct", l.max_reject_pct);
            conf_spec_json(d, true, l.max_row_bytes, f->received_wall_ms, &spec);
            json_str(&b, "schema", spec.p);
        }
        json_end(&b, '}');
        buf_adds(&b, "\n");
        if (r->n_files == 1)
            xstr_set(&s->stdin_path, path);
    }
    free_names(names);
    run_pairs_add(&s->files, "input.jsonl", b.p);
    app_env_add(s, "SIMBDP_INPUT_DIR", dir);
    plan_path(s, dir, "r");
    app_env_add(s, "SIMBDP_INPUT_FILES", list);
    app_env_add(s, "SIMBDP_DATASET", first->dataset);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What an output mode collected, in the order of the names' bytes, so that offsets come out the same every time. */
static int add_outputs(struct batchmgr *m, const struct file *f, struct run_spec *s, struct buf *b, struct err *e)
{
    AUTO_FREE char *dir = xasprintf("%s/runs/%s/output", m->home.path, f->output_run);
    plan_path(s, dir, "r");
    char **names = NULL;
    size_t n = 0;
    DIR *d = fd_open_dir(AT_FDCWD, dir);
    if (!d)
        return err_sys(e, -errno, "the kept output %s cannot be opened", dir);
    int r = 0;
    for (struct dirent *ent; (ent = fd_next_name(d, &r));) {
        names = xrealloc(names, (n + 1) * sizeof *names);
        names[n++] = xstrdup(ent->d_name);
    }
    closedir(d);
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, names[i]);
        json_begin(b, NULL, '{');
        json_str(b, "path", path);
        json_str(b, "name", names[i]);
        json_end(b, '}');
        free(names[i]);
    }
    free(names);
    return r < 0 ? err_sys(e, r, "the kept output %s cannot be listed", dir) : 0;
}

/* The loader's job; programs/loader/main.c describes it. */
static int add_load_job(struct batchmgr *m, struct run_spec *s, const struct run *run, const struct conf_tenant *t, bool outputs,
                        struct err *e)
{
    const struct file *f = run->file;
    const struct conf_dataset *d = conf_dataset(t, f->dataset);
    struct conf_limits l = conf_effective_limits(t, d);
    AUTO_BUF struct buf b = {0}, spec = {0};
    AUTO_FREE char *job = xasprintf("%s/job.json", s->dir);
    /* Deleting our own prefix means that everything is loaded anew. */
    bool anew = f->old_prefixes && strstr(f->old_prefixes, f->prefix);
    int r = 0;
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", 2);
    json_str(&b, "tenant", f->tenant);
    json_str(&b, "dataset", f->dataset);
    json_str(&b, "database", t->database);
    json_str(&b, "collection", d->collection);
    json_str(&b, "prefix", f->prefix);
    add_prefixes(&b, f);
    json_i64(&b, "checkpoint", anew ? 0 : f->checkpoint);
    json_i64(&b, "max_rejects", l.max_rejects);
    json_f64(&b, "max_reject_pct", l.max_reject_pct);
    json_bool(&b, "check_first", outputs);
    if (outputs)
        conf_output_spec_json(d, l.max_row_bytes, &spec);
    else
        conf_spec_json(d, true, l.max_row_bytes, f->received_wall_ms, &spec);
    json_str(&b, "spec", spec.p);
    json_begin(&b, "inputs", '[');
    if (outputs) {
        r = add_outputs(m, f, s, &b, e);
    } else {
        AUTO_FREE char *dir = input_dir(m, run);
        char **names = group_names(run);
        size_t i = 0;
        for (const struct file *g = f; g; g = g->mate) {
            AUTO_FREE char *path = xasprintf("%s/%s", dir, names[i++]);
            json_begin(&b, NULL, '{');
            json_str(&b, "path", path);
            json_str(&b, "name", g->name);
            if (f->mate) /* each under its own, as if it were alone */
                json_str(&b, "prefix", g->prefix);
            json_end(&b, '}');
        }
        free_names(names);
    }
    json_end(&b, ']');
    json_end(&b, '}');
    run_pairs_add(&s->files, "job.json", b.p);
    app_env_add(s, "SIMBDP_LOAD_JOB", job);
    return r;
}

/* What the step does is below its span, which the platform tells of when it ended (programs/keeper/spans.c). */
static void add_trace(struct run_spec *s, const struct run *r)
{
    struct trace_context c;
    char parent[TRACE_PARENT_SIZE];
    trace_of_step(r->trace, r->n_files > 1 ? r->run_id : r->file_id, r->step == RUN_STEP_app ? "run" : run_step_name(r->step),
                  r->run_id, &c);
    trace_parent_write(&c, parent);
    app_env_add_trace(s, parent, trace_kept_state(r->trace));
}

int run_plan_make(struct batchmgr *m, const struct run *r, const struct conf_tenant *t, const struct conf_batch *app,
                  struct run_spec *ret, struct err *e)
{
    const struct tenant *tenant = tenant_get(m, t->id);
    const struct conf_profile *p = conf_profile(m->conf, app->profile);
    bool load_step = r->step == RUN_STEP_load, check_step = r->step == RUN_STEP_check;
    struct run_spec s = {
        .run_id = xstrdup(r->run_id),
        .step = r->step,
        .tenant = xstrdup(t->id),
        .app = xstrdup(r->app),
        .home = xstrdup(m->home.path),
        .dir = run_plan_dir(m, r),
        .runtime = xstrdup(m->home.runtime),
        .claim = run_plan_claim(r),
        .tag = xstrdup(m->home.tag),
        .builtin = load_step || (!check_step && !strcmp(app->exec, BUILTIN_LOAD)),
        .uid = tenant->uid,
        .gid = tenant->gid,
        .image = xstrdup(load_step ? NULL : r->image),
        .stdin_path = xstrdup(""),
        .output = load_step || check_step ? RUN_OUTPUT_none : app->output,
    };
    int n = 0;
    char version[APP_VERSION_SIZE];
    app_version_active(&m->home, t->id, r->app, version);
    s.version = xstrdup(load_step ? "" : version);
    s.exec = s.builtin ? home_program(&m->home, "simbdp-load")
                       : plan_exec(&m->home, t->id, r->app, s.version, check_step ? app->checker : app->exec);
    plan_limits(&s, p);
    plan_isolation(&s, &(struct plan_host){&m->home, &m->isolation, m->conf->platform.uid_base}, p, tenant->mongo_url);
    app_env_add_configured(&s, &p->env);
    if (s.builtin) {
        plan_builtin(&s, &m->home);
        n = add_load_job(m, &s, r, t, load_step, e);
    } else {
        app_env_add_configured(&s, &app->env);
        plan_secrets(&s, &m->home, t->id, &app->secrets);
        for (size_t i = 0; i < app->args.n && !check_step; i++)
            plan_arg(&s, app->args.v[i]);
    }
    app_env_add_common(&s, &(struct app_env_tenant){t->id, t->database, tenant->mongo_url}, r->app, r->run_id, r->attempt);
    app_env_add_app_dir(&s, &m->home, load_step ? BUILTIN_LOAD : check_step ? app->checker : app->exec);
    add_trace(&s, r);
    if (!s.builtin)
        app_env_add_publishing(&s, t);
    if (!load_step)
        add_inputs(m, &s, r, t);
    if (s.output == RUN_OUTPUT_dir) {
        AUTO_FREE char *out = xasprintf("%s/app/out", s.dir);
        app_env_add(&s, "SIMBDP_OUTPUT_DIR", out);
    }
    if (n < 0)
        run_spec_free(&s);
    else
        *ret = s;
    return n;
}

void run_plan_start(struct batchmgr *m)
{
    m->run_plans = xcalloc(1, sizeof *m->run_plans);
}

void run_plan_stop(struct batchmgr *m)
{
    size_t i = 0;
    if (!m->run_plans)
        return;
    for (struct exec_hash *x; (x = map_next(&m->run_plans->exec_hashes, &i));)
        free(x);
    map_fini(&m->run_plans->exec_hashes);
    free(m->run_plans);
    m->run_plans = NULL;
}
