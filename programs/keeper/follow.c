#include "follow.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE = 256 << 10, SKIPPED_MS = 60000 /* lines are in order but for so much */ };

/* Of a file: how far it was read. */
struct place {
    char *path;
    int64_t ino, at;
    int64_t tail;            /* stands for the bytes before `at`: an inode's number may come again */
    struct timespec changed; /* when it was read to its end last; not kept */
    int64_t ts_ms;           /* of the youngest line that was read */
    int64_t skip_to_ms;      /* lines up to then were read, in another file that this one is a copy of; 0: none */
    bool seen;               /* in this turn */
};

struct follow {
    const struct home *home;
    struct map places; /* by path */
    bool begun;        /* files that are new from now on are read from their beginning */
    int64_t n_old, oldest_ms;
    size_t left; /* bytes of this turn */
    follow_line_fn *fn;
    void *arg;
};

struct follow *follow_new(const struct home *h)
{
    struct follow *f = xcalloc(1, sizeof *f);
    f->home = h;
    return f;
}

static void place_free(struct place *p)
{
    free(p->path);
    free(p);
}

void follow_free(struct follow *f)
{
    size_t i = 0;
    if (!f)
        return;
    for (struct place *p; (p = map_next(&f->places, &i));)
        place_free(p);
    map_fini(&f->places);
    free(f);
}

static struct place *place_of(struct follow *f, const char *path)
{
    struct place *p = map_get(&f->places, path);
    if (p)
        return p;
    p = xcalloc(1, sizeof *p);
    p->path = xstrdup(path);
    map_put(&f->places, path, p);
    return p;
}

/* ---- lines ---- */

static void see_line(struct follow *f, struct place *p, const char *who, const char *text, size_t n)
{
    AUTO_BSON bson_t *line = n ? json_parse(text, n, NULL) : NULL;
    int64_t ts_ms;
    if (!line || clk_parse(json_get_str(line, "ts", ""), &ts_ms) < 0)
        return;
    if (p->skip_to_ms && ts_ms <= p->skip_to_ms)
        return;
    if (ts_ms > p->skip_to_ms + SKIPPED_MS)
        p->skip_to_ms = 0;
    p->ts_ms = ts_ms > p->ts_ms ? ts_ms : p->ts_ms;
    if (ts_ms < f->oldest_ms)
        f->n_old++;
    else
        f->fn(f->arg, who, line, ts_ms);
}

/* Whole lines from there on, as many as there is room for in this turn. False: there may be more. */
static bool read_lines(struct follow *f, struct place *p, const char *who, int fd)
{
    static char piece[PIECE];
    while (f->left >= sizeof piece) {
        ssize_t n = pread(fd, piece, sizeof piece, p->at);
        char *end = n > 0 ? memrchr(piece, '\n', (size_t)n) : NULL;
        if (!end && n < (ssize_t)sizeof piece)
            return n >= 0;
        f->left -= (size_t)n;
        if (!end) { /* no line of ours is as long */
            p->at += n;
            continue;
        }
        for (char *at = piece, *lf; at <= end; at = lf + 1) {
            lf = memchr(at, '\n', (size_t)(end + 1 - at));
            see_line(f, p, who, at, (size_t)(lf - at));
        }
        p->at += end + 1 - piece;
    }
    return false;
}

