/* libsimbdp: storing rows in MongoDB from an app that mysimbdp runs, each row exactly once in effect; and publishing messages.
 *
 * An app opens its run, stores files or rows, and finishes:
 *
 *     struct simbdp *run;
 *     struct simbdp_result result;
 *     char error[SIMBDP_ERROR_BYTES];
 *     int r = simbdp_open(&run, error, sizeof error);
 *     if (r == 0)
 *         r = simbdp_ingest_file(run, NULL, NULL, NULL, NULL);      // this run's files, as the dataset is configured
 *     if (r == 0)
 *         r = simbdp_finish(run, &result);
 *     simbdp_close(run);
 *     return simbdp_exit_code(r);
 *
 * A stream app takes messages instead, until it is told to stop:
 *
 *     struct simbdp_message m = {.size = sizeof m};
 *     while (r == 0 && (n = simbdp_next(run, -1, &m)) > 0) {
 *         struct simbdp_row *row = simbdp_row_new(run);
 *         simbdp_row_set_string(row, "text", m.data, m.bytes);
 *         r = simbdp_row_store(row);
 *         if (r == 0)
 *             simbdp_done(run, m.sequence);
 *     }
 *
 * or, where messages are JSON or CSV rows, leaves the loop to simbdp_ingest_stream(run, NULL, NULL).
 *
 * Exactly once: a row's _id is made of what is loaded (tenant, dataset, the file's content, the app) and of its place: the
 * byte offset in the file, or the number of the row. A run that was killed is started again and makes the same _ids; rows that
 * are there already stay as they are. This holds as long as the app makes the same calls for the same input. Rows of an older
 * version of the app, and of an earlier upload that is replaced, are deleted by simbdp_open. On a stream it is made of the
 * subscription's epoch (other apps of the stream have other ones), the message's sequence and the row's place in the message; a
 * message is acknowledged after its rows are stored.
 *
 * Threads: a handle (and its rows) belongs to one thread at a time; different handles may be used by different threads. The
 * library makes threads of its own that send; it does not touch signals, locale or environment. It must not be used in a
 * child after fork without exec.
 *
 * Memory: when there is none, the call returns SIMBDP_MEMORY (or NULL, where it says so), and nothing is leaked. A call that
 * changes a row then leaves the row as it was. One that stores rows, takes or settles messages, or publishes may have got anywhere:
 * the run has failed, or the publisher, and every later call returns SIMBDP_MEMORY, but for simbdp_finish and the calls that close
 * and free, which never fail for this. What was stored and not acknowledged is stored once in effect all the same, when the app
 * runs again. Two things no library can promise: the driver of MongoDB (libmongoc, libbson) and ZeroMQ (libzmq) end the program
 * when they themselves are refused memory. They are used below for talking to the database and the broker, and for reading JSON
 * text. Strings that are passed in are the caller's and are copied; strings that come out are the library's and are valid as long
 * as it says.
 *
 * Every function that returns int gives 0 or one of enum simbdp_code, unless it says otherwise. All functions may block where
 * it says so, and nowhere else.
 *
 * ABI: symbols have the version SIMBDP_1, or that of the release that brought them; structs that a caller allocates carry their
 * size. */
#ifndef SIMBDP_H
#define SIMBDP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SIMBDP_API __attribute__((visibility("default")))
#else
#define SIMBDP_API
#endif

enum simbdp_code {
    SIMBDP_OK = 0,
    SIMBDP_FAILED = -1,     /* anything that is none of the below */
    SIMBDP_NOT_FOUND = -2,  /* a row has no such field, or of another type */
    SIMBDP_USAGE = -64,     /* the call makes no sense: a wrong argument, or after simbdp_finish */
    SIMBDP_DATA = -65,      /* the file is no good: its format, its header, or too many rejects */
    SIMBDP_MEMORY = -71,    /* there is no memory; see above */
    SIMBDP_TEMPORARY = -75, /* the database does not answer; the platform tries again */
    SIMBDP_DENIED = -77,    /* the database refuses this user, or the broker this app */
    SIMBDP_CONFIG = -78,    /* the environment is not that of a run, or a schema is wrong */
};

