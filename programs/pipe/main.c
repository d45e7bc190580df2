/* simbdp-pipe: a stream for any program that reads lines.
 *
 *     simbdp-pipe [--batch N] [--wait MS] [--trace] -- COMMAND ARGS...
 *     simbdp-pipe --echo [--batch N] [--trace] -- COMMAND ARGS...
 *
 * One message is one line: a newline in it is written \n, a carriage return \r, NUL \0, a backslash \\.
 *
 * --trace: in front of it stand the message's traceparent (W3C Trace Context) and a tab; "-" and a tab where it has none.
 *
 * By batch: COMMAND is started for each batch of messages, gets them on stdin, and all are acknowledged when it exits with 0. When
 * it does not, the batch is tried once more, a message at a time, so that only those are charged that fail alone: they are given
 * back, and are dead letters after the stream's max_deliveries. Exit code 75 gives everything back without a charge and ends the
 * pipe with 75.
 *
 * --echo: COMMAND runs all the time, and acknowledges a message by printing its line. When it ends, so does the pipe, with its exit
 * code; what it had not printed is delivered again.
 *
 * Killed in between, the pipe leaves messages to be delivered again: a COMMAND must bear seeing one twice. Leases are extended
 * while it works.
 *
 * Environment: lib/stream/env_read.h. SIGTERM and SIGINT: what was begun is finished, the rest given back. */
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_context.h"
#include "stream/command.h"
#include "stream/env_read.h"
#include "stream/reporter.h"
#include "stream/subscriber.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

enum { LOOK_MS = 200, MAX_BATCH_BYTES = 16 << 20, MAX_LINE = 64 << 20 };

static volatile sig_atomic_t stopping;

static void on_stop(int sig)
{
    (void)sig;
    stopping = 1;
}

struct pipe {
    struct subscriber *s;
    char **command;
    bool echo, trace;
    bool once; /* delivery is at_most_once: COMMAND sees no message twice */
    uint32_t batch;
    int64_t wait_ms;
    /* the messages that are being worked on */
    struct message {
        uint64_t seq;
        size_t at, n; /* place and length of its line in `text`, newline included */
        bool done;
        int64_t came_us;
    } * v;
    size_t n, cap;
    struct buf text;
    int64_t extend_ms;
    struct reporter *reporter;
    int64_t settled_us; /* --echo: when the last message was done */
};

static void add_trace(struct buf *text, const unsigned char *trace)
{
    char parent[TRACE_PARENT_SIZE];
    buf_adds(text, trace && trace_parent_unpack(trace, parent) ? parent : "-");
    buf_adds(text, "\t");
}

static void add(struct pipe *k, const struct subscriber_batch *b)
{
    int64_t now = clk_now_us();
    for (size_t i = 0; i < b->n; i++) {
        if (k->n == k->cap) {
            k->cap = k->cap ? k->cap * 2 : 64;
            k->v = xrealloc(k->v, k->cap * sizeof *k->v);
        }
        size_t at = k->text.n;
        if (k->trace)
            add_trace(&k->text, b->v[i].trace);
        command_add_line(&k->text, b->v[i].p, b->v[i].n);
        k->v[k->n++] = (struct message){b->v[i].seq, at, k->text.n - at, false, now};
    }
}

/* Calls fn for ranges of those messages from..to that are not done yet. */
static void each_open(struct pipe *k, size_t from, size_t to,
                      void (*fn)(struct subscriber *s, const struct wire_range *v, size_t n))
{
    for (size_t i = from; i < to; i++)
        if (!k->v[i].done)
            fn(k->s, &(struct wire_range){k->v[i].seq, k->v[i].seq}, 1);
}

static void extend_if_due(struct pipe *k)
{
    int64_t now = clk_now_ms();
    reporter_tick(k->reporter, now * 1000);
    if (now < k->extend_ms)
        return;
    if (k->extend_ms)
        each_open(k, 0, k->n, subscriber_extend);
    k->extend_ms = now + subscriber_lease_ms(k->s) / 3;
}

/* ---- by batches ---- */

static void keep(void *arg)
{
    extend_if_due(arg);
}

/* Runs COMMAND on the lines of messages from..to. Returns its exit code, or an error. */
static int run_on(struct pipe *k, size_t from, size_t to, struct err *e)
{
    size_t at = k->v[from].at, end = k->v[to - 1].at + k->v[to - 1].n;
    struct command_job job = {.argv = k->command, .in = k->text.p + at, .n = end - at, .tick = keep, .arg = k};
    return command_run(&job, e);
}

