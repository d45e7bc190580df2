#include "marks.h"

#include "base/fd.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MAX_BYTES = 256 << 20, NAME_AT = 48 };

struct marks {
    int fd;
    struct mark *v;
    uint32_t n, cap;
    unsigned char identity[MARK_EPOCH];
    bool original, written, grown, told;
};

static void encode(const struct mark *v, uint32_t slot, unsigned char out[MARK_SLOT])
{
    memset(out, 0, MARK_SLOT);
    out[8] = (unsigned char)v->kind;
    le_set_u32(out + 12, v->of);
    le_set_u64(out + 16, v->next);
    le_set_u64(out + 24, v->more);
    memcpy(out + 32, v->epoch, MARK_EPOCH);
    memcpy(out + NAME_AT, v->name, strnlen(v->name, MARK_NAME - 1));
    le_set_u64(out, XXH3_64bits_withSeed(out + 8, MARK_SLOT - 8, slot));
}

static struct mark decode(const unsigned char p[MARK_SLOT], uint32_t slot)
{
    struct mark v = {0};
    if (le_u64(p) != XXH3_64bits_withSeed(p + 8, MARK_SLOT - 8, slot) || p[8] > MARK_FILE)
        return v;
    v = (struct mark){.kind = p[8], .of = le_u32(p + 12), .next = le_u64(p + 16), .more = le_u64(p + 24)};
    memcpy(v.epoch, p + 32, MARK_EPOCH);
    memcpy(v.name, p + NAME_AT, MARK_NAME - 1);
    return v;
}

static void identify(int fd, unsigned char out[MARK_EPOCH])
{
    struct statx st = {0};
    statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st);
    le_set_u64(out, st.stx_ino);
    le_set_u64(out + 8, (uint64_t)st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec);
}

static void grow(struct marks *m)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->v = xrealloc(m->v, m->cap * sizeof *m->v);
    }
    m->v[m->n++] = (struct mark){0};
}

struct marks *marks_open(int fd)
{
    AUTO_BUF struct buf b = {0};
    struct marks *m = xcalloc(1, sizeof *m);
    m->fd = fd;
    grow(m);
    if (fd < 0)
        return m;
    identify(fd, m->identity);
    if (fd_read_all(fd, &b, MAX_BYTES) < 0)
        b.n = 0;
    for (uint32_t i = 0; i < b.n / MARK_SLOT; i++) {
        if (i == m->n)
            grow(m);
        m->v[i] = decode((const unsigned char *)b.p + (size_t)i * MARK_SLOT, i);
    }
    m->original = m->v[0].kind == MARK_FILE && !memcmp(m->v[0].epoch, m->identity, MARK_EPOCH);
    return m;
}

void marks_close(struct marks *m)
{
    if (!m)
        return;
    if (m->fd >= 0)
        close(m->fd);
    free(m->v);
    free(m);
}

const struct mark *marks_at(const struct marks *m, uint32_t slot)
{
    return slot < m->n ? &m->v[slot] : NULL;
}

bool marks_are_original(const struct marks *m)
{
    return m->original;
}

uint64_t marks_newest_segment(const struct marks *m)
{
    return m->v[0].kind == MARK_FILE ? m->v[0].next : 0;
}

uint64_t marks_known_damage(const struct marks *m)
{
    return m->original ? m->v[0].more : 0;
}

/* A mark that cannot be written counts as missing: the next start begins new epochs, and nothing worse happens. */
static void write_slot(struct marks *m, uint32_t slot)
{
    unsigned char p[MARK_SLOT];
    if (m->fd < 0)
        return;
    encode(&m->v[slot], slot, p);
    ssize_t n = pwrite(m->fd, p, sizeof p, (off_t)slot * MARK_SLOT);
    if (n != sizeof p && !m->told)
        log_warn("marks", NULL, NULL, "cannot write state/broker.mark: %s", n < 0 ? strerror(errno) : "no space");
    m->told = n != sizeof p;
    m->written = true;
}

static uint32_t free_slot(struct marks *m)
{
    for (uint32_t i = 1; i < m->n; i++)
        if (m->v[i].kind == MARK_NONE)
            return i;
    grow(m);
    return m->n - 1;
}

uint32_t marks_put(struct marks *m, uint32_t slot, const struct mark *v)
{
    if (!slot) {
        slot = free_slot(m);
        m->grown = true;
    } else if (!memcmp(&m->v[slot], v, sizeof *v)) {
        return slot;
    }
    m->v[slot] = *v;
    write_slot(m, slot);
    return slot;
}

void marks_drop(struct marks *m, uint32_t slot)
{
    if (!slot || slot >= m->n)
        return;
    m->v[slot] = (struct mark){0};
    write_slot(m, slot);
}

static void put_file(struct marks *m, uint64_t newest_segment, uint64_t damage)
{
    uint64_t known = marks_newest_segment(m);
    m->v[0] = (struct mark){.kind = MARK_FILE, .next = newest_segment > known ? newest_segment : known, .more = damage};
    memcpy(m->v[0].epoch, m->identity, MARK_EPOCH);
    write_slot(m, 0);
}

void marks_vouch(struct marks *m, uint64_t newest_segment, uint64_t damage)
{
    put_file(m, newest_segment, damage);
    m->original = true;
    marks_sync(m);
}

void marks_push(struct marks *m, uint64_t newest_segment)
{
    if (m->fd < 0)
        return;
    if (newest_segment > m->v[0].next)
        put_file(m, newest_segment, m->v[0].more);
    if (m->grown)
        marks_sync(m);
    else if (m->written) /* no wait, and no flush: the next sync of the log takes it to the disk */
        sync_file_range(m->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    m->written = false;
}

void marks_sync(struct marks *m)
{
    if (m->fd >= 0 && fdatasync(m->fd) < 0 && !m->told)
        log_warn("marks", NULL, NULL, "cannot sync state/broker.mark: %s", strerror(errno));
    m->grown = m->written = false;
}
