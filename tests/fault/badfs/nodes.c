/* Which bytes are durable. DURABLE/obj has them by inode number; what was written since the last sync is kept in its order. */
#include "badfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_BUCKETS = 65536 };

static struct node *by_id[N_BUCKETS], *by_live[N_BUCKETS];
static uint64_t newest;

struct node *node_of_id(uint64_t id)
{
    for (struct node *n = by_id[id % N_BUCKETS]; n; n = n->next_id)
        if (n->id == id)
            return n;
    return NULL;
}

struct node *node_of_live(ino_t ino)
{
    for (struct node *n = by_live[ino % N_BUCKETS]; n; n = n->next_live)
        if (n->live == ino)
            return n;
    return NULL;
}

static struct node *add(const struct stat *st, uint64_t id)
{
    struct node *n = need(calloc(1, sizeof *n)), *old = node_of_live(st->st_ino);
    if (old)
        node_is_gone(old);
    *n = (struct node){
        .id = id, .live = st->st_ino, .st = *st, .next_id = by_id[id % N_BUCKETS], .next_live = by_live[st->st_ino % N_BUCKETS]};
    n->last = &n->first;
    by_id[id % N_BUCKETS] = by_live[st->st_ino % N_BUCKETS] = n;
    newest = id > newest ? id : newest;
    return n;
}

struct node *node_known(const struct stat *st, uint64_t id)
{
    struct node *n = node_of_live(st->st_ino);
    return n ? n : add(st, id ? id : st->st_ino);
}

struct node *node_born(const struct stat *st)
{
    struct node *n = add(st, newest + 1);
    n->changed = n->reallocated = true;
    return n;
}

void node_is_gone(struct node *n)
{
    struct node **at = &by_live[n->live % N_BUCKETS];
    while (*at != n)
        at = &(*at)->next_live;
    *at = n->next_live;
    n->live = 0;
}

void nodes_each(void (*fn)(struct node *n))
{
    for (int i = 0; i < N_BUCKETS; i++)
        for (struct node *n = by_id[i]; n; n = n->next_id)
            fn(n);
}

static void path_of(const struct node *n, char out[64])
{
    snprintf(out, 64, "obj/%llu", (unsigned long long)n->id);
}

