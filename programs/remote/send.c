#include "send.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void send_id_of(const char *location, char ret[ID_SIZE])
{
    const char *slash = strrchr(location, '/');
    snprintf(ret, ID_SIZE, "%s", slash && home_valid_id(slash + 1) ? slash + 1 : "");
}

void send_digest(const void *p, size_t n, char ret[SEND_DIGEST_SIZE])
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, p, n);
    sodium_bin2base64(ret, SEND_DIGEST_SIZE, hash, sizeof hash, sodium_base64_VARIANT_ORIGINAL);
}

static void on_sent(void *arg, int64_t n)
{
    struct item *i = arg;
    i->sent += n;
}

/* A small file is in memory: what is sent is what the digest is of. */
static int read_whole(struct item *i, int fd, struct buf *b, struct err *e)
{
    int r = fd_read_all(fd, b, SEND_WHOLE_BYTES);
    if (r < 0)
        return err_sys(e, r, "cannot read it");
    return (int64_t)b->n == i->size && item_is_same(i, fd) ? 0
                                                           : err_set(e, -EIO, "it was changed while it was read; send it again");
}

static char *path_of(const struct send_order *o, const struct item *i)
{
    struct buf b = {0};
    buf_adds(&b, "/v1/tenants/");
    http_escape(&b, o->tenant);
    buf_adds(&b, "/datasets/");
    http_escape(&b, o->dataset);
    buf_adds(&b, "/files/");
    http_escape(&b, i->name);
    if (o->force)
        buf_adds(&b, "?force=1");
    if (o->app) {
        buf_adds(&b, o->force ? "&app=" : "?app=");
        http_escape(&b, o->app);
    }
    return b.p;
}

/* The key is this upload's: it may be sent as often as it takes. */
static int send_whole(struct http *h, const struct send_order *o, struct item *i, int fd, struct err *e)
{
    AUTO_BUF struct buf content = {0};
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *path = path_of(o, i);
    char key_field[HTTP_KEY_SIZE], digest[SEND_DIGEST_SIZE], digest_field[128];
    int r = read_whole(i, fd, &content, e);
    if (r < 0)
        return r;
    send_digest(content.n ? content.p : "", content.n, digest);
    http_new_key(key_field);
    snprintf(digest_field, sizeof digest_field, "Content-Digest: sha-256=:%s:", digest);
    const char *const fields[] = {"Content-Type: application/octet-stream", digest_field, key_field, NULL};
    struct http_body body = {.p = content.n ? content.p : "", .n = (int64_t)content.n};
    struct http_request rq = {
        .method = "PUT", .path = path, .fields = fields, .body = &body, .again = true, .on_sent = on_sent, .arg = i};
    r = http_ask(h, &rq, &a, e);
    if (r < 0)
        return r;
    AUTO_BSON bson_t *doc = json_parse(a.body.n ? a.body.p : "", a.body.n, e);
    if (!doc)
        return ERR_FORMAT;
    snprintf(i->file_id, sizeof i->file_id, "%s", json_get_str(doc, "file_id", ""));
    return home_valid_id(i->file_id) ? 0 : err_set(e, ERR_FORMAT, "it was taken, but the answer has no id of it");
}

int send_file(struct http *h, const struct send_order *o, struct item *i, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = fd_open_regular(i->path, &st);
    if (fd < 0)
        return err_sys(e, fd, "cannot read it");
    if (!item_is_same(i, fd))
        return err_set(e, -EIO, "it was changed meanwhile; send it again");
    return i->size > SEND_WHOLE_BYTES ? send_by_tus(h, o, i, fd, e) : send_whole(h, o, i, fd, e);
}
