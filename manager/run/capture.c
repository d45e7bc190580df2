#include "capture.h"
#include "common/beneath.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

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
