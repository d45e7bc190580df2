#include "run_key.h"

#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define JOBS "state/jobs"
#define KEYS JOBS "/keys"

enum { MAX_TEXT = 256, PATH_SIZE = sizeof KEYS + 2 * RUN_KEY_BYTES + 2, CLAIM_SIZE = ID_SIZE + 16 };

struct entry {
    struct run_key key;
    char claim[CLAIM_SIZE];
};

static void path_of(const unsigned char key[RUN_KEY_BYTES], char ret[PATH_SIZE])
{
    char hex[2 * RUN_KEY_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, key, RUN_KEY_BYTES);
    snprintf(ret, PATH_SIZE, KEYS "/%s", hex);
}

int run_key_add(const struct home *h, const unsigned char key[RUN_KEY_BYTES], const char *tenant, const char *run_id,
                const char *claim, struct err *e)
{
    char path[PATH_SIZE];
    AUTO_FREE char *text = xasprintf("%s %s %s\n", tenant, run_id, claim);
    path_of(key, path);
    int r = fd_mkdirs(h->dirfd, KEYS, 0700);
    return r < 0 ? err_sys(e, r, "cannot make %s/" KEYS, h->path) : fd_write_file(h->dirfd, path, text, strlen(text), 0600, e);
}

void run_key_remove(const struct home *h, const unsigned char key[RUN_KEY_BYTES])
{
    char path[PATH_SIZE];
    path_of(key, path);
    unlinkat(h->dirfd, path, 0);
}

static int read_entry(int dirfd, const char *path, struct entry *ret)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(dirfd, path, &b, MAX_TEXT, NULL);
    if (r < 0)
        return r;
    buf_add(&b, "", 0);
    if (sscanf(b.p, "%63s %26s %42s", ret->key.tenant, ret->key.run_id, ret->claim) != 3 || !home_valid_id(ret->key.run_id) ||
        strncmp(ret->claim, ret->key.run_id, strlen(ret->key.run_id)) != 0 || strchr(ret->claim, '/'))
        return -ENOENT;
    return 0;
}

static bool counts(int dirfd, const struct entry *v)
{
    AUTO_FREE char *job = xasprintf(JOBS "/%s.json", v->claim);
    return fd_exists(dirfd, job);
}

int run_key_find(int dirfd, const unsigned char key[RUN_KEY_BYTES], struct run_key *ret)
{
    char path[PATH_SIZE];
    struct entry v = {0};
    path_of(key, path);
    if (read_entry(dirfd, path, &v) < 0 || !counts(dirfd, &v))
        return -ENOENT;
    *ret = v.key;
    return 0;
}

void run_keys_sweep(const struct home *h)
{
    DIR *d = fd_open_dir(h->dirfd, KEYS);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        struct entry v = {0};
        AUTO_FREE char *path = xasprintf(KEYS "/%s", ent->d_name);
        if (strlen(ent->d_name) == 2 * RUN_KEY_BYTES && (read_entry(h->dirfd, path, &v) < 0 || !counts(h->dirfd, &v)))
            unlinkat(h->dirfd, path, 0);
    }
    if (d)
        closedir(d);
}
