#include "items.h"
#include "advice.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 64, MAX_NAME = 255 };

void items_fini(struct items *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->v[i]->path);
        free(all->v[i]);
    }
    free(all->v);
    *all = (struct items){0};
}

void item_fail(struct item *i, const struct err *e)
{
    i->state = ITEM_FAILED;
    i->err = *e;
}

static int64_t mtime_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
}

bool item_is_same(const struct item *i, int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_size == i->size && mtime_ns(&st) == i->mtime_ns;
}

static struct item *add(struct items *all, const char *path)
{
    struct item *i = xcalloc(1, sizeof *i);
    i->path = xstrdup(path);
    char *slash = strrchr(i->path, '/');
    i->name = slash ? slash + 1 : i->path;
    all->v = xgrow(all->v, all->n, sizeof(struct item *));
    all->v[all->n++] = i;
    return i;
}

static void add_failed(struct items *all, const char *path, int error)
{
    struct err e = {0};
    err_set(&e, error, "%s", error == -EISDIR ? "it lies too deep" : err_text(error));
    item_fail(add(all, path), &e);
}

/* As the gateway takes it: a part of a path. */
static bool is_name(const char *name)
{
    size_t n = strlen(name);
    return n && n <= MAX_NAME && utf8_is_plain(name, n);
}

static void add_file(struct items *all, const char *path, const struct stat *st)
{
    struct item *i = add(all, path);
    struct err e = {0};
    i->size = st->st_size;
    i->mtime_ns = mtime_ns(st);
    if (is_name(i->name))
        return;
    err_set(&e, ERR_REFUSED, "it cannot be sent under this name (name)");
    e.reason = advice_word("name");
    item_fail(i, &e);
}

static int is_wanted(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return d->d_name[0] != '.' && !(n > 5 && !strcmp(d->d_name + n - 5, ".part"));
}

static void add_directory(struct items *all, const char *path, int depth)
{
    struct dirent **found = NULL;
    int n = depth > MAX_DEPTH ? -1 : scandir(path, &found, is_wanted, alphasort);
    if (n < 0)
        add_failed(all, path, depth > MAX_DEPTH ? -EISDIR : -errno);
    for (int i = 0; i < n; i++) {
        struct stat st;
        AUTO_FREE char *below = xasprintf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", found[i]->d_name);
        free(found[i]);
        if (lstat(below, &st) < 0)
            add_failed(all, below, -errno);
        else if (S_ISDIR(st.st_mode))
            add_directory(all, below, depth + 1);
        else if (S_ISREG(st.st_mode))
            add_file(all, below, &st);
    }
    free(found);
}

void items_add(struct items *all, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        add_failed(all, path, -errno);
    } else if (S_ISDIR(st.st_mode)) {
        add_directory(all, path, 0);
    } else if (S_ISREG(st.st_mode)) {
        add_file(all, path, &st);
    } else {
        struct err e = {0};
        err_set(&e, -EINVAL, "it is not a regular file");
        item_fail(add(all, path), &e);
    }
}
