/* A tenant's streams as a file (moves.h), in parts: between two of them the loop serves others. Nothing is kept from one part to
 * the next but what the caller has, so nothing is to be ended where he goes away. */
#include "moves_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define AT_END UINT64_MAX

struct exporting {
    struct buf *out;
    struct export_at *at;
};

static void put(struct exporting *x, int type, const void *p, size_t n)
{
    unsigned char h[MOVES_HEADER] = {0};
    const size_t at = x->out->n;
    le_set_u32(h, (uint32_t)(MOVES_HEADER + n));
    h[8] = (unsigned char)type;
    buf_add(x->out, h, sizeof h);
    buf_add(x->out, p, n);
    unsigned char *made = (unsigned char *)x->out->p + at;
    le_set_u32(made + 4, moves_check_of(made, MOVES_HEADER + n, x->at->record++));
}

/* A body of the log's, with `of` for the number that it begins with. */
static void put_body(struct exporting *x, int type, struct buf *b, uint32_t of)
{
    le_set_u32((unsigned char *)b->p, of);
    put(x, type, b->p, b->n);
    b->n = 0;
}

static void put_head(struct exporting *x, struct stream *st, const char *name)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, MOVES_OF_STREAM);
    le_add_u32(&b, (uint32_t)strlen(name));
    le_add_u64(&b, st->next_seq);
    buf_add(&b, stream_epoch(st), EPOCH_BYTES);
    buf_adds(&b, name);
    put(x, REC_STREAM, b.p, b.n);
    b.n = 0;
    epochs_record(st, &b);
    put_body(x, REC_EPOCHS, &b, MOVES_OF_STREAM);
    gaps_record(st, &b);
    put_body(x, REC_GAPS, &b, MOVES_OF_STREAM);
}

static void put_end(struct exporting *x, struct stream *st, uint32_t note)
{
    AUTO_BUF struct buf b = {0};
    publishers_record(st, &b);
    put_body(x, REC_PUBLISHERS, &b, MOVES_OF_STREAM);
    tally_record(&st->tally, MOVES_OF_STREAM, &b);
    put_body(x, REC_TALLY, &b, MOVES_OF_STREAM);
    for (size_t i = 0; i < st->n_subs; i++) {
        sub_record(st->subs[i], &b);
        le_set_u32((unsigned char *)b.p + 4, MOVES_OF_STREAM);
        put_body(x, REC_SUB, &b, MOVES_OF_SUB);
        tally_record(&st->subs[i]->tally, MOVES_OF_SUB, &b);
        put_body(x, REC_TALLY, &b, MOVES_OF_SUB);
    }
    le_add_u32(&b, MOVES_OF_STREAM);
    le_add_u32(&b, note);
    put(x, MOVES_STREAM_END, b.p, b.n);
}

/* ---- messages ---- */

static bool put_record(struct exporting *x, struct stream *st, int type, const struct seglog_pos *at)
{
    AUTO_FREE unsigned char *room = xmalloc(at->size);
    const unsigned char *p = at->segment ? seglog_read(st->all->log, at, room) : NULL;
    if (!p)
        return false;
    le_set_u32(room + (p - room), MOVES_OF_STREAM);
    put(x, type, p, at->size - SEGLOG_HEADER);
    return true;
}

static void put_extent(struct exporting *x, struct stream *st, const struct extent *v)
{
    struct seglog_pos traces;
    if (!put_record(x, st, REC_MESSAGES, &v->at)) {
        log_error("message_damaged", NULL, NULL,
                  "stream %s: messages %" PRIu64 " to %" PRIu64 " cannot be read from the disk any more, and do not go along",
                  st->name, v->first, extent_last(v));
        return;
    }
    if (traces_at(st, v->first, &traces))
        put_record(x, st, REC_TRACES, &traces);
}

static void put_messages(struct exporting *x, struct stream *st, size_t max)
{
    const struct extent *v;
    const size_t from = x->out->n;
    while (x->out->n - from < max && (v = stream_extent_at(st, x->at->seq))) {
        put_extent(x, st, v);
        x->at->seq = extent_last(v) + 1;
    }
    if (x->out->n - from < max)
        x->at->seq = AT_END;
}

/* ---- streams ---- */

/* The tenant's first stream behind this name; and how many he has. */
static struct stream *stream_behind(const struct streams *all, const char *tenant, const char *name, uint32_t *ret_n)
{
    size_t i = 0;
    struct stream *found = NULL;
    const char *least = NULL;
    *ret_n = 0;
    for (struct stream *st; (st = map_next(&all->streams, &i));) {
        const char *own = moves_name_in(st->name, tenant);
        *ret_n += own != NULL;
        if (own && strcmp(own, name) > 0 && (!least || strcmp(own, least) < 0)) {
            found = st;
            least = own;
        }
    }
    return found;
}

static struct stream *stream_of(struct streams *all, const char *tenant, const char *name)
{
    AUTO_FREE char *full = xasprintf("%s/%s", tenant, name);
    return streams_find(all, full);
}

/* The next stream, or the end. */
static int go_on(struct exporting *x, struct streams *all, const char *tenant, struct err *e)
{
    uint32_t n;
    struct stream *st = stream_behind(all, tenant, x->at->stream, &n);
    if (st && st->mirror)
        return err_set(e, ERR_REFUSED, "stream %s is kept in Kafka; take `store` out of its configuration first, and let it move",
                       st->name);
    if (st) {
        snprintf(x->at->stream, sizeof x->at->stream, "%s", moves_name_in(st->name, tenant));
        x->at->seq = 1;
        put_head(x, st, x->at->stream);
        return 0;
    }
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, 0);
    le_add_u32(&b, n);
    put(x, MOVES_END, b.p, b.n);
    x->at->end = true;
    return 0;
}

int export_part(struct streams *all, const char *tenant, struct export_at *at, size_t max,
                uint32_t (*note)(const struct stream *st), struct buf *out, struct err *e)
{
    struct exporting x = {out, at};
    struct stream *st = *at->stream ? stream_of(all, tenant, at->stream) : NULL;
    if (*at->stream && !st)
        return err_refuse(e, "not_found", 0, "tenant %s has no stream \"%.64s\"", tenant, at->stream);
    if (!at->record)
        buf_add(out, MOVES_MAGIC, 8);
    if (st && at->seq != AT_END) {
        put_messages(&x, st, max);
        return 0;
    }
    if (st) {
        put_end(&x, st, note(st));
        at->seq = 0;
    }
    return go_on(&x, all, tenant, e);
}
