#include "framing.h"
#include "request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct seen {
    size_t fields;
    int lengths, encodings, hosts, logins;
    const char *length, *encoding, *bad;
};

/* RFC 9110, 5.6.2 */
static bool is_token(const char *p, size_t n)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++)
        if (!((p[i] >= '0' && p[i] <= '9') || ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z') || strchr(others, p[i])))
            return false;
    return n > 0;
}

static bool is_value(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)p[i] < 32 && p[i] != '\t') || p[i] == 127)
            return false;
    return true;
}

/* libmicrohttpd takes a folded field apart wrongly: what follows is added to the field's name. So `Transfer-Encoding:` with its
 * value on the next line would not be seen, while a proxy in front may have gone by it. */
static bool is_folded(const char *name)
{
    static const char *const fields[] = {MHD_HTTP_HEADER_TRANSFER_ENCODING, MHD_HTTP_HEADER_CONTENT_LENGTH, MHD_HTTP_HEADER_HOST,
                                         MHD_HTTP_HEADER_AUTHORIZATION};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        size_t n = strlen(fields[i]);
        if (!strncasecmp(name, fields[i], n) && name[n])
            return true;
    }
    return false;
}

static enum MHD_Result look(void *arg, enum MHD_ValueKind kind, const char *name, size_t n, const char *value, size_t n_value)
{
    struct seen *s = arg;
    (void)kind;
    s->fields++;
    if (!is_token(name, n) || strlen(name) != n || is_folded(name) || !is_value(value, n_value)) {
        s->bad = "a field of the header is malformed";
    } else if (!strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH)) {
        s->lengths++;
        s->length = value;
    } else if (!strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
        s->encodings++;
        s->encoding = value;
    } else if (!strcasecmp(name, MHD_HTTP_HEADER_HOST)) {
        s->hosts++;
    } else if (!strcasecmp(name, MHD_HTTP_HEADER_AUTHORIZATION)) {
        s->logins++;
    }
    return MHD_YES;
}

/* libmicrohttpd 0.9.75 takes a line that begins with a colon or a NUL for the header's end, so that what follows would be the next
 * request; a NUL for a value's end; and a bare line feed for one of a line. It writes a NUL over each colon and over both bytes of
 * a line's end, so the NULs tell that nothing else was there: from the version on two for its line, three for each field, and two
 * for the empty line. */
static bool is_whole(const struct request *rq, const char *version, size_t n_fields)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t n = 0;
    if (strcmp(MHD_get_version(), "0.9.75") || !i)
        return true;
    for (const char *p = version; p < rq->method + i->header_size; p++)
        n += *p == 0;
    return n == 2 + 3 * n_fields + 2;
}

bool framing_changes(const struct request *rq)
{
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS"};
    for (size_t i = 0; i < sizeof safe / sizeof *safe; i++)
        if (!strcmp(rq->method, safe[i]))
            return false;
    return true;
}

/* A browser that logged in here sends its password along with what another site's page has it send (RFC 6454). */
bool framing_is_foreign(const struct request *rq)
{
    const char *origin = request_header(rq, MHD_HTTP_HEADER_ORIGIN), *host = request_header(rq, MHD_HTTP_HEADER_HOST);
    const char *authority = origin ? strstr(origin, "://") : NULL;
    return framing_changes(rq) && origin && (!authority || !host || strcasecmp(authority + 3, host) != 0);
}

const char *framing_check(struct request *rq, const char *version)
{
    struct seen s = {0};
    MHD_get_connection_values_n(rq->connection, MHD_HEADER_KIND, look, &s);
    bool is_1_0 = !strcmp(version, MHD_HTTP_VERSION_1_0);
    rq->length = s.encodings ? LENGTH_UNKNOWN : 0;
    if (s.bad)
        return s.bad;
    size_t n_method = strlen(rq->method);
    if (!is_token(rq->method, n_method) || rq->method[n_method + 1] != rq->target[0])
        return "there is no method, and one blank, before the target";
    if (!is_whole(rq, version, s.fields))
        return "a line of the header begins with a colon or a blank, has a NUL in it, or does not end with CR and LF";
    for (const unsigned char *at = (const unsigned char *)rq->target; *at; at++)
        if (*at <= ' ' || *at == 127)
            return "there is a blank or a control byte in the target";
    if (!is_1_0 && strcmp(version, MHD_HTTP_VERSION_1_1))
        return "this speaks HTTP/1.1";
    if (s.hosts > 1 || (!is_1_0 && !s.hosts))
        return "there has to be one Host";
    if (s.lengths > 1)
        return "there is more than one Content-Length";
    if (s.lengths && s.encodings)
        return "there are Content-Length and Transfer-Encoding";
    if (s.encodings > 1 || (s.encodings && (is_1_0 || strcasecmp(s.encoding, "chunked"))))
        return "of transfer encodings, chunked is known here";
    if (s.logins > 1)
        return "there is more than one Authorization";
    rq->has_length = s.lengths || s.encodings;
    if (s.lengths) {
        size_t n = strspn(s.length, "0123456789");
        if (!n || n > 18 || s.length[n])
            return "Content-Length is no number that there can be";
        rq->length = atoll(s.length);
    }
    return NULL;
}
