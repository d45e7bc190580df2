/* simbdp-publish: lines, or the rows of a CSV file as JSON objects, into a stream. It is `mysimbdp publish`, which executes it: a
 * program of its own, so that the other verbs do not load libzmq and what that needs.
 *
 *     simbdp-publish [--csv] [--json] ENDPOINT TENANT/STREAM [FILE...]     no FILE, or "-": stdin
 *
 * Exit code 0: all were confirmed; 1: not all, which is said on stderr. */

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/trace_context.h"
#include "read/reader.h"
#include "stream/publisher.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { GIVE_UP_MS = 30000, PROGRESS_MS = 500, CHUNK_BYTES = 65536 };

struct publishing {
    struct publisher *p;
    const char *stream;
    uint64_t refused;  /* damaged rows, and messages that are too large */
    uint64_t deferred; /* how often the stream refused for a while, as far as that was told */
    int64_t shown_ms;
    bool progress;
};

static void show_progress(struct publishing *k, bool last)
{
    int64_t now = clk_now_ms();
    if (!k->progress || (!last && now - k->shown_ms < PROGRESS_MS))
        return;
    k->shown_ms = now;
    dprintf(STDERR_FILENO, "\r%llu confirmed%s", (unsigned long long)publisher_confirmed(k->p), last ? "\n" : "");
}

/* Tells a breach of the agreement once. What was refused for a while is sent again. */
static void tell_deferral(struct publishing *k)
{
    struct link_refusal why;
    uint64_t n = publisher_deferred(k->p, &why);
    if (n && !k->deferred)
        fprintf(stderr, "mysimbdp publish: %s refuses for now: %s: %s; trying again\n", k->stream, why.code, why.text);
    k->deferred = n;
}

/* Publishes a message. False: nothing more can be published; e says why. A message that is too large is told and skipped. */
static bool add(struct publishing *k, const char *file, int64_t line, const void *message, size_t n, struct err *e)
{
    int r = publisher_put(k->p, message, n, GIVE_UP_MS, e);
    show_progress(k, false);
    tell_deferral(k);
    if (r == ERR_LIMIT) {
        fprintf(stderr, "mysimbdp publish: %s:%lld: %s\n", file, (long long)line, e->msg);
        k->refused++;
        *e = (struct err){0};
        return true;
    }
    return r == 0;
}

/* Publishes what was read so far: a slow pipe may take long to bring more. */
static bool flush_if_idle(struct publishing *k, int fd, struct err *e)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, 0) != 0 || publisher_flush(k->p, GIVE_UP_MS, e) == 0;
}

static bool publish_lines(struct publishing *k, const char *file, int fd, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int64_t number = 0;
    bool ok = true;
    for (ssize_t n = 1; ok && n > 0;) {
        size_t at = 0, fresh = b.n;
        ok = flush_if_idle(k, fd, e);
        if (!ok)
            break;
        buf_reserve(&b, CHUNK_BYTES);
        n = read(fd, b.p + b.n, CHUNK_BYTES);
        b.n += n > 0 ? (size_t)n : 0;
        if (n < 0 && errno == EINTR)
            n = 1;
        for (char *end; ok && b.n > fresh && (end = memchr(b.p + fresh, '\n', b.n - fresh)); at = fresh = (size_t)(end + 1 - b.p))
            ok = add(k, file, ++number, b.p + at, (size_t)(end - b.p) - at, e);
        if (ok && n == 0 && at < b.n)
            ok = add(k, file, ++number, b.p + at, b.n - at, e);
        if (n < 0) {
            err_sys(e, -errno, "cannot read %s", file);
            ok = false;
        }
        buf_consume(&b, at);
    }
    close(fd);
    return ok;
}

