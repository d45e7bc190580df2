/* simbdp-load --stream: stores a stream's messages as rows of a dataset, each exactly once in effect (lib/load/drain.h).
 *
 *     simbdp-load --stream                                        the messages themselves: JSON or CSV
 *     simbdp-load --stream [--output stdout] -- COMMAND ARGS...   what COMMAND prints for them: JSON lines or CSV
 *     simbdp-load --stream --output dir -- COMMAND ARGS...        the .json and .csv files it leaves in SIMBDP_OUTPUT_DIR
 *     simbdp-load --stream --checker PROGRAM --checker-s N ...    PROGRAM sees the messages first, and may refuse some (checker.h)
 *
 * COMMAND gets many messages on stdin, one escaped line each (lib/stream/command.h). When it prints one line for each message (an
 * empty one: no row), or a CSV header and one line for each, lines and messages are matched by their order. When the numbers
 * differ, or COMMAND fails, it is run again with one message at a time: then everything it prints belongs to that message. With
 * --output dir it is always run so. Therefore a row's _id does not depend on when, or together with what, its message is delivered.
 *
 * Exit codes of COMMAND, alone with a message: 0 its rows are stored; 65 the message becomes a dead letter; 75 everything is given
 * back and the loader ends with 75; else the message is tried again, and becomes a dead letter after the stream's max_deliveries. A
 * message, or an output, that breaks the dataset's columns and rules becomes a dead letter that says why.
 *
 * A checker that breaks the rules (it dies, takes longer than N seconds, prints something else) is run again with one message at a
 * time. A message that it fails on alone is tried again, and becomes a dead letter after the stream's max_deliveries. When that
 * happens for MAX_FAILURES messages in a row, the checker is at fault and not the messages: the loader ends, and what is left
 * waits. No message is acknowledged before the checker said ok, except with delivery at_most_once.
 *
 * Environment: that of libsimbdp's stream apps (clientlib/include/simbdp.h). Exit: 0 stopped by SIGTERM; 75 the database does not
 * answer; 77 it or the broker refuses us; 78 environment; 1 else. */
#include "messages.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "checker.h"
#include "load/drain.h"
#include "load/quality_log.h"
#include "load/result_file.h"
#include "stream/command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* Windows are small with a command, which is slow as a rule: messages that this instance holds are not available to others that
 * could work on them. */
enum {
    MAX_MESSAGES = 10000,
    COMMAND_MESSAGES = 2000,
    BATCH = 1000,
    WAIT_MS = 50,
    MAX_BATCH_BYTES = 16 << 20,
    MAX_OUTPUT_BYTES = 64 << 20,
    MAX_FAILURES = 10,
    CHECK_AGAIN_MS = 1000,
    CHECKER_MS = 10000,
    LOOK_MS = 60000
};

static struct drain *to_wake;
static volatile sig_atomic_t stopping;

static void on_stop(int sig)
{
    (void)sig;
    stopping = 1;
    if (to_wake)
        drain_wake(to_wake);
}

struct task {
    struct drain *d;
    struct spec *spec;
    char **command;       /* NULL: none */
    char output_dir[300]; /* "": stdout */
    struct message_rows rows;
    struct result_file report;
    struct quality_log *quality; /* figures of the messages that were read; NULL: none are kept */
    struct checker checker;
    int failures;         /* messages in a row that the checker failed on */
    struct buf text, out; /* the messages as lines, for commands */
    struct buf bodies;    /* and as they are, when they are stored themselves */
    struct message {
        uint64_t seq;
        int64_t published_ms;
        size_t at, n;           /* of its line in `text` */
        size_t body_at, n_body; /* in `bodies` */
    } * v;
    size_t n;
    struct err err;
};

/* --- what is told --- */

/* Sends a report if one is due. Returns how long the caller may wait for a message. */
static int64_t tell(struct task *k)
{
    int64_t due = quality_log_tell(k->quality, k->d, &k->report);
    return due >= 0 && due < LOOK_MS ? due : LOOK_MS;
}

/* --- one message's rows --- */

/* message_read, and its figures are counted. 0, or ERR_FORMAT: the message is refused. */
static int read_rows(struct task *k, uint64_t seq, int64_t published_ms, const char *p, size_t n, struct err *why)
{
    k->rows.figures = quality_log_begin(k->quality, seq);
    int r = message_read(k->spec, published_ms, p, n, NULL, NULL, &k->rows, why);
    quality_log_end(k->quality, published_ms, r == 0 ? (int64_t)k->rows.n : -1);
    return r;
}

