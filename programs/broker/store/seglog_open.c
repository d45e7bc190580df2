/* Reading the log when it is opened, whatever happened to its files: what is whole is read, what is not is set aside and reported.
 */
#include "seglog_parts.h"

#include "base/fd.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_HASHINGS = 32 };

static void add_damage(struct seglog *s, uint64_t number, uint64_t at, char kind)
{
    uint64_t v[] = {number, at, (uint64_t)kind};
    s->damage += XXH3_64bits(v, sizeof v);
}

struct reading {
    struct seglog *s;
    const unsigned char *p;
    uint32_t size;
    uint64_t number;
    int64_t budget; /* bytes that may still be hashed: bytes that look like headers must not make reading quadratic */
};

static bool is_record(struct reading *r, uint32_t at)
{
    if (at + SEGLOG_HEADER > r->size)
        return false;
    const unsigned char *p = r->p + at;
    uint32_t size = le_u32(p);
    if (size < SEGLOG_HEADER || size > SEGLOG_MAX_RECORD || size > r->size - at || !p[8] || r->budget < size)
        return false;
    r->budget -= size;
    return le_u32(p + 4) == seglog_check_of(r->s, p, size, r->number);
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
static uint32_t read_records(struct reading *r, bool is_last)
{
    uint32_t at = SEGMENT_HEADER;
    while (at + SEGLOG_HEADER <= r->size) {
        if (is_record(r, at)) {
            uint32_t size = le_u32(r->p + at);
            struct seglog_pos pos = {r->number, at, size};
            if (r->p[at + 8] == SEGLOG_END)
                return r->size;
            r->s->ops.on_record(r->s->ops.arg, &pos, r->p[at + 8], r->p + at + SEGLOG_HEADER, size - SEGLOG_HEADER);
            at += segment_padded(size);
            continue;
        }
        uint32_t next = at + SEGMENT_ALIGN;
        while (next + SEGLOG_HEADER <= r->size && !is_record(r, next))
            next += SEGMENT_ALIGN;
        bool more = next + SEGLOG_HEADER <= r->size;
        if (more) {
            set_aside(r, at, next, false);
            at = next;
            continue;
        }
        /* Nothing follows: the end, unless somebody wrote there. A segment that is not the last ends with SEGLOG_END. */
        if (!is_last || !all_zero(r->p + at, SEGLOG_HEADER)) {
            uint32_t size = le_u32(r->p + at);
            set_aside(r, at, size >= SEGLOG_HEADER && size <= r->size - at ? at + size : at + SEGLOG_HEADER, true);
        }
        return is_last ? at : r->size;
    }
    return at;
}

static int read_segment(struct seglog *s, uint64_t number, bool is_last, struct err *e)
{
    char name[SEGMENT_NAME];
    struct stat st;
    segment_name_of(number, name);
    AUTO_FD int fd = openat(s->dirfd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, -errno, "cannot open segment %s", name);
    AUTO_BUF struct buf b = {0};
    /* What the last one has may not be on the disk yet, and is told to be there from here on; or, behind a failed sync, never come
     * there, and be in the kernel's memory alone. */
    if (is_last && fdatasync(fd) < 0)
        return err_sys(e, -errno, "cannot sync segment %s", name);
    if (is_last)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (st.st_size > UINT32_MAX / 2)
        return err_set(e, ERR_FORMAT, "segment %s is larger than any that this program writes", name);
    int r = fd_read_all(fd, &b, UINT32_MAX / 2);
    if (r == -EIO)
        return err_sys(e, r, "cannot read segment %s (" SEGMENT_RESCUE ")", name);
    if (r < 0)
        return err_sys(e, r, "cannot read segment %s", name);
    buf_reserve(&b, SEGMENT_HEADER);
    const unsigned char *h = (const unsigned char *)b.p;
    bool whole = b.n >= SEGMENT_HEADER && segment_is_header(h);
    if (b.n >= SEGMENT_HEADER && segment_is_newer(h))
        return err_set(e, ERR_VERSION, "segment %s has format \"%.8s\", this program's is \"%s\"", name, b.p, SEGMENT_MAGIC);
    bool sound = whole && le_u64(h + 8) == number && le_u64(h + 16) == b.n;
    if (!sound)
        add_damage(s, number, b.n, 'h');
    if (!sound)
        log_error("store_damaged", NULL, NULL, "segment %s: its header %s; its records are read all the same", name,
                  whole && le_u64(h + 8) == number ? "says another size: it was cut short or added to" : "is damaged");
    struct segment *seg = seglog_add_segment(s, number, fd_take(&fd), (uint32_t)b.n);
    struct reading rd = {s, h, (uint32_t)b.n, number, (int64_t)b.n * MAX_HASHINGS};
    uint32_t used = read_records(&rd, is_last);
    /* A last segment that was cut short is not written to: what is there stays as it is. */
    seg->used = is_last && whole && le_u64(h + 16) == b.n ? used : (uint32_t)b.n;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(struct seglog *s, uint64_t **ret, size_t *ret_n, struct err *e)
{
    DIR *d = fd_open_dir(s->dirfd, ".");
    if (!d)
        return err_sys(e, -errno, "cannot list the broker's store");
    *ret = NULL;
    *ret_n = 0;
    int r = 0;
    for (struct dirent *ent; (ent = fd_next_name(d, &r));) {
        char *end;
        uint64_t number = strtoull(ent->d_name, &end, 16);
        if (end != ent->d_name + 16 || strcmp(end, ".seg") || !number)
            continue;
        *ret = xgrow(*ret, *ret_n, sizeof **ret);
        (*ret)[(*ret_n)++] = number;
    }
    closedir(d);
    if (*ret_n)
        qsort(*ret, *ret_n, sizeof **ret, by_number);
    return r < 0 ? err_sys(e, r, "cannot list the broker's store") : 0;
}

/* The salt is the same in all headers: any that is whole has it. */
static uint64_t salt_of(struct seglog *s, const uint64_t *numbers, size_t n)
{
    unsigned char h[SEGMENT_HEADER];
    uint64_t salt;
    for (size_t i = 0; i < n; i++) {
        char name[SEGMENT_NAME];
        segment_name_of(numbers[i], name);
        AUTO_FD int fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && pread(fd, h, sizeof h, 0) == (ssize_t)sizeof h && segment_is_header(h))
            return le_u64(h + 24);
    }
    randombytes_buf(&salt, sizeof salt);
    return salt;
}

/* Segments are only ever removed from the oldest on, so any other that is not there is missing. */
static void look_for(struct seglog *s, uint64_t number, uint64_t end)
{
    if (number == end)
        return;
    add_damage(s, number, end, 'm');
    log_error("store_damaged", NULL, NULL, "segments %016llx to %016llx are missing; everything else is kept",
              (unsigned long long)number, (unsigned long long)end - 1);
}

int seglog_read_all(struct seglog *s, struct err *e)
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
        s->written = s->segments[s->n - 1].used;
    return r;
}
