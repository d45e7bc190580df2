#include "spec.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

void run_pairs_add(struct run_pairs *l, const char *name, const char *value)
{
    l->v = xrealloc(l->v, (l->n + 1) * sizeof *l->v);
    l->v[l->n++] = (struct run_pair){xstrdup(name), xstrdup(value)};
}

static struct run_pair *find_pair(const struct run_pairs *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name, name))
            return &l->v[i];
    return NULL;
}

const char *run_pairs_get(const struct run_pairs *l, const char *name)
{
    const struct run_pair *p = find_pair(l, name);
    return p ? p->value : NULL;
}

void run_pairs_set(struct run_pairs *l, const char *name, const char *value)
{
    struct run_pair *p = find_pair(l, name);
    if (p)
        xstr_set(&p->value, value);
    else
        run_pairs_add(l, name, value);
}

static void pairs_free(struct run_pairs *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].value);
    }
    free(l->v);
    *l = (struct run_pairs){0};
}

/* One table for both directions, so that what is written is what is read. The order is the file's, and stays: the generation of an
 * instance is a hash of it (programs/streammgr/instance_spec.c), and another one replaces every instance. */
/* clang-format off */
#define SPEC_TEXTS(X) \
    X(string, run_id) X(step, step) X(string, tenant) X(string, app) X(string, home) X(string, dir) X(string, runtime) \
    X(string, claim) X(string, tag) X(string, exec) X(string, stdin_path) X(output, output)
#define SPEC_NUMBERS(X) \
    X(uid) X(gid) X(wall_s) X(grace_s) X(output_bytes) X(cpu_s) X(as_bytes) X(nofile) X(nproc) X(fsize_bytes) \
    X(core_bytes) X(stack_bytes) X(cg_cpu_pct) X(cg_memory_bytes) X(cg_pids)
/* Those that specs of older managers do not have; they had none of it. */
#define SPEC_NEW_STRINGS(X) X(relay) X(image) X(version)
#define SPEC_NEW_NUMBERS(X) X(relay_uid) X(tmp_bytes) X(tmp_inodes) X(scratch_bytes) X(scratch_inodes)
#define SPEC_BOOLS(X) X(cluster) X(builtin) X(full_isolation) X(own_network) X(scratch_in_memory)
/* clang-format on */

/* What the tables need of each kind of text. */

static const char *text_of_string(const char *v)
{
    return v ? v : "";
}

static const char *text_of_step(enum run_step v)
{
    return run_step_name(v);
}

static const char *text_of_output(enum run_output v)
{
    return run_output_name(v);
}

static int string_of_text(const char *text, char **ret)
{
    *ret = xstrdup(text);
    return 0;
}

static int step_of_text(const char *text, enum run_step *ret)
{
    return run_step_of(text, ret);
}

static int output_of_text(const char *text, enum run_output *ret)
{
    return run_output_of(text, ret);
}

static void drop_string(char **v)
{
    free(*v);
}

static void drop_step(enum run_step *v)
{
    (void)v;
}

static void drop_output(enum run_output *v)
{
    (void)v;
}

void run_spec_free(struct run_spec *s)
{
#define X(kind, field) drop_##kind(&s->field);
    SPEC_TEXTS(X)
#undef X
#define X(field) free(s->field);
    SPEC_NEW_STRINGS(X)
#undef X
    for (size_t i = 0; i < s->args.n; i++)
        free(s->args.v[i]);
    free(s->args.v);
    pairs_free(&s->env);
    pairs_free(&s->files);
    pairs_free(&s->secrets);
    pairs_free(&s->paths);
    pairs_free(&s->targets);
    *s = (struct run_spec){0};
}

