/* mysimbdp configuration, configure FILE: what the tenant configures itself. */
#include "remote.h"

#include "base/fd.h"
#include "base/mem.h"
#include "term/text.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BYTES = 64 << 10 /* the gateway takes no more */ };

/* The hash that an ETag quotes. */
static const char *hash_of(struct http_answer *a)
{
    size_t n = strlen(a->etag);
    if (n < 2 || a->etag[0] != '"' || a->etag[n - 1] != '"')
        return a->etag;
    a->etag[n - 1] = 0;
    return a->etag + 1;
}

static void print_json(const struct buf *text, const char *sha256)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    if (text)
        json_strn(&b, "text", text->p ? text->p : "", text->n);
    else
        json_bool(&b, "ok", true);
    if (*sha256) /* there is none of what is not there */
        json_str(&b, "sha256", sha256);
    json_end(&b, '}');
    puts(b.p);
}

int verb_configuration(struct remote *r)
{
    AUTO_BUF struct buf path = {0};
    AUTO_ANSWER struct http_answer a = {0};
    struct err e = {0};
    int code = remote_args(r, 0, 0);
    if (code || (code = remote_open(r)))
        return code;
    remote_path(r, &path, "configuration");
    text_fold(false); /* the file as it is */
    if (http_ask(r->http, &(struct http_request){.method = "GET", .path = path.p, .accept = "text/plain"}, &a, &e) < 0)
        return remote_fail(r, &e);
    if (r->json)
        print_json(&a.body, hash_of(&a));
    else if (a.body.n && isatty(STDOUT_FILENO)) /* through what keeps a terminal from obeying it */
        fputs(a.body.p, stdout);
    else if (a.body.n && fd_write_all(STDOUT_FILENO, a.body.p, a.body.n) < 0)
        return REMOTE_FAILED;
    return REMOTE_DONE;
}

static int put(struct remote *r, const struct buf *text, const char *if_match)
{
    AUTO_BUF struct buf path = {0};
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *match = if_match ? xasprintf("If-Match: \"%s\"", if_match) : NULL;
    const char *const fields[] = {"Content-Type: text/plain", match, NULL};
    struct http_body body = {.p = text->p ? text->p : "", .n = (int64_t)text->n};
    struct err e = {0};
    remote_path(r, &path, "configuration");
    /* Without a condition it may go twice; with one, the second would be refused since the first was taken. */
    if (http_ask(r->http,
                 &(struct http_request){.method = "PUT", .path = path.p, .fields = fields, .body = &body, .again = !if_match}, &a,
                 &e) < 0)
        return remote_fail(r, &e);
    if (r->json)
        print_json(NULL, hash_of(&a));
    else
        printf("tenant %s: %s\n", r->target.tenant, text->n ? "it holds" : "what it configured itself is removed");
    return REMOTE_DONE;
}

int verb_configure(struct remote *r)
{
    const char *if_match = remote_opt(r, "--if-match");
    AUTO_BUF struct buf text = {0};
    struct err e = {0};
    int code = remote_args(r, 1, 1);
    if (code)
        return code;
    const char *file = r->argv[0];
    int n = strcmp(file, "-") ? fd_read_file(AT_FDCWD, file, &text, MAX_BYTES, &e) : fd_read_all(STDIN_FILENO, &text, MAX_BYTES);
    if (n == ERR_LIMIT)
        err_set(&e, ERR_LIMIT, "it has more than %d bytes", MAX_BYTES);
    else if (n < 0 && !*e.msg)
        err_sys(&e, n, "cannot read it");
    if (n < 0)
        return remote_fail_at(r, file, &e);
    return (code = remote_open(r)) ? code : put(r, &text, if_match);
}
