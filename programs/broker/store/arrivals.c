/* Streams that were loaded and are nobody's yet. In the log they are streams with a name that no configuration has; a broker of an
 * earlier version sees them as such, and serves them to nobody.
 *
 *   REC_WHOLE    stream, note        it was loaded to its end; also where a segment begins
 *   REC_SETTLED  0, n, streams       they have their names from here on. A segment that begins later has them, too
 *
 * They have no marks (marks.h): what of them is damaged is found when they are settled. */
#include "moves_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

const char *moves_name_in(const char *name, const char *tenant)
{
    const size_t n = strlen(tenant);
    return !strncmp(name, tenant, n) && name[n] == '/' ? name + n + 1 : NULL;
}

bool arrivals_is_name(const char *name)
{
    return *name == ARRIVING_MARK;
}

struct map *arrivals_map_of(struct streams *all, const char *name)
{
    return arrivals_is_name(name) ? &all->arriving : &all->streams;
}

/* The next one of the tenant's from *i on. */
static struct stream *next_of(const struct streams *all, const char *tenant, size_t *i)
{
    for (struct stream *st; (st = map_next(&all->arriving, i));)
        if (moves_name_in(st->name + 1, tenant))
            return st;
    return NULL;
}

void arrivals_each(struct streams *all, const char *tenant, void (*fn)(void *arg, const char *name, uint32_t note), void *arg)
{
    size_t i = 0;
    for (const struct stream *st; (st = next_of(all, tenant, &i));)
        fn(arg, moves_name_in(st->name + 1, tenant), st->note);
}

void arrivals_drop(struct streams *all, const char *tenant)
{
    size_t i = 0;
    for (struct stream *st; (st = next_of(all, tenant, &i)); i = 0)
        streams_drop(all, st);
}

/* ---- what is written down ---- */

void arrivals_whole_record(const struct stream *st, struct buf *out)
{
    le_add_u32(out, st->id);
    le_add_u32(out, st->note);
}

bool arrivals_load_whole(struct stream *st, const unsigned char *p, size_t n)
{
    uint32_t note;
    if (!take_u32(&p, &n, &note))
        return false;
    st->note = note;
    st->whole = true;
    return true;
}

void arrivals_take_name(struct stream *st)
{
    struct streams *all = st->all;
    struct stream *old = streams_find(all, st->name + 1);
    if (old)
        streams_drop(all, old);
    map_remove(&all->arriving, st->name);
    memmove(st->name, st->name + 1, strlen(st->name));
    map_put(&all->streams, st->name, st);
    st->whole = false;
}

bool arrivals_load_settled(struct streams *all, const unsigned char *p, size_t n)
{
    uint32_t n_ids, id;
    if (!take_u32(&p, &n, &n_ids) || n != n_ids * sizeof id)
        return false;
    while (take_u32(&p, &n, &id)) {
        struct stream *st = streams_by_id(all, 's', id);
        if (st && arrivals_is_name(st->name))
            arrivals_take_name(st);
    }
    return true;
}

/* ---- settling ---- */

static int check(const struct streams *all, const char *tenant, struct err *e)
{
    size_t i = 0;
    for (const struct stream *st; (st = next_of(all, tenant, &i));) {
        const struct stream *old = map_get(&all->streams, st->name + 1);
        if (!st->whole)
            return err_set(e, ERR_REFUSED, "stream %s did not arrive to its end; import it again", st->name + 1);
        if (old && !stream_is_pristine(old))
            return err_set(e, ERR_REFUSED, "there is a stream %s already, and something was published to it", old->name);
    }
    return 0;
}

/* As at a start (streams_open, recover.c). */
static void wake(struct stream *st)
{
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(st, &i));)
        sub_recovered(s);
    st->look_at_kept = true;
    stream_trim_kept(st);
    if (gaps_count(st))
        st->unsaved = st->all->unsaved = true;
    stream_touch(st);
    for (i = 0; i < st->n_subs; i++)
        sub_touch(st->subs[i]);
}

int arrivals_settle(struct streams *all, const char *tenant, struct err *e)
{
    AUTO_BUF struct buf ids = {0}, b = {0};
    size_t i = 0;
    int r = check(all, tenant, e);
    if (r < 0)
        return r;
    for (const struct stream *st; (st = next_of(all, tenant, &i));)
        le_add_u32(&ids, st->id);
    const uint32_t n = (uint32_t)(ids.n / sizeof(uint32_t));
    if (!n)
        return 0;
    le_add_u32(&b, 0);
    le_add_u32(&b, n);
    buf_add(&b, ids.p, ids.n);
    r = seglog_append(all->log, REC_SETTLED, &(struct iovec){b.p, b.n}, 1, true, NULL);
    if (r < 0)
        return err_sys(e, r, "the broker's store has no room");
    for (i = 0; i < n; i++) {
        struct stream *st = streams_by_id(all, 's', le_u32((const unsigned char *)ids.p + i * sizeof(uint32_t)));
        arrivals_take_name(st);
        wake(st);
    }
    return (int)n;
}
