/* simbdp-load: stores the records of its inputs in MongoDB, each exactly once in effect.
 *
 * Job (SIMBDP_LOAD_JOB, a JSON file written by batchmgr):
 *   {"v":1,"tenant","dataset","database","collection","prefix":hex of 16 bytes,"delete_prefixes":[hex],
 *    "checkpoint":N,"max_rejects":N,"max_row_bytes":N,"check_first":bool,"inputs":[{"path","name"}]}
 * The database is opened with MONGO_URL. A record's _id is 24 bytes: the prefix and the record's byte offset, big-endian,
 * in its decompressed input; a further input's offsets go on where the one before ended. The same job therefore makes the
 * same ids, and a record that is there already is recognised by E11000 on _id: a killed load is simply run again.
 *
 * Order of effects: other prefixes of this file (an older app version, or a forced upload) are deleted; batches are
 * inserted unordered and acknowledged; only then the checkpoint in SIMBDP_RESULT_FILE moves behind them. A load that
 * starts with a checkpoint reads the records before it again (counts and rejects come out right) but does not send them.
 *
 * Exit: 0 all stored; 65 more rejects than allowed, nothing stored (check_first); 75 the database does not answer;
 * 77 the database refuses us; 78 the job cannot be read; 1 anything else. */
#include "common/clk.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/read/reader.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <mongoc/mongoc.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    BATCH_DOCUMENTS = 1000,
    BATCH_BYTES = 4 << 20,
    ID_PREFIX = 16,
    ID_BYTES = 24,
    CHECKPOINT_MS = 200,
    REJECTS_MAX_BYTES = 16 << 20,
    RAW_SHOWN = 1024,
};
enum { EXIT_DATA = 65, EXIT_TEMP = 75, EXIT_NOPERM = 77, EXIT_CONFIG = 78 };

struct pending { /* what a rejected insert must name */
    int64_t line, offset;
};

struct load {
    bson_t *job;
    const char *result_file;
    unsigned char prefix[ID_PREFIX];
    mongoc_client_t *client;
    mongoc_collection_t *collection;
    mongoc_bulk_operation_t *bulk;
    struct pending *pending;
    size_t n_pending, pending_bytes;
    int64_t base;       /* offset of the current input's first byte */
    int64_t skip_until; /* records before this offset are stored already */
    int64_t acked;      /* everything before this offset is stored */
    bool refused;       /* the server refused a record: the checkpoint stays before it, so that a resumed load counts it again */
    int64_t parsed, loaded, rejected, bytes;
    int rejects_fd;
    int64_t rejects_bytes, last_checkpoint_ms;
};

static int write_result(struct load *l, const char *reason, const char *error)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *tmp = xasprintf("%s.tmp", l->result_file);
    json_begin(&b, NULL, '{');
    json_i64(&b, "rows_parsed", l->parsed);
    json_i64(&b, "rows_loaded", l->loaded);
    json_i64(&b, "rows_rejected", l->rejected);
    json_i64(&b, "bytes", l->bytes);
    json_i64(&b, "checkpoint", l->acked);
    json_str(&b, "rejects_file", l->rejects_fd >= 0 ? "rejects.jsonl" : NULL);
    json_str(&b, "reason", reason);
    json_str(&b, "error", error);
    json_end(&b, '}');
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : fd_write_all(fd, b.p, b.n);
    if (r == 0 && rename(tmp, l->result_file) < 0)
        r = -errno;
    return r;
}

