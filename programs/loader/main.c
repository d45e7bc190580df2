/* simbdp-load: stores the records of its inputs in MongoDB, each exactly once in effect (lib/load/ingest.h says how).
 *
 * Job (SIMBDP_LOAD_JOB, a JSON file written by batchmgr; where it only deletes there is no SIMBDP_RESULT_FILE):
 *   {"v":2,"tenant","dataset","database","collection","prefix":hex of 16 bytes,"delete_prefixes":[hex],
 *    "checkpoint":N,"max_rejects":N,"max_reject_pct":X,"check_first":bool,"spec":text of a spec (lib/read/spec.h),
 *    "inputs":[{"path","name","prefix"?}]}
 *   {"v":2,"tenant","database","drop_all":true}            instead: drops every collection of the database
 * The database is opened with MONGO_URL. Inputs with prefixes of their own (a group of files) count their offsets each from 0, as
 * if each had been loaded alone; the checkpoint then means nothing.
 *
 * Order of effects: unique indexes are made; other prefixes of this file (an older app version, another spec, or a forced
 * upload) are deleted; batches are inserted and acknowledged; only then the checkpoint in SIMBDP_RESULT_FILE moves behind
 * them. A load that starts with a checkpoint reads the records before it again (counts and rejects come out right) but does
 * not send them.
 *
 * Exit: 0 all stored; 65 more rejects than allowed (check_first) or the collection cannot have the index, nothing stored; 75
 * the database does not answer; 77 the database refuses us; 78 the job cannot be read; 1 anything else. */
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "count.h"
#include "load/index.h"
#include "load/ingest.h"
#include "load/mongo_uri.h"
#include "messages.h"
#include "read/format.h"
#include "read/message.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { JOB_VERSION = 2, JOB_MAX_BYTES = 4 << 20, PROBE_MS = 3000 };

struct load {
    bson_t *job;
    struct spec *spec;
    struct ingest in;
};

static int say(struct load *l, int code, const char *reason, const char *text)
{
    fprintf(stderr, "simbdp-load: %s\n", text);
    result_file_write(&l->in.report, reason, text);
    return code;
}

/* The exit code of an error of the reader or the sink, and what the result file says of it. */
static int fail(struct load *l, int r, const struct err *e)
{
    switch (r) {
    case -ECONNREFUSED:
        return say(l, EX_TEMPFAIL, "database_down", e->msg);
    case -EACCES:
        return say(l, EX_NOPERM, "database_refused", e->msg);
    case -EIO: /* EIO and the like: the disk that the input is on */
        return say(l, EX_TEMPFAIL, "unreadable", e->msg);
    case ERR_CONFIG:
        return say(l, EX_DATAERR, "columns", e->msg);
    case ERR_FORMAT:
    case ERR_LIMIT:
        return say(l, EX_DATAERR, "format", e->msg);
    default:
        return say(l, 1, NULL, e->msg);
    }
}

static bool looks_like_csv(int fd)
{
    char first[65536];
    ssize_t n = pread(fd, first, sizeof first, 0);
    return n > 0 && message_looks_like_csv(first, (size_t)n);
}

/* Stores one input, or only counts its rejects. */
static int read_input(struct load *l, const char *path, const char *name, struct ingest_rejects *count_rejects)
{
    struct err e = {0};
    AUTO_FREE char *ending = format_ending(name);
    enum src_compression c = src_compression_of(name, NULL);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        fprintf(stderr, "simbdp-load: cannot open %s: %s\n", path, strerror(errno));
        return EX_CONFIG;
    }
    if (format_of_name(name, &l->spec->format) < 0) /* an output that its app named as it liked */
        l->spec->format = !*ending && looks_like_csv(fd) ? READER_CSV : READER_JSON;
    int r = count_rejects ? ingest_count_rejects(fd, c, l->spec, count_rejects, &e)
                          : ingest_input(&l->in, fd, c, l->spec, NULL, NULL, &e);
    if (r < 0)
        err_context(&e, "%s", name);
    return r < 0 ? fail(l, r, &e) : 0;
}

static bool parse_prefix(const char *hex, unsigned char out[INGEST_PREFIX])
{
    size_t n;
    return hex && sodium_hex2bin(out, INGEST_PREFIX, hex, strlen(hex), NULL, &n, NULL) == 0 && n == INGEST_PREFIX;
}

static int each_input(struct load *l, struct ingest_rejects *count_rejects)
{
    bson_iter_t it;
    int r = 0;
    if (!json_get_iter(l->job, "inputs", &it))
        return EX_CONFIG;
    while (r == 0 && bson_iter_next(&it)) {
        bson_t input;
        if (!json_iter_doc(&it, &input))
            return EX_CONFIG;
        const char *path = json_get_str(&input, "path", NULL), *name = json_get_str(&input, "name", NULL);
        const char *prefix = json_get_str(&input, "prefix", NULL);
        if (prefix && !parse_prefix(prefix, l->in.prefix))
            return EX_CONFIG;
        if (prefix) {
            l->in.base = 0;
            l->in.report.input = name;
        }
        struct err e = {0};
        r = path && name ? read_input(l, path, name, count_rejects) : EX_CONFIG;
        /* Flushed here, so that rows that the server refuses count for this input. */
        if (r == 0 && prefix && !count_rejects && sink_flush(l->in.sink, &e) < 0)
            r = fail(l, e.code, &e);
    }
    return r;
}

