/* The tenant is held in the ledger before any of this (programs/batchmgr/moving.h), so nothing of it is published or delivered.
 * Then
 *
 *   move_hold      what its consumers hold is given back, none can be there from now on, and the journals have what was counted:
 * the streams *stand still*. A broker that starts anew does not know that any more, and refuses move_export move_export    a part
 * of them as a file (store/moves.h): who asks comes again for the next one move_import    the other home's: from
 * state/moves/TENANT.streams, which the keeper opens, in parts, a step of the loop each. Who asked goes away: what was loaded is
 * dropped move_take_up   they are the tenant's
 *
 * Killed anywhere: see store/arrivals.c. All of it may be asked for again. */
#include "moving.h"
#include "answers.h"
#include "auth.h"
#include "config.h"
#include "consume.h"
#include "cut_off.h"
#include "journal.h"
#include "store/moves.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <stdio.h>
#include <string.h>

enum { PART_BYTES = 512 << 10, STEP_BYTES = 512 << 10, RETRY_MS = 5000 };

struct importing {
    struct broker *b;
    struct broker_tenant *tenant;
    struct import *import;
    struct ctl_conn *conn;
    struct event *ev;
    struct importing *next;
};

/* ---- what speaks against a request ---- */

bool moving_refuses(struct session *s, const struct wire_header *h, const struct broker_tenant *t)
{
    if (!t->held)
        return false;
    if (t->moved)
        answer_refuse(s, h, WIRE_moved, 0, "tenant %s was moved to another home: it is served there", t->id);
    else
        answer_refuse(s, h, WIRE_moving, RETRY_MS, "tenant %s is being moved to another home; try again in some seconds", t->id);
    return true;
}

int moving_forbids(const struct broker_tenant *t, struct err *e)
{
    return !t || !t->held ? 0
           : t->moved     ? err_refuse(e, "moved", 0, "tenant %s was moved to another home: it is served there", t->id)
                          : err_refuse(e, "moving", RETRY_MS / 1000,
                                       "tenant %s is being moved to another home; try again in some seconds", t->id);
}

/* ---- from here ---- */

static int hold(struct broker *b, struct broker_tenant *t, struct err *e)
{
    size_t i = 0;
    auth_read_tenants(b);
    if (!t->held)
        return err_set(e, ERR_REFUSED, "tenant %s is not held", t->id);
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(stream);
        if (st->tenant == t)
            consume_end_stream(b, st);
    }
    t->still = true;
    journal_interval(b);
    streams_commit(b->streams, true);
    auth_read_tenants(b); /* the keeper answers when it has written the lines */
    crash_at(CRASH_moving_still);
    return 0;
}

static uint32_t note_of(const struct stream *stream)
{
    const struct broker_stream *st = stream_tag(stream);
    return st->cut_off;
}

static int export(struct broker *b, struct ctl_conn *c, const struct broker_tenant *t, const bson_t *rq, struct err *e)
{
    struct export_at at = {.seq = (uint64_t)json_get_i64(rq, "seq", 0), .record = (uint64_t)json_get_i64(rq, "record", 0)};
    AUTO_BUF struct buf line = {0}, part = {0};
    if (!t->still)
        return err_set(e, ERR_REFUSED, "the streams of tenant %s do not stand still", t->id);
    snprintf(at.stream, sizeof at.stream, "%s", json_get_str(rq, "stream", ""));
    int r = export_part(b->streams, t->id, &at, PART_BYTES, note_of, &part, e);
    if (r < 0)
        return r;
    crash_at(CRASH_moving_part);
    json_begin(&line, NULL, '{');
    json_bool(&line, "ok", true);
    json_i64(&line, "bytes", (int64_t)part.n);
    json_str(&line, "stream", at.stream);
    json_i64(&line, "seq", (int64_t)at.seq);
    json_i64(&line, "record", (int64_t)at.record);
    json_bool(&line, "end", at.end);
    json_end(&line, '}');
    ctl_send(c, &line);
    ctl_send_bytes(c, &part);
    return 1;
}

/* ---- to here ---- */

static void end(struct importing *v)
{
    struct importing **at = &v->b->importing;
    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    import_free(v->import);
    ctl_release(v->conn);
    event_free(v->ev);
    free(v);
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
    struct importing *v = arg;
    struct err e = {0};
    (void)fd;
    (void)what;
    broker_look_at_clocks(v->b);
    int r = v->tenant->held ? import_step(v->import, STEP_BYTES, &e)
                            : err_set(&e, ERR_REFUSED, "tenant %s is not held any more", v->tenant->id);
    streams_commit(v->b->streams, true); /* in each step: a single sync of all would hold the others up */
    crash_at(CRASH_moving_loaded);
    if (r > 0) {
        timer_set(v->ev, 0);
        return;
    }
    if (r == 0)
        log_info("streams_arrived", v->tenant->id, NULL, "they wait to be taken up");
    ctl_answer(v->conn, r < 0 ? &e : NULL);
    struct broker *b = v->b;
    end(v);
    streams_commit(b->streams, true);
}

