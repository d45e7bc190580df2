#include "run.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/mem_try.h"
#include "load/index.h"
#include "read/format.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { INPUTS_MAX_BYTES = 64 << 20, CHUNK = 256 << 10 };

const char *simbdp_version(void)
{
    return SIMBDP_VERSION;
}

int simbdp_exit_code(int code)
{
    return code == SIMBDP_DATA || code == SIMBDP_TEMPORARY || code == SIMBDP_DENIED || code == SIMBDP_CONFIG ? -code : code != 0;
}

static const char no_memory[] = "out of memory";

static void init_once(void)
{
    mongoc_init(); /* its cleanup is left to the end of the process: other handles and libraries may use it */
    mongoc_log_set_handler(NULL, NULL);
    mem_on_exhausted(mem_unwind);
}

static bool parse_prefix(const char *hex, unsigned char out[INGEST_PREFIX])
{
    size_t n;
    return hex && sodium_hex2bin(out, INGEST_PREFIX, hex, strlen(hex), NULL, &n, NULL) == 0 && n == INGEST_PREFIX;
}

/* One line of SIMBDP_INPUT_FILES. Each repeats what concerns the whole run; the first line's values are used. */
static int take_input(struct simbdp *run, const bson_t *doc)
{
    bson_iter_t it;
    const char *path = json_get_str(doc, "path", NULL), *name = json_get_str(doc, "original_name", NULL);
    if (!path || !name)
        return err_set(&run->err, ERR_CONFIG, "a line has no path or original_name");
    run->inputs = xrealloc(run->inputs, (run->n_inputs + 1) * sizeof *run->inputs);
    struct input *in = &run->inputs[run->n_inputs];
    *in = (struct input){0};
    run->n_inputs++;
    in->path = xstrdup(path);
    in->name = xstrdup(name);
    if (run->n_inputs > 1)
        return 0;
    run->has_prefix = parse_prefix(json_get_str(doc, "prefix", NULL), run->in.prefix);
    xstr_set(&run->schema, json_get_str(doc, "schema", NULL));
    xstr_set(&run->collection, json_get_str(doc, "collection", NULL));
    run->max_rejects = json_get_i64(doc, "max_rejects", -1);
    run->max_reject_pct = json_get_f64(doc, "max_reject_pct", -1);
    if (!json_get_iter(doc, "delete_prefixes", &it))
        return 0;
    while (bson_iter_next(&it)) {
        run->old_prefixes = xrealloc(run->old_prefixes, (run->n_old_prefixes + 1) * sizeof *run->old_prefixes);
        if (BSON_ITER_HOLDS_UTF8(&it) && parse_prefix(bson_iter_utf8(&it, NULL), run->old_prefixes[run->n_old_prefixes]))
            run->n_old_prefixes++;
    }
    return 0;
}

static int read_inputs(struct simbdp *run, const char *file)
{
    AUTO_BUF struct buf text = {0};
    int r = fd_read_file(AT_FDCWD, file, &text, INPUTS_MAX_BYTES, &run->err);
    buf_add(&text, "", 0);
    for (char *save, *line = strtok_r(text.p, "\n", &save); r == 0 && line; line = strtok_r(NULL, "\n", &save)) {
        AUTO_BSON bson_t *doc = json_parse(line, strlen(line), &run->err);
        r = doc ? take_input(run, doc) : ERR_FORMAT;
    }
    if (r < 0)
        err_context(&run->err, "SIMBDP_INPUT_FILES %s", file);
    return r;
}

static char *env(const char *name)
{
    const char *v = getenv(name);
    return xstrdup(v ? v : "");
}