const char *run_spec_differs(const struct run_spec *a, const struct run_spec *b)
{
#define X(kind, field)                                                                                                             \
    if (strcmp(text_of_##kind(a->field), text_of_##kind(b->field)) != 0)                                                           \
        return #field;
    SPEC_TEXTS(X)
#undef X
#define X(field)                                                                                                                   \
    if (strcmp(text_of_string(a->field), text_of_string(b->field)) != 0)                                                           \
        return #field;
    SPEC_NEW_STRINGS(X)
#undef X
#define X(field)                                                                                                                   \
    if (a->field != b->field)                                                                                                      \
        return #field;
    SPEC_NUMBERS(X)
    SPEC_NEW_NUMBERS(X)
    SPEC_BOOLS(X)
#undef X
    return NULL;
}

static void write_pairs(struct buf *out, const char *key, const struct run_pairs *l)
{
    json_begin(out, key, '[');
    for (size_t i = 0; i < l->n; i++) {
        json_begin(out, NULL, '{');
        json_str(out, "name", l->v[i].name);
        json_str(out, "value", l->v[i].value);
        json_end(out, '}');
    }
    json_end(out, ']');
}

void run_spec_write(const struct run_spec *s, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_i64(out, "v", RUNSPEC_VERSION);
#define X(kind, field) json_str(out, #field, text_of_##kind(s->field));
    SPEC_TEXTS(X)
#undef X
#define X(field) json_str(out, #field, text_of_string(s->field));
    SPEC_NEW_STRINGS(X)
#undef X
#define X(field) json_i64(out, #field, s->field);
    SPEC_NUMBERS(X)
    SPEC_NEW_NUMBERS(X)
#undef X
#define X(field) json_bool(out, #field, s->field);
    SPEC_BOOLS(X)
#undef X
    json_begin(out, "args", '[');
    for (size_t i = 0; i < s->args.n; i++)
        json_str(out, NULL, s->args.v[i]);
    json_end(out, ']');
    write_pairs(out, "env", &s->env);
    write_pairs(out, "files", &s->files);
    write_pairs(out, "secrets", &s->secrets);
    write_pairs(out, "paths", &s->paths);
    write_pairs(out, "targets", &s->targets);
    json_end(out, '}');
}

static int parse_pairs(const bson_t *doc, const char *key, struct run_pairs *ret, struct err *e)
{
    bson_iter_t it;
    bson_t item;
    if (!json_get_iter(doc, key, &it))
        return err_set(e, ERR_FORMAT, "run spec: no list '%s'", key);
    while (bson_iter_next(&it)) {
        const char *name, *value;
        if (!json_iter_doc(&it, &item) || !(name = json_get_str(&item, "name", NULL)) ||
            !(value = json_get_str(&item, "value", NULL)))
            return err_set(e, ERR_FORMAT, "run spec: '%s' holds pairs of name and value", key);
        run_pairs_add(ret, name, value);
    }
    return 0;
}

static int parse_args(const bson_t *doc, struct strs *ret, struct err *e)
{
    bson_iter_t it;
    if (!json_get_iter(doc, "args", &it))
        return err_set(e, ERR_FORMAT, "run spec: no list 'args'");
    while (bson_iter_next(&it)) {
        if (!BSON_ITER_HOLDS_UTF8(&it))
            return err_set(e, ERR_FORMAT, "run spec: 'args' holds strings");
        ret->v = xrealloc(ret->v, (ret->n + 1) * sizeof *ret->v);
        ret->v[ret->n++] = xstrdup(bson_iter_utf8(&it, NULL));
    }
    return 0;
}

/* Nothing that the runner makes by these names lies elsewhere than in its directory. */
static int check_names(const struct run_spec *s, struct err *e)
{
    const struct run_pairs *named[] = {&s->files, &s->secrets};
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < named[k]->n; i++) {
            const char *name = named[k]->v[i].name;
            if (strchr(name, '/') || name[0] == '.' || !*name)
                return err_set(e, ERR_FORMAT, "run spec: file name '%s' is not a bare name", name);
        }
    if (s->dir[0] != '/' || s->exec[0] != '/' || s->runtime[0] != '/' || !*s->claim || strchr(s->claim, '/') || strchr(s->tag, '/'))
        return err_set(e, ERR_FORMAT, "run spec: dir, exec and runtime must be absolute, claim and tag bare names");
    return 0;
}

static int parse_spec(const bson_t *doc, struct run_spec *s, struct err *e)
{
    const char *text;
#define X(kind, field)                                                                                                             \
    if (!(text = json_get_str(doc, #field, NULL)))                                                                                 \
        return err_set(e, ERR_FORMAT, "run spec: no string '%s'", #field);                                                         \
    if (kind##_of_text(text, &s->field) < 0)                                                                                       \
        return err_set(e, ERR_FORMAT, "run spec: '%s' has an unknown value", #field);
    SPEC_TEXTS(X)
#undef X
#define X(field)                                                                                                                   \
    s->field = json_get_i64(doc, #field, -2);                                                                                      \
    if (s->field < -1)                                                                                                             \
        return err_set(e, ERR_FORMAT, "run spec: no number '%s' of -1 or more", #field);
    SPEC_NUMBERS(X)
#undef X
#define X(field) s->field = xstrdup(json_get_str(doc, #field, ""));
    SPEC_NEW_STRINGS(X)
#undef X
#define X(field) s->field = json_get_i64(doc, #field, -1);
    SPEC_NEW_NUMBERS(X)
#undef X
    s->cluster = json_get_bool(doc, "cluster", false);
    s->builtin = json_get_bool(doc, "builtin", false);
    s->full_isolation = json_get_bool(doc, "full_isolation", false);
    s->own_network = s->full_isolation && json_get_bool(doc, "own_network", false);
    s->scratch_in_memory = s->full_isolation && json_get_bool(doc, "scratch_in_memory", false);
    if (*s->image && (s->image[0] != '/' || !s->full_isolation))
        return err_set(e, ERR_FORMAT, "run spec: 'image' must be absolute, and needs full_isolation");
    bson_iter_t it;
    int r = parse_args(doc, &s->args, e);
    if (r == 0)
        r = parse_pairs(doc, "env", &s->env, e);
    if (r == 0)
        r = parse_pairs(doc, "files", &s->files, e);
    if (r == 0 && json_get_iter(doc, "secrets", &it)) /* specs of older managers have none */
        r = parse_pairs(doc, "secrets", &s->secrets, e);
    if (r == 0 && json_get_iter(doc, "paths", &it))
        r = parse_pairs(doc, "paths", &s->paths, e);
    if (r == 0 && json_get_iter(doc, "targets", &it))
        r = parse_pairs(doc, "targets", &s->targets, e);
    return r == 0 ? check_names(s, e) : r;
}

static int check_version(const bson_t *doc, const char *what, int64_t known, struct err *e)
{
    int64_t v = json_get_i64(doc, "v", -1);
    if (v == known)
        return 0;
    if (v >= 0)
        return err_set(e, ERR_VERSION, "%s has version %lld; this program knows %lld", what, (long long)v, (long long)known);
    return err_set(e, ERR_FORMAT, "%s has no version 'v'", what);
}

int run_spec_parse(const char *text, size_t n, struct run_spec *ret, struct err *e)
{
    *ret = (struct run_spec){0};
    AUTO_BSON bson_t *doc = json_parse(text, n, e);
    if (!doc) {
        err_context(e, "run spec");
        return ERR_FORMAT;
    }
    int r = check_version(doc, "run spec", RUNSPEC_VERSION, e);
    if (r == 0)
        r = parse_spec(doc, ret, e);
    if (r < 0)
        run_spec_free(ret);
    return r;
}

void run_result_free(struct run_result *r)
{
    free(r->run_id);
    free(r->node);
    free(r->error);
    free(r->app_result);
    *r = (struct run_result){0};
}

void run_waited_write(const struct cgroup_waited *w, struct buf *out)
{
    json_f64(out, "waited_cpu_s", w->cpu_s);
    json_f64(out, "waited_memory_s", w->memory_s);
    json_f64(out, "waited_io_s", w->io_s);
    json_f64(out, "throttled_s", w->throttled_s);
}

void run_result_write(const struct run_result *r, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_i64(out, "v", RUNRESULT_VERSION);
    json_str(out, "run_id", r->run_id);
    json_str(out, "step", run_step_name(r->step));
    json_str(out, "node", r->node);
    json_str(out, "outcome", run_outcome_name(r->outcome));
    json_i64(out, "exit_code", r->exit_code);
    json_i64(out, "signal", r->signal);
    json_str(out, "limit", run_limit_name(r->limit));
    json_str(out, "error", r->error);
    json_bool(out, "forced", r->forced);
    json_bool(out, "stopped", r->stopped);
    json_bool(out, "not_started", r->not_started);
    json_str(out, "cause", run_cause_name(r->cause));
    json_i64(out, "network_refused", r->network_refused);
    json_i64(out, "started_wall_ms", r->started_wall_ms);
    json_i64(out, "ended_wall_ms", r->ended_wall_ms);
    json_f64(out, "wall_s", r->wall_s);
    json_f64(out, "cpu_s", r->cpu_s);
    run_waited_write(&r->waited, out);
    json_i64(out, "max_rss_bytes", r->max_rss_bytes);
    json_i64(out, "output_bytes", r->output_bytes);
    json_i64(out, "output_bytes_dropped", r->output_bytes_dropped);
    json_str(out, "app_result", r->app_result);
    json_end(out, '}');
}

int run_result_parse(const char *text, size_t n, struct run_result *ret, struct err *e)
{
    AUTO_BSON bson_t *doc = json_parse(text, n, e);
    if (!doc) {
        err_context(e, "run result");
        return ERR_FORMAT;
    }
    int r = check_version(doc, "run result", RUNRESULT_VERSION, e);
    if (r < 0)
        return r;
    const char *id = json_get_str(doc, "run_id", NULL);
    enum run_step step;
    enum run_outcome outcome;
    enum run_limit limit;
    enum run_cause cause;
    if (!id || run_outcome_of(json_get_str(doc, "outcome", NULL), &outcome) < 0)
        return err_set(e, ERR_FORMAT, "run result: no run_id or no known outcome");
    if (run_step_of(json_get_str(doc, "step", "app"), &step) < 0 || run_limit_of(json_get_str(doc, "limit", NULL), &limit) < 0 ||
        run_cause_of(json_get_str(doc, "cause", NULL), &cause) < 0)
        return err_set(e, ERR_FORMAT, "run result: 'step', 'limit' or 'cause' has an unknown value");
    *ret = (struct run_result){
        .run_id = xstrdup(id),
        .node = xstrdup(json_get_str(doc, "node", NULL)),
        .step = step,
        .outcome = outcome,
        .exit_code = (int)json_get_i64(doc, "exit_code", -1),
        .signal = (int)json_get_i64(doc, "signal", -1),
        .limit = limit,
        .error = xstrdup(json_get_str(doc, "error", NULL)),
        .forced = json_get_bool(doc, "forced", false),
        .stopped = json_get_bool(doc, "stopped", false),
        .not_started = json_get_bool(doc, "not_started", false),
        .cause = cause,
        .network_refused = json_get_i64(doc, "network_refused", -1),
        .started_wall_ms = json_get_i64(doc, "started_wall_ms", 0),
        .ended_wall_ms = json_get_i64(doc, "ended_wall_ms", 0),
        .wall_s = json_get_f64(doc, "wall_s", 0),
        .cpu_s = json_get_f64(doc, "cpu_s", 0),
        .waited = {json_get_f64(doc, "waited_cpu_s", NAN), json_get_f64(doc, "waited_memory_s", NAN),
                   json_get_f64(doc, "waited_io_s", NAN), json_get_f64(doc, "throttled_s", NAN)},
        .max_rss_bytes = json_get_i64(doc, "max_rss_bytes", 0),
        .output_bytes = json_get_i64(doc, "output_bytes", 0),
        .output_bytes_dropped = json_get_i64(doc, "output_bytes_dropped", 0),
        .app_result = xstrdup(json_get_str(doc, "app_result", NULL)),
    };
    return 0;
}

void app_result_free(struct app_result *r)
{
    free(r->error);
    free(r->reason);
    free(r->rejects_file);
    *r = (struct app_result){-1, -1, -1, -1, -1, -1, -1, NULL, NULL, NULL};
}

static int count(const bson_t *doc, const char *key, int64_t *ret, struct err *e)
{
    bson_iter_t it;
    *ret = -1;
    if (!bson_iter_init_find(&it, doc, key) || BSON_ITER_HOLDS_NULL(&it))
        return 0;
    int64_t v = json_get_i64(doc, key, -1);
    if (v < 0)
        return err_set(e, ERR_FORMAT, "result file: '%s' is not a count", key);
    *ret = v;
    return 0;
}

int app_result_parse(const char *text, size_t n, struct app_result *ret, struct err *e)
{
    struct app_result a = {-1, -1, -1, -1, -1, -1, -1, NULL, NULL, NULL};
    AUTO_BSON bson_t *doc = json_parse(text, n, e);
    if (!doc) {
        err_context(e, "result file");
        return ERR_FORMAT;
    }
    int r = count(doc, "rows_parsed", &a.rows_parsed, e);
    if (r == 0)
        r = count(doc, "rows_loaded", &a.rows_loaded, e);
    if (r == 0)
        r = count(doc, "rows_rejected", &a.rows_rejected, e);
    if (r == 0)
        r = count(doc, "rows_repaired", &a.rows_repaired, e);
    if (r == 0)
        r = count(doc, "rows_added", &a.rows_added, e);
    if (r == 0)
        r = count(doc, "bytes", &a.bytes, e);
    if (r == 0)
        r = count(doc, "checkpoint", &a.checkpoint, e);
    if (r < 0)
        return r;
    a.rejects_file = xstrdup(json_get_str(doc, "rejects_file", NULL));
    if (a.rejects_file && (strchr(a.rejects_file, '/') || a.rejects_file[0] == '.' || strlen(a.rejects_file) > 100)) {
        app_result_free(&a);
        return err_set(e, ERR_FORMAT, "result file: 'rejects_file' must be a bare name");
    }
    a.error = xstrdup(json_get_str(doc, "error", NULL));
    a.reason = xstrdup(json_get_str(doc, "reason", NULL));
    *ret = a;
    return 0;
}