/* Stores what was read as the message's rows. *ret_good is false when there are too many: the message is a dead letter. */
static int add_rows(struct task *k, uint64_t seq, bool *ret_good)
{
    int r = drain_rows(k->d, seq, &k->rows, &k->err);
    *ret_good = r != ERR_LIMIT;
    if (*ret_good)
        return r;
    drain_refuse(k->d, seq, k->err.msg);
    k->err = (struct err){0};
    return 0;
}

/* 0, or an error that ends the program. */
static int store(struct task *k, uint64_t seq, int64_t published_ms, const char *p, size_t n)
{
    struct err why = {0};
    if (k->command)
        k->spec->format = message_looks_like_csv(p, n) ? READER_CSV : READER_JSON;
    if (read_rows(k, seq, published_ms, p, n, &why) < 0) {
        drain_refuse(k->d, seq, why.msg);
        return 0;
    }
    bool good;
    int r = add_rows(k, seq, &good);
    if (r == 0 && good)
        drain_done(k->d, seq);
    return r;
}

static bool is_blank(const char *p, size_t n)
{
    return strspn(p, " \t\r\n") >= n;
}

/* --- COMMAND --- */

static void keep(void *arg)
{
    struct task *k = arg;
    if (!k->err.code)
        drain_look(k->d, &k->err);
    tell(k);
}

static int run_on(struct task *k, size_t from, size_t to)
{
    size_t at = k->v[from].at, end = k->v[to - 1].at + k->v[to - 1].n;
    k->out.n = 0;
    struct command_job job = {.argv = k->command,
                              .in = k->text.p + at,
                              .n = end - at,
                              .out = &k->out,
                              .max_out = MAX_OUTPUT_BYTES,
                              .tick = keep,
                              .arg = k};
    int code = command_run(&job, &k->err);
    buf_add(&k->out, "", 1); /* the text must end with a NUL for strspn */
    k->out.n--;
    return code < 0 ? code : k->err.code ? k->err.code : code;
}

static size_t count_lines(const struct buf *b)
{
    size_t n = 0;
    for (const char *p = b->p, *end = b->p + b->n; p < end; n++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        p = eol ? eol + 1 : end;
    }
    return n;
}

/* Matches lines with messages; a header, if there is one, is put in front of each line. */
static int store_lines(struct task *k, bool header)
{
    AUTO_BUF struct buf row = {0};
    const char *p = k->out.p, *end = k->out.p + k->out.n;
    size_t head = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && p < end; i++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t n = eol ? (size_t)(eol - p) : (size_t)(end - p);
        const struct message *m = &k->v[header ? i - 1 : i];
        row.n = head;
        buf_add(&row, p, n);
        buf_add(&row, "\n", 1);
        if (header && i == 0)
            head = row.n;
        else if (is_blank(p, n))
            drain_done(k->d, m->seq);
        else
            r = store(k, m->seq, m->published_ms, row.p, row.n);
        p += n + 1;
    }
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of SIMBDP_OUTPUT_DIR in the order of their names, without those that begin with a dot. */
static size_t list_outputs(const char *dir, char ***ret)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    char **v = NULL;
    for (struct dirent *f; d && (f = readdir(d));)
        if (*f->d_name != '.') {
            v = xgrow(v, n, sizeof *v);
            v[n++] = xasprintf("%s/%s", dir, f->d_name);
        }
    if (d)
        closedir(d);
    if (n)
        qsort(v, n, sizeof *v, by_name);
    *ret = v;
    return n;
}

static int store_outputs(struct task *k, const struct message *m)
{
    char **files;
    size_t n = list_outputs(k->output_dir, &files);
    bool good = true;
    int r = 0;
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf b = {0};
        struct err why = {0};
        if (r == 0 && good && fd_read_file(AT_FDCWD, files[i], &b, MAX_OUTPUT_BYTES, &why) < 0) {
            drain_refuse(k->d, m->seq, why.msg);
            good = false;
        }
        buf_add(&b, "", 0);
        if (r == 0 && good && !is_blank(b.n ? b.p : "", b.n)) {
            size_t len = strlen(files[i]);
            k->spec->format = len > 4 && !strcmp(files[i] + len - 4, ".csv") ? READER_CSV : READER_JSON;
            good = read_rows(k, m->seq, m->published_ms, b.p, b.n, &why) == 0;
            if (good) {
                r = add_rows(k, m->seq, &good);
            } else {
                err_context(&why, "%s", strrchr(files[i], '/') + 1);
                drain_refuse(k->d, m->seq, why.msg);
            }
        }
        unlink(files[i]);
        free(files[i]);
    }
    free(files);
    if (r == 0 && good)
        drain_done(k->d, m->seq);
    return r;
}