static int import(struct broker *b, struct ctl_conn *c, struct broker_tenant *t, struct err *e)
{
    auth_read_tenants(b);
    if (!t->held)
        return err_set(e, ERR_REFUSED, "tenant %s is not on its way to this home", t->id);
    for (struct importing *v = b->importing; v; v = v->next)
        if (v->tenant == t)
            return err_refuse(e, "busy", 1, "a step of the move of tenant %s is under way", t->id);
    int fd = keeper_streams(b->keeper, t->id, e);
    struct import *m = NULL;
    int r = fd < 0 ? fd : import_new(b->streams, t->id, fd, &m, e);
    if (r < 0)
        return r;
    struct importing *v = xcalloc(1, sizeof *v);
    *v = (struct importing){.b = b, .tenant = t, .import = m, .conn = c, .next = b->importing};
    v->ev = event_new(b->base, -1, 0, on_step, v);
    b->importing = v;
    ctl_hold(c);
    timer_set(v->ev, 0);
    return 1;
}

/* What came, with why it was cut off. */
struct arrived {
    struct broker *b;
    const char *tenant;
    struct {
        char *name;
        uint32_t note;
    } * v;
    size_t n;
};

static void collect(void *arg, const char *name, uint32_t note)
{
    struct arrived *a = arg;
    a->v = xgrow(a->v, a->n, sizeof *a->v);
    a->v[a->n].name = xasprintf("%s/%s", a->tenant, name);
    a->v[a->n++].note = note;
}

/* Also before they have their names: then it is written down when they get them. */
static void cut_off_again(struct broker *b, const struct arrived *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct stream *stream = streams_find(b->streams, a->v[i].name);
        if (stream && stream_tag(stream))
            cut_off_as_before(stream_tag(stream), a->v[i].note);
    }
}

static void forget_empty(struct broker *b, const struct arrived *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct stream *stream = streams_find(b->streams, a->v[i].name);
        struct broker_stream *st = stream && stream_is_pristine(stream) ? stream_tag(stream) : NULL;
        if (!st)
            continue;
        consume_end_stream(b, st);
        config_forget(st);
    }
}

static int take_up(struct broker *b, const struct broker_tenant *t, struct err *e)
{
    struct arrived a = {.b = b, .tenant = t->id};
    struct err ignored = {0};
    arrivals_each(b->streams, t->id, collect, &a);
    cut_off_again(b, &a);
    forget_empty(b, &a);
    int r = arrivals_settle(b->streams, t->id, e);
    streams_commit(b->streams, true);
    crash_at(CRASH_moving_settled);
    const int applied = a.n ? config_apply(b, b->conf, r < 0 ? &ignored : e) : 0;
    cut_off_again(b, &a);
    for (size_t i = 0; i < a.n; i++) {
        const struct stream *stream = streams_find(b->streams, a.v[i].name);
        if (r > 0 && stream)
            journal_lost(stream_tag(stream));
        free(a.v[i].name);
    }
    free(a.v);
    return r < 0 ? r : applied;
}

/* ---- requests ---- */

int moving_serve(struct broker *b, struct ctl_conn *c, const char *op, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", "");
    if (!conf_valid_id(tenant))
        return err_set(e, ERR_USAGE, "the request names no tenant");
    struct broker_tenant *t = auth_tenant(b, tenant);
    if (!strcmp(op, "move_hold"))
        return hold(b, t, e);
    if (!strcmp(op, "move_export"))
        return export(b, c, t, rq, e);
    if (!strcmp(op, "move_import"))
        return import(b, c, t, e);
    if (!strcmp(op, "move_take_up"))
        return take_up(b, t, e);
    return err_set(e, ERR_USAGE, "unknown op \"%s\"", op);
}

static struct importing *importing_of(const struct broker *b, const char *tenant, const struct ctl_conn *c)
{
    struct importing *v = b->importing;
    while (v && (tenant ? strcmp(v->tenant->id, tenant) != 0 : v->conn != c))
        v = v->next;
    return v;
}

void moving_gone(struct broker *b, const struct ctl_conn *c)
{
    for (struct importing *v; (v = importing_of(b, NULL, c));)
        end(v);
    broker_turn_soon(b);
}

void moving_forget(struct broker *b, const char *tenant)
{
    struct importing *v = importing_of(b, tenant, NULL);
    struct err e = {0};
    err_set(&e, ERR_REFUSED, "tenant %s is removed", tenant);
    if (v) {
        ctl_answer(v->conn, &e);
        end(v);
    }
    arrivals_drop(b->streams, tenant);
}

void moving_stop(struct broker *b)
{
    while (b->importing)
        end(b->importing);
}