/* Fills it from the environment. */
static int read_env(struct simbdp *run)
{
    const char *files = getenv("SIMBDP_INPUT_FILES"), *attempt = getenv("SIMBDP_ATTEMPT");
    int r = 0;
    run->tenant = env("SIMBDP_TENANT_ID");
    run->dataset = env("SIMBDP_DATASET");
    run->run_id = env("SIMBDP_RUN_ID");
    run->database = env("MONGO_DATABASE");
    run->attempt = attempt ? atoi(attempt) : 1;
    run->max_rejects = -1;
    run->max_reject_pct = -1;
    result_file_init(&run->in.report, getenv("SIMBDP_RESULT_FILE"));
    if (files)
        r = read_inputs(run, files);
    else if (getenv("SIMBDP_SCHEMA"))
        run->schema = env("SIMBDP_SCHEMA");
    if (!run->collection && getenv("SIMBDP_COLLECTION"))
        run->collection = env("SIMBDP_COLLECTION");
    if (r == 0 && !getenv("MONGO_URL"))
        r = err_set(&run->err, ERR_CONFIG, "MONGO_URL is not set; the platform sets it, or set it to try the app by hand");
    if (r == 0 && !*run->database)
        r = err_set(&run->err, ERR_CONFIG, "MONGO_DATABASE is not set");
    if (r == 0 && !run->has_prefix) /* rows made one by one, outside the platform */
        randombytes_buf(run->in.prefix, INGEST_PREFIX);
    if (!run->collection)
        run->collection = xstrdup(*run->dataset ? run->dataset : "rows");
    run->in.tenant = run->tenant;
    run->in.dataset = run->dataset;
    return r;
}

struct open_call {
    struct simbdp *run;
    int r;
};

static void open_run(void *arg)
{
    struct open_call *c = arg;
    c->r = read_env(c->run);
}

void run_init_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

int simbdp_open(struct simbdp **ret, char *error, size_t size)
{
    run_init_library();
    struct open_call c = {.run = calloc(1, sizeof *c.run)};
    if (c.run)
        c.run->in.report.rejects_fd = -1;
    bool enough = c.run && mem_try(open_run, &c);
    if (enough && c.r == 0) {
        *ret = c.run;
        return SIMBDP_OK;
    }
    if (error && size)
        snprintf(error, size, "%s", enough ? c.run->err.msg : no_memory);
    simbdp_close(c.run);
    return enough ? SIMBDP_CONFIG : SIMBDP_MEMORY;
}

void simbdp_close(struct simbdp *run)
{
    if (!run)
        return;
    stream_close(run);
    ingest_close(&run->in);
    spec_free(run->spec);
    for (size_t i = 0; i < run->n_inputs; i++) {
        free(run->inputs[i].path);
        free(run->inputs[i].name);
    }
    free(run->inputs);
    free(run->old_prefixes);
    free(run->tenant);
    free(run->dataset);
    free(run->run_id);
    free(run->collection);
    free(run->database);
    free(run->schema);
    free(run);
}

const char *simbdp_error(const struct simbdp *run)
{
    return run->err.msg;
}

const char *simbdp_tenant(const struct simbdp *run)
{
    return run->tenant;
}

const char *simbdp_dataset(const struct simbdp *run)
{
    return run->dataset;
}

const char *simbdp_run_id(const struct simbdp *run)
{
    return run->run_id;
}

int simbdp_attempt(const struct simbdp *run)
{
    return run->attempt;
}

size_t simbdp_n_inputs(const struct simbdp *run)
{
    return run->n_inputs;
}

const char *simbdp_input_path(const struct simbdp *run, size_t i)
{
    return i < run->n_inputs ? run->inputs[i].path : NULL;
}

const char *simbdp_input_name(const struct simbdp *run, size_t i)
{
    return i < run->n_inputs ? run->inputs[i].name : NULL;
}

int simbdp_set_collection(struct simbdp *run, const char *collection)
{
    if (run->in.sink || run->drain || !collection || !*collection) {
        err_set(&run->err, ERR_USAGE, "%s",
                run->in.sink || run->drain ? "rows are on their way to a collection already" : "a collection needs a name");
        return SIMBDP_USAGE;
    }
    char *copy = strdup(collection);
    if (!copy)
        return run_no_memory(run);
    free(run->collection);
    run->collection = copy;
    return SIMBDP_OK;
}

int run_no_memory(struct simbdp *run)
{
    err_set(&run->err, -ENOMEM, "%s", no_memory);
    return SIMBDP_MEMORY;
}

int run_exhausted(struct simbdp *run)
{
    return run_fail(run, run_no_memory(run));
}