static void reject(struct load *l, int64_t line, int64_t offset, int column, const char *type, const char *message, const char *raw,
                   size_t n)
{
    AUTO_BUF struct buf b = {0};
    l->rejected++;
    json_begin(&b, NULL, '{');
    json_i64(&b, "line", line);
    json_i64(&b, "byte_offset", offset);
    if (column > 0)
        json_i64(&b, "column", column);
    else
        json_null(&b, "column");
    json_str(&b, "type", type);
    json_str(&b, "message", message);
    if (raw)
        json_strn(&b, "raw", raw, n > RAW_SHOWN ? RAW_SHOWN : n);
    else
        json_null(&b, "raw");
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (l->rejects_fd < 0)
        l->rejects_fd = open("rejects.jsonl", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    l->rejects_bytes += (int64_t)b.n;
    if (l->rejects_fd >= 0 && l->rejects_bytes <= REJECTS_MAX_BYTES)
        fd_write_all(l->rejects_fd, b.p, b.n);
}

/* Which exit code an error of the driver means. */
static int exit_code_of(const bson_error_t *be)
{
    switch (be->domain) {
    case MONGOC_ERROR_SERVER_SELECTION:
    case MONGOC_ERROR_STREAM:
        return EXIT_TEMP;
    case MONGOC_ERROR_CLIENT:
        return be->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? EXIT_NOPERM : EXIT_TEMP;
    case MONGOC_ERROR_SERVER:
    case MONGOC_ERROR_QUERY:
    case MONGOC_ERROR_COMMAND:
        /* server codes: 13 Unauthorized, 18 AuthenticationFailed; shutdown, step-down and time-outs pass */
        switch (be->code) {
        case 13:
        case 18:
            return EXIT_NOPERM;
        case 6:
        case 7:
        case 50:
        case 64:
        case 89:
        case 91:
        case 189:
        case 262:
        case 9001:
        case 10107:
        case 11600:
        case 11602:
        case 13435:
        case 13436:
            return EXIT_TEMP;
        default:
            return 1;
        }
    case MONGOC_ERROR_WRITE_CONCERN:
        return EXIT_TEMP;
    default:
        return 1;
    }
}

static int fail(struct load *l, int code, const char *what, const bson_error_t *be)
{
    char text[1024];
    snprintf(text, sizeof text, "%s: %s", what, be->message);
    fprintf(stderr, "simbdp-load: %s\n", text);
    write_result(l, code == EXIT_NOPERM ? "database_refused" : code == EXIT_TEMP ? "database_down" : NULL, text);
    return code;
}

/* Sorts one server's complaint: already there, or a reject. */
static void on_write_error(struct load *l, const bson_t *error)
{
    int64_t index = json_get_i64(error, "index", -1), code = json_get_i64(error, "code", 0);
    const char *message = json_get_str(error, "errmsg", "refused by MongoDB");
    if (code == 11000 && (strstr(message, "index: _id_") || strstr(message, "_id_ dup key")))
        return;
    struct pending p = index >= 0 && (size_t)index < l->n_pending ? l->pending[index] : (struct pending){0, 0};
    l->loaded--;
    l->refused = true;
    reject(l, p.line, p.offset, 0, NULL, message, NULL, 0);
}

static int flush(struct load *l, int64_t next_offset)
{
    bson_error_t be = {0};
    bson_t reply;
    if (!l->n_pending)
        return 0;
    bool ok = mongoc_bulk_operation_execute(l->bulk, &reply, &be);
    crash_at(CRASH_load_insert);
    bson_iter_t it, concern;
    bool errors = json_get_iter(&reply, "writeErrors", &it);
    bool unsafe = json_get_iter(&reply, "writeConcernErrors", &concern) && bson_iter_next(&concern);
    int r = 0;
    int64_t n_errors = 0;
    l->loaded += (int64_t)l->n_pending;
    while (errors && bson_iter_next(&it)) {
        bson_t error;
        if (json_iter_doc(&it, &error)) {
            on_write_error(l, &error);
            n_errors++;
        }
    }
    if ((!ok && !n_errors) || unsafe) {
        l->loaded -= (int64_t)l->n_pending;
        r = fail(l, unsafe ? EXIT_TEMP : exit_code_of(&be), "cannot store documents", &be);
    }
    bson_destroy(&reply);
    mongoc_bulk_operation_destroy(l->bulk);
    l->bulk = NULL;
    l->n_pending = l->pending_bytes = 0;
    if (r)
        return r;
    if (!l->refused)
        l->acked = next_offset;
    if (clk_now_ms() - l->last_checkpoint_ms >= CHECKPOINT_MS) {
        crash_at(CRASH_load_checkpoint);
        write_result(l, NULL, NULL);
        l->last_checkpoint_ms = clk_now_ms();
    }
    return 0;
}

static int add_record(struct load *l, struct reader *rd, struct record *rec)
{
    bson_t doc = BSON_INITIALIZER;
    unsigned char id[ID_BYTES];
    const char *type = NULL;
    uint64_t offset = htobe64((uint64_t)(l->base + rec->offset));
    memcpy(id, l->prefix, ID_PREFIX);
    memcpy(id + ID_PREFIX, &offset, sizeof offset);
    bson_append_binary(&doc, "_id", 3, BSON_SUBTYPE_BINARY, id, sizeof id);
    l->parsed++;
    int r = 0;
    if (reader_bson(rd, rec, &doc, &type) < 0) {
        reject(l, rec->line, rec->offset, rec->column, type, rec->reject, rec->raw, rec->n);
    } else if (l->base + rec->offset < l->skip_until) {
        l->loaded++;
    } else {
        bson_error_t be;
        if (!l->bulk) {
            bson_t opts;
            bson_init(&opts);
            bson_append_bool(&opts, "ordered", -1, false);
            l->bulk = mongoc_collection_create_bulk_operation_with_opts(l->collection, &opts);
            bson_destroy(&opts);
        }
        if (!mongoc_bulk_operation_insert_with_opts(l->bulk, &doc, NULL, &be)) {
            reject(l, rec->line, rec->offset, 0, NULL, be.message, rec->raw, rec->n);
        } else {
            l->pending[l->n_pending++] = (struct pending){rec->line, rec->offset};
            l->pending_bytes += doc.len;
        }
    }
    bson_destroy(&doc);
    if (l->n_pending >= BATCH_DOCUMENTS || l->pending_bytes >= BATCH_BYTES)
        r = flush(l, l->base + reader_offset(rd));
    return r;
}

/* What an app printed: JSON starts with a brace or bracket; a single line without a comma is no table but, most likely, a
 * complaint: as JSON it becomes a reject that people see. */
static bool looks_like_csv(int fd)
{
    char first[65536];
    ssize_t n = pread(fd, first, sizeof first, 0), i = 0;
    while (i < n && strchr(" \t\r\n", first[i]))
        i++;
    if (i >= n || first[i] == '{' || first[i] == '[')
        return false;
    const char *eol = memchr(first + i, '\n', (size_t)(n - i));
    size_t line = eol ? (size_t)(eol - first - i) : (size_t)(n - i);
    return memchr(first + i, ',', line) || (eol && eol + 1 < first + n);
}

/* Reads one input; `store` off only counts. */
static int read_input(struct load *l, const char *path, const char *name, bool store, int64_t *rejects)
{
    struct err e = {0};
    size_t stem;
    enum src_compression c = src_compression_of(name, &stem);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        fprintf(stderr, "simbdp-load: cannot open %s: %s\n", path, strerror(errno));
        return EXIT_CONFIG;
    }
    bool csv = stem >= 4 && !strncmp(name + stem - 4, ".csv", 4);
    if (!memchr(name, '.', stem))
        csv = looks_like_csv(fd);
    struct src *s = src_new(fd, c, -1, NULL, NULL);
    struct reader *rd = reader_new(s, csv ? READER_CSV : READER_JSON, json_get_i64(l->job, "max_row_bytes", -1));
    struct record rec;
    int r = 0, n;
    while (r == 0 && (n = reader_next(rd, &rec, &e)) > 0) {
        if (store) {
            r = add_record(l, rd, &rec);
            continue;
        }
        bson_t doc = BSON_INITIALIZER;
        const char *type;
        *rejects += reader_bson(rd, &rec, &doc, &type) < 0;
        bson_destroy(&doc);
    }
    if (r == 0 && n < 0) {
        fprintf(stderr, "simbdp-load: %s: %s\n", name, e.msg);
        write_result(l, "format", e.msg);
        r = n == ERR_FORMAT || n == ERR_LIMIT ? EXIT_DATA : 1;
    }
    if (store) {
        l->base += reader_offset(rd);
        l->bytes += src_raw_bytes(s);
    }
    reader_free(rd);
    src_free(s);
    return r;
}

