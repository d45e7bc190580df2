/* A day is remembered when lines of an hour behind its end were read, since then none of it comes again (stream_log.c), by the name
 * of the tenant, its day, and which directory that was: a tenant of the same name may come after a purge. */
#include "stream_days.h"

#include "base/clk.h"
#include "base/map.h"
#include "base/mem.h"
#include "host/stream_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DAY_MS = 86400000, ASK_EVERY = 1000 /* lines */, MAX_DAYS = 10000 /* remembered: 1.5 MB */ };

struct stream_days {
    struct map known; /* key_of -> struct sums */
};

struct sums {
    int64_t messages_done, bytes, rows, messages_dead, messages, messages_refused;
    double message_ms;
};

struct adding {
    struct sums sums;
    bool (*go_on)(void *arg);
    void *arg;
    int64_t n;
};

static bool add_interval(void *arg, const struct stream_interval *v, int sign)
{
    struct adding *a = arg;
    struct sums *s = &a->sums;
    if (v->of_app) {
        s->messages_done += sign * v->messages;
        s->message_ms += sign * v->ms;
        s->bytes += sign * v->bytes;
        s->rows += sign * v->rows;
        s->messages_dead += sign * v->dead;
    } else {
        s->messages += sign * v->messages;
        s->messages_refused += sign * v->refused;
    }
    return !a->go_on || a->n++ % ASK_EVERY || a->go_on(a->arg);
}

static void add_sums(struct tenant_stats *f, const struct sums *s)
{
    f->messages_done += s->messages_done;
    f->message_ms += s->message_ms;
    f->bytes += s->bytes;
    f->rows += s->rows;
    f->messages_dead += s->messages_dead;
    f->messages += s->messages;
    f->messages_refused += s->messages_refused;
}

/* ---- what is remembered ---- */

static void forget(struct stream_days *d)
{
    size_t i = 0;
    for (void *v; (v = map_next(&d->known, &i));)
        free(v);
    map_fini(&d->known);
}

struct stream_days *stream_days_new(void)
{
    return xcalloc(1, sizeof(struct stream_days));
}

void stream_days_free(struct stream_days *d)
{
    if (!d)
        return;
    forget(d);
    free(d);
}

static char *key_of(const struct statx *st, const char *tenant, int64_t day)
{
    return xasprintf("%s/%lld/%llu/%lld.%u", tenant, (long long)day, (unsigned long long)st->stx_ino,
                     (long long)st->stx_btime.tv_sec, st->stx_btime.tv_nsec);
}

static void remember(struct stream_days *d, const char *key, const struct sums *s)
{
    struct sums *copy = xmalloc(sizeof *copy);
    if (d->known.n >= MAX_DAYS)
        forget(d);
    *copy = *s;
    map_put(&d->known, key, copy);
}

/* ---- reading ---- */

/* As stream_log_between. */
static int read_part(const struct home *h, const char *tenant, const struct stretch *when, struct adding *a, struct tenant_stats *f,
                     struct err *e)
{
    a->sums = (struct sums){0};
    int r = stream_log_between(h->dirfd, tenant, when->since_ms, when->until_ms, add_interval, a);
    if (r == -ECANCELED)
        return err_set(e, -ETIMEDOUT, "reading the journal of the tenant's streams takes too long");
    if (r < 0)
        return err_sys(e, r, "cannot read the journal of streams in logs/tenants/%s", tenant);
    add_sums(f, &a->sums);
    return r;
}

/* What is of another directory behind the reading is not remembered. */
static int add_day(struct stream_days *d, const struct home *h, const char *tenant, int64_t day, struct adding *a,
                   struct tenant_stats *f, struct err *e)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s", tenant);
    struct statx st;
    if (statx(h->dirfd, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot read %s", path);
    AUTO_FREE char *key = key_of(&st, tenant, day);
    const struct sums *known = map_get(&d->known, key);
    if (known) {
        add_sums(f, known);
        return 0;
    }
    int r = read_part(h, tenant, &(struct stretch){day * DAY_MS, (day + 1) * DAY_MS}, a, f, e);
    if (r <= 0 || statx(h->dirfd, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &st) < 0)
        return r;
    AUTO_FREE char *now = key_of(&st, tenant, day);
    if (!strcmp(now, key))
        remember(d, key, &a->sums);
    return 0;
}

int stream_days_add(struct stream_days *d, const struct home *h, const char *tenant, const struct stretch *when,
                    bool (*go_on)(void *arg), void *arg, struct tenant_stats *f, struct err *e)
{
    struct adding a = {.go_on = go_on, .arg = arg};
    struct stretch left = *when;
    const int64_t today = clk_day(clk_wall_ms());
    int r = 0;
    while (d && r == 0 && left.since_ms % DAY_MS == 0 && left.until_ms - left.since_ms >= DAY_MS &&
           left.since_ms / DAY_MS < today) {
        r = add_day(d, h, tenant, left.since_ms / DAY_MS, &a, f, e);
        left.since_ms += DAY_MS;
    }
    if (r == 0 && left.since_ms < left.until_ms)
        r = read_part(h, tenant, &left, &a, f, e);
    return r < 0 ? r : 0;
}