static bool publish_rows(struct publishing *k, const char *file, int fd, struct err *e)
{
    static const char csv[] = "{\"format\":\"csv\",\"csv\":{\"header_rows\":1}}";
    struct spec *spec = NULL;
    if (spec_parse(csv, sizeof csv - 1, &spec, NULL, e) < 0)
        return false;
    struct src *s = src_new(fd, src_compression_of(file, NULL), -1, NULL, NULL);
    struct reader *r = reader_new(s, spec);
    struct record rec;
    AUTO_BUF struct buf row = {0}, room = {0}, json = {0};
    bool ok = true;
    int n = 0;
    while (ok && (n = reader_next(r, &rec, e)) > 0) {
        bson_t doc;
        row.n = json.n = 0;
        if (reader_row(r, &rec, &row) < 0 || !json_doc_of_elements(row.p, row.n, &room, &doc)) {
            fprintf(stderr, "mysimbdp publish: %s:%lld: %s\n", file, (long long)rec.line, rec.reject ? rec.reject : "no row");
            k->refused++;
            continue;
        }
        json_from_bson(&doc, &json);
        ok = add(k, file, rec.line, json.p, json.n, e);
    }
    reader_free(r);
    src_free(s);
    spec_free(spec);
    close(fd);
    if (n < 0)
        err_context(e, "%s", file);
    return ok && n == 0;
}

static bool publish_file(struct publishing *k, const char *file, bool csv, struct err *e)
{
    int fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
    if (fd < 0) {
        err_sys(e, -errno, "cannot open %s", file);
        return false;
    }
    return csv ? publish_rows(k, file, fd, e) : publish_lines(k, file, fd, e);
}

static void tell_result(const struct publishing *k, bool as_json)
{
    unsigned long long confirmed = publisher_confirmed(k->p), deferred = k->deferred;
    if (as_json)
        printf("{\"confirmed\":%llu,\"unconfirmed\":%llu,\"refused\":%llu,\"deferred\":%llu}\n", confirmed,
               (unsigned long long)publisher_unconfirmed(k->p), (unsigned long long)k->refused, deferred);
    else if (deferred)
        printf("%llu messages confirmed; requests were refused for a while %llu times\n", confirmed, deferred);
    else
        printf("%llu messages confirmed\n", confirmed);
}

/* files: NULL-terminated. */
static int publish(struct publishing *k, const char *endpoint, char **files, bool csv, bool as_json, struct err *e)
{
    bool ok = true;
    unsigned char trace[TRACE_PACKED_BYTES];
    int r = publisher_open(endpoint, NULL, k->stream, &k->p, e);
    if (r < 0)
        return r;
    if (trace_parent_pack(getenv("TRACEPARENT"), trace))
        publisher_set_trace(k->p, trace);
    for (char **file = files; ok && *file; file++)
        ok = publish_file(k, *file, csv, e);
    if (ok && !*files)
        ok = publish_file(k, "-", csv, e);
    /* also after an error, since what was read is to be published */
    struct err late = {0};
    r = publisher_flush(k->p, GIVE_UP_MS, &late);
    if (r < 0 && ok)
        *e = late;
    show_progress(k, true);
    tell_deferral(k);
    tell_result(k, as_json);
    ok &= r == 0;
    if (!ok)
        err_context(e, "%llu messages are confirmed, %llu are not", (unsigned long long)publisher_confirmed(k->p),
                    (unsigned long long)publisher_unconfirmed(k->p));
    else if (k->refused)
        err_set(e, ERR_REFUSED, "%llu could not be published (see above)", (unsigned long long)k->refused);
    publisher_close(k->p);
    return ok && !k->refused ? 0 : ERR_REFUSED;
}

static const char usage[] =
    "usage: simbdp-publish [--csv] [--json] ENDPOINT TENANT/STREAM [FILE...]\n"
    "Puts lines of the files (- or none: of stdin) into a stream; --csv: rows, as JSON objects. `mysimbdp publish` starts it.\n"
    "They belong to the trace that TRACEPARENT in the environment names, if it does.\n"
    "Exit: 0 all are confirmed, 1 not, 64 usage.\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"csv", no_argument, NULL, 'c'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct publishing k = {.progress = isatty(STDERR_FILENO)};
    struct err e = {0};
    bool csv = false, as_json = false;
    for (int o; (o = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        if (o == '?')
            return EX_USAGE;
        if (o == 'h')
            return fputs(usage, stdout) < 0;
        csv |= o == 'c';
        as_json |= o == 'j';
    }
    if (argc - optind < 2) {
        fputs(usage, stderr);
        return EX_USAGE;
    }
    k.stream = argv[optind + 1];
    if (publish(&k, argv[optind], argv + optind + 2, csv, as_json, &e) < 0) {
        fprintf(stderr, "mysimbdp publish: %s\n", e.msg);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