static void say_end(int code, char *why, size_t size)
{
    snprintf(why, size, code < 128 ? "the command exits with %d" : "the command ends by signal %d", code < 128 ? code : code - 128);
}

/* Handles the end of COMMAND for a single message. 0, an error, or EX_TEMPFAIL. */
static int after_one(struct task *k, const struct message *m, int code)
{
    char why[80];
    if (code == ERR_LIMIT) {
        drain_refuse(k->d, m->seq, k->err.msg);
        k->err = (struct err){0};
        return 0;
    }
    if (code < 0 || code == EX_TEMPFAIL)
        return code;
    say_end(code, why, sizeof why);
    if (code == EX_DATAERR)
        drain_refuse(k->d, m->seq, why);
    else if (code)
        drain_retry(k->d, m->seq, 0, why);
    else if (*k->output_dir)
        return store_outputs(k, m);
    else if (is_blank(k->out.p, k->out.n))
        drain_done(k->d, m->seq);
    else
        return store(k, m->seq, m->published_ms, k->out.p, k->out.n);
    return 0;
}

/* With at_most_once COMMAND must not see a message twice: all that it has seen are done. */
static int drop_all(struct task *k, int code)
{
    char why[80] = "the command prints another number of lines than it has messages";
    if (code > 0)
        say_end(code, why, sizeof why);
    for (size_t i = 0; i < k->n; i++)
        drain_refuse(k->d, k->v[i].seq, code < 0 ? k->err.msg : why);
    fprintf(stderr, "simbdp-load: %zu messages are lost (delivery = \"at_most_once\"): %s\n", k->n, code < 0 ? k->err.msg : why);
    k->err = (struct err){0};
    return 0;
}

static int run_batch(struct task *k)
{
    if (!*k->output_dir && k->n > 1) {
        int code = run_on(k, 0, k->n);
        size_t lines = code == 0 ? count_lines(&k->out) : 0;
        if (code == EX_TEMPFAIL || (code < 0 && code != ERR_LIMIT))
            return code;
        bool header = lines == k->n + 1 && k->out.p[0] != '{';
        if (lines == k->n || header)
            return store_lines(k, header);
        if (drain_is_at_most_once(k->d))
            return drop_all(k, code);
        k->err = (struct err){0};
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < k->n; i++)
        r = after_one(k, &k->v[i], run_on(k, i, i + 1));
    return r;
}

/* --- the checker --- */

static const char *env_or(const char *name, const char *def)
{
    const char *value = getenv(name);
    return value ? value : def;
}

/* The checker broke the rules with message `m` alone. 0, or an error when no message is to blame. */
static int after_failure(struct task *k, const struct message *m, const struct err *why)
{
    const char *tenant = env_or("SIMBDP_TENANT_ID", "?"), *app = env_or("SIMBDP_APP", "?"), *run = env_or("SIMBDP_RUN_ID", "RUN");
    AUTO_FREE char *text = xasprintf("%s/%s: the checker %s %s", tenant, app, k->checker.path, why->msg);
    fprintf(stderr, "simbdp-load: message %llu: %s; mend the checker: what it printed stands in `mysimbdp logs %s`\n",
            (unsigned long long)m->seq, text, run);
    drain_retry(k->d, m->seq, CHECK_AGAIN_MS, text);
    if (++k->failures < MAX_FAILURES)
        return 0;
    return err_set(
        &k->err, ERR_FORMAT,
        "%s, and so on %d messages in a row; messages wait until it is mended (a line for each message: ok, or reject and why)",
        text, k->failures);
}

/* Takes the checker's answers for the messages from `from` on. Those that passed are moved together, from *kept on. */
static void take_verdicts(struct task *k, size_t from, size_t n, size_t *kept)
{
    k->failures = 0;
    for (size_t i = 0; i < n; i++) {
        struct message *m = &k->v[from + i];
        const char *why = k->checker.why[i];
        if (why) {
            quality_log_refuse(k->quality, m->seq, m->published_ms, "checker");
            drain_refuse(k->d, m->seq, why);
        } else {
            k->v[(*kept)++] = *m;
        }
    }
}

