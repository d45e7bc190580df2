#include "seglog_parts.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum {
    RESERVE_SHARE = 4, /* a quarter of the last segment is kept for vital records */
    QUICK_MS = 2000,   /* a segment that is full sooner: there is no time to prepare the next */
};

uint64_t seglog_damage(const struct seglog *s)
{
    return s->damage;
}

uint64_t seglog_newest(const struct seglog *s)
{
    return s->n ? s->segments[s->n - 1].number : 0;
}

static struct segment *last(struct seglog *s)
{
    return s->n ? &s->segments[s->n - 1] : NULL;
}

/* ---- segments ---- */

struct segment *seglog_add_segment(struct seglog *s, uint64_t number, int fd, uint32_t size)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->segments = xrealloc(s->segments, s->cap * sizeof *s->segments);
    }
    s->segments[s->n] = (struct segment){.number = number, .fd = fd, .size = size, .used = SEGMENT_HEADER};
    s->bytes += size;
    return &s->segments[s->n++];
}

static struct segment *find(struct seglog *s, uint64_t number)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->segments[mid].number < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && s->segments[lo].number == number ? &s->segments[lo] : NULL;
}

/* After a failed sync the kernel may have dropped what it could not write: only what is on the disk counts now. What cannot be read
 * for a while must not pass for lost. */
_Noreturn static void die(const char *what, int r)
{
    log_error("store_failed", NULL, NULL, "cannot %s: %s; ending, to go on from what is on the disk", what, err_text(r));
    exit(1);
}

/* ---- writing ---- */

static void write_out(struct seglog *s)
{
    static const char zeros[SEGLOG_HEADER];
    struct segment *seg = last(s);
    if (!s->pending.n)
        return;
    assert(seg); /* it is what the pending bytes are for */
    crash_at(CRASH_store_write);
    size_t n = s->pending.n;
    if (s->written + n + sizeof zeros <= seg->size)
        buf_add(&s->pending, zeros, sizeof zeros); /* a segment that is used again holds old records behind */
    for (size_t at = 0; at < s->pending.n;) {
        ssize_t w = pwrite(seg->fd, s->pending.p + at, s->pending.n - at, (off_t)(s->written + at));
        if (w < 0 && errno != EINTR)
            die("write to a segment", -errno);
        at += w > 0 ? (size_t)w : 0;
    }
    s->pending.n = 0;
    s->written += (uint32_t)n;
    s->unsynced = true;
}

void seglog_commit(struct seglog *s, bool sync)
{
    write_out(s);
    const struct segment *seg = last(s);
    assert(seg || !s->unsynced);
    if (sync && s->unsynced) {
        if (fdatasync(seg->fd) < 0)
            die("sync a segment", -errno);
        s->unsynced = false;
        crash_at(CRASH_store_sync);
    }
}

bool seglog_is_synced(const struct seglog *s)
{
    return !s->unsynced && !s->pending.n;
}

