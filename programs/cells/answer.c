#include "answer.h"

#include "host/home.h"

static const char *title_of(int status)
{
    switch (status) {
    case 400:
        return "The request is malformed";
    case 401:
        return "Nobody is logged in";
    case 404:
        return "There is no such resource";
    case 414:
        return "The target is too long";
    case 417:
        return "This expectation is not met here";
    case 421:
        return "This host is not served here";
    case 431:
        return "The header is too large";
    case 502:
        return "The tenant's cell did not answer as it should";
    case 503:
        return "The tenant cannot be reached now";
    case 504:
        return "The tenant's cell did not answer in time";
    case 505:
        return "This version of HTTP is not spoken here";
    default:
        return "The front cannot do this";
    }
}

static void write(int status, const char *kind, const char *more, const struct buf *body, bool is_head, struct buf *out)
{
    buf_addf(out,
             "HTTP/1.1 %d %s\r\n%sContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
             "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
             status, status == 200 ? "OK" : title_of(status), more, kind, body->n);
    if (!is_head)
        buf_add(out, body->p, body->n);
}

void answer_problem(const struct head_problem *p, int retry_after_s, bool is_head, struct buf *out)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BUF struct buf more = {0};
    char id[ID_SIZE];
    home_new_id(id);
    json_begin(&b, NULL, '{');
    json_str(&b, "type", "about:blank");
    json_str(&b, "title", title_of(p->status));
    json_i64(&b, "status", p->status);
    json_str(&b, "detail", p->detail);
    json_str(&b, "code", p->code);
    json_str(&b, "request_id", id);
    json_end(&b, '}');
    buf_addf(&more, "X-Request-Id: %s\r\n", id);
    if (retry_after_s)
        buf_addf(&more, "Retry-After: %d\r\n", retry_after_s);
    if (p->status == 401)
        buf_adds(&more, "WWW-Authenticate: Bearer realm=\"mysimbdp\"\r\n");
    write(p->status, "application/problem+json", more.p, &b, is_head, out);
}

void answer_text(int status, const char *text, bool is_head, struct buf *out)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s\n", text);
    write(status, "text/plain; charset=utf-8", "", &b, is_head, out);
}
