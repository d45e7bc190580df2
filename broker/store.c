#include "store.h"

#include "common/clk.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/le.h"
#include "common/log.h"
#include "common/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    SEGMENT_HEADER = 64,
    ALIGN = 8,
    ZERO_CHUNK = 256 << 10,
    RESERVE_SHARE = 4, /* a quarter of the last segment is kept for vital records */
    GROWTH = 16,       /* a new segment is this share of all at least, so that what each begins with stays small */
    PREPARE_AGAIN_MS = 1000,
    QUICK_MS = 2000, /* a segment that is full sooner: there is no time to prepare the next */
    MAX_HASHINGS = 32,
};

#define MAGIC      "simbdpq1"
#define SPARE      "spare"
#define SPARE_TEMP "spare.tmp"
#define SPARE_RAW  "spare.raw"

struct segment {
    uint64_t number;
    int fd;
    uint32_t size, used; /* used: where the next record goes */
    int64_t kept;        /* bytes of records that are kept */
};

struct store {
    int dirfd;
    struct store_ops ops;
    struct segment *segments; /* oldest first; the last one is written to */
    size_t n, cap;
    uint64_t next_number, salt, damage;
    struct buf pending; /* appended, not written: begins at the last segment's `written` */
    uint32_t written;
    bool unsynced, rolling;
    int64_t kept, bytes;
    uint32_t raw_size;    /* of the segment that is allocated and not written; 0: none */
    int64_t raw_again_ms; /* the disk was full: not tried before */
    int64_t began_ms;     /* the last segment */
    /* the preparing thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool quit, wanted, spare, failed;
    uint32_t wanted_size, spare_size;
    int64_t failed_at_ms;
};

static uint32_t padded(uint32_t n)
{
    return (n + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
}

static uint32_t check_of(const struct store *s, const unsigned char *p, size_t n, uint64_t segment)
{
    return (uint32_t)XXH3_64bits_withSeed(p + 8, n - 8, s->salt ^ segment);
}

static void name_of(uint64_t number, char out[32])
{
    snprintf(out, 32, "%016llx.seg", (unsigned long long)number);
}

static void add_damage(struct store *s, uint64_t number, uint64_t at, char kind)
{
    uint64_t v[] = {number, at, (uint64_t)kind};
    s->damage += XXH3_64bits(v, sizeof v);
}

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

static struct segment *add_segment(struct store *s, uint64_t number, int fd, uint32_t size)
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
    uint32_t total = padded(size);
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
    le_set_u32(p + 4, check_of(s, p, size, seg->number));
    s->pending.n += total;
    if (ret_at)
        *ret_at = (struct store_pos){seg->number, seg->used, size};
    seg->used += total;
}

static int begin_segment(struct store *s, uint32_t at_least)
{
    char name[32];
    unsigned char h[SEGMENT_HEADER] = MAGIC;
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
    name_of(number, name);
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
    add_segment(s, number, fd_take(&fd), (uint32_t)st.st_size);
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
    uint32_t total = padded((uint32_t)size);
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
    return le_u32(p) == at->size && le_u32(p + 4) == check_of(s, p, at->size, at->segment) ? p + STORE_HEADER : NULL;
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
    name_of(seg->number, name);
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
    if (seg && seg->used + padded(STORE_HEADER) > seg->size) /* that one is, to the last byte */
        return !has_next(s);
    return seg && !has_room(s, padded(STORE_HEADER), false); /* the first segment is made when something is stored */
}

/* ---- opening ---- */

struct reading {
    struct store *s;
    const unsigned char *p;
    uint32_t size;
    uint64_t number;
    int64_t budget; /* bytes that may still be hashed: what looks like headers must not make reading take for ever */
};

static bool is_record(struct reading *r, uint32_t at)
{
    if (at + STORE_HEADER > r->size)
        return false;
    const unsigned char *p = r->p + at;
    uint32_t size = le_u32(p);
    if (size < STORE_HEADER || size > STORE_MAX_RECORD || size > r->size - at || !p[8] || r->budget < size)
        return false;
    r->budget -= size;
    return le_u32(p + 4) == check_of(r->s, p, size, r->number);
}

static bool all_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Copies what was skipped to damaged/ so that nothing is thrown away unseen. */
static void set_aside(const struct reading *r, uint32_t from, uint32_t to, bool tail)
{
    char name[64];
    mkdirat(r->s->dirfd, "damaged", 0700);
    add_damage(r->s, r->number, from, 'r');
    snprintf(name, sizeof name, "damaged/%016llx-%08x", (unsigned long long)r->number, from);
    AUTO_FD int fd = openat(r->s->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0 && fd_write_all(fd, r->p + from, to - from) < 0)
        log_warn("store", NULL, NULL, "cannot write %s: %s", name, strerror(errno));
    log_error("store_damaged", NULL, NULL,
              "segment %016llx: bytes %u to %u %s; they were copied to state/broker/%s, and everything else is kept",
              (unsigned long long)r->number, from, to,
              tail ? "at its end are no whole record (a write that was cut short, or damage)" : "do not match their checksums",
              name);
}

