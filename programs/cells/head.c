#include "head.h"

#include <string.h>
#include <strings.h>

/* ---- bytes ---- */

/* RFC 9110, 5.6.2 */
static bool is_token(struct span s)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || ((s.p[i] | 32) >= 'a' && (s.p[i] | 32) <= 'z') ||
              (s.p[i] && strchr(others, s.p[i]))))
            return false;
    return s.n > 0;
}

static bool is_value(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < 32 && s.p[i] != '\t') || s.p[i] == 127)
            return false;
    return true;
}

static struct span trimmed(struct span s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

bool span_is(struct span s, const char *text)
{
    return s.n == strlen(text) && !strncasecmp(s.p, text, s.n);
}

size_t head_end(const char *p, size_t n)
{
    const char *end = memmem(p, n, "\r\n\r\n", 4);
    return end ? (size_t)(end - p) + 4 : 0;
}

/* The line at *at, without its end; *at is behind it. Bytes of line ends elsewhere in it are looked at where they are used. */
static struct span take_line(const char **at, const char *end)
{
    const char *from = *at, *stop = memmem(from, (size_t)(end - from), "\r\n", 2);
    *at = stop + 2; /* there is one: the head ends with two */
    return (struct span){from, (size_t)(stop - from)};
}

/* ---- fields ---- */

struct span head_field(const struct head *h, const char *name)
{
    for (size_t i = 0; i < h->n_fields; i++)
        if (span_is(h->fields[i].name, name))
            return h->fields[i].value;
    return (struct span){0};
}

static size_t count(const struct head *h, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n_fields; i++)
        n += span_is(h->fields[i].name, name);
    return n;
}

static const char *take_fields(const char *at, const char *end, struct head *h)
{
    for (;;) {
        struct span line = take_line(&at, end);
        const char *colon = memchr(line.p, ':', line.n);
        if (!line.n)
            return at == end ? NULL : "the head has an empty line in it";
        if (!colon)
            return "a field of the head has no colon";
        struct span name = {line.p, (size_t)(colon - line.p)}, value = {colon + 1, line.n - name.n - 1};
        if (!is_token(name) || !is_value(value))
            return "a field of the head is malformed";
        if (h->n_fields == HEAD_FIELDS)
            return "the head has too many fields";
        h->fields[h->n_fields].name = name;
        h->fields[h->n_fields++].value = trimmed(value);
    }
}

/* What Connection says: close; anything but what is usual there could name a field that the next one is not to see. */
static bool take_connection(struct head *h)
{
    static const char *const usual[] = {"close", "keep-alive", "te", "upgrade", ""};
    for (size_t i = 0; i < h->n_fields; i++) {
        struct span rest = h->fields[i].value;
        if (!span_is(h->fields[i].name, "Connection"))
            continue;
        for (bool more = true; more;) {
            const char *comma = memchr(rest.p, ',', rest.n);
            struct span word = trimmed((struct span){rest.p, comma ? (size_t)(comma - rest.p) : rest.n});
            bool known = false;
            for (size_t k = 0; k < sizeof usual / sizeof *usual; k++)
                known |= span_is(word, usual[k]);
            if (!known)
                return false;
            h->closes |= span_is(word, "close");
            more = comma != NULL;
            if (more)
                rest = (struct span){comma + 1, rest.n - (size_t)(comma + 1 - rest.p)};
        }
    }
    return true;
}

/* How long the body is. `other`: what it is where nothing says it. */
static const char *take_framing(struct head *h, struct body other)
{
    size_t lengths = count(h, "Content-Length"), encodings = count(h, "Transfer-Encoding");
    struct span length = head_field(h, "Content-Length");
    if (lengths + encodings > 1)
        return "the length of the body is said more than once";
    h->body = other;
    if (encodings) {
        if (!span_is(head_field(h, "Transfer-Encoding"), "chunked"))
            return "of transfer encodings, chunked is known here";
        h->body = body_chunked();
    }
    if (lengths) {
        int64_t n = 0;
        if (!length.n || length.n > 18)
            return "Content-Length is no number that there can be";
        for (size_t i = 0; i < length.n; i++) {
            if (length.p[i] < '0' || length.p[i] > '9')
                return "Content-Length is no number that there can be";
            n = n * 10 + (length.p[i] - '0');
        }
        h->body = body_of_length(n);
    }
    return NULL;
}

/* ---- a request ---- */

static bool refuse(struct head_problem *why, int status, const char *code, const char *detail)
{
    *why = (struct head_problem){status, code, detail};
    return false;
}

