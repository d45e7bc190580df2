#include "check.h"
#include "databases.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/strs.h"
#include "segment/segment.h"
#include "term/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct checking {
    struct store *store;
    const struct point *point;
    struct map *known; /* name -> its number of bytes, as a pointer */
    void (*say)(void *arg, const char *text);
    void *arg;
    struct progress progress;
    char *scratch;
    unsigned char *room;
    int64_t found, entries, bytes;
};

static void say(struct checking *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct checking *c, const char *fmt, ...)
{
    va_list ap;
    char text[2048];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    progress_clear(&c->progress);
    c->say(c->arg, text);
    c->found++;
}

static void check_segment(struct checking *c, const struct entry *v, const struct buf *b)
{
    struct segment_scan scan;
    segment_scan((const unsigned char *)b->p, b->n, &scan);
    if (!scan.is_header || scan.goes_on)
        say(c, "%s: the log has damage at byte %u; the broker takes what is whole", v->path, scan.is_header ? scan.end : 0);
}

/* As store_get; what was whole a moment ago is not read again where nobody asks for the bytes. */
static int get(struct checking *c, const char *name, bool needed, size_t *ret_n, struct err *e)
{
    const void *n = needed || !c->known ? NULL : map_get(c->known, name);
    if (n) {
        *ret_n = (uintptr_t)n;
        return 0;
    }
    int r = store_get(c->store, name, c->room, ret_n, e);
    if (r == 0 && c->known)
        map_put(c->known, name, (void *)(uintptr_t)*ret_n); /* NOLINT(performance-no-int-to-ptr): of at least one byte */
    return r;
}

/* Puts the file at `fd`, `b` or nowhere. False: not all of its pieces can be read. */
static int read_pieces(struct checking *c, const struct entry *v, int fd, struct buf *b, bool *whole, struct err *e)
{
    int64_t size = 0;
    int r = 0;
    *whole = true;
    for (size_t i = 0; r == 0 && i < v->n_pieces; i++) {
        struct err why = {0};
        size_t n = 0;
        const int got = get(c, v->pieces[i], fd >= 0 || b, &n, &why);
        if (got < 0) {
            const bool aside = got == ERR_FORMAT && store_set_aside(c->store, v->pieces[i]);
            say(c, "%s: %s%s", v->path, why.msg,
                aside ? "; it was set aside, so that the next backup writes it again if the home still has these bytes" : "");
            *whole = false;
        } else if (fd >= 0) {
            r = fd_write_all(fd, c->room, n);
        } else if (b) {
            buf_add(b, c->room, n);
        }
        size += (int64_t)n;
        c->bytes += (int64_t)n;
        progress_show(&c->progress, "reading", c->bytes, c->point->bytes, "B");
    }
    if (*whole && size != v->size)
        say(c, "%s: it has %lld bytes, and not %lld", v->path, (long long)size, (long long)v->size);
    return r < 0 ? err_sys(e, r, "cannot write %s", c->scratch) : 0;
}

static int check_entry(void *arg, const struct entry *v, struct err *e)
{
    struct checking *c = arg;
    struct err why = {0};
    bool database = !strncmp(v->path, "state/", 6) && str_has_ending(v->path, ".db"), part = str_has_ending(v->path, ".seg"), whole;
    AUTO_BUF struct buf b = {0};
    c->entries++;
    if (database)
        unlink(c->scratch);
    AUTO_FD int fd = database ? open(c->scratch, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
    if (database && fd < 0)
        return err_sys(e, -errno, "cannot write %s", c->scratch);
    int r = read_pieces(c, v, fd, part ? &b : NULL, &whole, e);
    if (r == 0 && whole && part && b.n)
        check_segment(c, v, &b);
    if (r == 0 && whole && database)
        r = database_check(c->scratch, v->path, &why);
    if (r == ERR_FORMAT && why.code)
        say(c, "%s", why.msg);
    else if (why.code)
        return err_set(e, r, "%s", why.msg);
    return why.code ? 0 : r;
}

int64_t check_point(struct store *s, const struct point *p, struct map *known, void (*fn)(void *arg, const char *text), void *arg,
                    struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    AUTO_FREE char *dir = xasprintf("%s/mysimbdp-backup-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
    if (!mkdtemp(dir))
        return err_sys(e, -errno, "cannot make a directory like %s; set TMPDIR", dir);
    struct checking c = {.store = s,
                         .point = p,
                         .known = known,
                         .say = fn,
                         .arg = arg,
                         .scratch = xasprintf("%s/db", dir),
                         .room = xmalloc(STORE_PIECE)};
    progress_begin(&c.progress, "backup");
    int r = point_each(s, p, check_entry, &c, e);
    if (r == 0 && c.entries != p->entries)
        say(&c, "its list has %lld entries, and not %lld", (long long)c.entries, (long long)p->entries);
    progress_clear(&c.progress);
    fd_remove_tree(AT_FDCWD, dir);
    free(c.scratch);
    free(c.room);
    return r < 0 ? r : c.found;
}
