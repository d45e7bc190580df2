#include "collector.h"
#include "otlp_json.h"
#include "sender.h"

#include "base/fd.h"
#include "base/mem.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADERS = 4096, RETRY_S = 300, TIMEOUT_S = 10 };

/* Of this platform: the same after a restart, another one for another home (semantic conventions 1.27, service.*). */
static void add_resource(const struct home *h, struct buf *out)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    char host[256] = "", id[40];
    gethostname(host, sizeof host - 1);
    AUTO_FREE char *of = xasprintf("%s:%s", host, h->tag);
    crypto_hash_sha256(hash, (const unsigned char *)of, strlen(of));
    snprintf(id, sizeof id, "%02x%02x%02x%02x-%02x%02x-8%x%02x-8%x%02x-%02x%02x%02x%02x%02x%02x", hash[0], hash[1], hash[2],
             hash[3], hash[4], hash[5], hash[6] & 15, hash[7], hash[8] & 15, hash[9], hash[10], hash[11], hash[12], hash[13],
             hash[14], hash[15]); /* RFC 9562, version 8 */
    json_begin(out, NULL, '{');
    json_begin(out, "attributes", '[');
    otlp_str(out, "service.name", "mysimbdp");
    otlp_str(out, "service.version", SIMBDP_VERSION);
    otlp_str(out, "service.instance.id", id);
    otlp_str(out, "host.name", host);
    json_end(out, ']');
    json_end(out, '}');
}

/* NAME: VALUE, of RFC 9110's characters, and none that is ours to say. */
static bool is_header(const char *line, size_t n)
{
    static const char *const ours[] = {"content-", "host:", "transfer-", "connection:", "expect:"};
    const char *colon = memchr(line, ':', n);
    for (const char *p = line; colon && p < colon; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            return false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strncasecmp(line, ours[i], strlen(ours[i])))
            return false;
    return colon && colon > line;
}

static int add_headers(const struct home *h, const char *path, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf b = {0}, lines = {0};
    struct stat st;
    int line = 0;
    int r = *path ? fd_read_file(h->dirfd, path, &b, MAX_HEADERS, e) : 0;
    if (r == 0 && *path && stat(path, &st) == 0 && (st.st_mode & S_IROTH)) /* lint: ours */
        r = err_set(e, ERR_CONFIG, "%s may be read by everybody; chmod o-r", path);
    for (char *p = b.p, *end; r == 0 && p && *p; p = *end ? end + 1 : end) {
        end = strchrnul(p, '\n');
        size_t n = (size_t)(end - p);
        n -= n && p[n - 1] == '\r';
        line++;
        if (n && !is_header(p, n))
            r = err_set(e, ERR_CONFIG, "%s:%d: it is no header field NAME: VALUE that may be added", path, line);
        buf_add(&lines, p, n);
        buf_adds(&lines, "\n");
    }
    json_str(out, "headers", r == 0 && lines.p ? lines.p : "");
    if (b.p)
        explicit_bzero(b.p, b.n);
    if (lines.p)
        explicit_bzero(lines.p, lines.n);
    return r;
}

int collector_packet(const struct home *h, const struct conf *c, const char *signal, bool grouped, struct buf *out, struct err *e)
{
    const char *base = c->platform.otlp.url;
    const size_t n = strlen(base);
    AUTO_BUF struct buf resource = {0};
    AUTO_FREE char *url = xasprintf("%.*s/v1/%s", (int)(base[n - 1] == '/' ? n - 1 : n), base, signal);
    AUTO_FREE char *name = xasprintf("otlp %s", signal);
    add_resource(h, &resource);
    json_begin(out, NULL, '{');
    json_str(out, "op", "webhook");
    json_str(out, "name", name);
    json_str(out, "kind", signal);
    json_str(out, "url", url);
    json_str(out, "resource", resource.p);
    json_i64(out, "group_s", grouped);
    json_i64(out, "timeout_s", TIMEOUT_S);
    json_i64(out, "retry_s", RETRY_S);
    json_bool(out, "gzip", c->platform.otlp.gzip);
    int r = add_headers(h, c->platform.otlp.headers_file, out, e);
    if (r == 0)
        r = sender_add_ca(h, c->platform.otlp.ca_file, out, e);
    json_end(out, '}');
    return r;
}