enum { SIMBDP_ERROR_BYTES = 1024 };

/* The version of the library that is loaded, such as "0.1.0". Static. Any thread. */
SIMBDP_API const char *simbdp_version(void);

/* The code as the exit code that the platform understands: 0, 65, 75, 77, 78, or 1 (also for SIMBDP_MEMORY: a try is used up). Any
 * thread. */
SIMBDP_API int simbdp_exit_code(int code);

/* --- the run ------------------------------------------------------------------------------------------------------------ */

struct simbdp;

/* Opens the run that the environment describes: MONGO_URL and MONGO_DATABASE, SIMBDP_TENANT_ID, SIMBDP_INPUT_FILES,
 * SIMBDP_RESULT_FILE; ZMQ_STREAM_ENDPOINT where there are streams; of a stream app SIMBDP_STREAM, SIMBDP_APP (the subscription),
 * and where there are such SIMBDP_DATASET, SIMBDP_SCHEMA, SIMBDP_COLLECTION and SIMBDP_CURVE_{SERVER,PUBLIC,SECRET}_KEY. Without
 * SIMBDP_INPUT_FILES (an app tried by hand) there are no inputs, and rows are told apart by the content of the files that are
 * ingested; rows made one by one are then new ones every time. Does not talk to the database yet. On failure *ret stays as it is
 * and `error` (may be NULL) gets one line, cut to `size` bytes: SIMBDP_CONFIG, SIMBDP_MEMORY. */
SIMBDP_API int simbdp_open(struct simbdp **ret, char *error, size_t size);

/* Ends it and frees it. What was not finished may or may not be stored; the platform then sees a failed run. NULL is fine. */
SIMBDP_API void simbdp_close(struct simbdp *run);

/* What went wrong in the last call that failed: one line, valid until the next call. "" when nothing did. */
SIMBDP_API const char *simbdp_error(const struct simbdp *run);

/* Facts of the run; "" when the environment does not tell. Valid until simbdp_close. */
SIMBDP_API const char *simbdp_tenant(const struct simbdp *run);
SIMBDP_API const char *simbdp_dataset(const struct simbdp *run);
SIMBDP_API const char *simbdp_run_id(const struct simbdp *run);
/* 1 for the first try of these files. */
SIMBDP_API int simbdp_attempt(const struct simbdp *run);

/* This run's files: where to read them, and how they were called when they were delivered. NULL beyond the last. */
SIMBDP_API size_t simbdp_n_inputs(const struct simbdp *run);
SIMBDP_API const char *simbdp_input_path(const struct simbdp *run, size_t i);
SIMBDP_API const char *simbdp_input_name(const struct simbdp *run, size_t i);

/* Rows go to this collection from now on, instead of the dataset's. Before the first row only: SIMBDP_USAGE.
 * SIMBDP_MEMORY: it stays as it was. */
SIMBDP_API int simbdp_set_collection(struct simbdp *run, const char *collection);

/* --- one-call jobs ------------------------------------------------------------------------------------------------------ */

struct simbdp_row;

/* What becomes of a row that a callback has seen. */
enum simbdp_verdict {
    SIMBDP_STORE = 0,
    SIMBDP_SKIP = 1,   /* leave it out; counted as parsed only */
    SIMBDP_REJECT = 2, /* count it as rejected; simbdp_row_reject says why */
};

/* Called for every row that can be read, in the file's order, before it is stored. May change the row, which is valid until
 * the function returns. Must not call functions of the run. */
typedef enum simbdp_verdict (*simbdp_row_fn)(struct simbdp_row *row, void *arg);