int node_object(const struct node *n, int flags)
{
    char path[64];
    path_of(n, path);
    int fd = openat(durable, path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    return fd;
}

void node_share(struct node *n, int dir, const char *name)
{
    char path[64];
    path_of(n, path);
    if (!n->has_object && linkat(dir, name, durable, path, 0) < 0)
        abort();
    n->has_object = n->is_shared = true;
    n->seen = n->st.st_size;
}

static void copy(int from, int to)
{
    static char buf[1 << 20];
    ssize_t n;
    for (off_t at = 0; (n = pread(from, buf, sizeof buf, at)) > 0; at += n)
        if (pwrite(to, buf, (size_t)n, at) != n)
            abort();
}

void node_unshare(struct node *n)
{
    char path[64];
    if (!n->is_shared)
        return;
    path_of(n, path);
    int from = node_object(n, O_RDONLY);
    if (unlinkat(durable, path, 0) < 0)
        abort();
    int to = node_object(n, O_RDWR | O_CREAT);
    copy(from, to);
    close(from);
    close(to);
    n->is_shared = false;
}

static struct write *note(struct node *n, int kind, off_t at, off_t size)
{
    struct write *w = need(calloc(1, sizeof *w));
    *w = (struct write){.kind = kind, .at = at, .n = size};
    *n->last = w;
    n->last = &w->next;
    n->changed = true;
    return w;
}

void node_wrote(struct node *n, const void *bytes, off_t at, off_t size)
{
    n->reallocated |= at + size > n->seen;
    n->seen = at + size > n->seen ? at + size : n->seen;
    memcpy(note(n, WRITE, at, size)->bytes = need(malloc((size_t)size + 1)), bytes, (size_t)size);
}

void node_truncated(struct node *n, off_t size)
{
    off_t was = n->seen;
    n->reallocated |= size != was;
    n->seen = size;
    if (size < was)
        note(n, TRUNCATE, size, 0);
    else
        note(n, EXTEND, was, size - was);
}

void node_extended(struct node *n, off_t size)
{
    n->reallocated = true;
    if (size > n->seen)
        note(n, EXTEND, n->seen, size - n->seen);
    n->seen = size > n->seen ? size : n->seen;
}

static void put(int fd, const struct write *w)
{
    struct stat st;
    if (w->kind == WRITE      ? pwrite(fd, w->bytes, (size_t)w->n, w->at) != w->n
        : w->kind == TRUNCATE ? ftruncate(fd, w->at) < 0
                              : fstat(fd, &st) < 0 || (st.st_size < w->at + w->n && ftruncate(fd, w->at + w->n) < 0))
        abort();
}

static void forget(struct node *n)
{
    for (struct write *w = n->first; w;) {
        struct write *next = w->next;
        free(w->bytes);
        free(w);
        w = next;
    }
    n->first = NULL;
    n->last = &n->first;
}

void node_settle(struct node *n)
{
    if (!S_ISREG(n->st.st_mode) || (!n->first && n->has_object))
        return;
    int fd = node_object(n, O_RDWR | O_CREAT);
    for (const struct write *w = n->first; w; w = w->next)
        put(fd, w);
    close(fd);
    forget(n);
    n->has_object = true;
}

void node_lose(struct node *n, int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int to = n->first && control->evict ? open(path, O_RDWR | O_CLOEXEC) : -1,
        from = n->has_object && to >= 0 ? node_object(n, O_RDONLY) : -1;
    for (const struct write *w = n->first; w && to >= 0; w = w->next) {
        if (w->kind != WRITE)
            continue;
        char *bytes = need(calloc(1, (size_t)w->n + 1));
        if ((from >= 0 && pread(from, bytes, (size_t)w->n, w->at) < 0) || pwrite(to, bytes, (size_t)w->n, w->at) != w->n)
            abort();
        free(bytes);
    }
    if (to >= 0)
        close(to);
    if (from >= 0)
        close(from);
    forget(n);
}

/* -- what a cut may leave */

/* The first `n` writes that touch the block at `at`. The last of them may be torn: only its first sectors are there. */
static void put_block(int fd, const struct write *from, const struct write *end, off_t at, unsigned n)
{
    bool torn = chance(4) == 0;
    off_t cut = at + (off_t)chance(BLOCK / SECTOR) * SECTOR;
    for (const struct write *w = from; w != end && n > 0; w = w->next) {
        off_t a = w->at > at ? w->at : at, b = w->at + w->n < at + BLOCK ? w->at + w->n : at + BLOCK;
        if (w->kind != WRITE || a >= b)
            continue;
        if (--n == 0 && torn && b > cut)
            b = cut;
        if (a < b && pwrite(fd, w->bytes + (a - w->at), (size_t)(b - a), a) != b - a)
            abort();
    }
}

static unsigned touching(const struct write *from, const struct write *end, off_t at)
{
    unsigned n = 0;
    for (const struct write *w = from; w != end; w = w->next)
        n += w->kind == WRITE && w->at < at + BLOCK && w->at + w->n > at;
    return n;
}

/* Between two truncations blocks are written in any order. */
static void keep_between(int fd, const struct write *from, const struct write *end)
{
    off_t lo = INT64_MAX, hi = 0;
    for (const struct write *w = from; w != end; w = w->next) {
        lo = w->at < lo ? w->at : lo;
        hi = w->at + w->n > hi ? w->at + w->n : hi;
        if (w->kind == EXTEND && chance(2))
            put(fd, w);
    }
    unsigned share = chance(3); /* of all, of half, of few */
    for (off_t at = lo / BLOCK * BLOCK; lo < hi && at < hi; at += BLOCK) {
        unsigned n = touching(from, end, at);
        if (n && chance(4) > share)
            put_block(fd, from, end, at, 1 + chance(n));
    }
}

void node_keep_some(struct node *n)
{
    if (!S_ISREG(n->st.st_mode) || !n->first)
        return;
    int fd = node_object(n, O_RDWR | O_CREAT);
    const struct write *from = n->first;
    for (const struct write *w = from;; w = w->next) {
        if (w && w->kind != TRUNCATE)
            continue;
        keep_between(fd, from, w);
        if (!w || chance(2)) /* what is written behind a truncation is there only when that is */
            break;
        put(fd, w);
        from = w->next;
    }
    close(fd);
    n->has_object = true;
}
