#include "store_parts.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum {
    ZERO_CHUNK = 256 << 10,
    RESERVE_SHARE = 4, /* a quarter of the last segment is kept for vital records */
    GROWTH = 16,       /* a new segment is this share of all at least, so that what each begins with stays small */
    PREPARE_AGAIN_MS = 1000,
    QUICK_MS = 2000, /* a segment that is full sooner: there is no time to prepare the next */
};

#define SPARE      "spare"
#define SPARE_TEMP "spare.tmp"
#define SPARE_RAW  "spare.raw"

uint64_t store_damage(const struct store *s)
{
    return s->damage;
}

uint64_t store_newest(const struct store *s)
{
    return s->n ? s->segments[s->n - 1].number : 0;
}

static struct segment *last(struct store *s)
{
    return s->n ? &s->segments[s->n - 1] : NULL;
}

/* ---- the thread that fills segments with zeros ---- */

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

static void *prepare(void *arg)
{
    struct store *s = arg;
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

static uint32_t next_size(const struct store *s, uint32_t at_least)
{
    int64_t size = s->bytes / GROWTH;
    if (size < STORE_MIN_SEGMENT)
        size = STORE_MIN_SEGMENT;
    if (size > STORE_MAX_SEGMENT)
        size = STORE_MAX_SEGMENT;
    if (size < (int64_t)at_least * 2)
        size = (int64_t)at_least * 2; /* a large record, and what the segment begins with */
    return (uint32_t)((size + ZERO_CHUNK - 1) / ZERO_CHUNK * ZERO_CHUNK);
}

/* With the lock held. */
static void want_spare(struct store *s, uint32_t at_least)
{
    if (s->spare || s->wanted || (s->failed && clk_now_ms() - s->failed_at_ms < PREPARE_AGAIN_MS))
        return;
    s->wanted_size = next_size(s, at_least);
    s->wanted = true;
    pthread_cond_broadcast(&s->wake);
}

/* A spare segment that takes a record of `at_least` bytes; waits for the one in preparation. */
static int take_spare(struct store *s, uint32_t at_least)
{
    pthread_mutex_lock(&s->lock);
    for (bool asked = false; !s->spare || s->spare_size < SEGMENT_HEADER + (int64_t)at_least * 2; asked = true) {
        if (s->spare)
            unlinkat(s->dirfd, SPARE, 0);
        s->spare = false;
        want_spare(s, at_least);
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
static bool has_raw(struct store *s, uint32_t at_least)
{
    uint32_t size = next_size(s, at_least);
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

/* ---- segments ---- */

struct segment *store_add_segment(struct store *s, uint64_t number, int fd, uint32_t size)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->segments = xrealloc(s->segments, s->cap * sizeof *s->segments);
    }
    s->segments[s->n] = (struct segment){.number = number, .fd = fd, .size = size, .used = SEGMENT_HEADER};
    s->bytes += size;
    return &s->segments[s->n++];
}

static struct segment *find(struct store *s, uint64_t number)
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

_Noreturn static void die(const char *what, int r)
{
    /* After a failed sync the kernel may have dropped what it could not write: only what is on the disk counts now. */
    log_error("store_failed", NULL, NULL, "cannot %s: %s; ending, to go on from what is on the disk", what, err_text(r));
    exit(1);
}

static void write_out(struct store *s)
{
    static const char zeros[STORE_HEADER];
    struct segment *seg = last(s);
    if (!s->pending.n)
        return;
    crash_at(CRASH_store_write);
    size_t n = s->pending.n;
    if (s->written + n + sizeof zeros <= seg->size)
        buf_add(&s->pending, zeros, sizeof zeros); /* so that what a segment held before is not read on */
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

void store_commit(struct store *s, bool sync)
{
    write_out(s);
    if (sync && s->unsynced) {
        if (fdatasync(last(s)->fd) < 0)
            die("sync a segment", -errno);
        s->unsynced = false;
        crash_at(CRASH_store_sync);
    }
}

bool store_is_synced(const struct store *s)
{
    return !s->unsynced && !s->pending.n;
}

/* Into the pending bytes of the last segment, which has room for it. */
static void add_record(struct store *s, int type, const struct iovec *parts, int n_parts, uint32_t size, struct store_pos *ret_at)
{
    struct segment *seg = last(s);
    uint32_t total = store_padded(size);
    buf_reserve(&s->pending, total);
    unsigned char *p = (unsigned char *)s->pending.p + s->pending.n;
    memset(p, 0, STORE_HEADER);
    le_set_u32(p, size);
    p[8] = (unsigned char)type;
    size_t at = STORE_HEADER;
    for (int i = 0; i < n_parts; i++) {
        if (parts[i].iov_len)
            memcpy(p + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    memset(p + at, 0, total - size);
    le_set_u32(p + 4, store_check_of(s, p, size, seg->number));
    s->pending.n += total;
    if (ret_at)
        *ret_at = (struct store_pos){seg->number, seg->used, size};
    seg->used += total;
}

static int begin_segment(struct store *s, uint32_t at_least)
{
    char name[32];
    unsigned char h[SEGMENT_HEADER] = STORE_MAGIC;
    int64_t now = clk_now_ms();
    pthread_mutex_lock(&s->lock);
    bool raw = !s->spare;
    pthread_mutex_unlock(&s->lock);
    raw = raw && has_raw(s, at_least);
    int r = raw ? 0 : take_spare(s, at_least);
    if (r < 0)
        return r;
    const char *spare = raw ? SPARE_RAW : SPARE;
    AUTO_FD int fd = openat(s->dirfd, spare, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (s->n) { /* the last one is complete before there is another */
        if (last(s)->size - last(s)->used >= STORE_HEADER)
            add_record(s, STORE_END, NULL, 0, STORE_HEADER, NULL);
        store_commit(s, true);
    }
    uint64_t number = s->next_number++;
    store_name_of(number, name);
    le_set_u64(h + 8, number);
    le_set_u64(h + 16, (uint64_t)st.st_size);
    le_set_u64(h + 24, s->salt);
    le_set_u32(h + 56, (uint32_t)XXH3_64bits(h, 56));
    if (pwrite(fd, h, sizeof h, 0) != (ssize_t)sizeof h ||
        pwrite(fd, (char[STORE_HEADER]){0}, STORE_HEADER, sizeof h) != STORE_HEADER || fdatasync(fd) < 0)
        die("write a segment's header", -errno);
    crash_at(CRASH_store_segment);
    if (renameat(s->dirfd, spare, s->dirfd, name) < 0 || fsync(s->dirfd) < 0)
        die("begin a segment", -errno);
    store_add_segment(s, number, fd_take(&fd), (uint32_t)st.st_size);
    s->written = SEGMENT_HEADER;
    s->raw_size = raw ? 0 : s->raw_size;
    pthread_mutex_lock(&s->lock);
    if (now - s->began_ms >= QUICK_MS) /* else zeros would take the disk from what is being stored */
        want_spare(s, 0);
    pthread_mutex_unlock(&s->lock);
    s->began_ms = now;
    s->rolling = true;
    s->ops.on_segment(s->ops.arg);
    s->rolling = false;
    return 0;
}

/* Another segment can be begun. */
static bool has_next(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    bool spare = s->spare;
    pthread_mutex_unlock(&s->lock);
    if (spare || has_raw(s, 0))
        return true;
    pthread_mutex_lock(&s->lock);
    want_spare(s, 0); /* says so in the log, and when there is room again */
    pthread_mutex_unlock(&s->lock);
    return false;
}

static bool has_room(struct store *s, uint32_t total, bool vital)
{
    struct segment *seg = last(s);
    if (!seg || seg->used + total > seg->size)
        return false;
    return vital || seg->used + total <= seg->size - seg->size / RESERVE_SHARE || has_next(s);
}

int store_append(struct store *s, int type, const struct iovec *parts, int n_parts, bool vital, struct store_pos *ret_at)
{
    size_t size = STORE_HEADER;
    for (int i = 0; i < n_parts; i++)
        size += parts[i].iov_len;
    if (size > STORE_MAX_RECORD)
        return -EMSGSIZE;
    uint32_t total = store_padded((uint32_t)size);
    if (!has_room(s, total, vital || s->rolling)) {
        struct segment *seg = last(s);
        if (s->rolling || (seg && !vital && seg->used + total <= seg->size))
            return -ENOSPC; /* what is left is for vital records */
        int r = begin_segment(s, total + (uint32_t)s->ops.segment_begins_with(s->ops.arg));
        if (r < 0)
            return r;
        if (!has_room(s, total, vital))
            return -ENOSPC;
    }
    add_record(s, type, parts, n_parts, (uint32_t)size, ret_at);
    return 0;
}

const unsigned char *store_read(struct store *s, const struct store_pos *at, void *room)
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
            if (got <= 0 && errno != EINTR)
                return NULL;
            n += got > 0 ? (uint32_t)got : 0;
        }
    }
    return le_u32(p) == at->size && le_u32(p + 4) == store_check_of(s, p, at->size, at->segment) ? p + STORE_HEADER : NULL;
}

void store_keep(struct store *s, const struct store_pos *at)
{
    struct segment *seg = find(s, at->segment);
    seg->kept += at->size;
    s->kept += at->size;
}

void store_release(struct store *s, const struct store_pos *at)
{
    struct segment *seg = find(s, at->segment);
    if (!seg)
        return;
    seg->kept -= at->size;
    s->kept -= at->size;
}

/* ---- giving back ---- */

static void give_back(struct store *s)
{
    struct segment *seg = &s->segments[0];
    char name[32];
    store_name_of(seg->number, name);
    pthread_mutex_lock(&s->lock);
    bool again = !s->spare && !s->wanted && seg->size >= next_size(s, 0);
    if (again) {
        s->spare = renameat(s->dirfd, name, s->dirfd, SPARE) == 0;
        s->spare_size = seg->size;
        s->failed &= !s->spare;
    }
    pthread_mutex_unlock(&s->lock);
    if (!again && unlinkat(s->dirfd, name, 0) < 0)
        log_warn("store", NULL, NULL, "cannot remove segment %s: %s", name, strerror(errno));
    crash_at(CRASH_store_give_back);
    close(seg->fd);
    s->bytes -= seg->size;
    memmove(s->segments, s->segments + 1, --s->n * sizeof *s->segments);
}

bool store_tidy(struct store *s, uint64_t *ret_oldest)
{
    bool synced = false;
    while (s->n > 1 && s->segments[0].kept == 0) {
        if (!synced) /* what says that its records are no longer needed must not be lost once they are */
            store_commit(s, true);
        synced = true;
        give_back(s);
    }
    *ret_oldest = s->n ? s->segments[0].number : 0;
    int64_t used = s->n ? s->bytes - last(s)->size : 0;
    return s->n > 2 && used > 2 * s->kept + 2 * (int64_t)last(s)->size;
}

void store_figures(const struct store *s, int64_t *ret_bytes, int64_t *ret_kept_bytes)
{
    *ret_bytes = s->bytes;
    *ret_kept_bytes = s->kept;
}

bool store_is_full(struct store *s)
{
    const struct segment *seg = last(s);
    if (seg && seg->used + store_padded(STORE_HEADER) > seg->size) /* that one is, to the last byte */
        return !has_next(s);
    return seg && !has_room(s, store_padded(STORE_HEADER), false); /* the first segment is made when something is stored */
}

static void store_free(struct store *s)
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

int store_open(int dirfd, const struct store_ops *ops, struct store **ret, struct err *e)
{
    struct store *s = xcalloc(1, sizeof *s);
    struct stat st;
    *s = (struct store){.dirfd = dirfd, .ops = *ops};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    unlinkat(dirfd, SPARE_TEMP, 0);
    unlinkat(dirfd, SPARE_RAW, 0);
    if (ops->is_copy)
        unlinkat(dirfd, SPARE, 0);
    if (fstatat(dirfd, SPARE, &st, 0) == 0) {
        s->spare = st.st_size >= STORE_MIN_SEGMENT && st.st_size <= STORE_MAX_RECORD * 4LL;
        s->spare_size = (uint32_t)st.st_size;
    }
    int r = pthread_create(&s->thread, NULL, prepare, s);
    if (r) {
        free(s);
        return err_sys(e, -r, "cannot start the store's thread");
    }
    *ret = s; /* whoever is told of records may keep them already */
    r = store_read_all(s, e);
    if (r < 0)
        store_free(s);
    return r;
}

void store_close(struct store *s)
{
    if (s->n)
        store_commit(s, true);
    store_free(s);
}

void store_abandon(struct store *s)
{
    store_free(s);
}
