/* One webhook's connection: a POST at a time, by libcurl. */
#ifndef SIMBDP_WEBHOOK_POST_H
#define SIMBDP_WEBHOOK_POST_H

#include "base/buf.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hex digits of HMAC-SHA256 (RFC 2104) with the secret, over TIMESTAMP "." BODY; ret has room for 65. */
void post_sign(const void *secret, size_t n_secret, int64_t timestamp, const struct buf *body, char *ret);

struct post;

struct post_settings {
    const char *url, *ca_pem; /* ca_pem "": this host's certificates */
    const void *secret;       /* n_secret 0: calls are not signed */
    size_t n_secret;
    long timeout_s;
    bool otlp;           /* a collector's: what is said about a call is OTLP's alone, and its answer is kept */
    const char *headers; /* lines "NAME: VALUE" that are added; "": none */
    bool gzip;
};

struct post *post_new(CURLM *multi);
void post_free(struct post *p); /* what is under way is given up; NULL is fine */
/* Copied; holds from the next call on. 0, or -errno: ca_pem cannot be kept, and no receiver's certificate is taken. */
int post_set(struct post *p, const struct post_settings *s);

/* Begins: the body is taken over (and left empty). timestamp: seconds since the epoch. 0, or -EIO: libcurl takes it not. */
int post_begin(struct post *p, struct buf *body, const char *id, int64_t timestamp);
/* Whether it is this one's transfer that ended; if so, it can begin another. */
bool post_is(const struct post *p, const CURL *easy);
/* What came of it: the HTTP status, 0 when there was no answer, and then why; *ret_ask_ms: after how long the receiver wants to be
 * asked again (Retry-After), or 0. */
long post_end(struct post *p, CURLcode code, const char **ret_why, int64_t *ret_ask_ms);
/* Behind post_end: what a collector answered, as far as it was not too long. Good until the next call. */
const struct buf *post_answer(const struct post *p);

#endif