static void give_back(struct pipe *k, size_t i, int code)
{
    char why[64];
    snprintf(why, sizeof why, code < 128 ? "the command exits with %d" : "the command ends by signal %d",
             code < 128 ? code : code - 128);
    subscriber_nack(k->s, &(struct wire_range){k->v[i].seq, k->v[i].seq}, 1, 0, why);
    reporter_error(k->reporter, why);
    k->v[i].done = true;
}

static int run_batch(struct pipe *k, struct err *e)
{
    int code = run_on(k, 0, k->n, e);
    if (code == 0)
        each_open(k, 0, k->n, subscriber_ack);
    if (code > 0 && k->once) {
        fprintf(stderr, "simbdp-pipe: %zu messages are lost (delivery = \"at_most_once\"): the command ends with %d\n", k->n, code);
        reporter_error(k->reporter, "the command failed");
        return code == EX_TEMPFAIL ? code : 0;
    }
    for (size_t i = 0; code > 0 && code != EX_TEMPFAIL && i < k->n; i++) {
        int one = k->n > 1 ? run_on(k, i, i + 1, e) : code;
        if (one < 0 || one == EX_TEMPFAIL)
            return one;
        if (one == 0) {
            each_open(k, i, i + 1, subscriber_ack);
            k->v[i].done = true;
        } else {
            give_back(k, i, one);
        }
    }
    return code == EX_TEMPFAIL || code < 0 ? code : 0;
}

/* Whether there is more to do. After a stop order only messages that are acknowledged already (at_most_once), since nobody else
 * will do them. */
static bool goes_on(struct pipe *k)
{
    return !stopping || subscriber_owes(k->s);
}

static int by_batches(struct pipe *k, struct err *e)
{
    int r = 0;
    while (r == 0 && goes_on(k)) {
        struct subscriber_batch b;
        k->n = k->text.n = 0;
        k->extend_ms = 0;
        int64_t until = 0;
        while (goes_on(k) && k->n < k->batch && k->text.n < MAX_BATCH_BYTES && (!k->n || clk_now_ms() < until)) {
            int got = subscriber_next(k->s, k->n ? until - clk_now_ms() : LOOK_MS, &b, e);
            reporter_tick(k->reporter, clk_now_us());
            if (got < 0)
                return got;
            if (got && !k->n)
                until = clk_now_ms() + k->wait_ms;
            if (got)
                add(k, &b);
        }
        int64_t began = clk_now_us();
        if (k->n && (!stopping || k->once))
            r = run_batch(k, e);
        reporter_done(k->reporter, k->n, k->text.n, clk_now_us() - began);
    }
    return r;
}

/* ---- --echo ---- */

static bool acknowledge(struct pipe *k, const char *line, size_t n)
{
    for (size_t i = 0; i < k->n; i++)
        if (!k->v[i].done && k->v[i].n == n && !memcmp(k->text.p + k->v[i].at, line, n)) {
            int64_t now = clk_now_us();
            each_open(k, i, i + 1, subscriber_ack);
            k->v[i].done = true;
            /* COMMAND does one after another: this one's time began when it came, or when the one before was done. */
            reporter_done(k->reporter, 1, n, now - (k->v[i].came_us > k->settled_us ? k->v[i].came_us : k->settled_us));
            k->settled_us = now;
            return true;
        }
    return false;
}

/* Forgets the messages at the front that are done and whose lines were written; *written moves along with the buffer. */
static void forget_done(struct pipe *k, size_t *written)
{
    size_t i = 0;
    while (i < k->n && k->v[i].done && k->v[i].at + k->v[i].n <= *written)
        i++;
    if (!i)
        return;
    size_t bytes = k->v[i - 1].at + k->v[i - 1].n;
    buf_consume(&k->text, bytes);
    *written -= bytes;
    memmove(k->v, k->v + i, (k->n -= i) * sizeof *k->v);
    for (i = 0; i < k->n; i++)
        k->v[i].at -= bytes;
}