static int each_input(struct load *l, bool store, int64_t *rejects)
{
    bson_iter_t it;
    int r = 0;
    if (!json_get_iter(l->job, "inputs", &it))
        return EXIT_CONFIG;
    while (r == 0 && bson_iter_next(&it)) {
        bson_t input;
        if (!json_iter_doc(&it, &input))
            return EXIT_CONFIG;
        const char *path = json_get_str(&input, "path", NULL), *name = json_get_str(&input, "name", NULL);
        r = path && name ? read_input(l, path, name, store, rejects) : EXIT_CONFIG;
    }
    return r;
}

static bool parse_prefix(const char *hex, unsigned char out[ID_PREFIX])
{
    size_t n;
    return hex && sodium_hex2bin(out, ID_PREFIX, hex, strlen(hex), NULL, &n, NULL) == 0 && n == ID_PREFIX;
}

/* Removes the rows of this file's earlier prefixes: one range of _id each. */
static int delete_prefixes(struct load *l)
{
    bson_iter_t it;
    if (!json_get_iter(l->job, "delete_prefixes", &it))
        return 0;
    while (bson_iter_next(&it)) {
        unsigned char low[ID_BYTES] = {0}, high[ID_BYTES];
        bson_error_t be;
        memset(high, 0xff, sizeof high);
        if (!BSON_ITER_HOLDS_UTF8(&it) || !parse_prefix(bson_iter_utf8(&it, NULL), low))
            return EXIT_CONFIG;
        memcpy(high, low, ID_PREFIX);
        bson_t *q = BCON_NEW("_id", "{", "$gte", BCON_BIN(BSON_SUBTYPE_BINARY, low, ID_BYTES), "$lte",
                             BCON_BIN(BSON_SUBTYPE_BINARY, high, ID_BYTES), "}");
        bool ok = mongoc_collection_delete_many(l->collection, q, NULL, NULL, &be);
        bson_destroy(q);
        crash_at(CRASH_load_delete);
        if (!ok)
            return fail(l, exit_code_of(&be), "cannot delete earlier rows of this file", &be);
    }
    return 0;
}

