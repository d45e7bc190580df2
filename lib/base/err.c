#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *err_text(int code)
{
    switch (code) {
#define X(name, number, text)                                                                                                      \
    case ERR_##name:                                                                                                               \
        return text;
        ERR_CODES(X)
#undef X
    default:
        return code < 0 ? strerror(-code) : "success";
    }
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    e->code = code;
    e->reason = NULL;
    e->retry_after_s = 0;
    return code;
}

int err_refuse(struct err *e, const char *reason, int64_t retry_after_s, const char *fmt, ...)
{
    va_list ap;
    if (!e)
        return ERR_REFUSED;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    e->code = ERR_REFUSED;
    e->reason = reason;
    e->retry_after_s = retry_after_s;
    return ERR_REFUSED;
}

const char *err_reason(const struct err *e)
{
    if (e->reason)
        return e->reason;
    switch (e->code) {
    case -ENOENT:
        return "not_found";
    case ERR_FORMAT: /* of the request */
    case ERR_USAGE:
        return "usage";
    case ERR_REFUSED:
        return "refused";
    case ERR_CONFIG:
        return "configuration";
    case ERR_LIMIT:
        return "limit";
    default:
        return "system";
    }
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg);
    snprintf(e->msg + n, sizeof e->msg - n, ": %s", err_text(code));
    e->code = code;
    e->reason = NULL;
    e->retry_after_s = 0;
    return code;
}

void err_context(struct err *e, const char *fmt, ...)
{
    if (!e)
        return;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg);
    snprintf(e->msg + n, sizeof e->msg - n, ": %s", old);
}
