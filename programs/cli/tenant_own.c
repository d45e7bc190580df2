#include "tenant_own.h"
#include "accept.h"

#include "base/fd.h"
#include "base/mem.h"
#include "conf/own.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOCK_WAIT_MS = 5000 };

struct change {
    const struct home *h;
    const char *id, *if_match;
    char *path, *fresh; /* relative to the home */
    struct buf text, errors;
};

static void hash_of(const struct buf *text, char ret[65])
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, (const unsigned char *)(text->p ? text->p : ""), text->n);
    sodium_bin2hex(ret, 65, hash, sizeof hash);
}

/* Somebody else may have changed it since it was read. */
static int check_match(const struct change *ch, struct err *e)
{
    AUTO_BUF struct buf present = {0};
    char is[65] = "";
    int r = ch->if_match ? fd_read_file(ch->h->dirfd, ch->path, &present, CONF_OWN_MAX_BYTES, e) : -ENOENT;
    if (!ch->if_match)
        return 0;
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0)
        hash_of(&present, is);
    return strcmp(is, ch->if_match) ? err_refuse(e, "precondition", 0, "it was changed meanwhile; read it again") : 0;
}

/* The new file is tried in the place of the old one before it takes that. */
static int put(struct change *ch, struct err *e)
{
    const struct home *h = ch->h;
    AUTO_FREE char *fresh = home_path(h, ch->fresh);
    int r = check_match(ch, e);
    if (r == 0)
        r = fd_write_file(h->dirfd, ch->fresh, ch->text.p ? ch->text.p : "", ch->text.n, 0640, e);
    if (r == 0)
        r = conf_own_try(h->path, ch->id, fresh, &ch->errors, e);
    if (r == 0 && renameat(h->dirfd, ch->fresh, h->dirfd, ch->path) < 0)
        r = err_sys(e, -errno, "cannot keep it");
    if (r == 0)
        r = fd_sync_dir(h->dirfd, "conf/own");
    unlinkat(h->dirfd, ch->fresh, 0);
    return r;
}

static int answer(struct cli *c, const struct change *ch, int r, struct err *e)
{
    const char *errors = ch->errors.p ? ch->errors.p : "";
    AUTO_BUF struct buf b = {0};
    char hash[65];
    hash_of(&ch->text, hash);
    if (!c->json && r < 0)
        return *errors ? (fputs(errors, stderr), CLI_FAILED) : cli_fail(c, e);
    if (!c->json)
        return printf("tenant %s: %s/%s\n", ch->id, ch->h->path, ch->path), CLI_DONE;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", r == 0);
    if (r < 0) {
        json_str(&b, "code",
                 *errors            ? "configuration"
                 : r == ERR_REFUSED ? err_reason(e)
                 : r == -ENOENT     ? "not_found"
                                    : "unavailable");
        json_str(&b, "error", *errors ? errors : e->msg);
    } else {
        json_str(&b, "sha256", hash);
    }
    json_end(&b, '}');
    puts(b.p);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}

int tenant_configure(struct cli *c, const struct home *h, const char *who, const char *id, const char *file, const char *if_match)
{
    struct change ch = {.h = h, .id = id, .if_match = if_match};
    struct err e = {0};
    int lock = -1, r = 0;
    if (!conf_valid_id(id))
        r = err_set(&e, -ENOENT, "there is no tenant %s", id);
    if (r == 0)
        r = strcmp(file, "-") ? fd_read_file(AT_FDCWD, file, &ch.text, CONF_OWN_MAX_BYTES, &e)
                              : fd_read_all(STDIN_FILENO, &ch.text, CONF_OWN_MAX_BYTES);
    if (r == ERR_LIMIT)
        r = err_refuse(&e, "too_large", 0, "it has more than %d bytes", CONF_OWN_MAX_BYTES);
    if (r == 0)
        r = lock = home_lock(h, "own", LOCK_WAIT_MS, &e);
    if (lock >= 0) {
        ch.path = conf_own_path(id);
        ch.fresh = xasprintf("conf/own/.%s.new", id);
        r = fd_mkdirs(h->dirfd, "conf/own", 0750);
        r = r < 0 ? err_sys(&e, r, "cannot make conf/own") : put(&ch, &e);
    }
    AUTO_FREE char *what = xasprintf("tenant configure %s", id);
    if (r == 0 && accept_change(h, who, what, false, &e) < 0)
        r = err_refuse(&e, "unavailable", 1, "it is kept, but a program does not take it: %s", e.msg);
    int code = answer(c, &ch, r, &e);
    if (lock >= 0)
        close(lock);
    free(ch.path);
    free(ch.fresh);
    buf_fini(&ch.text);
    buf_fini(&ch.errors);
    return code;
}