/* A regular file's descriptor, or -1. */
static int open_file(const struct follow *f, const char *path, struct stat *st)
{
    int fd = openat(f->home->dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* What stands for the last bytes before `at` (FNV-1a). */
static int64_t tail_of(int fd, int64_t at)
{
    enum { TAIL = 256 };
    unsigned char b[TAIL];
    const int64_t from = at > TAIL ? at - TAIL : 0;
    ssize_t n = pread(fd, b, (size_t)(at - from), from);
    uint64_t h = 14695981039346656037u;
    for (ssize_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 1099511628211u;
    return (int64_t)(h >> 1); /* JSON's numbers have a sign */
}

/* As read_lines. */
static bool read_on(struct follow *f, struct place *p, const char *who, int fd)
{
    bool all = read_lines(f, p, who, fd);
    p->tail = tail_of(fd, p->at);
    return all;
}

static bool is_it(const struct place *p, int fd, const struct stat *st)
{
    return (int64_t)st->st_ino == p->ino && st->st_size >= p->at && tail_of(fd, p->at) == p->tail;
}

/* The one that was renamed is read to its end first. False: there is more of it. */
static bool read_renamed(struct follow *f, struct place *p, const char *who)
{
    struct stat st;
    AUTO_FREE char *path = xasprintf("%s.1", p->path);
    AUTO_FD int fd = open_file(f, path, &st);
    if (fd >= 0 && is_it(p, fd, &st))
        return read_on(f, p, who, fd);
    p->skip_to_ms = p->ts_ms; /* that which was read is gone */
    if (fd < 0)
        return true;
    p->ino = (int64_t)st.st_ino;
    p->at = 0;
    return read_on(f, p, who, fd);
}

/* One that is there when the first turn is made is read from its end on. */
static struct place *find_place(struct follow *f, const char *path, int fd, const struct stat *st)
{
    bool is_new = !map_get(&f->places, path);
    struct place *p = place_of(f, path);
    p->seen = true;
    if (is_new)
        p->ino = (int64_t)st->st_ino;
    if (is_new && !f->begun) {
        p->at = st->st_size;
        p->ts_ms = clk_wall_ms();
    }
    if (is_new)
        p->tail = tail_of(fd, p->at);
    return p;
}

/* Most are at their end most of the time: those are not opened. */
static bool is_read(const struct follow *f, const char *path)
{
    struct stat st;
    struct place *p = map_get(&f->places, path);
    if (!p || fstatat(f->home->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || (int64_t)st.st_ino != p->ino || st.st_size != p->at ||
        st.st_mtim.tv_sec != p->changed.tv_sec || st.st_mtim.tv_nsec != p->changed.tv_nsec)
        return false;
    p->seen = true;
    return true;
}

void follow_file(struct follow *f, const char *path, const char *who)
{
    struct stat st;
    if (is_read(f, path))
        return;
    AUTO_FD int fd = open_file(f, path, &st);
    if (fd < 0)
        return;
    struct place *p = find_place(f, path, fd, &st);
    if (!is_it(p, fd, &st)) {
        if (!read_renamed(f, p, who))
            return;
        p->ino = (int64_t)st.st_ino;
        p->at = 0;
        p->tail = tail_of(fd, 0);
    }
    if (st.st_size > p->at)
        read_on(f, p, who, fd);
    p->changed = st.st_mtim;
}

void follow_begin(struct follow *f, follow_line_fn *fn, void *arg)
{
    size_t i = 0;
    for (struct place *p; (p = map_next(&f->places, &i));)
        p->seen = false;
    f->fn = fn;
    f->arg = arg;
    f->left = FOLLOW_TURN_BYTES;
    f->oldest_ms = clk_wall_ms() - FOLLOW_CATCH_UP_MS;
}

/* What was not there in this turn is forgotten: it was a tenant's that is gone. */
void follow_end(struct follow *f)
{
    for (bool any = true; any;) {
        size_t i = 0;
        any = false;
        for (struct place *p; !any && (p = map_next(&f->places, &i));)
            if (!p->seen) {
                any = true;
                map_remove(&f->places, p->path);
                place_free(p);
            }
    }
    f->begun = true;
}

int64_t follow_n_old(const struct follow *f)
{
    return f->n_old;
}

/* ---- kept ---- */

void follow_tell(const struct follow *f, struct buf *out)
{
    size_t i = 0;
    json_begin(out, NULL, '{');
    for (const struct place *p; (p = map_next(&f->places, &i));) {
        json_begin(out, p->path, '{');
        json_i64(out, "ino", p->ino);
        json_i64(out, "at", p->at);
        json_i64(out, "tail", p->tail);
        json_i64(out, "ts", p->ts_ms);
        json_i64(out, "skip_to", p->skip_to_ms);
        json_end(out, '}');
    }
    json_end(out, '}');
}

void follow_take(struct follow *f, const bson_t *places)
{
    bson_iter_t it;
    bson_t one;
    if (!bson_iter_init(&it, places))
        return;
    while (bson_iter_next(&it)) {
        if (!json_iter_doc(&it, &one))
            continue;
        struct place *p = place_of(f, bson_iter_key(&it));
        p->ino = json_get_i64(&one, "ino", 0);
        p->at = json_get_i64(&one, "at", 0);
        p->tail = json_get_i64(&one, "tail", 0);
        p->ts_ms = json_get_i64(&one, "ts", 0);
        p->skip_to_ms = json_get_i64(&one, "skip_to", 0);
    }
    f->begun = true;
}
