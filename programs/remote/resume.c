#include "resume.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME_BYTES = 16, MAX_BYTES = 65536, OLD_S = 7 * 86400 /* the gateway keeps them for a day */ };

static char *directory(void)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        return xasprintf("%s/mysimbdp/uploads", xdg);
    return xasprintf("%s/.local/state/mysimbdp/uploads", home && *home ? home : "/nonexistent");
}

static void name_of(const char *what, const struct item *i, char ret[2 * NAME_BYTES + 1])
{
    char real[PATH_MAX];
    unsigned char hash[NAME_BYTES];
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s\n%s\n%lld\n%lld", what, realpath(i->path, real) ? real : i->path, (long long)i->size, (long long)i->mtime_ns);
    crypto_generichash(hash, sizeof hash, (const unsigned char *)b.p, b.n, NULL, 0);
    sodium_bin2hex(ret, 2 * NAME_BYTES + 1, hash, sizeof hash);
}

/* Those that nobody has and nobody touched for long. */
static void remove_old(const char *dir)
{
    DIR *d = fd_open_dir(AT_FDCWD, dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        AUTO_FD int fd = e->d_name[0] == '.' ? -1 : openat(dirfd(d), e->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_mtime < time(NULL) - OLD_S &&
            flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
}

/* A locked descriptor of the file that has the name. One that was removed meanwhile is opened anew. */
static int open_locked(const char *path)
{
    for (;;) {
        struct stat st;
        AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? -EBUSY : -errno;
        if (fstat(fd, &st) < 0)
            return -errno;
        if (st.st_nlink)
            return fd_take(&fd);
    }
}

/* What a kill left half written is none. */
static void read_id(struct resume *r)
{
    AUTO_BUF struct buf b = {0};
    if (fd_read_all(r->fd, &b, MAX_BYTES) < 0 || !b.n)
        return;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    const char *id = doc ? json_get_str(doc, "upload_id", "") : "";
    if (home_valid_id(id))
        snprintf(r->upload_id, sizeof r->upload_id, "%s", id);
}

int resume_open(const char *what, const struct item *i, struct resume *ret, struct err *e)
{
    char name[2 * NAME_BYTES + 1];
    AUTO_FREE char *dir = directory();
    *ret = (struct resume){.fd = -1};
    int r = fd_mkdirs(AT_FDCWD, dir, 0700);
    if (r < 0)
        return err_sys(e, r, "an upload that is cut cannot be gone on with later: cannot make %s", dir);
    remove_old(dir);
    name_of(what, i, name);
    ret->path = xasprintf("%s/%s", dir, name);
    ret->fd = open_locked(ret->path);
    if (ret->fd == -EBUSY)
        return err_set(e, -EBUSY, "another mysimbdp is sending this file");
    if (ret->fd < 0) {
        r = ret->fd;
        ret->fd = -1;
        return err_sys(e, r, "an upload that is cut cannot be gone on with later: cannot write %s", ret->path);
    }
    read_id(ret);
    return 0;
}

void resume_remember(struct resume *r, const char *upload_id)
{
    AUTO_BUF struct buf b = {0};
    snprintf(r->upload_id, sizeof r->upload_id, "%s", upload_id);
    if (r->fd < 0)
        return;
    json_begin(&b, NULL, '{');
    json_str(&b, "upload_id", upload_id);
    json_end(&b, '}');
    if (ftruncate(r->fd, 0) == 0 && lseek(r->fd, 0, SEEK_SET) == 0 && fd_write_all(r->fd, b.p, b.n) == 0)
        fsync(r->fd);
}

void resume_forget(struct resume *r)
{
    *r->upload_id = 0;
    if (r->fd >= 0 && ftruncate(r->fd, 0) < 0)
        return; /* it is as good as forgotten: the gateway does not know it */
}

void resume_close(struct resume *r)
{
    if (r->fd >= 0) {
        if (!*r->upload_id)
            unlink(r->path);
        close(r->fd);
    }
    free(r->path);
    *r = (struct resume){.fd = -1};
}