static int check_first(struct load *l)
{
    int64_t max = json_get_i64(l->job, "max_rejects", -1);
    double max_pct = json_get_f64(l->job, "max_reject_pct", -1);
    struct ingest_rejects n = {0};
    if ((max < 0 && max_pct < 0) || !json_get_bool(l->job, "check_first", false))
        return 0;
    char why[200], text[260];
    int r = each_input(l, &n);
    const char *key = r == 0 ? ingest_rejects_broken(&n, max, max_pct, why, sizeof why) : NULL;
    if (!key)
        return r;
    snprintf(text, sizeof text, "in the app's output: %s; nothing was stored", why);
    return say(l, EX_DATAERR, key, text);
}

static int delete_prefixes(struct load *l)
{
    bson_iter_t it;
    struct err e = {0};
    unsigned char prefix[INGEST_PREFIX];
    if (!json_get_iter(l->job, "delete_prefixes", &it))
        return 0;
    while (bson_iter_next(&it)) {
        if (!BSON_ITER_HOLDS_UTF8(&it) || !parse_prefix(bson_iter_utf8(&it, NULL), prefix))
            return EX_CONFIG;
        int r = ingest_delete_prefix(&l->in, prefix, &e);
        if (r < 0)
            return fail(l, r, &e);
    }
    return 0;
}

static int read_job(struct load *l)
{
    struct err e = {0};
    AUTO_BUF struct buf text = {0};
    const char *file = getenv("SIMBDP_LOAD_JOB");
    if (!file) {
        fputs("simbdp-load: SIMBDP_LOAD_JOB must be set; batchmgr starts this program\n", stderr);
        return EX_CONFIG;
    }
    result_file_init(&l->in.report, getenv("SIMBDP_RESULT_FILE"));
    int r = fd_read_file(AT_FDCWD, file, &text, JOB_MAX_BYTES, &e);
    if (r == 0)
        l->job = json_parse(text.p, text.n, &e);
    bool drop = l->job && json_get_bool(l->job, "drop_all", false);
    int64_t v = l->job ? json_get_i64(l->job, "v", 0) : JOB_VERSION;
    if (v != JOB_VERSION) {
        fprintf(stderr, "simbdp-load: job %s is of version %lld; this program knows %d\n", file, (long long)v, JOB_VERSION);
        return EX_CONFIG;
    }
    if (!l->job || (!drop && !parse_prefix(json_get_str(l->job, "prefix", NULL), l->in.prefix))) {
        fprintf(stderr, "simbdp-load: job %s: %s\n", file, e.code ? e.msg : "it has no prefix");
        return EX_CONFIG;
    }
    const char *spec = json_get_str(l->job, "spec", "{}");
    if (spec_parse(spec, strlen(spec), &l->spec, NULL, &e) < 0) {
        fprintf(stderr, "simbdp-load: job %s: %s\n", file, e.msg);
        return EX_CONFIG;
    }
    l->in.tenant = json_get_str(l->job, "tenant", "");
    l->in.dataset = json_get_str(l->job, "dataset", "");
    l->in.skip_until = l->in.report.checkpoint = json_get_i64(l->job, "checkpoint", 0);
    return 0;
}

/* Drops one collection after the other, since a tenant's own user may not drop its database. Asks the primary for their names, and
 * is done when a majority has dropped them: what an election brought back would be there for ever. */
static int drop_all(const char *url, const char *database)
{
    bson_error_t be = {0};
    mongoc_uri_t *uri = mongo_uri(url, 0, 0, &be);
    mongoc_client_t *c = uri ? mongoc_client_new_from_uri(uri) : NULL;
    if (uri)
        mongoc_uri_destroy(uri);
    if (!c) {
        fputs("simbdp-load: MONGO_URL is no URL of a MongoDB\n", stderr);
        return EX_CONFIG;
    }
    mongoc_database_t *db = mongoc_client_get_database(c, database);
    char **names = mongoc_database_get_collection_names_with_opts(db, NULL, &be);
    bool ok = names != NULL;
    for (char **name = names; ok && *name; name++) {
        mongoc_collection_t *collection = mongoc_database_get_collection(db, *name);
        ok = !strncmp(*name, "system.", 7) || mongoc_collection_drop(collection, &be) || be.code == 26; /* NamespaceNotFound */
        mongoc_collection_destroy(collection);
    }
    if (!ok)
        fprintf(stderr, "simbdp-load: cannot drop the collections of %s: %s\n", database, be.message);
    bson_strfreev(names);
    mongoc_database_destroy(db);
    mongoc_client_destroy(c);
    return ok ? 0 : EX_TEMPFAIL;
}