/* Reads a CSV or JSON file (also .gz and .zst), checks its rows and stores them: at the speed of the built-in loader where
 * `fn` is NULL. Rows that are no good are rejected, one by one; they stand in rejects.jsonl and in `mysimbdp rejects`.
 *   path    NULL: all inputs of the run
 *   schema  JSON, as a dataset of the configuration has it: {"format", "csv":{...}, "columns":[...], "key":[...],
 *           "on_key_conflict"}; docs/tenant-guide.md lists the keys. NULL: the dataset's own; without one, all is inferred.
 *           Format is the file name's ending unless it says.
 *   fn, arg may be NULL
 * The agreement's max_rejects is checked for the whole file before a row of it is stored. Blocks while it reads and stores.
 * SIMBDP_DATA, SIMBDP_TEMPORARY, SIMBDP_DENIED, SIMBDP_CONFIG (the schema), SIMBDP_FAILED (the file cannot be read), SIMBDP_MEMORY.
 */
SIMBDP_API int simbdp_ingest_file(struct simbdp *run, const char *path, const char *schema, simbdp_row_fn fn, void *arg);

/* --- rows, one by one --------------------------------------------------------------------------------------------------- */

/* A new, empty row; simbdp_row_store or simbdp_row_free ends it. NULL: no memory. Does not block. */
SIMBDP_API struct simbdp_row *simbdp_row_new(struct simbdp *run);

/* Stores the row and frees it, also on failure. It is numbered in order, or by simbdp_row_set_number; in a stream app it belongs to
 * the message that simbdp_next gave last (SIMBDP_USAGE: there is none). Blocks while too many
 * rows are on their way. SIMBDP_TEMPORARY, SIMBDP_DENIED, SIMBDP_FAILED, SIMBDP_MEMORY. That the database refuses this row (a
 * unique key, a validator) shows later, in the result; on a stream its message becomes a dead letter. */
SIMBDP_API int simbdp_row_store(struct simbdp_row *row);
SIMBDP_API void simbdp_row_free(struct simbdp_row *row); /* not of a callback's row; NULL is fine */

/* Not in a stream app. A number that stands for this row in every run of the app, such as its place in the input; 0 to 2^62. Where
 * rows have such, all of a run must: rows that are numbered in order count from 0, too. */
SIMBDP_API int simbdp_row_set_number(struct simbdp_row *row, int64_t number);

/* --- a stream's messages ------------------------------------------------------------------------------------------------ */

struct simbdp_message {
    size_t size;      /* sizeof(struct simbdp_message), set by the caller */
    const char *data; /* valid until the next simbdp_next; no NUL behind it */
    size_t bytes;
    int64_t sequence;
    int64_t published_ms; /* since 1970-01-01T00:00:00Z */
    int deliveries;       /* 1 the first time */
    /* To which trace it belongs: its W3C traceparent, of version 00; NULL: it has none. Valid as data is. A program that was
     * compiled without this field says so by its size. */
    const char *traceparent;
};

/* Waits up to timeout_ms (-1: for ever) for the next message: 1 and a message, 0 when none came or simbdp_stop was called; else
 * SIMBDP_TEMPORARY, SIMBDP_DENIED, SIMBDP_MEMORY, SIMBDP_CONFIG (the environment names no stream), after which nothing works but
 * simbdp_finish. Meanwhile rows are stored, messages acknowledged and leases kept, so come back before the stream's lease_ms is
 * over. Several messages may be held before the first is done; the library takes as many ahead as are done in about a second. */
SIMBDP_API int simbdp_next(struct simbdp *run, int timeout_ms, struct simbdp_message *ret);

/* What becomes of a message. SIMBDP_NOT_FOUND: it is not held; SIMBDP_MEMORY. None of them blocks.
 *   done    it is acknowledged as soon as the rows stored so far are in the database
 *   refuse  the app will never take it: a dead letter (`mysimbdp dead list`), with the reason
 *   retry   it is delivered again after delay_ms, to any instance; after the stream's max_deliveries it is a dead letter */
SIMBDP_API int simbdp_done(struct simbdp *run, int64_t sequence);
SIMBDP_API int simbdp_refuse(struct simbdp *run, int64_t sequence, const char *why);
SIMBDP_API int simbdp_retry(struct simbdp *run, int64_t sequence, int delay_ms, const char *why);

