/* mysimbdp publish: lines into a stream, each once in effect. The publisher is a random number, and each message has the next one;
 * what is not known to be there is sent again under the same numbers (docs/openapi.yaml, publishMessages).
 *
 *   the connection is cut, or there is no answer    all of the batch again
 *   some are refused for a while                    those again, after the time given
 *   some are refused for good                       told by file and line, and left out */
#include "remote.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "term/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { BATCH_MESSAGES = 5000, BATCH_BYTES = 1 << 20, MAX_LINE = 64 << 20, CHUNK_BYTES = 65536 };

struct message {
    size_t at, n; /* in the batch's bytes */
    int64_t line;
    uint64_t number;
    bool done; /* it is there, or was refused for good */
};

struct publishing {
    struct remote *r;
    const char *stream, *file;
    uint64_t publisher, next_number;
    uint64_t confirmed, refused, deferred;
    struct buf bytes;
    struct message messages[BATCH_MESSAGES];
    size_t n, n_left; /* in the batch; not done of them */
    struct progress progress;
};

/* ---- a request ---- */

/* What became of a message. False: nothing more can be published. */
static bool take_result(struct publishing *k, struct message *m, const bson_t *doc, int64_t *wait_ms, struct err *e)
{
    const char *code = json_get_str(doc, "error", NULL);
    int64_t retry_ms = json_get_i64(doc, "retry_after_ms", 0);
    if (code && retry_ms > 0) {
        k->deferred++;
        *wait_ms = retry_ms > *wait_ms ? retry_ms : *wait_ms;
        err_set(e, ERR_REFUSED, "the stream takes no more now (%s)", code);
        return true;
    }
    if (code && !strcmp(code, "suspended")) {
        err_set(e, ERR_REFUSED, "the stream, or the tenant, is suspended; ask the provider");
        return false;
    }
    m->done = true;
    k->n_left--;
    if (code) {
        progress_clear(&k->progress);
        fprintf(stderr, "error: %s:%lld: refused: %s\n", k->file, (long long)m->line, code);
        k->refused++;
    } else {
        k->confirmed++;
    }
    return true;
}

/* Takes the answer apart, a line for each message. */
static int take_results(struct publishing *k, struct message *m, size_t n, const struct buf *answer, int64_t *wait_ms,
                        struct err *e)
{
    const char *p = answer->n ? answer->p : "";
    for (size_t i = 0; i < n; i++) {
        const char *lf = strchr(p, '\n');
        AUTO_BSON bson_t *doc = lf ? json_parse(p, (size_t)(lf - p), NULL) : NULL;
        if (!doc)
            return err_set(e, ERR_FORMAT, "the answer does not say what became of each message");
        if (!take_result(k, &m[i], doc, wait_ms, e))
            return ERR_REFUSED;
        p = lf + 1;
    }
    return 0;
}

/* All were refused for one reason: of a size, each. */
static int take_refusal(struct publishing *k, struct message *m, size_t n, const struct err *e)
{
    if (!e->reason || strcmp(e->reason, "size") != 0)
        return e->code;
    progress_clear(&k->progress);
    for (size_t i = 0; i < n; i++) {
        fprintf(stderr, "error: %s:%lld: %s\n", k->file, (long long)m[i].line, e->msg);
        m[i].done = true;
    }
    k->n_left -= n;
    k->refused += n;
    return 0;
}

/* Publishes messages whose numbers follow one another. */
static int post(struct publishing *k, struct message *m, size_t n, int64_t *wait_ms, struct err *e)
{
    static const char *const fields[] = {"Content-Type: application/x-ndjson", NULL};
    AUTO_BUF struct buf path = {0}, body = {0};
    AUTO_ANSWER struct http_answer a = {0};
    for (size_t i = 0; i < n; i++) {
        buf_add(&body, k->bytes.p + m[i].at, m[i].n);
        buf_add(&body, "\n", 1);
    }
    remote_path(k->r, &path, "streams/");
    http_escape(&path, k->stream);
    buf_addf(&path, "/messages?publisher=%llu&number=%llu", (unsigned long long)k->publisher, (unsigned long long)m[0].number);
    struct http_body all = {.p = body.p, .n = (int64_t)body.n};
    struct http_request rq = {
        .method = "POST", .path = path.p, .accept = "application/x-ndjson", .fields = fields, .body = &all, .again = true};
    int r = http_ask(k->r->http, &rq, &a, e);
    return r < 0 ? take_refusal(k, m, n, e) : take_results(k, m, n, &a.body, wait_ms, e);
}

/* ---- a batch ---- */

static int post_what_is_left(struct publishing *k, int64_t *wait_ms, struct err *e)
{
    for (size_t i = 0, n; i < k->n; i += n) {
        for (n = 0; i + n < k->n && !k->messages[i + n].done; n++) {
        }
        int r = n ? post(k, &k->messages[i], n, wait_ms, e) : 0;
        if (r < 0)
            return r;
        n += n == 0;
    }
    return 0;
}

static int64_t patience_ms(const struct remote *r)
{
    return r->retry_for_ms ? r->retry_for_ms : REMOTE_SEND_MS;
}