static int open_collection(struct load *l)
{
    bson_error_t be;
    const char *url = getenv("MONGO_URL");
    mongoc_uri_t *uri = url ? mongoc_uri_new_with_error(url, &be) : NULL;
    if (!uri) {
        fprintf(stderr, "simbdp-load: MONGO_URL is %s\n", url ? be.message : "not set");
        return EXIT_CONFIG;
    }
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 5000);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, 60000);
    l->client = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (!l->client)
        return EXIT_CONFIG;
    mongoc_client_set_error_api(l->client, MONGOC_ERROR_API_VERSION_2);
    l->collection =
        mongoc_client_get_collection(l->client, json_get_str(l->job, "database", ""), json_get_str(l->job, "collection", ""));
    mongoc_write_concern_t *wc = mongoc_write_concern_new();
    mongoc_write_concern_set_w(wc, MONGOC_WRITE_CONCERN_W_MAJORITY);
    mongoc_write_concern_set_journal(wc, true);
    mongoc_collection_set_write_concern(l->collection, wc);
    mongoc_write_concern_destroy(wc);
    return 0;
}

static int check_first(struct load *l)
{
    int64_t max = json_get_i64(l->job, "max_rejects", -1), rejects = 0;
    if (max < 0 || !json_get_bool(l->job, "check_first", false))
        return 0;
    int r = each_input(l, false, &rejects);
    if (r == 0 && rejects > max) {
        char text[200];
        snprintf(text, sizeof text, "%lld damaged rows in the app's output; max_rejects is %lld; nothing was stored",
                 (long long)rejects, (long long)max);
        fprintf(stderr, "simbdp-load: %s\n", text);
        write_result(l, "max_rejects", text);
        return EXIT_DATA;
    }
    return r;
}

static int run(struct load *l)
{
    struct err e = {0};
    AUTO_BUF struct buf text = {0};
    const char *file = getenv("SIMBDP_LOAD_JOB");
    l->result_file = getenv("SIMBDP_RESULT_FILE");
    if (!file || !l->result_file) {
        fputs("simbdp-load: SIMBDP_LOAD_JOB and SIMBDP_RESULT_FILE must be set; batchmgr starts this program\n", stderr);
        return EXIT_CONFIG;
    }
    int r = fd_read_file(AT_FDCWD, file, &text, 1 << 20, &e);
    if (r == 0)
        l->job = json_parse(text.p, text.n, &e);
    if (!l->job || json_get_i64(l->job, "v", 0) != 1 || !parse_prefix(json_get_str(l->job, "prefix", NULL), l->prefix)) {
        fprintf(stderr, "simbdp-load: job %s: %s\n", file, e.code ? e.msg : "no version 1 or no prefix");
        return EXIT_CONFIG;
    }
    l->skip_until = l->acked = json_get_i64(l->job, "checkpoint", 0);
    l->pending = xcalloc(BATCH_DOCUMENTS, sizeof *l->pending);
    r = check_first(l);
    if (r == 0)
        r = open_collection(l);
    if (r == 0)
        r = delete_prefixes(l);
    if (r == 0)
        r = each_input(l, true, NULL);
    if (r == 0)
        r = flush(l, l->base);
    if (r)
        return r;
    l->acked = l->base;
    crash_at(CRASH_load_result);
    return write_result(l, NULL, NULL) < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct load l = {.rejects_fd = -1};
    log_init("simbdp-load");
    crash_init();
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return puts("usage: simbdp-load --home HOME   stores a run's files in MongoDB; batchmgr starts it") < 0;
    if (sodium_init() < 0)
        return 1;
    mongoc_init();
    mongoc_log_set_handler(NULL, NULL);
    int r = run(&l);
    if (l.bulk)
        mongoc_bulk_operation_destroy(l.bulk);
    if (l.collection)
        mongoc_collection_destroy(l.collection);
    if (l.client)
        mongoc_client_destroy(l.client);
    if (l.job)
        bson_destroy(l.job);
    if (l.rejects_fd >= 0)
        close(l.rejects_fd);
    free(l.pending);
    mongoc_cleanup();
    return r;
}