/* Reads a segment's records; where the next one goes. */
static uint32_t replay(struct reading *r, bool is_last)
{
    uint32_t at = SEGMENT_HEADER;
    while (at + STORE_HEADER <= r->size) {
        if (is_record(r, at)) {
            uint32_t size = le_u32(r->p + at);
            struct store_pos pos = {r->number, at, size};
            if (r->p[at + 8] == STORE_END)
                return r->size;
            r->s->ops.on_record(r->s->ops.arg, &pos, r->p[at + 8], r->p + at + STORE_HEADER, size - STORE_HEADER);
            at += padded(size);
            continue;
        }
        uint32_t next = at + ALIGN;
        while (next + STORE_HEADER <= r->size && !is_record(r, next))
            next += ALIGN;
        bool more = next + STORE_HEADER <= r->size;
        if (more) {
            set_aside(r, at, next, false);
            at = next;
            continue;
        }
        /* Nothing follows: the end, unless somebody wrote there. A segment that is not the last ends with STORE_END. */
        if (!is_last || !all_zero(r->p + at, STORE_HEADER)) {
            uint32_t size = le_u32(r->p + at);
            set_aside(r, at, size >= STORE_HEADER && size <= r->size - at ? at + size : at + STORE_HEADER, true);
        }
        return is_last ? at : r->size;
    }
    return at;
}

static bool is_header(const unsigned char *h)
{
    return !memcmp(h, MAGIC, 8) && le_u32(h + 56) == (uint32_t)XXH3_64bits(h, 56);
}

static int read_segment(struct store *s, uint64_t number, bool is_last, struct err *e)
{
    char name[32];
    struct stat st;
    name_of(number, name);
    AUTO_FD int fd = openat(s->dirfd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, -errno, "cannot open segment %s", name);
    AUTO_BUF struct buf b = {0};
    if (st.st_size > UINT32_MAX / 2)
        return err_set(e, ERR_FORMAT, "segment %s is larger than any that this program writes", name);
    int r = fd_read_all(fd, &b, UINT32_MAX / 2);
    if (r < 0)
        return err_sys(e, r, "cannot read segment %s", name);
    buf_reserve(&b, SEGMENT_HEADER);
    const unsigned char *h = (const unsigned char *)b.p;
    bool whole = b.n >= SEGMENT_HEADER && is_header(h);
    if (b.n >= SEGMENT_HEADER && !memcmp(h, MAGIC, 7) && h[7] > MAGIC[7] && le_u32(h + 56) == (uint32_t)XXH3_64bits(h, 56))
        return err_set(e, ERR_VERSION, "segment %s has format \"%.8s\", this program's is \"%s\"", name, b.p, MAGIC);
    bool sound = whole && le_u64(h + 8) == number && le_u64(h + 16) == b.n;
    if (!sound)
        add_damage(s, number, b.n, 'h');
    if (!sound)
        log_error("store_damaged", NULL, NULL, "segment %s: its header %s; its records are read all the same", name,
                  whole && le_u64(h + 8) == number ? "says another size: it was cut short or added to" : "is damaged");
    struct segment *seg = add_segment(s, number, fd_take(&fd), (uint32_t)b.n);
    struct reading rd = {s, h, (uint32_t)b.n, number, (int64_t)b.n * MAX_HASHINGS};
    uint32_t used = replay(&rd, is_last);
    /* A last segment that was cut short is not written to: what is there stays as it is. */
    seg->used = is_last && whole && le_u64(h + 16) == b.n ? used : (uint32_t)b.n;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(struct store *s, uint64_t **ret, size_t *ret_n, struct err *e)
{
    DIR *d = fd_open_dir(s->dirfd, ".");
    if (!d)
        return err_sys(e, -errno, "cannot list the broker's store");
    *ret = NULL;
    *ret_n = 0;
    for (struct dirent *ent; (ent = readdir(d));) {
        char *end;
        uint64_t number = strtoull(ent->d_name, &end, 16);
        if (end != ent->d_name + 16 || strcmp(end, ".seg") || !number)
            continue;
        *ret = xrealloc(*ret, (*ret_n + 1) * sizeof **ret);
        (*ret)[(*ret_n)++] = number;
    }
    closedir(d);
    if (*ret_n)
        qsort(*ret, *ret_n, sizeof **ret, by_number);
    return 0;
}

/* The salt is the same in all headers; one that is whole tells it. */
static uint64_t salt_of(struct store *s, const uint64_t *numbers, size_t n)
{
    unsigned char h[SEGMENT_HEADER];
    uint64_t salt;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        name_of(numbers[i], name);
        AUTO_FD int fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && pread(fd, h, sizeof h, 0) == (ssize_t)sizeof h && is_header(h))
            return le_u64(h + 24);
    }
    randombytes_buf(&salt, sizeof salt);
    return salt;
}

/* Segments go from the oldest on: none is missing between others, or behind the last. */
static void look_for(struct store *s, uint64_t number, uint64_t end)
{
    if (number == end)
        return;
    add_damage(s, number, end, 'm');
    log_error("store_damaged", NULL, NULL, "segments %016llx to %016llx are missing; everything else is kept",
              (unsigned long long)number, (unsigned long long)end - 1);
}

static int read_all(struct store *s, struct err *e)
{
    AUTO_FREE uint64_t *numbers = NULL;
    size_t n = 0;
    int r = list(s, &numbers, &n, e);
    if (r == 0)
        s->salt = salt_of(s, numbers, n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (i)
            look_for(s, numbers[i - 1] + 1, numbers[i]);
        r = read_segment(s, numbers[i], i + 1 == n, e);
    }
    s->next_number = n ? numbers[n - 1] + 1 : 1;
    if (s->ops.newest >= s->next_number) {
        look_for(s, s->next_number, s->ops.newest + 1);
        s->next_number = s->ops.newest + 1;
    }
    if (s->n)
        s->written = last(s)->used;
    return r;
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
    r = read_all(s, e);
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
