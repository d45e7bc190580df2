#include "space.h"

#include "mem.h"

#include <errno.h>
#include <sys/statvfs.h>

int space_of(const char *path, struct space *ret)
{
    struct statvfs v;
    if (statvfs(path, &v) < 0)
        return -errno;
    *ret = (struct space){(int64_t)v.f_bavail * (int64_t)v.f_frsize, v.f_files ? (int64_t)v.f_favail : -1};
    return 0;
}

bool space_is_low(const struct space *s, int64_t min_free_bytes, int64_t min_free_inodes)
{
    return s->free_bytes < min_free_bytes || (s->free_inodes >= 0 && s->free_inodes < min_free_inodes);
}

char *space_text(const struct space *s, int64_t min_free_bytes, int64_t min_free_inodes)
{
    if (s->free_inodes < 0)
        return xasprintf("%lld bytes are free, min_free_bytes is %lld", (long long)s->free_bytes, (long long)min_free_bytes);
    return xasprintf("%lld bytes and %lld inodes are free, min_free_bytes is %lld and min_free_inodes is %lld",
                     (long long)s->free_bytes, (long long)s->free_inodes, (long long)min_free_bytes, (long long)min_free_inodes);
}