/* Removes the lines of messages that are no longer in the batch. */
static void close_ranks(struct task *k)
{
    size_t n = 0;
    for (size_t i = 0; i < k->n; i++) {
        memmove(k->text.p + n, k->text.p + k->v[i].at, k->v[i].n);
        k->v[i].at = n;
        n += k->v[i].n;
    }
    k->text.n = n;
}

static int check_some(struct task *k, size_t from, size_t n, struct err *e)
{
    size_t at = k->v[from].at, end = k->v[from + n - 1].at + k->v[from + n - 1].n;
    int r = checker_run(&k->checker, k->text.p + at, end - at, n, e);
    if (r < 0)
        err_context(e, "%s/%s: the checker", env_or("SIMBDP_TENANT_ID", "?"), env_or("SIMBDP_APP", "?"));
    return k->err.code ? k->err.code : r;
}

/* 0: the messages that are left in the batch passed. Else an error, or EX_TEMPFAIL. */
static int check(struct task *k)
{
    struct err why = {0};
    size_t kept = 0;
    int r = check_some(k, 0, k->n, &why);
    if (r == CHECKED)
        take_verdicts(k, 0, k->n, &kept);
    for (size_t i = 0; r == CHECKED_NOTHING && i < k->n && !(stopping && !drain_is_at_most_once(k->d)); i++) {
        if (k->n > 1) {
            why = (struct err){0};
            r = check_some(k, i, 1, &why);
        }
        if (r == CHECKED)
            take_verdicts(k, i, 1, &kept);
        else if (r == CHECKED_NOTHING && after_failure(k, &k->v[i], &why) < 0)
            return k->err.code;
        if (r == CHECKED)
            r = CHECKED_NOTHING; /* the next message is checked alone, too */
    }
    if (r < 0 && !k->err.code)
        k->err = why;
    if (r < 0 || r == CHECKED_AGAIN)
        return r < 0 ? r : EX_TEMPFAIL;
    k->n = kept;
    close_ranks(k);
    return 0;
}

/* Whether there is more to do. After a stop order only messages that are acknowledged already (at_most_once), since nobody else
 * will do them. */
static bool goes_on(struct task *k)
{
    return !stopping || drain_owes(k->d);
}

/* Takes the messages that have arrived, up to a batch. 1; 0 when there are none; or an error. */
static int gather(struct task *k)
{
    struct subscriber_message m;
    int64_t until = 0;
    k->n = k->text.n = k->bodies.n = 0;
    for (int got; goes_on(k) && k->n < BATCH && k->text.n < MAX_BATCH_BYTES;) {
        int64_t now = clk_now_ms();
        got = drain_next(k->d, !k->n ? tell(k) : until > now ? until - now : 0, &m, &k->err);
        if (got < 0)
            return got;
        if (!got)
            break;
        if (!k->n)
            until = now + WAIT_MS;
        size_t at = k->text.n;
        command_add_line(&k->text, m.p, m.n);
        k->v[k->n++] = (struct message){m.seq, m.published_ms, at, k->text.n - at, k->bodies.n, m.n};
        if (!k->command)
            buf_add(&k->bodies, m.p, m.n);
    }
    return k->n > 0;
}

static int store_batch(struct task *k)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < k->n; i++)
        r = store(k, k->v[i].seq, k->v[i].published_ms, k->bodies.p + k->v[i].body_at, k->v[i].n_body);
    return r;
}

static int by_batch(struct task *k)
{
    int r = 0;
    k->v = xcalloc(BATCH, sizeof *k->v);
    k->checker.tick = keep;
    k->checker.arg = k;
    while (r == 0 && goes_on(k)) {
        r = gather(k);
        if (r <= 0 || (stopping && !drain_is_at_most_once(k->d))) {
            r = r < 0 ? r : 0;
            continue;
        }
        r = k->checker.path ? check(k) : 0;
        if (r == 0 && k->n)
            r = k->command ? run_batch(k) : store_batch(k);
    }
    return r;
}

static int by_itself(struct task *k)
{
    struct subscriber_message m;
    int r = 0;
    while (r >= 0 && goes_on(k)) {
        r = drain_next(k->d, tell(k), &m, &k->err);
        if (r > 0)
            r = store(k, m.seq, m.published_ms, m.p, m.n);
    }
    return r;
}

