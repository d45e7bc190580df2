/* What a tenant configures itself, as it was sent. */
#include "parts.h"

#include "base/fd.h"
#include "base/mem.h"
#include "conf/own.h"

#include <errno.h>
#include <sodium.h>

int ask_configuration(struct asking *a)
{
    const struct conf_tenant *t = tenant_of_conf(a);
    struct err e = {0};
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof hash + 1];
    struct buf *b = &a->out->body;
    if (!t)
        return ERR_REFUSED;
    AUTO_FREE char *path = conf_own_path(t->id);
    int r = fd_read_file(a->home->dirfd, path, b, CONF_OWN_MAX_BYTES, &e);
    if (r < 0 && r != -ENOENT)
        return refuse_for_error(a, &e);
    a->out->type = "text/plain";
    if (r < 0)
        return 0;
    crypto_hash_sha256(hash, (const unsigned char *)(b->p ? b->p : ""), b->n);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    AUTO_FREE char *tag = xasprintf("\"%s\"", hex);
    json_str(&a->out->head, "etag", tag);
    return 0;
}