/* Reads the last message as rows of the dataset (JSON: an object, an array or an object a line; CSV: rows, with a header or in the
 * order of the columns), checks them and stores those that fn (may be NULL) wants. SIMBDP_DATA: the message is no good,
 * simbdp_error says why, nothing of it is stored, and it is the app's to refuse it. Else as simbdp_row_store. */
SIMBDP_API int simbdp_store_message(struct simbdp *run, simbdp_row_fn fn, void *arg);

/* The loop: every message is stored as by simbdp_store_message and done, or refused where it is no good. Returns SIMBDP_OK after
 * simbdp_stop, else as simbdp_next. */
SIMBDP_API int simbdp_ingest_stream(struct simbdp *run, simbdp_row_fn fn, void *arg);

/* Ends simbdp_next and simbdp_ingest_stream, now and from now on. Async-signal-safe and from any thread: for a handler of SIGTERM,
 * which is how the platform asks an instance to go. What is held is given back by simbdp_close. */
SIMBDP_API void simbdp_stop(struct simbdp *run);

/* --- publishing --------------------------------------------------------------------------------------------------------- */

struct simbdp_publisher;

/* For messages into a stream of this tenant (NULL: SIMBDP_STREAM), over ZMQ_STREAM_ENDPOINT. Does not wait for the broker. On
 * failure *ret stays as it is and `error` (may be NULL) gets one line: SIMBDP_CONFIG, SIMBDP_MEMORY. A publisher belongs to one
 * thread at a time.
 */
SIMBDP_API int simbdp_publisher_open(struct simbdp_publisher **ret, const char *stream, char *error, size_t size);

/* Adds a message, which is copied and sent with others; each is stored once in effect, in order, and sent again until the broker
 * confirms it. Waits while too much is unconfirmed, at most timeout_ms (-1: for ever). SIMBDP_TEMPORARY: still too much, it was not
 * added; SIMBDP_DATA: it is larger than the stream takes, not added; SIMBDP_DENIED: refused for good (no such stream, suspended);
 * SIMBDP_MEMORY: nobody knows whether it was added, and nothing more can be.
 */
SIMBDP_API int simbdp_publish(struct simbdp_publisher *p, const void *data, size_t bytes, int timeout_ms);

/* The same, with a W3C traceparent for who consumes the message (docs/metrics.md tells what the platform makes of it). NULL, and
 * what is none: without. It counts against the stream's limits with 26 bytes. */
SIMBDP_API int simbdp_publish_traced(struct simbdp_publisher *p, const void *data, size_t bytes, const char *traceparent,
                                     int timeout_ms);

/* The messages that are added from now on have this key, which is copied: up to 1,024 bytes; 0: none. Of a stream with several
 * partitions it says which one they go to: messages of one key are in order, from whichever publisher. Those of one key that are
 * added one after the other are sent together. SIMBDP_DATA: it is longer, and the one before stays; SIMBDP_MEMORY. */
SIMBDP_API int simbdp_publisher_key(struct simbdp_publisher *p, const void *key, size_t bytes);

/* Sends what is left and waits until all is confirmed: durable. SIMBDP_TEMPORARY: not within timeout_ms; SIMBDP_DENIED;
 * SIMBDP_MEMORY. */
SIMBDP_API int simbdp_publisher_flush(struct simbdp_publisher *p, int timeout_ms);

/* How many messages are confirmed. */
SIMBDP_API int64_t simbdp_publisher_confirmed(const struct simbdp_publisher *p);
SIMBDP_API const char *simbdp_publisher_error(const struct simbdp_publisher *p); /* of the last call that failed; "" when none */
SIMBDP_API void simbdp_publisher_close(struct simbdp_publisher *p); /* what is not confirmed may be lost; NULL is fine */

/* --- what is in a row --------------------------------------------------------------------------------------------------- */

