#include "mongo_users.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CHECK_SIZE = 8 + 1 };

/* Check digits of the key (8 hex digits), so that a damaged key is not taken for another one. */
static void check_digits(const unsigned char key[32], char out[CHECK_SIZE])
{
    unsigned char hash[16];
    crypto_generichash(hash, sizeof hash, key, 32, NULL, 0);
    sodium_bin2hex(out, CHECK_SIZE, hash, (CHECK_SIZE - 1) / 2);
}

static int make_key(const struct home *h, unsigned char key[32], struct err *e)
{
    struct stat st;
    char hex[65], check[CHECK_SIZE], text[80];
    randombytes_buf(key, 32);
    sodium_bin2hex(hex, sizeof hex, key, 32);
    check_digits(key, check);
    snprintf(text, sizeof text, "%s\n%s\n", hex, check);
    if (fstatat(h->dirfd, "state/ledger.db", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size)
        log_warn("key", NULL, NULL,
                 "keys/master.key was gone, and is made anew: the secrets of tenants' databases are others from now on; restore it "
                 "from a backup to have them again");
    return fd_write_file(h->dirfd, "keys/master.key", text, strlen(text), 0600, e);
}

/* Reads 64 hex digits and, in keys of later versions, check digits on a line of their own. */
static int master_key(const struct home *h, unsigned char key[32], struct err *e)
{
    AUTO_BUF struct buf b = {0};
    char check[CHECK_SIZE];
    size_t n = 0;
    int r = fd_read_file(h->dirfd, "keys/master.key", &b, 4096, NULL);
    if (r == -ENOENT)
        return make_key(h, key, e);
    if (r == 0 && (b.n < 64 || sodium_hex2bin(key, 32, b.p, 64, NULL, &n, NULL) < 0 || n != 32))
        r = ERR_FORMAT;
    if (r == 0 && b.n > 65) {
        check_digits(key, check);
        if (b.n != 65 + CHECK_SIZE || b.p[64] != '\n' || strncmp(b.p + 65, check, CHECK_SIZE - 1) != 0)
            r = ERR_FORMAT;
    }
    return r < 0 ? err_sys(e, r, "cannot use %s/keys/master.key; restore it from a backup", h->path) : 0;
}

int mongo_users_secret(const struct home *h, const char *purpose, const char *who, char out[MONGO_USERS_SECRET_SIZE], struct err *e)
{
    unsigned char key[32], hash[16];
    AUTO_FREE char *text = xasprintf("%s:%s", purpose, who);
    int r = master_key(h, key, e);
    if (r < 0)
        return r;
    crypto_generichash(hash, sizeof hash, (const unsigned char *)text, strlen(text), key, sizeof key);
    sodium_bin2hex(out, MONGO_USERS_SECRET_SIZE, hash, sizeof hash);
    return 0;
}

/* Only the server's own group may read the file, and nobody may write it. */
static int users_directory(const struct home *h, int64_t gid, struct err *e)
{
    int r = fd_mkdirs(h->dirfd, "keys/mongo", 0700);
    AUTO_FD int fd = r < 0 ? -1 : openat(h->dirfd, "keys/mongo", O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && fd < 0)
        r = -errno;
    if (r == 0 && gid >= 0 && (fchown(fd, 0, (gid_t)gid) < 0 || fchmod(fd, 02750) < 0)) /* files in it inherit the group */
        r = -errno;
    return r < 0 ? err_sys(e, r, "cannot use %s/keys/mongo", h->path) : 0;
}

/* In a home that was not root's before, the file has its user's group. */
static bool is_of_group(const struct home *h, const char *path, int64_t gid)
{
    struct stat st;
    return gid < 0 || (fstatat(h->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_gid == (gid_t)gid);
}

int mongo_users_write(const struct home *h, const struct conf *c, struct err *e)
{
    AUTO_BUF struct buf b = {0}, old = {0};
    char secret[MONGO_USERS_SECRET_SIZE];
    const int64_t gid = geteuid() == 0 ? uid_in_block(c->platform.uid_base, UID_MONGO) : -1;
    int r = mongo_users_secret(h, "mongo", "*", secret, e);
    buf_addf(&b, "%s %s * -1\n", MONGO_USERS_PLATFORM, secret);
    for (size_t i = 0; r == 0 && i < c->n_tenants; i++) {
        r = mongo_users_secret(h, "mongo", c->tenants[i].id, secret, e);
        buf_addf(&b, "%s_%s %s %s %" PRId64 "\n", MONGO_USERS_PLATFORM, c->tenants[i].id, secret, c->tenants[i].database,
                 c->tenants[i].max_database_bytes);
    }
    if (r == 0)
        r = users_directory(h, gid, e);
    if (r == 0 && is_of_group(h, "keys/mongo/users", gid) &&
        fd_read_file(h->dirfd, "keys/mongo/users", &old, 16 << 20, NULL) == 0 && old.n == b.n && !memcmp(old.p, b.p, b.n))
        return 0;
    return r < 0 ? r : fd_write_file(h->dirfd, "keys/mongo/users", b.p, b.n, 0640, e);
}

int mongo_users_url(const struct home *h, int port, const char *who, const char *database, char **ret, struct err *e)
{
    char secret[MONGO_USERS_SECRET_SIZE];
    const bool all = !strcmp(who, "*");
    int r = mongo_users_secret(h, "mongo", who, secret, e);
    if (r == 0)
        *ret = xasprintf("mongodb://%s%s%s:%s@127.0.0.1:%d/%s?authSource=admin&authMechanism=SCRAM-SHA-256", MONGO_USERS_PLATFORM,
                         all ? "" : "_", all ? "" : who, secret, port, strcmp(database, "*") ? database : "");
    return r;
}