int run_fail(struct simbdp *run, int code)
{
    static const struct {
        int code;
        const char *reason;
    } reasons[] = {{SIMBDP_TEMPORARY, "database_down"}, {SIMBDP_DENIED, "database_refused"}, {SIMBDP_DATA, "format"}};
    if (run->failed)
        return code;
    run->failed = code;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons && !*run->reason; i++)
        if (reasons[i].code == code)
            snprintf(run->reason, sizeof run->reason, "%s", reasons[i].reason);
    return code;
}

int run_code(struct simbdp *run, int r)
{
    if (r == ERR_CONFIG && !*run->reason)
        snprintf(run->reason, sizeof run->reason, "columns");
    switch (r) {
    case 0:
        return SIMBDP_OK;
    case -ECONNREFUSED:
        return SIMBDP_TEMPORARY;
    case -ENOMEM:
        return SIMBDP_MEMORY;
    case -EACCES:
    case ERR_REFUSED:
        return SIMBDP_DENIED;
    case ERR_CONFIG:
    case ERR_FORMAT:
    case ERR_LIMIT:
        return SIMBDP_DATA;
    default:
        return SIMBDP_FAILED;
    }
}

int run_start(struct simbdp *run, const struct spec *spec)
{
    if (run->in.sink)
        return 0;
    int r = ingest_open(&run->in, getenv("MONGO_URL"), run->database, run->collection, spec, &run->err);
    if (r < 0)
        return run_fail(run, SIMBDP_CONFIG);
    r = index_make(run->in.sink, spec, &run->err);
    for (size_t i = 0; r == 0 && i < run->n_old_prefixes; i++)
        r = ingest_delete_prefix(&run->in, run->old_prefixes[i], &run->err);
    return r < 0 ? run_fail(run, run_code(run, r)) : 0;
}

/* --- one-call jobs --- */

/* Outside the platform a file is identified by its content. */
static int content_prefix(struct simbdp *run, int fd, const char *schema)
{
    crypto_generichash_state h;
    AUTO_FREE unsigned char *chunk = xmalloc(CHUNK);
    ssize_t n;
    crypto_generichash_init(&h, NULL, 0, INGEST_PREFIX);
    crypto_generichash_update(&h, (const unsigned char *)run->tenant, strlen(run->tenant) + 1);
    crypto_generichash_update(&h, (const unsigned char *)run->dataset, strlen(run->dataset) + 1);
    crypto_generichash_update(&h, (const unsigned char *)schema, strlen(schema) + 1);
    while ((n = read(fd, chunk, CHUNK)) > 0)
        crypto_generichash_update(&h, chunk, (size_t)n);
    crypto_generichash_final(&h, run->in.prefix, INGEST_PREFIX);
    run->in.base = 0;
    return n < 0 || lseek(fd, 0, SEEK_SET) < 0 ? err_sys(&run->err, -errno, "cannot read the file") : 0;
}

static int check_rejects(struct simbdp *run, int fd, enum src_compression c, const struct spec *spec)
{
    struct ingest_rejects n = {0};
    char why[200];
    if (run->max_rejects < 0 && run->max_reject_pct < 0)
        return 0;
    int r = ingest_count_rejects(fd, c, spec, &n, &run->err);
    const char *key = r == 0 ? ingest_rejects_broken(&n, run->max_rejects, run->max_reject_pct, why, sizeof why) : NULL;
    if (key) {
        snprintf(run->reason, sizeof run->reason, "%s", key);
        r = err_set(&run->err, ERR_LIMIT, "%s; nothing was stored", why);
    }
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = err_sys(&run->err, -errno, "cannot read the file again");
    return r;
}