/* --- life --- */

static int start(struct task *k)
{
    const char *dataset = getenv("SIMBDP_DATASET"), *collection = getenv("SIMBDP_COLLECTION"), *database = getenv("MONGO_DATABASE");
    collection = collection && *collection ? collection : dataset && *dataset ? dataset : "rows";
    int r = drain_spec(getenv("SIMBDP_SCHEMA"), &k->spec, &k->err);
    if (r == 0 && (!database || !*database))
        r = err_set(&k->err, ERR_CONFIG, "MONGO_DATABASE is not set");
    return r < 0 ? r
                 : drain_open_here(k->spec, database, collection, k->command || k->checker.path ? COMMAND_MESSAGES : MAX_MESSAGES,
                                   &k->d, &k->err);
}

static int make_output_dir(struct task *k)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(k->output_dir, sizeof k->output_dir, "%.200s/simbdp-output-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(k->output_dir))
        return err_sys(&k->err, -errno, "cannot make %s", k->output_dir);
    return setenv("SIMBDP_OUTPUT_DIR", k->output_dir, 1) < 0 ? -errno : 0;
}

static int finish(struct task *k, int r)
{
    if (r >= 0 && k->d) {
        int f = drain_flush(k->d, &k->err);
        r = f < 0 ? f : r;
    }
    quality_log_fill(k->quality, k->d, &k->report);
    if (r < 0)
        fprintf(stderr, "simbdp-load: %s\n", k->err.msg);
    result_file_write(&k->report, r == -ECONNREFUSED ? "database_down" : NULL, r < 0 ? k->err.msg : NULL);
    result_file_fini(&k->report);
    return r;
}

static const char usage[] =
    "usage: simbdp-load --stream [--home HOME] [--checker PROGRAM] [--checker-s SECONDS] [--output stdout|dir] "
    "[-- COMMAND ARGS...]\n"
    "Stores the messages of a stream, or what COMMAND makes of them, as rows of a dataset; PROGRAM sees them "
    "first and may refuse some.\n";

/* 0, or an exit code. */
static int take_args(struct task *k, int argc, char **argv, bool *ret_dir)
{
    int i = 0;
    k->checker.limit_ms = CHECKER_MS;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[++i] : "";
        bool output = !strcmp(option, "--output"), checker = !strcmp(option, "--checker"), limit = !strcmp(option, "--checker-s");
        if (output)
            *ret_dir = !strcmp(value, "dir");
        else if (checker)
            xstr_set(&k->checker.path, value);
        else if (limit)
            k->checker.limit_ms = atoll(value) * 1000;
        if (!*value || (output && !*ret_dir && strcmp(value, "stdout")) || (limit && k->checker.limit_ms <= 0) ||
            (!output && !checker && !limit && strcmp(option, "--home") != 0)) /* for people who look at the process table */
            return fputs(usage, stderr), 2;
    }
    if (i + 1 < argc)
        k->command = argv + i + 1;
    return i + 1 == argc || (*ret_dir && !k->command) ? (fputs(usage, stderr), 2) : 0;
}

int messages_main(int argc, char **argv)
{
    struct task k = {0};
    bool dir = false;
    int r = take_args(&k, argc, argv, &dir);
    if (r)
        return checker_fini(&k.checker), r;
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_stop}, NULL);
    result_file_init(&k.report, getenv("SIMBDP_RESULT_FILE"));
    k.quality = quality_log_open();
    r = dir ? make_output_dir(&k) : 0;
    if (r == 0)
        r = start(&k);
    to_wake = k.d;
    if (r == 0)
        r = k.command || k.checker.path ? by_batch(&k) : by_itself(&k);
    to_wake = NULL;
    r = finish(&k, r);
    drain_close(k.d);
    quality_log_close(k.quality);
    spec_free(k.spec);
    message_rows_fini(&k.rows);
    checker_fini(&k.checker);
    buf_fini(&k.text);
    buf_fini(&k.bodies);
    buf_fini(&k.out);
    free(k.v);
    if (*k.output_dir)
        rmdir(k.output_dir);
    return r >= 0               ? r
           : r == -ECONNREFUSED ? EX_TEMPFAIL
           : r == -EACCES       ? EX_NOPERM
           : r == ERR_REFUSED   ? EX_NOPERM
           : r == ERR_CONFIG    ? EX_CONFIG
                                : 1;
}