/* Into the pending bytes of the last segment, which has room for it. */
static void add_record(struct seglog *s, int type, const struct iovec *parts, int n_parts, uint32_t size, struct seglog_pos *ret_at)
{
    struct segment *seg = last(s);
    assert(seg);
    uint32_t total = segment_padded(size);
    buf_reserve(&s->pending, total);
    unsigned char *p = (unsigned char *)s->pending.p + s->pending.n;
    memset(p, 0, SEGLOG_HEADER);
    le_set_u32(p, size);
    p[8] = (unsigned char)type;
    size_t at = SEGLOG_HEADER;
    for (int i = 0; i < n_parts; i++) {
        if (parts[i].iov_len)
            memcpy(p + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    memset(p + at, 0, total - size);
    le_set_u32(p + 4, seglog_check_of(s, p, size, seg->number));
    s->pending.n += total;
    if (ret_at)
        *ret_at = (struct seglog_pos){seg->number, seg->used, size};
    seg->used += total;
}

/* Makes a spare segment the one that is written to next: its header is durable before it has its name. TAKE fd. */
static void name_segment(struct seglog *s, const char *spare, int fd, uint32_t size)
{
    char name[SEGMENT_NAME];
    unsigned char h[SEGMENT_HEADER] = SEGMENT_MAGIC;
    uint64_t number = s->next_number++;
    segment_name_of(number, name);
    le_set_u64(h + 8, number);
    le_set_u64(h + 16, size);
    le_set_u64(h + 24, s->salt);
    le_set_u32(h + 56, (uint32_t)XXH3_64bits(h, 56));
    if (pwrite(fd, h, sizeof h, 0) != (ssize_t)sizeof h ||
        pwrite(fd, (char[SEGLOG_HEADER]){0}, SEGLOG_HEADER, sizeof h) != SEGLOG_HEADER || fdatasync(fd) < 0)
        die("write a segment's header", -errno);
    crash_at(CRASH_store_segment);
    if (renameat(s->dirfd, spare, s->dirfd, name) < 0 || fsync(s->dirfd) < 0)
        die("begin a segment", -errno);
    crash_at(CRASH_store_named);
    seglog_add_segment(s, number, fd, size);
    s->written = SEGMENT_HEADER;
}

/* What the last segment begins with, so that it makes sense without those before. */
static void write_beginning(struct seglog *s)
{
    s->begin_due = false;
    s->rolling = true;
    s->ops.on_segment(s->ops.arg);
    s->rolling = false;
}

/* at_least: bytes that it has to take, with what it begins with. */
static int begin_segment(struct seglog *s, uint32_t at_least)
{
    int64_t now = clk_now_ms();
    pthread_mutex_lock(&s->lock);
    bool raw = !s->spare;
    pthread_mutex_unlock(&s->lock);
    raw = raw && spare_has_raw(s, at_least);
    int r = raw ? 0 : spare_take(s, at_least);
    if (r < 0)
        return r;
    const char *spare = raw ? SPARE_RAW : SPARE;
    AUTO_FD int fd = openat(s->dirfd, spare, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (s->n) { /* the last one is complete before there is another */
        if (last(s)->size - last(s)->used >= SEGLOG_HEADER)
            add_record(s, SEGLOG_END, NULL, 0, SEGLOG_HEADER, NULL);
        seglog_commit(s, true);
    }
    name_segment(s, spare, fd_take(&fd), (uint32_t)st.st_size);
    s->raw_size = raw ? 0 : s->raw_size;
    pthread_mutex_lock(&s->lock);
    if (now - s->began_ms >= QUICK_MS) /* else zeros would take the disk from what is being stored */
        spare_want(s, 0);
    pthread_mutex_unlock(&s->lock);
    s->began_ms = now;
    write_beginning(s);
    return 0;
}

/* Another segment can be begun. */
static bool has_next(struct seglog *s)
{
    pthread_mutex_lock(&s->lock);
    bool spare = s->spare;
    pthread_mutex_unlock(&s->lock);
    if (spare || spare_has_raw(s, 0))
        return true;
    pthread_mutex_lock(&s->lock);
    spare_want(s, 0); /* says so in the log, and when there is room again */
    pthread_mutex_unlock(&s->lock);
    return false;
}

static bool has_room(struct seglog *s, uint32_t total, bool vital)
{
    struct segment *seg = last(s);
    if (!seg || seg->used + total > seg->size)
        return false;
    return vital || seg->used + total <= seg->size - seg->size / RESERVE_SHARE || has_next(s);
}

/* Whoever was killed as it began the last segment may not have told what it begins with, and the segments before it go one day. */
static int begin_again(struct seglog *s)
{
    const struct segment *seg = last(s);
    size_t n = s->ops.segment_begins_with(s->ops.arg);
    if (seg->used + n + SEGMENT_HEADER > seg->size)
        return begin_segment(s, (uint32_t)n);
    write_beginning(s);
    return 0;
}

int seglog_append(struct seglog *s, int type, const struct iovec *parts, int n_parts, bool vital, struct seglog_pos *ret_at)
{
    size_t size = SEGLOG_HEADER;
    for (int i = 0; i < n_parts; i++)
        size += parts[i].iov_len;
    if (size > SEGLOG_MAX_RECORD)
        return -EMSGSIZE;
    uint32_t total = segment_padded((uint32_t)size);
    int again = s->begin_due && !s->rolling && s->n ? begin_again(s) : 0;
    if (again < 0 && !vital)
        return again;
    if (!has_room(s, total, vital || s->rolling)) {
        struct segment *seg = last(s);
        if (s->rolling || (seg && !vital && seg->used + total <= seg->size))
            return -ENOSPC; /* what is left is kept for vital records */
        int r = begin_segment(s, total + (uint32_t)s->ops.segment_begins_with(s->ops.arg));
        if (r < 0)
            return r;
        if (!has_room(s, total, vital))
            return -ENOSPC;
    }
    add_record(s, type, parts, n_parts, (uint32_t)size, ret_at);
    return 0;
}

/* ---- reading ---- */

_Noreturn static void die_of_reading(uint64_t segment)
{
    char name[SEGMENT_NAME], what[SEGMENT_NAME + 256];
    segment_name_of(segment, name);
    snprintf(what, sizeof what, "read segment %s (" SEGMENT_RESCUE ")", name);
    die(what, -EIO);
}

const unsigned char *seglog_read(struct seglog *s, const struct seglog_pos *at, void *room)
{
    unsigned char *p = room;
    struct segment *seg = find(s, at->segment);
    if (!seg)
        return NULL;
    if (seg == last(s) && at->offset >= s->written) {
        memcpy(p, s->pending.p + (at->offset - s->written), at->size);
    } else {
        for (uint32_t n = 0; n < at->size;) {
            ssize_t got = pread(seg->fd, p + n, at->size - n, at->offset + n);
            if (got < 0 && errno == EIO)
                die_of_reading(at->segment);
            if (got == 0 || (got < 0 && errno != EINTR))
                return NULL;
            n += got > 0 ? (uint32_t)got : 0;
        }
    }
    return le_u32(p) == at->size && le_u32(p + 4) == seglog_check_of(s, p, at->size, at->segment) ? p + SEGLOG_HEADER : NULL;
}

/* ---- what is kept, and giving back ---- */

void seglog_keep(struct seglog *s, const struct seglog_pos *at)
{
    struct segment *seg = find(s, at->segment);
    if (!seg)
        return;
    seg->kept += at->size;
    s->kept += at->size;
}

void seglog_release(struct seglog *s, const struct seglog_pos *at)
{
    struct segment *seg = find(s, at->segment);
    if (!seg)
        return;
    seg->kept -= at->size;
    s->kept -= at->size;
}

static void give_back(struct seglog *s)
{
    struct segment *seg = &s->segments[0];
    char name[SEGMENT_NAME];
    segment_name_of(seg->number, name);
    pthread_mutex_lock(&s->lock);
    bool again = !s->spare && !s->wanted && seg->size >= spare_next_size(s, 0);
    if (again) {
        s->spare = renameat(s->dirfd, name, s->dirfd, SPARE) == 0;
        s->spare_size = seg->size;
        s->failed &= !s->spare;
    }
    pthread_mutex_unlock(&s->lock);
    if (again && fsync(s->dirfd) < 0) /* before there are other bytes in it: a power cut must not give it its old name again */
        die("give a segment back", -errno);
    if (!again && unlinkat(s->dirfd, name, 0) < 0)
        log_warn("store", NULL, NULL, "cannot remove segment %s: %s", name, strerror(errno));
    crash_at(CRASH_store_give_back);
    close(seg->fd);
    s->bytes -= seg->size;
    memmove(s->segments, s->segments + 1, --s->n * sizeof *s->segments);
}

bool seglog_tidy(struct seglog *s, uint64_t *ret_oldest)
{
    bool synced = false;
    while (s->n > 1 && s->segments[0].kept == 0) {
        if (!synced) /* the records that say why it is not needed must be durable before it goes */
            seglog_commit(s, true);
        synced = true;
        give_back(s);
    }
    *ret_oldest = s->n ? s->segments[0].number : 0;
    int64_t used = s->n ? s->bytes - last(s)->size : 0;
    return s->n > 2 && used > 2 * s->kept + 2 * (int64_t)last(s)->size;
}

void seglog_figures(const struct seglog *s, int64_t *ret_bytes, int64_t *ret_kept_bytes)
{
    *ret_bytes = s->bytes;
    *ret_kept_bytes = s->kept;
}

bool seglog_is_full(struct seglog *s)
{
    const struct segment *seg = last(s);
    if (seg && seg->used + segment_padded(SEGLOG_HEADER) > seg->size) /* it is full to the last byte */
        return !has_next(s);
    return seg && !has_room(s, segment_padded(SEGLOG_HEADER), false); /* the first segment is made when something is stored */
}

/* ---- opening and closing ---- */

static void seglog_free(struct seglog *s)
{
    pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    for (size_t i = 0; i < s->n; i++)
        close(s->segments[i].fd);
    free(s->segments);
    buf_fini(&s->pending);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}

int seglog_open(int dirfd, const struct seglog_ops *ops, struct seglog **ret, struct err *e)
{
    struct seglog *s = xcalloc(1, sizeof *s);
    struct stat st;
    *s = (struct seglog){.dirfd = dirfd, .ops = *ops};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    unlinkat(dirfd, SPARE_TEMP, 0);
    unlinkat(dirfd, SPARE_RAW, 0);
    if (ops->is_copy)
        unlinkat(dirfd, SPARE, 0);
    if (fstatat(dirfd, SPARE, &st, 0) == 0) {
        s->spare = st.st_size >= SEGLOG_MIN_SEGMENT && st.st_size <= SEGLOG_MAX_RECORD * 4LL;
        s->spare_size = (uint32_t)st.st_size;
        if (fsync(dirfd) < 0) /* as in give_back, which may not have come to it */
            s->spare = false;
    }
    int r = pthread_create(&s->thread, NULL, spare_prepare, s);
    if (r) {
        pthread_mutex_destroy(&s->lock);
        pthread_cond_destroy(&s->wake);
        free(s);
        return err_sys(e, -r, "cannot start the store's thread");
    }
    *ret = s; /* whoever is told of records may keep them already */
    r = seglog_read_all(s, e);
    s->begin_due = true;
    if (r < 0) {
        seglog_free(s);
        *ret = NULL;
    }
    return r;
}

void seglog_close(struct seglog *s)
{
    if (s->n)
        seglog_commit(s, true);
    seglog_free(s);
}

void seglog_abandon(struct seglog *s)
{
    seglog_free(s);
}
