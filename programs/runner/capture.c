#include "capture.h"
#include "base/beneath.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { LINE_SHOWN = 240 };

int capture_open(struct capture *c, int dirfd, const char *name, int64_t cap, bool rotate, mode_t mode)
{
    *c = (struct capture){.dirfd = dirfd, .name = name, .cap = cap, .rotate = rotate};
    c->fd = beneath_open(dirfd, name, O_WRONLY | O_CREAT | O_EXCL, mode);
    return c->fd < 0 ? c->fd : 0;
}

static void turn(struct capture *c)
{
    char old[64];
    snprintf(old, sizeof old, "%s.1", c->name);
    close(fd_take(&c->fd));
    c->dropped += c->older;
    c->older = c->written;
    c->written = 0;
    renameat(c->dirfd, c->name, c->dirfd, old);
    c->fd = openat(c->dirfd, c->name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (c->fd < 0)
        c->error = -errno;
}

void capture_write(struct capture *c, const char *p, size_t n)
{
    c->total += (int64_t)n;
    while (n) {
        int64_t room = (c->rotate ? c->cap / 2 : c->cap) - c->written;
        if (room <= 0 && c->rotate && !c->error) {
            turn(c);
            continue;
        }
        size_t part = room <= 0 ? 0 : n < (size_t)room ? n : (size_t)room;
        if (!c->error && part)
            c->error = fd_write_all(c->fd, p, part);
        if (c->error || !part) {
            c->exceeded |= !c->rotate;
            c->dropped += (int64_t)n;
            return;
        }
        c->written += (int64_t)part;
        p += part;
        n -= part;
    }
}

void capture_close(struct capture *c)
{
    if (c->fd >= 0)
        close(fd_take(&c->fd));
}

void tail_add(struct tail *t, const char *p, size_t n)
{
    const size_t room = sizeof t->p;
    if (n > room) {
        t->cut = true;
        p += n - room;
        n = room;
    }
    size_t keep = t->n + n > room ? room - n : t->n;
    t->cut |= keep < t->n;
    memmove(t->p, t->p + t->n - keep, keep);
    memcpy(t->p + keep, p, n);
    t->n = keep + n;
}

static bool ends_line(char c)
{
    return c == '\n' || c == '\r';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == 0 || ends_line(c);
}

char *tail_line(const struct tail *t)
{
    size_t end = t->n, from, begin;
    while (end && is_blank(t->p[end - 1]))
        end--;
    for (from = end; from && !ends_line(t->p[from - 1]); from--) {
    }
    for (begin = from; begin < end && is_blank(t->p[begin]); begin++) {
    }
    bool cut = from == 0 && t->cut, more = end - begin > LINE_SHOWN;
    if (begin == end)
        return NULL;
    if (more)
        end = begin + LINE_SHOWN;
    while (cut && begin < end && (t->p[begin] & 0xc0) == 0x80) /* the rest of a character */
        begin++;
    for (size_t i = end; more && i > begin && i + 3 >= end; i--)
        if ((t->p[i] & 0xc0) != 0x80) {
            end = i;
            break;
        }
    AUTO_BUF struct buf b = {0};
    buf_adds(&b, cut ? "…" : "");
    buf_add(&b, t->p + begin, end - begin);
    buf_adds(&b, more ? "…" : "");
    buf_make_plain(&b, 0);
    return xstrdup(b.p);
}
