/* A tenant's streams, as the broker gives them (programs/broker/moving.c): a part for each request, and behind the line that
 * answers it so many bytes. What is written is a file that the other home's broker checks. */
#include "tenant_move.h"

#include "base/fd.h"
#include "base/mem.h"
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 256 << 10, MAX_PART = 64 << 20, NOTHING = 64 };

struct reading {
    int fd;
    struct buf in; /* that was read and not used */
};

int tenant_streams_check(const struct conf_tenant *t, struct err *e)
{
    const struct conf_stream *v = t->streams.v;
    for (size_t i = 0; i < t->streams.n; i++)
        if (v[i].store == CONF_STORE_kafka)
            return err_set(
                e, ERR_REFUSED,
                "stream %s of %s is kept in Kafka, and cannot be moved so: take `store` out of its configuration, let it "
                "move back (`mysimbdp queue list`), then move the tenant",
                v[i].name, t->id);
    return 0;
}

int tenant_streams_hold(const struct home *h, const char *tenant, struct err *e)
{
    const int r = tenant_order(h, "streammgr", "move_hold", tenant, e);
    return r == 0 ? tenant_order(h, "broker", "move_hold", tenant, e) : r;
}

/* ---- the broker's answers ---- */

static int read_more(struct reading *x, struct err *e)
{
    ssize_t n;
    buf_reserve(&x->in, READ_BYTES);
    do
        n = recv(x->fd, x->in.p + x->in.n, READ_BYTES, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_set(e, ERR_CLOSED, "the broker went away; look into its log, and try again");
    x->in.n += (size_t)n;
    return 0;
}

static int read_line(struct reading *x, bson_t **ret, struct err *e)
{
    const char *end;
    int r = 0;
    while (r == 0 && !(end = x->in.n ? memchr(x->in.p, '\n', x->in.n) : NULL))
        r = read_more(x, e);
    if (r < 0)
        return r;
    *ret = json_parse(x->in.p, (size_t)(end - x->in.p), e);
    buf_consume(&x->in, (size_t)(end + 1 - x->in.p));
    if (!*ret)
        return ERR_FORMAT;
    return json_get_bool(*ret, "ok", false)
               ? 0
               : err_set(e, ERR_REFUSED, "%s", json_get_str(*ret, "error", "refused without a reason"));
}

/* The part behind the line goes into the file. */
static int read_part(struct reading *x, int64_t bytes, int out, const char *path, struct err *e)
{
    int r = bytes < 0 || bytes > MAX_PART ? err_set(e, ERR_FORMAT, "the broker's answer is too large") : 0;
    while (r == 0 && (int64_t)x->in.n < bytes)
        r = read_more(x, e);
    if (r == 0 && (r = fd_write_all(out, x->in.p, (size_t)bytes)) < 0)
        err_sys(e, r, "cannot write %s", path);
    if (r == 0)
        buf_consume(&x->in, (size_t)bytes);
    return r;
}

static int ask(struct reading *x, const char *tenant, const bson_t *before, bson_t **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "move_export");
    json_str(&b, "tenant_id", tenant);
    if (before) {
        json_str(&b, "stream", json_get_str(before, "stream", ""));
        json_i64(&b, "seq", json_get_i64(before, "seq", 0));
        json_i64(&b, "record", json_get_i64(before, "record", 0));
    }
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return send(x->fd, b.p, b.n, MSG_NOSIGNAL) == (ssize_t)b.n ? read_line(x, ret, e)
                                                               : err_set(e, ERR_CLOSED, "the broker went away");
}

static int fetch(struct reading *x, const char *tenant, int out, const char *path, struct err *e)
{
    AUTO_BSON bson_t *before = NULL;
    bool end = false;
    int r = 0;
    while (r == 0 && !end) {
        bson_t *doc = NULL;
        r = ask(x, tenant, before, &doc, e);
        if (r == 0)
            r = read_part(x, json_get_i64(doc, "bytes", -1), out, path, e);
        end = r == 0 && json_get_bool(doc, "end", false);
        if (before)
            bson_destroy(before);
        before = doc;
    }
    return r;
}

int tenant_streams_export(const struct home *h, const char *tenant, struct err *e)
{
    AUTO_FREE char *dir = xasprintf(MOVES_DIR "/%s.out", tenant), *path = xasprintf("%s/streams", dir);
    struct reading x = {.fd = -1};
    struct stat st;
    int r = fd_mkdirs(h->dirfd, dir, 0700);
    AUTO_FD int out = r < 0 ? -1 : openat(h->dirfd, path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return err_sys(e, r < 0 ? r : -errno, "cannot make %s/%s", h->path, path);
    AUTO_FD int fd = cli_connect_wait(h, "broker.sock", e);
    x.fd = fd;
    r = fd < 0 ? fd : fetch(&x, tenant, out, path, e);
    buf_fini(&x.in);
    if (r < 0) {
        err_context(e, "broker of %s", h->path);
        return r;
    }
    if (fstat(out, &st) == 0 && st.st_size < NOTHING) /* its beginning and its end, and no stream between them */
        unlinkat(h->dirfd, path, 0);
    return 0;
}
