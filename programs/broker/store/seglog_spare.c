/* Segments to be: a thread fills them with zeros before they are needed. A segment that was given back is used again instead, and
 * where there is no time, one that is allocated and not written. */
#include "seglog_parts.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>

enum {
    ZERO_CHUNK = 256 << 10,
    GROWTH = 16, /* a new segment is this share of all at least, so that what each begins with stays small */
    PREPARE_AGAIN_MS = 1000,
};

static int fill(int dirfd, uint32_t size)
{
    AUTO_FD int fd = openat(dirfd, SPARE_TEMP, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    AUTO_FREE char *zeros = xcalloc(1, ZERO_CHUNK);
    if (fd < 0)
        return -errno;
    for (uint32_t at = 0; at < size; at += ZERO_CHUNK) {
        ssize_t n = pwrite(fd, zeros, size - at < ZERO_CHUNK ? size - at : ZERO_CHUNK, at);
        if (n < 0 || (n < ZERO_CHUNK && (uint32_t)n < size - at))
            return n < 0 ? -errno : -ENOSPC;
        /* Little at a time: an fdatasync of the log waits for all that is on its way to the disk. */
        sync_file_range(fd, at, n, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    }
    if (ftruncate(fd, size) < 0 || fsync(fd) < 0 || renameat(dirfd, SPARE_TEMP, dirfd, SPARE) < 0)
        return -errno;
    return 0;
}

void *spare_prepare(void *arg)
{
    struct seglog *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->quit && (!s->wanted || s->spare))
            pthread_cond_wait(&s->wake, &s->lock);
        if (s->quit)
            break;
        uint32_t size = s->wanted_size;
        pthread_mutex_unlock(&s->lock);
        int r = fill(s->dirfd, size);
        if (r < 0)
            unlinkat(s->dirfd, SPARE_TEMP, 0); /* gives back what it took of a full disk */
        pthread_mutex_lock(&s->lock);
        s->wanted = false;
        s->spare = r == 0;
        s->spare_size = size;
        if (r < 0 && !s->failed)
            log_error("store_full", NULL, NULL,
                      "cannot prepare a segment of %u bytes: %s; publishing pauses when the last one is full", size, err_text(r));
        if (r == 0 && s->failed)
            log_info("store_room", NULL, NULL, "there is room for another segment again");
        s->failed = r < 0;
        s->failed_at_ms = clk_now_ms();
        pthread_cond_broadcast(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

uint32_t spare_next_size(const struct seglog *s, uint32_t at_least)
{
    int64_t size = s->bytes / GROWTH;
    if (size < SEGLOG_MIN_SEGMENT)
        size = SEGLOG_MIN_SEGMENT;
    if (size > SEGLOG_MAX_SEGMENT)
        size = SEGLOG_MAX_SEGMENT;
    if (size < (int64_t)at_least * 2)
        size = (int64_t)at_least * 2; /* a large record, and what the segment begins with */
    return (uint32_t)((size + ZERO_CHUNK - 1) / ZERO_CHUNK * ZERO_CHUNK);
}

/* With the lock held. */
void spare_want(struct seglog *s, uint32_t at_least)
{
    if (s->spare || s->wanted || (s->failed && clk_now_ms() - s->failed_at_ms < PREPARE_AGAIN_MS))
        return;
    s->wanted_size = spare_next_size(s, at_least);
    s->wanted = true;
    pthread_cond_broadcast(&s->wake);
}

/* A spare segment that takes a record of `at_least` bytes; waits for the one in preparation. */
int spare_take(struct seglog *s, uint32_t at_least)
{
    pthread_mutex_lock(&s->lock);
    for (bool asked = false; !s->spare || s->spare_size < SEGMENT_HEADER + (int64_t)at_least * 2; asked = true) {
        if (s->spare)
            unlinkat(s->dirfd, SPARE, 0);
        s->spare = false;
        spare_want(s, at_least);
        while (!s->spare && s->wanted)
            pthread_cond_wait(&s->wake, &s->lock);
        if (!s->spare && (asked || s->failed))
            break;
    }
    int r = s->spare ? 0 : -ENOSPC;
    s->spare = false;
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* Has a segment at hand that is allocated, not written, for when there is no time for zeros: its syncs cost commits of the file
 * system's journal, but nobody waits for a disk that is busy. */
bool spare_has_raw(struct seglog *s, uint32_t at_least)
{
    uint32_t size = spare_next_size(s, at_least);
    if (s->raw_size >= size || clk_now_ms() < s->raw_again_ms)
        return s->raw_size >= size;
    AUTO_FD int fd = openat(s->dirfd, SPARE_RAW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && posix_fallocate(fd, 0, size) == 0;
    if (!ok)
        unlinkat(s->dirfd, SPARE_RAW, 0);
    s->raw_size = ok ? size : 0;
    s->raw_again_ms = ok ? 0 : clk_now_ms() + PREPARE_AGAIN_MS;
    return ok;
}
