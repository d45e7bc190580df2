/* Error codes and the error object that travels to where a person reads it. */
#ifndef SIMBDP_BASE_ERR_H
#define SIMBDP_BASE_ERR_H

#include <stdint.h>

/* Functions return 0 or a negative code: -errno for system failures, one of these for ours. */
#define ERR_CODES(X)                                                                                                               \
    X(CONFIG, 2000, "configuration error")                                                                                         \
    X(FORMAT, 2001, "malformed data")                                                                                              \
    X(LIMIT, 2002, "limit exceeded")                                                                                               \
    X(VERSION, 2003, "unsupported version")                                                                                        \
    X(CLOSED, 2004, "peer closed the connection")                                                                                  \
    X(REFUSED, 2005, "refused")                                                                                                    \
    X(DATABASE, 2006, "database error")                                                                                            \
    X(USAGE, 2007, "usage error")

enum err_code {
#define X(name, number, text) ERR_##name = -(number),
    ERR_CODES(X)
#undef X
};

struct err {
    int code;              /* 0: no error */
    char msg[1024];        /* one line, without a final newline; cut when longer */
    const char *reason;    /* of a refusal, a word that programs go by; static. NULL: what `code` says is all */
    int64_t retry_after_s; /* what was refused may succeed then; 0: not by waiting */
};

/* The short text of a code, or of errno for -errno. Static or thread-local storage. */
const char *err_text(int code);

/* Sets `e` (which may be NULL) and returns `code`, so that `return err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, of ERR_REFUSED, for who is to act upon it without reading: `reason` lives for ever. */
int err_refuse(struct err *e, const char *reason, int64_t retry_after_s, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The word for an error: its reason, else one for its code (not_found, usage, refused, system, ...). Static. */
const char *err_reason(const struct err *e);

/* As err_set, with ": <text of code>" appended. For system failures. */
int err_sys(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts context in front of the message while the error travels up. */
void err_context(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
