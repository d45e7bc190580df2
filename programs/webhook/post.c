#include "post.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

enum { MAX_ANSWER = 64 << 10, GZIP_BITS = 15 + 16, GZIP_FROM = 1024 /* bytes: what is shorter is not worth it */ };

struct post {
    CURLM *multi;
    CURL *easy;
    bool under_way;
    char *url, *ca_path, error[CURL_ERROR_SIZE];
    int ca_fd; /* the certificates, where ca_path leads: libcurl with GnuTLS takes them from files alone */
    struct buf secret, body, answer;
    char *headers;
    bool otlp, gzip;
    long timeout_s;
    struct curl_slist *fields;
};

void post_sign(const void *secret, size_t n_secret, int64_t timestamp, const struct buf *body, char *ret)
{
    crypto_auth_hmacsha256_state s;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    AUTO_FREE char *head = xasprintf("%lld.", (long long)timestamp);
    crypto_auth_hmacsha256_init(&s, secret, n_secret);
    crypto_auth_hmacsha256_update(&s, (const unsigned char *)head, strlen(head));
    crypto_auth_hmacsha256_update(&s, (const unsigned char *)body->p, body->n);
    crypto_auth_hmacsha256_final(&s, mac);
    sodium_bin2hex(ret, 2 * sizeof mac + 1, mac, sizeof mac);
}

struct post *post_new(CURLM *multi)
{
    struct post *p = xcalloc(1, sizeof *p);
    p->ca_fd = -1;
    p->multi = multi;
    p->easy = curl_easy_init();
    if (!p->easy)
        mem_exhausted();
    return p;
}

static void stop(struct post *p)
{
    if (p->under_way)
        curl_multi_remove_handle(p->multi, p->easy);
    p->under_way = false;
    curl_slist_free_all(p->fields);
    p->fields = NULL;
}

static void forget_secret(struct post *p)
{
    if (p->secret.p)
        sodium_memzero(p->secret.p, p->secret.n);
    buf_reset(&p->secret);
}

static void forget_headers(struct post *p)
{
    if (p->headers)
        sodium_memzero(p->headers, strlen(p->headers));
    xstr_set(&p->headers, NULL);
}

static void forget_ca(struct post *p)
{
    if (p->ca_fd >= 0)
        close(p->ca_fd);
    p->ca_fd = -1;
    xstr_set(&p->ca_path, NULL);
}

void post_free(struct post *p)
{
    if (!p)
        return;
    stop(p);
    curl_easy_cleanup(p->easy);
    forget_secret(p);
    buf_fini(&p->secret);
    buf_fini(&p->body);
    buf_fini(&p->answer);
    forget_headers(p);
    free(p->url);
    forget_ca(p);
    free(p);
}

int post_set(struct post *p, const struct post_settings *s)
{
    xstr_set(&p->url, s->url);
    forget_secret(p);
    buf_add(&p->secret, s->secret, s->n_secret);
    p->timeout_s = s->timeout_s;
    forget_headers(p);
    p->headers = xstrdup(s->headers);
    p->otlp = s->otlp;
    p->gzip = s->gzip;
    forget_ca(p);
    if (!*s->ca_pem)
        return 0;
    p->ca_fd = memfd_create("ca", MFD_CLOEXEC);
    p->ca_path = xasprintf("/proc/self/fd/%d", p->ca_fd); /* of none, nobody is vouched for */
    return p->ca_fd < 0 ? -errno : fd_write_all(p->ca_fd, s->ca_pem, strlen(s->ca_pem));
}

/* What a webhook says is nobody's to read here; a collector may say how much it did not take. */
static size_t on_answer(char *data, size_t size, size_t n, void *arg)
{
    struct post *p = arg;
    if (p->otlp && p->answer.n + size * n <= MAX_ANSWER)
        buf_add(&p->answer, data, size * n);
    return size * n;
}