static bool take_request_line(struct span line, struct head *h, struct head_problem *why)
{
    const char *first = memchr(line.p, ' ', line.n), *last = memrchr(line.p, ' ', line.n);
    if (!first || first == last)
        return refuse(why, 400, "bad_request", "the first line is METHOD TARGET HTTP/1.1");
    struct span version = {last + 1, line.n - (size_t)(last + 1 - line.p)};
    h->method = (struct span){line.p, (size_t)(first - line.p)};
    h->target = (struct span){first + 1, (size_t)(last - first - 1)};
    if (version.n != 8 || memcmp(version.p, "HTTP/1.1", 8) != 0)
        return refuse(why, 505, "http_version", "this speaks HTTP/1.1");
    if (!is_token(h->method) || h->method.n > HEAD_METHOD_MAX)
        return refuse(why, 400, "bad_request", "there is no method before the target");
    if (h->target.n > HEAD_TARGET_MAX)
        return refuse(why, 414, "uri_too_long", "the target is too long");
    if (!h->target.n || *h->target.p != '/')
        return refuse(why, 400, "bad_request", "the target is an absolute path");
    for (size_t i = 0; i < h->target.n; i++)
        if (h->target.p[i] <= ' ' || h->target.p[i] > '~' || h->target.p[i] == '#' || h->target.p[i] == '\\')
            return refuse(why, 400, "bad_request", "there is a byte in the target that has to be percent-encoded");
    return true;
}

bool head_parse_request(const char *p, size_t n, struct head *ret, struct head_problem *why)
{
    const char *at = p, *end = p + n;
    *ret = (struct head){0};
    struct span line = take_line(&at, end), expect;
    if (!take_request_line(line, ret, why))
        return false;
    const char *wrong = take_fields(at, end, ret);
    if (!wrong)
        wrong = take_framing(ret, body_of_length(0));
    if (!wrong && !take_connection(ret))
        wrong = "Connection names fields that are not between us alone";
    if (!wrong && count(ret, "Host") != 1)
        wrong = "there has to be one Host";
    if (!wrong && count(ret, "Authorization") > 1)
        wrong = "there is more than one Authorization";
    if (wrong)
        return refuse(why, 400, "bad_request", wrong);
    expect = head_field(ret, "Expect");
    ret->expects = span_is(expect, "100-continue");
    if (expect.p && !ret->expects)
        return refuse(why, 417, "bad_request", "of expectations, 100-continue is known here");
    return true;
}

/* ---- an answer ---- */

bool head_parse_answer(const char *p, size_t n, bool is_head, struct head *ret)
{
    const char *at = p, *end = p + n;
    *ret = (struct head){0};
    struct span line = take_line(&at, end);
    if (line.n < 12 || memcmp(line.p, "HTTP/1.1 ", 9) != 0 || (line.n > 12 && line.p[12] != ' ') || !is_value(line))
        return false;
    for (int i = 9; i < 12; i++) {
        if (line.p[i] < '0' || line.p[i] > '9')
            return false;
        ret->status = ret->status * 10 + (line.p[i] - '0');
    }
    if (ret->status < 100 || ret->status > 599 || take_fields(at, end, ret) || take_framing(ret, body_until_close()) ||
        !take_connection(ret))
        return false;
    if (is_head || ret->status < 200 || ret->status == 204 || ret->status == 304)
        ret->body = body_of_length(0);
    ret->closes |= ret->body.kind == BODY_UNTIL_CLOSE;
    return true;
}

/* ---- passing on ---- */

static bool is_between_neighbours(struct span name)
{
    static const char *const names[] = {"Connection",          "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
                                        "Proxy-Authorization", "TE",         "Trailer",          "Upgrade"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_is(name, names[i]))
            return true;
    return false;
}

static void add_fields(const struct head *h, bool of_request, struct buf *out)
{
    for (size_t i = 0; i < h->n_fields; i++) {
        struct span name = h->fields[i].name, value = h->fields[i].value;
        if (is_between_neighbours(name) ||
            (of_request && (span_is(name, "X-Forwarded-For") || span_is(name, "Forwarded") || span_is(name, "X-Forwarded-Host") ||
                            span_is(name, "X-Forwarded-Proto"))))
            continue;
        buf_addf(out, "%.*s: %.*s\r\n", (int)name.n, name.p, (int)value.n, value.p);
    }
}

void head_write_request(const struct head *h, const char *address, struct buf *out)
{
    buf_addf(out, "%.*s %.*s HTTP/1.1\r\n", (int)h->method.n, h->method.p, (int)h->target.n, h->target.p);
    add_fields(h, true, out);
    buf_addf(out, "X-Forwarded-For: %s\r\n\r\n", address);
}

void head_write_answer(const struct head *h, const char *reason, bool closes, struct buf *out)
{
    buf_addf(out, "HTTP/1.1 %d %s\r\n", h->status, reason);
    add_fields(h, false, out);
    buf_addf(out, "%s\r\n", closes && h->status >= 200 ? "Connection: close\r\n" : "");
}