enum simbdp_type {
    SIMBDP_NONE, /* no such field */
    SIMBDP_NULL,
    SIMBDP_STRING,
    SIMBDP_INTEGER, /* 32 or 64 bits */
    SIMBDP_DOUBLE,
    SIMBDP_BOOL,
    SIMBDP_DATETIME,
    SIMBDP_OTHER, /* documents, arrays, decimals: see simbdp_row_json */
};

/* Field names are UTF-8; a dot reaches into nested documents when reading, and is refused when writing. Texts are valid until
 * the row is changed or ends. Numbers are given as the type asked for when nothing is lost by it. */
SIMBDP_API enum simbdp_type simbdp_row_type(const struct simbdp_row *row, const char *field);
SIMBDP_API int simbdp_row_get_string(const struct simbdp_row *row, const char *field, const char **ret, size_t *ret_size);
SIMBDP_API int simbdp_row_get_int(const struct simbdp_row *row, const char *field, int64_t *ret);
SIMBDP_API int simbdp_row_get_double(const struct simbdp_row *row, const char *field, double *ret);
SIMBDP_API int simbdp_row_get_bool(const struct simbdp_row *row, const char *field, int *ret);
/* Milliseconds since 1970-01-01T00:00:00Z. */
SIMBDP_API int simbdp_row_get_datetime(const struct simbdp_row *row, const char *field, int64_t *ret_ms);

/* Sets a field, in its place when it is there, else behind the others. SIMBDP_USAGE: the name is empty, "_id", starts with '$'
 * or has a dot, the text is not UTF-8, or the row would be over 16 MiB. SIMBDP_MEMORY: the row stays as it was. */
SIMBDP_API int simbdp_row_set_string(struct simbdp_row *row, const char *field, const char *value, size_t size);
SIMBDP_API int simbdp_row_set_int(struct simbdp_row *row, const char *field, int64_t value);
SIMBDP_API int simbdp_row_set_double(struct simbdp_row *row, const char *field, double value);
SIMBDP_API int simbdp_row_set_bool(struct simbdp_row *row, const char *field, int value);
SIMBDP_API int simbdp_row_set_datetime(struct simbdp_row *row, const char *field, int64_t ms);
SIMBDP_API int simbdp_row_set_null(struct simbdp_row *row, const char *field);
SIMBDP_API int simbdp_row_remove(struct simbdp_row *row, const char *field); /* SIMBDP_NOT_FOUND */

/* The whole row as one line of relaxed Extended JSON (version 2); valid until the next call for this row. NULL: no
 * memory. */
SIMBDP_API const char *simbdp_row_json(struct simbdp_row *row);
/* Replaces all fields. SIMBDP_USAGE: no JSON object, an "_id", or a key that stands twice. SIMBDP_MEMORY: the row stays as
 * it was. */
SIMBDP_API int simbdp_row_set_json(struct simbdp_row *row, const char *json, size_t size);

/* Of a callback's row: its line (1-based) and byte offset in the decompressed file. */
SIMBDP_API int64_t simbdp_row_line(const struct simbdp_row *row);
SIMBDP_API int64_t simbdp_row_offset(const struct simbdp_row *row);
/* Why a callback returns SIMBDP_REJECT; cut to 300 bytes. */
SIMBDP_API void simbdp_row_reject(struct simbdp_row *row, const char *why);

/* --- the end ------------------------------------------------------------------------------------------------------------ */

struct simbdp_result {
    size_t size;                                            /* sizeof(struct simbdp_result), set by the caller */
    int64_t rows_parsed, rows_loaded, rows_rejected, bytes; /* of a stream: messages taken, rows stored, messages refused */
    char error[SIMBDP_ERROR_BYTES];                         /* as simbdp_error */
};

/* Waits until everything is stored and writes SIMBDP_RESULT_FILE. Must be called, also after a call that failed: the platform
 * then reads from the result what went wrong, and this returns the code of the first failure. `ret` may be NULL. Blocks. */
SIMBDP_API int simbdp_finish(struct simbdp *run, struct simbdp_result *ret);

#ifdef __cplusplus
}
#endif

#endif
