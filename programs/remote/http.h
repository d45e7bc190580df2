/* HTTP with the gateway: one request, its answer or the error, and another try where that makes sense. A certificate is always
 * verified; nothing is redirected. */
#ifndef SIMBDP_REMOTE_HTTP_H
#define SIMBDP_REMOTE_HTTP_H

#include "target.h"

#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What one thread asks with: it keeps its connection. */
struct http;

/* patience_ms: how long one question is asked again after a loss of connection, or a refusal for a while. `target` is borrowed.
 * *stop (NULL: never) is looked at while it waits: true ends it. */
struct http *http_new(const struct target *target, int64_t patience_ms, const atomic_bool *stop);
void http_free(struct http *h); /* NULL is fine */

/* What is sent: p[0..n), or n bytes of a file from an offset. */
struct http_body {
    const void *p;
    int fd; /* used where p is NULL; is not moved */
    int64_t offset, n;
};

struct http_request {
    const char *method, *path;        /* below the URL, escaped, with its query */
    const char *accept;               /* NULL: application/json */
    const char *const *fields;        /* "Name: value", ends with NULL; NULL: none */
    const struct http_body *body;     /* NULL: none */
    bool again;                       /* may be sent twice; GET and HEAD always may */
    bool once;                        /* is tried once: the caller tries again himself */
    void (*on_sent)(void *, int64_t); /* told of bytes of the body that went; NULL: nobody is */
    /* Gets the body of a 2xx as it comes, instead of the answer; false ends it. NULL: the answer has it. */
    bool (*on_data)(void *, const char *p, size_t n);
    void *arg;
};

struct http_answer {
    long status; /* 0: there was none */
    struct buf body;
    char type[64], request_id[32], location[512]; /* location: also Content-Location; a path below the server's root */
    char etag[80];                                /* as it was sent, with its quotes; "": was not said */
    char position[64];                            /* X-Position; "": was not said */
    int64_t next, upload_offset, upload_length;   /* X-Next; -1: was not said */
    bool ended;                                   /* X-Ended: true */
};
void http_answer_fini(struct http_answer *a);
#define AUTO_ANSWER __attribute__((cleanup(http_answer_fini)))

/* Blocks. 0: the status is 2xx. ERR_REFUSED: it was refused; e has title, detail, code and request id in words, in `reason` the
 * problem's code (advice.h), in retry_after_s how long to wait (more than its patience). ERR_CLOSED: no answer, `reason`
 * unreachable or certificate; then it is not known whether what was sent arrived. -EIO: the file could not be read. *ret is
 * replaced; http_answer_fini. */
int http_ask(struct http *h, const struct http_request *rq, struct http_answer *ret, struct err *e);

/* Waits before the caller's try n + 1, as http_ask would after `why`. False: that would be after `until_ms` (monotonic), or it was
 * stopped. */
bool http_wait(struct http *h, const struct err *why, int n, int64_t until_ms);

/* Tells of each wait before another try, and of its end (why NULL). Without it only long ones are told, on stderr. */
void http_on_wait(struct http *h, void (*fn)(void *arg, const struct err *why, int64_t ms), void *arg);

/* Appends a text as a part of a path or query. */
void http_escape(struct buf *b, const char *text);

/* A field of the header: an Idempotency-Key that nobody used before. What is sent with it may be sent again. */
enum { HTTP_KEY_SIZE = 64 };
void http_new_key(char ret[HTTP_KEY_SIZE]);

/* How long to wait before try `n` (from 1), between half and all of a pause that doubles. `random`: any number. */
int64_t http_backoff_ms(int n, uint32_t random);

#endif