static void add_field(struct post *p, char *field)
{
    struct curl_slist *v = curl_slist_append(p->fields, field);
    if (!v)
        mem_exhausted();
    p->fields = v;
    free(field);
}

static void add_headers(struct post *p)
{
    for (const char *at = p->headers; at && *at; at += strspn(at, "\n")) {
        size_t n = strcspn(at, "\n");
        add_field(p, xstrndup(at, n));
        at += n;
    }
}

/* False: it goes as it is. */
static bool compress_body(struct post *p)
{
    z_stream z = {0};
    struct buf out = {0};
    if (p->body.n < GZIP_FROM || deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    buf_reserve(&out, deflateBound(&z, p->body.n));
    z.next_in = (unsigned char *)p->body.p;
    z.avail_in = (unsigned)p->body.n;
    z.next_out = (unsigned char *)out.p;
    z.avail_out = (unsigned)deflateBound(&z, p->body.n);
    int r = deflate(&z, Z_FINISH);
    out.n = z.total_out;
    deflateEnd(&z);
    if (r == Z_STREAM_END) {
        buf_fini(&p->body);
        p->body = out;
        return true;
    }
    buf_fini(&out);
    return false;
}

static void add_fields(struct post *p, const char *id, int64_t timestamp)
{
    add_field(p, xstrdup("Content-Type: application/json"));
    add_field(p, xstrdup("Expect:"));
    if (p->gzip && compress_body(p))
        add_field(p, xstrdup("Content-Encoding: gzip"));
    add_headers(p);
    if (p->otlp)
        return;
    add_field(p, xasprintf("Mysimbdp-Delivery: %s", id));
    add_field(p, xasprintf("Mysimbdp-Timestamp: %lld", (long long)timestamp));
    if (p->secret.n) {
        char hex[2 * crypto_auth_hmacsha256_BYTES + 1];
        post_sign(p->secret.p, p->secret.n, timestamp, &p->body, hex);
        add_field(p, xasprintf("Mysimbdp-Signature: v1=%s", hex));
    }
}

/* Whom to call, and what counts as being them. */
static void set_receiver(const struct post *p, CURL *c)
{
    curl_easy_setopt(c, CURLOPT_URL, p->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (p->ca_path) {
        curl_easy_setopt(c, CURLOPT_CAINFO, p->ca_path);
        curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* a name server that does not answer holds nobody's end up */
    curl_easy_setopt(c, CURLOPT_TIMEOUT, p->timeout_s);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "mysimbdp/" SIMBDP_VERSION);
}

int post_begin(struct post *p, struct buf *body, const char *id, int64_t timestamp)
{
    CURL *c = p->easy;
    buf_fini(&p->body);
    p->body = *body;
    *body = (struct buf){0};
    buf_reset(&p->answer);
    add_fields(p, id, timestamp);
    curl_easy_reset(c);
    p->error[0] = 0;
    set_receiver(p, c);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, p->fields);
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->body.n);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, p->body.p);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, p);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, p->error);
    p->under_way = curl_multi_add_handle(p->multi, c) == CURLM_OK;
    if (!p->under_way)
        stop(p);
    return p->under_way ? 0 : -EIO;
}

bool post_is(const struct post *p, const CURL *easy)
{
    return p->under_way && p->easy == easy;
}

long post_end(struct post *p, CURLcode code, const char **ret_why, int64_t *ret_ask_ms)
{
    long status = 0;
    curl_off_t after_s = 0;
    if (code == CURLE_OK)
        curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK)
        curl_easy_getinfo(p->easy, CURLINFO_RETRY_AFTER, &after_s);
    stop(p);
    *ret_why = p->error[0] ? p->error : curl_easy_strerror(code);
    *ret_ask_ms = after_s > 0 && after_s < 86400 ? after_s * 1000 : 0;
    return status;
}

const struct buf *post_answer(const struct post *p)
{
    return &p->answer;
}