static int ingest_one(struct simbdp *run, const char *path, const char *name, const char *schema, simbdp_row_fn fn, void *arg)
{
    struct row_call call = {.run = run, .fn = fn, .arg = arg};
    AUTO_SPEC struct spec *spec = NULL;
    const char *text = schema ? schema : run->schema ? run->schema : "{}";
    enum src_compression c = src_compression_of(name, NULL);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_sys(&run->err, -errno, "cannot open %s", path);
        return run_fail(run, SIMBDP_FAILED);
    }
    int r = spec_parse(text, strlen(text), &spec, NULL, &run->err);
    if (r < 0) {
        err_context(&run->err, "schema");
        return run_fail(run, SIMBDP_CONFIG);
    }
    if (!strstr(text, "\"format\"") && format_of_name(name, &spec->format) < 0)
        spec->format = READER_CSV;
    if (!run->has_prefix)
        r = content_prefix(run, fd, text);
    if (r == 0 && schema) /* the inspection has checked the dataset's own */
        r = check_rejects(run, fd, c, spec);
    int code = r < 0 ? run_fail(run, run_code(run, r)) : run_start(run, spec);
    if (code == 0) {
        r = ingest_input(&run->in, fd, c, spec, fn ? row_call : NULL, &call, &run->err);
        if (r < 0) {
            err_context(&run->err, "%s", name);
            code = run_fail(run, run_code(run, r));
        }
    }
    return code;
}

struct ingest_call {
    struct simbdp *run;
    const char *path, *schema;
    simbdp_row_fn fn;
    void *arg;
    int code;
};

static void ingest_files(void *arg)
{
    struct ingest_call *c = arg;
    const struct simbdp *run = c->run;
    if (c->path)
        c->code = ingest_one(c->run, c->path, c->path, c->schema, c->fn, c->arg);
    for (size_t i = 0; !c->path && c->code == SIMBDP_OK && i < run->n_inputs; i++)
        c->code = ingest_one(c->run, run->inputs[i].path, run->inputs[i].name, c->schema, c->fn, c->arg);
}

int simbdp_ingest_file(struct simbdp *run, const char *path, const char *schema, simbdp_row_fn fn, void *arg)
{
    struct ingest_call c = {run, path, schema, fn, arg, SIMBDP_OK};
    if (run->failed || run->finished) {
        if (run->finished)
            err_set(&run->err, ERR_USAGE, "the run is finished");
        return run->finished ? SIMBDP_USAGE : run->failed;
    }
    if (!path && !run->n_inputs) {
        err_set(&run->err, ERR_USAGE, "the run has no inputs; name a file");
        return run_fail(run, SIMBDP_USAGE);
    }
    return mem_try(ingest_files, &c) ? c.code : run_exhausted(run);
}

static void flush(void *arg)
{
    struct simbdp *run = arg;
    int r = run->failed    ? 0
            : run->drain   ? drain_flush(run->drain, &run->err)
            : run->in.sink ? sink_flush(run->in.sink, &run->err)
                           : 0;
    if (r < 0)
        run_fail(run, run_code(run, r));
}

static void write_result(void *arg)
{
    struct simbdp *run = arg;
    struct result_file *p = &run->in.report;
    p->quality = NULL; /* the old text: it must not survive if memory runs out below */
    if (run->drain)
        quality_log_fill(run->quality, run->drain, p);
    p->checkpoint = 0; /* the app runs again from its start */
    p->parsed_unknown = run->rows_one_by_one;
    int r = result_file_write(p, *run->reason ? run->reason : NULL, run->failed ? run->err.msg : NULL);
    if (r < 0) {
        err_sys(&run->err, r, "cannot write SIMBDP_RESULT_FILE");
        run_fail(run, SIMBDP_FAILED);
    }
}

int simbdp_finish(struct simbdp *run, struct simbdp_result *ret)
{
    struct result_file *p = &run->in.report;
    if (run->finished) {
        err_set(&run->err, ERR_USAGE, "the run is finished");
        return SIMBDP_USAGE;
    }
    if (!mem_try(flush, run))
        run_exhausted(run);
    if (!mem_try(write_result, run))
        run_exhausted(run);
    run->finished = true;
    if (ret) {
        struct simbdp_result all = {
            .size = ret->size, .rows_parsed = p->parsed, .rows_loaded = p->loaded, .rows_rejected = p->rejected, .bytes = p->bytes};
        snprintf(all.error, sizeof all.error, "%s", run->failed ? run->err.msg : "");
        memcpy(ret, &all, ret->size < sizeof all ? ret->size : sizeof all);
    }
    return run->failed;
}