/* Sends the batch until all of it is done. It may take as long as the stream goes on to take some. */
static int flush_batch(struct publishing *k, struct err *e)
{
    int64_t until = clk_now_ms() + patience_ms(k->r);
    while (k->n_left) {
        int64_t wait_ms = 0;
        size_t before = k->n_left;
        struct err why = {0};
        int r = post_what_is_left(k, &wait_ms, &why);
        progress_show(&k->progress, "confirmed", (int64_t)k->confirmed, -1, "messages");
        if (k->n_left < before)
            until = clk_now_ms() + patience_ms(k->r);
        if (r < 0 || (k->n_left && clk_now_ms() + wait_ms > until)) {
            *e = why;
            return r < 0 ? r : ERR_REFUSED;
        }
        if (k->n_left)
            poll(NULL, 0, (int)(wait_ms + randombytes_uniform((uint32_t)(wait_ms / 4 + 1))));
    }
    k->n = 0;
    buf_reset(&k->bytes);
    return 0;
}

static int add(struct publishing *k, int64_t line, const char *p, size_t n, struct err *e)
{
    if (n && p[n - 1] == '\r')
        n--;
    if (!n) /* the gateway passes it over, too */
        return 0;
    int r = k->n == BATCH_MESSAGES || (k->n && k->bytes.n + n > BATCH_BYTES) ? flush_batch(k, e) : 0;
    if (r < 0)
        return r;
    k->messages[k->n++] = (struct message){k->bytes.n, n, line, k->next_number++, false};
    k->n_left++;
    buf_add(&k->bytes, p, n);
    return 0;
}

/* A slow pipe may take long to bring more: what was read is published before that. */
static int flush_if_idle(struct publishing *k, int fd, struct err *e)
{
    struct pollfd p = {fd, POLLIN, 0};
    return k->n && poll(&p, 1, 0) == 0 ? flush_batch(k, e) : 0;
}

static int publish_lines(struct publishing *k, int fd, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int64_t line = 0;
    for (ssize_t n = 1; n > 0;) {
        size_t at = 0, fresh = b.n;
        int r = flush_if_idle(k, fd, e);
        buf_reserve(&b, CHUNK_BYTES);
        n = r < 0 ? 0 : read(fd, b.p + b.n, CHUNK_BYTES);
        if (n < 0)
            return err_sys(e, -errno, "cannot read it");
        b.n += (size_t)n;
        for (char *lf; r == 0 && b.n > fresh && (lf = memchr(b.p + fresh, '\n', b.n - fresh)); at = fresh = (size_t)(lf + 1 - b.p))
            r = add(k, ++line, b.p + at, (size_t)(lf - b.p) - at, e);
        if (r == 0 && n == 0 && at < b.n)
            r = add(k, ++line, b.p + at, b.n - at, e);
        if (r < 0)
            return r;
        buf_consume(&b, at);
        if (b.n > MAX_LINE)
            return err_set(e, ERR_LIMIT, "line %lld is longer than a message can be", (long long)line + 1);
    }
    return 0;
}

/* ---- the verb ---- */

static int publish_file(struct publishing *k, const char *file, struct err *e)
{
    AUTO_FD int fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
    k->file = strcmp(file, "-") ? file : "stdin";
    int r = fd < 0 ? err_sys(e, -errno, "cannot read it") : publish_lines(k, fd, e);
    if (r == 0) /* lines are told by their file: what is of this one goes first */
        r = flush_batch(k, e);
    if (r < 0)
        err_context(e, "%s", k->file);
    return r;
}

static int tell(struct publishing *k, int r, const struct err *e)
{
    progress_clear(&k->progress);
    if (k->r->json)
        printf("{\"confirmed\":%llu,\"unconfirmed\":%zu,\"refused\":%llu,\"deferred\":%llu}\n", (unsigned long long)k->confirmed,
               k->n_left, (unsigned long long)k->refused, (unsigned long long)k->deferred);
    else
        printf("%llu messages confirmed\n", (unsigned long long)k->confirmed);
    fflush(stdout);
    if (r < 0)
        remote_fail(k->r, e);
    if (k->n_left)
        fprintf(stderr, "  of %zu messages, from %s:%lld on, it is not known whether they are there\n", k->n_left, k->file,
                (long long)k->messages[k->n - k->n_left].line);
    return r < 0 || k->refused ? REMOTE_FAILED : REMOTE_DONE;
}

int verb_publish(struct remote *r)
{
    struct err e = {0};
    int code = remote_args(r, 1, -1), n = 0;
    if (!r->retry_for_ms)
        r->retry_for_ms = REMOTE_SEND_MS;
    if (code || (code = remote_open(r)))
        return code;
    struct publishing *k = xcalloc(1, sizeof *k);
    k->r = r;
    k->stream = strchr(r->argv[0], '/') ? strchr(r->argv[0], '/') + 1 : r->argv[0];
    k->next_number = 1;
    randombytes_buf(&k->publisher, sizeof k->publisher);
    k->publisher = (k->publisher >> 1) | 1;
    progress_begin(&k->progress, k->stream);
    for (int i = 1; n == 0 && i < r->argc; i++)
        n = publish_file(k, r->argv[i], &e);
    if (r->argc == 1)
        n = publish_file(k, "-", &e);
    code = tell(k, n, &e);
    buf_fini(&k->bytes);
    free(k);
    return code;
}
