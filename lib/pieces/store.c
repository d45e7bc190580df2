#include "store.h"
#include "piece.h"
#include "store_parts.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define ASIDE ".damaged"
enum { MAX_JSON = 1 << 20, UNFINISHED_SLACK_S = 2, PARTS = 256 };

/* ---- opening ---- */

static int fail(const struct store *s, const char *what, int r, struct err *e)
{
    return err_sys(e, r, "cannot write %s/%s", s->path, what);
}

/* But for what is made before the marker, by somebody who was killed then. */
static bool is_empty(int dirfd)
{
    DIR *d = fd_open_dir(dirfd, ".");
    bool empty = d != NULL;
    for (struct dirent *ent; empty && (ent = readdir(d));)
        empty = !strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..") || !strcmp(ent->d_name, "lock") ||
                !strcmp(ent->d_name, "backup.json.tmp");
    if (d)
        closedir(d);
    return empty;
}

static int open_dir(struct store *s, bool make, struct err *e)
{
    struct stat st;
    if (make && mkdir(s->path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", s->path);
    s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0 || fstat(s->dir, &st) < 0)
        return err_sys(e, -errno, "cannot open the backup %s", s->path);
    if (make && st.st_uid != geteuid())
        return err_set(e, ERR_REFUSED,
                       "%s is somebody else's, who could read the secrets in a backup; give a directory of your own", s->path);
    if (make && (st.st_mode & 0077))
        return err_set(e, ERR_REFUSED, "others may read %s (mode %04o), and a backup has secrets in it: `chmod 0700 %s`", s->path,
                       (unsigned)st.st_mode & 07777, s->path);
    return 0;
}

static int lock(struct store *s, enum store_use use, struct err *e)
{
    bool write = use == STORE_WRITE;
    if (use == STORE_LOOK)
        return 0;
    s->lock = openat(s->dir, "lock", write ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
    if (s->lock < 0 && !write)
        return 0; /* nobody ever wrote to it, or it is a copy on what cannot be written */
    if (s->lock < 0)
        return fail(s, "lock", -errno, e);
    if (flock(s->lock, (write ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
        return 0;
    return err_set(e, ERR_REFUSED, "another backup, or a restore from it, works on %s; try again when it is done", s->path);
}

static int read_marker(struct store *s, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(s->dir, "backup.json", &b, MAX_JSON, NULL);
    AUTO_BSON bson_t *doc = r < 0 ? NULL : json_parse(b.p ? b.p : "", b.n, NULL);
    if (r == -ENOENT)
        return r;
    if (!doc || json_get_i64(doc, "v", 0) < 1)
        return err_set(e, ERR_FORMAT, "%s/backup.json cannot be used: %s", s->path, r < 0 ? err_text(r) : "it is damaged");
    if (json_get_i64(doc, "v", 0) > STORE_VERSION)
        return err_set(e, ERR_VERSION,
                       "%s/backup.json was written by a newer mysimbdp (%lld; this one knows up to %d); use that version", s->path,
                       (long long)json_get_i64(doc, "v", 0), STORE_VERSION);
    s->home = xstrdup(json_get_str(doc, "home", ""));
    return 0;
}

char *store_marker(const char *home)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", STORE_VERSION);
    json_str(&b, "home", home);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return xstrdup(b.p);
}

static int write_marker(struct store *s, const char *home, struct err *e)
{
    AUTO_FREE char *text = store_marker(home);
    s->home = xstrdup(home);
    int r = fd_write_file(s->dir, "backup.json", text, strlen(text), 0600, e);
    if (r < 0)
        err_context(e, "%s", s->path);
    return r;
}

int store_make_parts(struct store *s, struct err *e)
{
    static const char *const parts[] = {"objects", "points", "tmp"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (mkdirat(s->dir, parts[i], 0700) < 0 && errno != EEXIST)
            return fail(s, parts[i], -errno, e);
    s->objects = openat(s->dir, "objects", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    s->tmp = openat(s->dir, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return s->objects < 0 || s->tmp < 0 ? fail(s, "objects", -errno, e) : 0;
}

/* ---- what was cut short ---- */

static bool is_aside(const char *name)
{
    return strlen(name) == STORE_NAME - 3 + strlen(ASIDE) && !strcmp(name + STORE_NAME - 3, ASIDE);
}

/* name: in its directory. Those that were set aside are shown, too. */
static int each_object(const struct store *s, void (*fn)(void *arg, int part, const char *name, const char *whole), void *arg,
                       struct err *e)
{
    for (unsigned i = 0; i < PARTS; i++) {
        char part[3], whole[STORE_NAME];
        snprintf(part, sizeof part, "%02x", i);
        DIR *d = fd_open_dir(s->objects, part);
        if (!d && errno != ENOENT)
            return err_sys(e, -errno, "cannot list %s/objects/%s", s->path, part);
        int r = 0;
        for (struct dirent *ent; d && (ent = fd_next_name(d, &r));) {
            snprintf(whole, sizeof whole, "%s%s", part, ent->d_name);
            if ((strlen(ent->d_name) == STORE_NAME - 3 || is_aside(ent->d_name)) && piece_is_name(whole))
                fn(arg, dirfd(d), ent->d_name, whole);
        }
        if (d)
            closedir(d);
        if (r < 0)
            return err_sys(e, r, "cannot list %s/objects/%s", s->path, part);
    }
    return 0;
}

struct mending {
    struct store *s;
    time_t since;
    void *room;
};

static void mend_object(void *arg, int part, const char *name, const char *whole)
{
    struct mending *m = arg;
    struct stat st;
    size_t n;
    if (is_aside(name) || fstatat(part, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_mtime < m->since)
        return;
    /* As the disk has it: behind a sync that failed it may be whole in the kernel's memory alone. */
    AUTO_FD int fd = openat(part, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (store_get(m->s, whole, m->room, &n, NULL) < 0)
        unlinkat(part, name, 0);
}

static int mend(struct store *s, struct err *e)
{
    struct stat st;
    fd_empty_dir(s->tmp, NULL);
    if (fstatat(s->dir, "unfinished", &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (syncfs(s->dir) < 0)
            return fail(s, "objects", -errno, e);
        struct mending m = {s, st.st_mtime - UNFINISHED_SLACK_S, xmalloc(STORE_PIECE)};
        int r = each_object(s, mend_object, &m, e);
        free(m.room);
        return r < 0                ? r
               : syncfs(s->dir) < 0 ? fail(s, "objects", -errno, e)
                                    : 0; /* what was read may have come out of memory only */
    }
    return fd_write_file(s->dir, "unfinished", "", 0, 0600, e);
}

/* ---- */

/* 1: it has no marker, and may become a backup. */
static int admit(struct store *s, enum store_use use, const char *home, struct err *e)
{
    int r = read_marker(s, e);
    if (r == -ENOENT && use != STORE_WRITE)
        return err_set(e, ERR_FORMAT, "%s is no backup of mysimbdp (no backup.json in it)", s->path);
    if (r == -ENOENT)
        return is_empty(s->dir) ? 1 : err_set(e, ERR_REFUSED, "%s is neither empty nor a backup; give another directory", s->path);
    if (r == 0 && use == STORE_WRITE && strcmp(s->home, home) != 0)
        return err_set(e, ERR_REFUSED, "%s has backups of %s; give each home a directory of its own", s->path, s->home);
    return r;
}

static int open_objects(struct store *s, struct err *e)
{
    s->objects = openat(s->dir, "objects", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return s->objects < 0 ? err_sys(e, -errno, "cannot open %s/objects", s->path) : 0;
}

static int open_parts(struct store *s, enum store_use use, const char *home, struct err *e)
{
    int r = open_dir(s, use == STORE_WRITE, e);
    const int fresh = r < 0 ? r : admit(s, use, home, e);
    r = fresh < 0 ? fresh : lock(s, use, e);
    if (r == 0 && fresh)
        r = write_marker(s, home, e);
    if (r == 0)
        r = use == STORE_WRITE ? store_make_parts(s, e) : open_objects(s, e);
    return r == 0 && use == STORE_WRITE ? mend(s, e) : r;
}

struct store *store_new(const char *path)
{
    struct store *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(path);
    s->dir = s->objects = s->tmp = s->lock = -1;
    s->room = xmalloc(piece_bound(STORE_PIECE));
    return s;
}

int store_open(const char *path, enum store_use use, const char *home, struct store **ret, struct err *e)
{
    struct store *s = store_new(path);
    int r = open_parts(s, use, home, e);
    if (r < 0)
        store_close(s);
    else
        *ret = s;
    return r;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    const int fds[] = {s->objects, s->tmp, s->dir, s->lock};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    store_end_stream(s);
    map_fini(&s->put);
    free(s->path);
    free(s->home);
    free(s->room);
    free(s);
}

int store_dir(const struct store *s)
{
    return s->tar ? -1 : s->dir;
}

const char *store_path(const struct store *s)
{
    return s->path;
}

const char *store_home(const struct store *s)
{
    return s->home;
}

struct store_figures store_figures(const struct store *s)
{
    return s->figures;
}

/* ---- pieces ---- */

void store_set_rate(struct store *s, int64_t bytes_per_s)
{
    s->rate = bytes_per_s;
    s->began_ms = clk_now_ms();
}

/* So that a disk that the platform works on is not busy with the backup alone. */
static void hold_back(const struct store *s)
{
    int64_t due_ms = s->rate > 0 ? s->began_ms + s->figures.bytes * 1000 / s->rate : 0;
    for (int64_t left; due_ms && (left = due_ms - clk_now_ms()) > 0;)
        poll(NULL, 0, left > 1000 ? 1000 : (int)left);
}

static void object_path(const char *name, char out[STORE_NAME + 1])
{
    snprintf(out, STORE_NAME + 1, "%.2s/%s", name, name + 2);
}

static void aside_path(const char *name, char out[STORE_NAME + sizeof ASIDE])
{
    object_path(name, out);
    strcat(out, ASIDE);
}

bool store_has(const struct store *s, const char *name)
{
    char path[STORE_NAME + 1];
    struct stat st;
    object_path(name, path);
    return s->tar ? map_get(&s->put, name) != NULL : fstatat(s->objects, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

int store_write_object(struct store *s, const char *name, const void *p, size_t n, struct err *e)
{
    char path[STORE_NAME + 1], aside[STORE_NAME + sizeof ASIDE], part[3];
    object_path(name, path);
    snprintf(part, sizeof part, "%.2s", name);
    if (mkdirat(s->objects, part, 0700) < 0 && errno != EEXIST)
        return fail(s, "objects", -errno, e);
    AUTO_FD int fd = openat(s->tmp, "piece", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : fd_write_all(fd, p, n);
    crash_at(CRASH_backup_piece);
    if (r == 0 && renameat(s->tmp, "piece", s->objects, path) < 0)
        r = -errno;
    aside_path(name, aside);
    if (r == 0)
        unlinkat(s->objects, aside, 0);
    return r < 0 ? fail(s, "objects", r, e) : 0;
}

int store_put(struct store *s, const void *p, size_t n, char ret_name[STORE_NAME], struct err *e)
{
    piece_name(p, n, ret_name);
    s->figures.bytes += (int64_t)n;
    hold_back(s);
    if (store_has(s, ret_name))
        return 0;
    size_t size = piece_pack(p, n, s->room);
    int r = s->tar ? store_stream_object(s, ret_name, s->room, size, e) : store_write_object(s, ret_name, s->room, size, e);
    if (r < 0)
        return r;
    if (s->tar)
        map_put(&s->put, ret_name, s);
    s->figures.fresh_bytes += (int64_t)n;
    s->figures.stored_bytes += (int64_t)size;
    return 0;
}

int store_get(struct store *s, const char *name, void *room, size_t *ret_n, struct err *e)
{
    char path[STORE_NAME + 1];
    AUTO_BUF struct buf b = {0};
    if (!piece_is_name(name))
        return err_set(e, ERR_FORMAT, "%s: \"%.80s\" names no piece", s->path, name);
    object_path(name, path);
    int r = fd_read_file(s->objects, path, &b, piece_bound(STORE_PIECE), NULL);
    if (r < 0)
        return err_set(e, r == -ENOENT ? ERR_FORMAT : r, "%s/objects/%s: %s", s->path, path, err_text(r));
    return piece_unpack(b.p, b.n, name, room, STORE_PIECE, ret_n)
               ? 0
               : err_set(e, ERR_FORMAT, "%s/objects/%s is damaged: its bytes are not those that were written", s->path, path);
}

bool store_set_aside(struct store *s, const char *name)
{
    char path[STORE_NAME + 1], aside[STORE_NAME + sizeof ASIDE];
    object_path(name, path);
    aside_path(name, aside);
    return renameat(s->objects, path, s->objects, aside) == 0;
}

/* ---- points ---- */

bool store_is_point(const char *name)
{
    size_t n = strlen(name);
    return n >= 16 && n <= 32 && strspn(name, "0123456789TZ.") == n && strchr(name, 'T') && name[n - 1] == 'Z';
}

int store_put_point(struct store *s, const char *point, const void *p, size_t n, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "points/%s", point);
    if (s->tar)
        return store_stream_point(s, path, p, n, e);
    crash_at(CRASH_backup_sync);
    if (syncfs(s->dir) < 0) /* all pieces, and their names */
        return fail(s, "objects", -errno, e);
    crash_at(CRASH_backup_point);
    int r = fd_write_file(s->dir, path, p, n, 0600, e);
    if (r < 0) {
        err_context(e, "%s", s->path);
        return r;
    }
    crash_at(CRASH_backup_done);
    if (unlinkat(s->dir, "unfinished", 0) < 0)
        return fail(s, "unfinished", -errno, e);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int store_points(const struct store *s, char ***ret, size_t *ret_n, struct err *e)
{
    DIR *d = fd_open_dir(s->dir, "points");
    if (!d)
        return err_sys(e, -errno, "cannot list %s/points", s->path);
    *ret = NULL;
    *ret_n = 0;
    int r = 0;
    for (struct dirent *ent; (ent = fd_next_name(d, &r));) {
        if (!store_is_point(ent->d_name))
            continue;
        *ret = xgrow(*ret, *ret_n, sizeof **ret);
        (*ret)[(*ret_n)++] = xstrdup(ent->d_name);
    }
    closedir(d);
    if (*ret_n)
        qsort(*ret, *ret_n, sizeof **ret, by_name);
    return r < 0 ? err_sys(e, r, "cannot list %s/points", s->path) : 0; /* what is not seen would be swept */
}

bool store_has_point(const struct store *s, const char *point)
{
    char path[64];
    snprintf(path, sizeof path, "points/%s", point);
    return fd_exists(s->dir, path);
}

int store_drop_point(struct store *s, const char *point, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "points/%s", point);
    int r = unlinkat(s->dir, path, 0) < 0 ? -errno : fd_sync_dir(s->dir, "points"); /* before any piece of it goes */
    return r < 0 ? err_sys(e, r, "cannot remove %s/%s", s->path, path) : 0;
}

struct sweeping {
    const unsigned char (*keep)[32];
    size_t n;
    int64_t removed;
};

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

static void sweep_object(void *arg, int part, const char *name, const char *whole)
{
    struct sweeping *w = arg;
    unsigned char hash[32];
    sodium_hex2bin(hash, sizeof hash, whole, STORE_NAME - 1, NULL, NULL, NULL);
    if (w->n && bsearch(hash, w->keep, w->n, sizeof *w->keep, by_bytes))
        return;
    w->removed += unlinkat(part, name, 0) == 0 && !is_aside(name);
    crash_at(CRASH_backup_sweep);
}

int64_t store_sweep(struct store *s, const unsigned char (*keep)[32], size_t n, struct err *e)
{
    struct sweeping w = {keep, n, 0};
    int r = each_object(s, sweep_object, &w, e);
    return r < 0 ? r : w.removed;
}
