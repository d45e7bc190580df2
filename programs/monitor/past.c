/* The file: a header, then a slot for each app, as they lie in memory. A slot is reserved on the disk when it is first used, so
 * that writing to it cannot fail later. A point says by itself which step of the calendar it is of, so nothing tells where the ring
 * begins, a point that was half written when the program was killed is off by one figure, and what was written before a clock was
 * set back is taken for what it is.
 *
 * Whatever is in a file of ours is only ever shown; indices in it are not trusted. */
#include "past.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_FIGURES = 6, MAX_KEY = 136, HEADER_BYTES = 4096 };

struct point {
    uint32_t step, n; /* step: PAST_STEP_MS since the epoch; n: how many looks it is of */
    float v[N_FIGURES];
};

struct slot {
    char key[MAX_KEY]; /* TENANT/APP; "": free */
    uint32_t active;   /* the step in which something happened last */
    uint32_t n_decided;
    struct past_decision decisions[PAST_DECISIONS];
    struct point points[PAST_POINTS];
};

struct header {
    char magic[16];
    uint32_t slot_bytes, points, step_ms, n_slots;
};

static const char magic[16] = "simbdp past 1\n";

enum { MAP_BYTES = HEADER_BYTES + PAST_APPS * sizeof(struct slot) };

struct past {
    int fd; /* -1: in memory alone */
    char *map;
    size_t n; /* slots that are reserved */
};

static struct slot *slot_at(const struct past *p, size_t i)
{
    return (struct slot *)(void *)(p->map + HEADER_BYTES) + i;
}

static struct header *header_of(const struct past *p)
{
    return (struct header *)(void *)p->map;
}

/* ---- the file ---- */

static bool is_ours(const struct past *p, const struct stat *st)
{
    const struct header *h = header_of(p);
    return st->st_size >= HEADER_BYTES && !memcmp(h->magic, magic, sizeof magic) && h->slot_bytes == sizeof(struct slot) &&
           h->points == PAST_POINTS && h->step_ms == PAST_STEP_MS && h->n_slots <= PAST_APPS &&
           (size_t)st->st_size >= HEADER_BYTES + h->n_slots * sizeof(struct slot);
}

static int map_file(struct past *p, const char *path)
{
    struct stat st;
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
        return -EPERM;
    if (st.st_size < HEADER_BYTES) {
        int r = ftruncate(fd, 0) < 0 ? -errno : -posix_fallocate(fd, 0, HEADER_BYTES);
        if (r < 0)
            return r;
    }
    void *map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    p->map = map;
    p->fd = fd_take(&fd);
    if (is_ours(p, &st)) {
        p->n = header_of(p)->n_slots;
        return 0;
    }
    *header_of(p) = (struct header){.slot_bytes = sizeof(struct slot), .points = PAST_POINTS, .step_ms = PAST_STEP_MS};
    memcpy(header_of(p)->magic, magic, sizeof magic);
    return 0;
}

static void map_memory(struct past *p)
{
    p->map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->map == MAP_FAILED)
        p->map = NULL; /* nothing is kept */
}

struct past *past_open(const char *path, struct err *e)
{
    struct past *p = xcalloc(1, sizeof *p);
    p->fd = -1;
    int r = path ? map_file(p, path) : -ENOENT;
    if (r < 0 && path)
        err_sys(e, r, "cannot use %s", path);
    if (r < 0)
        map_memory(p);
    for (size_t i = 0; i < p->n; i++) {
        struct slot *s = slot_at(p, i);
        s->key[MAX_KEY - 1] = 0;
        for (int k = 0; k < PAST_DECISIONS; k++)
            s->decisions[k].reason[PAST_REASON - 1] = 0;
    }
    return p;
}

void past_close(struct past *p)
{
    if (!p)
        return;
    if (p->map)
        munmap(p->map, MAP_BYTES);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}

/* ---- slots ---- */

static bool make_key(const char *tenant, const char *app, char key[MAX_KEY])
{
    int n = snprintf(key, MAX_KEY, "%s/%s", tenant, app);
    return n > 0 && n < MAX_KEY;
}

static struct slot *find(const struct past *p, const char *key)
{
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp(slot_at(p, i)->key, key))
            return slot_at(p, i);
    return NULL;
}

/* One more. False: the disk has no room, or there are enough. */
static bool reserve(struct past *p)
{
    off_t from = (off_t)(HEADER_BYTES + p->n * sizeof(struct slot));
    if (p->n == PAST_APPS || !p->map || (p->fd >= 0 && posix_fallocate(p->fd, from, sizeof(struct slot)) != 0))
        return false;
    p->n++;
    if (p->fd >= 0)
        header_of(p)->n_slots = (uint32_t)p->n;
    return true;
}