static int run(struct load *l)
{
    struct err e = {0};
    int r = read_job(l);
    if (r == 0 && json_get_bool(l->job, "drop_all", false))
        return drop_all(getenv("MONGO_URL"), json_get_str(l->job, "database", ""));
    if (r == 0)
        r = check_first(l);
    if (r)
        return r;
    r = ingest_open(&l->in, getenv("MONGO_URL"), json_get_str(l->job, "database", ""), json_get_str(l->job, "collection", ""),
                    l->spec, &e);
    if (r < 0) {
        fprintf(stderr, "simbdp-load: %s\n", e.msg);
        return EX_CONFIG;
    }
    r = index_make(l->in.sink, l->spec, &e);
    if (r < 0)
        return fail(l, r, &e);
    r = delete_prefixes(l);
    if (r == 0)
        r = each_input(l, NULL);
    if (r)
        return r;
    r = sink_flush(l->in.sink, &e);
    if (r < 0)
        return fail(l, r, &e);
    l->in.report.checkpoint = l->in.base;
    crash_at(CRASH_load_result);
    return result_file_write(&l->in.report, NULL, NULL) < 0 ? 1 : 0;
}

/* For `mysimbdp doctor`: prints whether the server answers, and whether users can be created there, as one JSON object. Another one
 * may be at it, or have been killed when the user was there. */
static int probe(const char *url)
{
    enum { USER_NOT_FOUND = 11, USER_EXISTS = 51003 };
    static const char name[] = "simbdp_doctor_probe";
    AUTO_BUF struct buf b = {0};
    bson_error_t be = {0};
    mongoc_uri_t *uri = mongo_uri(url, PROBE_MS, 0, &be);
    mongoc_client_t *c = uri ? mongoc_client_new_from_uri(uri) : NULL;
    bson_t *info = BCON_NEW("buildInfo", BCON_INT32(1)), *make, *drop, reply = BSON_INITIALIZER;
    bool up = c && mongoc_client_command_simple(c, "admin", info, NULL, &reply, &be), users = false;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", up);
    json_str(&b, "error", up ? NULL : be.message);
    json_str(&b, "version", up ? json_get_str(&reply, "version", "?") : NULL);
    make = BCON_NEW("createUser", BCON_UTF8(name), "pwd", BCON_UTF8(name), "roles", "[", "]");
    drop = BCON_NEW("dropUser", BCON_UTF8(name));
    if (up)
        users = (mongoc_client_command_simple(c, name, make, NULL, NULL, &be) || be.code == USER_EXISTS) &&
                (mongoc_client_command_simple(c, name, drop, NULL, NULL, &be) || be.code == USER_NOT_FOUND);
    json_bool(&b, "may_create_users", users);
    json_str(&b, "users_error", users ? NULL : be.message);
    json_end(&b, '}');
    puts(b.p);
    bson_destroy(&reply);
    bson_destroy(info);
    bson_destroy(make);
    bson_destroy(drop);
    if (c)
        mongoc_client_destroy(c);
    if (uri)
        mongoc_uri_destroy(uri);
    return !up;
}

int main(int argc, char **argv)
{
    struct load l = {.in.report.rejects_fd = -1};
    log_init("simbdp-load");
    crash_init();
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return puts("usage: simbdp-load --home HOME [--uid UID]   stores a run's files in MongoDB; batchmgr starts it, and says\n"
                    "                                             who it becomes where no run makes it the tenant (-1: nobody "
                    "else)\n"
                    "       simbdp-load --stream [--output stdout|dir] [-- COMMAND ARGS...]   stores a stream's messages\n"
                    "       simbdp-load --probe       says whether MONGO_URL answers and lets users be made\n"
                    "       simbdp-load --count DATABASE COLLECTION   how many rows of ours there are by prefix") < 0;
    if (argc == 5 && !strcmp(argv[3], "--uid")) {
        const long long uid = atoll(argv[4]);
        int n = confine_program(&(struct confinement){uid >= 0, uid, -1, NULL, 0});
        if (n < 0)
            return fprintf(stderr, "simbdp-load: cannot give up rights: %s\n", err_text(n)), 1;
    }
    if (sodium_init() < 0)
        return 1;
    setenv("MONGOC_DISABLE_SHM", "1", 1); /* its counters, in a file of /dev/shm that stays after a kill */
    mongoc_init();
    mongoc_log_set_handler(NULL, NULL);
    int r = argc == 2 && !strcmp(argv[1], "--probe")    ? probe(getenv("MONGO_URL"))
            : argc == 4 && !strcmp(argv[1], "--count")  ? count_main(getenv("MONGO_URL"), argv[2], argv[3])
            : argc >= 2 && !strcmp(argv[1], "--stream") ? messages_main(argc - 2, argv + 2)
            : argc >= 4 && !strcmp(argv[3], "--stream") ? messages_main(argc - 4, argv + 4) /* the arguments follow --home HOME */
                                                        : run(&l);
    ingest_close(&l.in);
    spec_free(l.spec);
    if (l.job)
        bson_destroy(l.job);
    mongoc_cleanup();
    return r;
}