static int by_echo(struct pipe *k, struct err *e)
{
    struct command c;
    AUTO_BUF struct buf answer = {0};
    size_t written = 0;
    int status = 0, r = command_start(k->command, true, &c, e);
    if (r < 0)
        return r;
    while (c.out >= 0) {
        struct subscriber_batch b;
        struct pollfd p[] = {{c.out, POLLIN, 0}, {c.in, POLLOUT, 0}};
        bool more = written < k->text.n;
        if (!goes_on(k) && (!k->once || written == k->text.n) && c.in >= 0)
            close(fd_take(&c.in)); /* COMMAND sees the end of its input, finishes and exits */
        int got = c.in >= 0 ? subscriber_next(k->s, more || k->n ? 0 : LOOK_MS, &b, e) : 0;
        if (got < 0)
            break;
        if (got)
            add(k, &b);
        extend_if_due(k);
        poll(p, written < k->text.n && c.in >= 0 ? 2 : 1, k->n && !got ? 5 : 0);
        if (p[1].revents && c.in >= 0) {
            ssize_t n = write(c.in, k->text.p + written, k->text.n - written);
            written += n > 0 ? (size_t)n : 0;
        }
        char chunk[65536];
        ssize_t n = p[0].revents ? read(c.out, chunk, sizeof chunk) : -1;
        if (n == 0)
            close(fd_take(&c.out));
        if (n > 0)
            buf_add(&answer, chunk, (size_t)n);
        size_t done = 0;
        for (char *end; done < answer.n && (end = memchr(answer.p + done, '\n', answer.n - done));) {
            size_t len = (size_t)(end + 1 - (answer.p + done));
            if (!acknowledge(k, answer.p + done, len))
                fwrite(answer.p + done, 1, len, stderr); /* a line that is no message's: something else that it printed */
            done += len;
        }
        if (done)
            buf_consume(&answer, done);
        forget_done(k, &written);
        if (answer.n > MAX_LINE)
            break;
    }
    if (c.in >= 0)
        close(c.in);
    if (c.out >= 0)
        close(c.out);
    waitpid(c.pid, &status, 0);
    return e->code ? e->code : command_code(status);
}

/* ---- life ---- */

static int open_subscriber(struct pipe *k, struct err *e)
{
    struct stream_env env;
    int r = stream_env_read(&env, e);
    if (r == 0)
        r = subscriber_open(env.endpoint, &env.keys, env.stream, env.app, k->batch, MAX_BATCH_BYTES, &k->s, e);
    if (r == 0 && k->trace)
        subscriber_want_traces(k->s);
    k->once = r == 0 && env.delivery == DELIVERY_AT_MOST_ONCE;
    if (k->once)
        subscriber_ack_first(k->s);
    stream_env_fini(&env);
    return r;
}

static const char usage[] =
    "usage: simbdp-pipe [--batch N] [--wait MS] [--echo] [--trace] -- COMMAND ARGS...\n"
    "Hands a stream's messages to COMMAND, a line each; \\n, \\r, \\0 and \\\\ stand for those bytes.\n"
    "  --batch N   so many messages at once (default 100)\n"
    "  --wait MS   and waits so long for them (default 100)\n"
    "  --echo      COMMAND stays, and prints each line that it is done with\n"
    "  --trace     in front of each line stand the message's traceparent, or -, and a tab\n"
    "Exit: 0 stopped by SIGTERM, 75 COMMAND exited with 75, 78 environment, else COMMAND's (--echo) or 1.\n";

static bool take_number(char **argv, int *i, const char *name, long least, int64_t *ret)
{
    char *end;
    if (strcmp(argv[*i], name) || !argv[*i + 1])
        return false;
    long v = strtol(argv[++*i], &end, 10);
    if (*end || v < least || v > 1000000)
        return false;
    *ret = v;
    return true;
}

int main(int argc, char **argv)
{
    struct pipe k = {.wait_ms = 100};
    struct err e = {0};
    int64_t batch = 100;
    int i = 1;
    log_init("simbdp-pipe");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    for (; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--echo"))
            k.echo = true;
        else if (!strcmp(argv[i], "--trace"))
            k.trace = true;
        else if (!take_number(argv, &i, "--batch", 1, &batch) && !take_number(argv, &i, "--wait", 0, &k.wait_ms))
            return fputs(usage, stderr), 2;
    if (i + 1 >= argc)
        return fputs(usage, stderr), 2;
    k.command = argv + i + 1;
    k.batch = (uint32_t)batch;
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_stop}, NULL);
    int r = open_subscriber(&k, &e);
    k.reporter = reporter_open();
    if (r == 0)
        r = k.echo ? by_echo(&k, &e) : by_batches(&k, &e);
    if (r < 0)
        fprintf(stderr, "simbdp-pipe: %s\n", e.msg);
    reporter_close(k.reporter);
    subscriber_close(k.s);
    buf_fini(&k.text);
    free(k.v);
    return r < 0 ? (r == ERR_CONFIG ? EX_CONFIG : 1) : r;
}