static struct slot *take(struct past *p, const char *key)
{
    struct slot *s = find(p, ""), *oldest = p->n ? slot_at(p, 0) : NULL;
    if (!s && reserve(p))
        s = slot_at(p, p->n - 1);
    for (size_t i = 0; !s && i < p->n; i++)
        oldest = slot_at(p, i)->active < oldest->active ? slot_at(p, i) : oldest;
    s = s ? s : oldest;
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    snprintf(s->key, MAX_KEY, "%s", key);
    return s;
}

/* ---- what is kept ---- */

static uint32_t step_of(int64_t wall_ms)
{
    return (uint32_t)(wall_ms / PAST_STEP_MS);
}

static float most(float a, double b)
{
    return isnan(a) || b > (double)a ? (float)b : a;
}

static float mean(float a, double b, uint32_t n)
{
    return isnan(a) ? (float)b : isnan(b) ? a : a + (float)((b - (double)a) / n);
}

void past_add(struct past *p, const char *tenant, const char *app, int64_t wall_ms, const struct past_figures *f)
{
    const bool active = f->in_per_s > 0 || f->out_per_s > 0 || f->waiting > 0 || f->instances > 0;
    char key[MAX_KEY];
    if (!make_key(tenant, app, key))
        return;
    struct slot *s = find(p, key);
    if (!s && active)
        s = take(p, key);
    if (!s)
        return;
    struct point *q = &s->points[step_of(wall_ms) % PAST_POINTS];
    if (q->step != step_of(wall_ms) || !q->n)
        *q = (struct point){.step = step_of(wall_ms), .v = {NAN, NAN, NAN, NAN, NAN, NAN}};
    q->n++;
    q->v[0] = mean(q->v[0], f->in_per_s, q->n);
    q->v[1] = mean(q->v[1], f->out_per_s, q->n);
    q->v[2] = most(q->v[2], f->waiting);
    q->v[3] = most(q->v[3], f->oldest_age_s);
    q->v[4] = most(q->v[4], f->instances);
    q->v[5] = most(q->v[5], f->desired);
    if (active)
        s->active = step_of(wall_ms);
}

void past_decide(struct past *p, const char *tenant, const char *app, const struct past_decision *d)
{
    char key[MAX_KEY];
    struct slot *s = make_key(tenant, app, key) ? find(p, key) : NULL;
    if (!s && !(s = take(p, key)))
        return;
    s->decisions[s->n_decided++ % PAST_DECISIONS] = *d;
    s->active = step_of(d->at_wall_ms);
}

void past_forget(struct past *p, const char *tenant, const char *app)
{
    char key[MAX_KEY];
    struct slot *s = make_key(tenant, app, key) ? find(p, key) : NULL;
    if (s)
        memset(s, 0, sizeof *s);
}

void past_keep(struct past *p, const struct map *apps)
{
    for (size_t i = 0; i < p->n; i++)
        if (!map_get(apps, slot_at(p, i)->key))
            memset(slot_at(p, i), 0, sizeof(struct slot));
}

/* ---- showing ---- */

static void add_point(const struct point *q, struct buf *out)
{
    static const double digits = 1000;
    json_begin(out, NULL, '[');
    json_i64(out, NULL, (int64_t)q->step * (PAST_STEP_MS / 1000));
    for (int i = 0; i < N_FIGURES; i++)
        json_f64(out, NULL, round((double)q->v[i] * digits) / digits);
    json_end(out, ']');
}

static void add_points(const struct slot *s, uint32_t from, uint32_t until, struct buf *out)
{
    json_begin(out, "points", '[');
    for (uint32_t step = from; s && step <= until; step++) {
        const struct point *q = &s->points[step % PAST_POINTS];
        if (q->step == step && q->n)
            add_point(q, out);
    }
    json_end(out, ']');
}

static void add_decisions(const struct slot *s, int64_t since_ms, struct buf *out)
{
    json_begin(out, "decisions", '[');
    for (uint32_t i = 0; s && i < PAST_DECISIONS; i++) {
        const struct past_decision *d = &s->decisions[(s->n_decided + i) % PAST_DECISIONS];
        if (!d->at_wall_ms || d->at_wall_ms < since_ms)
            continue;
        json_begin(out, NULL, '{');
        json_time(out, "at", d->at_wall_ms);
        json_i64(out, "before", d->before);
        json_i64(out, "desired", d->desired);
        json_str(out, "reason", d->reason);
        json_end(out, '}');
    }
    json_end(out, ']');
}

void past_json(const struct past *p, const char *tenant, const char *app, int64_t since_ms, int64_t wall_ms, struct buf *out)
{
    const uint32_t until = step_of(wall_ms), oldest = until >= PAST_POINTS ? until - PAST_POINTS + 1 : 0,
                   since = since_ms > 0 ? step_of(since_ms) : 0;
    char key[MAX_KEY];
    const struct slot *s = make_key(tenant, app, key) ? find(p, key) : NULL;
    json_i64(out, "step_s", PAST_STEP_MS / 1000);
    add_points(s, since > oldest ? since : oldest, until, out);
    add_decisions(s, since_ms, out);
}
