#include "events.h"
#include "feed.h"
#include "gateway.h"
#include "handlers.h"
#include "pass.h"
#include "request.h"

#include "base/clk.h"
#include "base/mem.h"
#include "host/tenant_events.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* HEARTBEAT_MS: so long nothing is sent at most. RETRY_MS: after which a client comes again. */
enum { HEARTBEAT_MS = 15000, RETRY_MS = 2000, MAX_LAST_ID = 256, DEFAULT_TAIL = 64 << 10, MAX_TAIL = 256 << 10 };

struct of_account {
    char *account;
    int64_t n;
};

struct stream {
    struct events *all;
    struct request *rq;
    struct pass *pass;
    struct of_account *of_account;
    struct stream *before, *behind; /* among all */
    struct stream *next_reader;     /* of `feed` */
    struct feed *feed;              /* what is read now */
    struct feed *shared;            /* what is read behind that; NULL: nothing, or it is read already */
    uint64_t at, shared_at;         /* the next event's number */
    size_t skip;                    /* so much of it was sent */
    uint32_t types;
    char *last_id;    /* what the client had */
    struct buf extra; /* to be sent between two events */
    int64_t sent_ms;
    bool open, suspended, ending, cut;
};

struct events {
    struct gateway *g;
    struct feeds feeds;
    struct passes passes;
    struct map accounts; /* struct of_account */
    struct stream *first;
    size_t n;
};

/* ---- on and off ---- */

static void wake(struct stream *s)
{
    if (!s->suspended)
        return;
    s->suspended = false;
    request_flow(s->rq, true);
}

/* Says why, behind what the reader has in part already, and ends it. */
static void end_stream(struct stream *s, const char *why)
{
    if (s->ending)
        return;
    buf_addf(&s->extra, "event: end\ndata: {\"reason\":\"%s\"}\n\n", why);
    s->ending = true;
    if (!s->open) {
        s->open = true;
        request_refuse(s->rq, strcmp(why, "draining") != 0 ? "unauthorized" : why, "%s", "");
        request_go_on(s->rq);
    }
    wake(s);
}

/* What it was to read is gone; it may have sent a part of it. */
static void cut_off(struct stream *s)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(s->rq->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    s->ending = s->cut = true;
    if (i)
        shutdown(i->connect_fd, SHUT_RDWR);
    wake(s);
}

/* ---- readers of a feed ---- */

static void read_feed(struct stream *s, struct feed *f, uint64_t at)
{
    s->feed = f;
    s->at = at;
    s->next_reader = f->readers;
    f->readers = s;
}

static void leave_feed(struct stream *s)
{
    struct feed *f = s->feed;
    if (!f)
        return;
    struct stream **p = (struct stream **)&f->readers;
    while (*p != s)
        p = &(*p)->next_reader;
    *p = s->next_reader;
    s->feed = NULL;
}

static bool is_needed(const struct events *all, const struct feed *f)
{
    for (const struct stream *s = all->first; s; s = s->behind)
        if (s->feed == f || s->shared == f)
            return true;
    return false;
}

static void give_back(struct events *all, struct feed *f)
{
    if (f && (!f->key || (!f->readers && !is_needed(all, f))))
        feed_leave(f);
}

/* From the past on to what is shared; again to the past, where the shared feed has gone on too far meanwhile. */
static void go_over(struct stream *s)
{
    struct feed *past = s->feed, *f = s->shared;
    leave_feed(s);
    if (s->shared_at >= f->first) {
        s->shared = NULL;
        read_feed(s, f, s->shared_at);
    } else {
        read_feed(s, feed_of_past(&s->all->feeds, f->tenant, past->position, f->position), 0);
        s->shared_at = f->next;
        feed_kick(s->feed);
    }
    feed_leave(past);
}

/* ---- what is sent ---- */

static bool is_drained(const struct stream *s)
{
    return s->feed && s->at == s->feed->next && !s->skip;
}

static size_t take_extra(struct stream *s, char *to, size_t room)
{
    size_t n = s->extra.n < room ? s->extra.n : room;
    if (n)
        memcpy(to, s->extra.p, n);
    buf_consume(&s->extra, n);
    if (!s->extra.n)
        buf_fini(&s->extra); /* an idle stream is to be small */
    return n;
}

static size_t take_event(struct stream *s, char *to, size_t room)
{
    const struct feed_event *e = feed_at(s->feed, s->at);
    size_t n = e->type & s->types ? e->n - s->skip : 0;
    n = n < room ? n : room;
    memcpy(to, e->text + s->skip, n);
    s->skip += n;
    if (s->skip == e->n || !(e->type & s->types)) {
        s->skip = 0;
        s->at++;
        if (!s->feed->key)
            feed_drop(s->feed, s->at);
    }
    return n;
}

/* One piece: of an event that was begun, of what lies between events, of the next event. 0: there is nothing now. */
static size_t take_piece(struct stream *s, char *to, size_t room)
{
    if (s->skip)
        return take_event(s, to, room);
    if (s->extra.n)
        return take_extra(s, to, room);
    while (!s->ending && s->feed) {
        while (s->at < s->feed->next) {
            size_t n = take_event(s, to, room);
            if (n)
                return n;
        }
        if (!s->feed->done || !s->shared)
            break;
        go_over(s);
    }
    return 0;
}

static ssize_t on_read(void *arg, uint64_t pos, char *to, size_t room)
{
    struct stream *s = arg;
    size_t n = 0;
    (void)pos;
    if (s->cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    for (size_t k; n < room && (k = take_piece(s, to + n, room - n)) > 0;)
        n += k;
    if (n) {
        s->sent_ms = clk_now_ms();
        return (ssize_t)n;
    }
    if (s->ending || (s->feed && s->feed->done))
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (s->feed && !s->feed->key)
        feed_kick(s->feed);
    s->suspended = true;
    request_flow(s->rq, false);
    return 0;
}

/* ---- beginning ---- */

static void open_stream(struct stream *s)
{
    struct feed *f = s->feed;
    s->open = true;
    s->sent_ms = clk_now_ms();
    if (f->run_id && f->done && s->last_id && f->next - f->first == 1) { /* the client has all of it, and need not come again */
        request_answer(s->rq, MHD_HTTP_NO_CONTENT, NULL, &(struct buf){0});
        request_go_on(s->rq);
        return;
    }
    buf_addf(&s->extra, "retry: %d\n", RETRY_MS);
    if (!f->run_id && !f->platform)
        buf_addf(&s->extra, "id: %s\n", s->last_id && strcmp(s->last_id, "0") != 0 ? s->last_id : f->key ? f->position : "0");
    buf_adds(&s->extra, "\n");
    if (f->platform)
        buf_add(&s->extra, feed_whole(f)->p, feed_whole(f)->n);
    request_answer_stream(s->rq, "text/event-stream", on_read, s);
    request_add_header(s->rq, "X-Accel-Buffering", "no");
    request_go_on(s->rq);
}

/* The shared feed is there: from where, and up to where, the past is read, is known. */
static void begin(struct stream *s, struct feed *shared)
{
    if (!s->last_id) {
        s->at = shared->next;
        open_stream(s);
        return;
    }
    leave_feed(s);
    s->shared = shared;
    s->shared_at = shared->next;
    read_feed(s, feed_of_past(&s->all->feeds, shared->tenant, s->last_id, shared->position), 0);
    feed_kick(s->feed);
}

/* ---- what feeds say ---- */

static struct pass *pass_of(void *arg, const struct feed *f)
{
    const struct stream *s = f->readers;
    struct events *all = arg;
    if (!s && f->key)
        for (s = all->first; s && s->shared != f;)
            s = s->behind;
    return s ? s->pass : NULL;
}

static bool is_wanted(void *arg, const struct feed *f)
{
    const struct stream *s = f->readers;
    (void)arg;
    return f->key || (s && s->at == f->next && !s->skip && (!s->open || s->suspended));
}

/* A reader of the past was asked for less than it had already: up to where the shared feed is by now. No sooner than its question
 * is answered: the answer to one that is on its way ends where that said. */
static void move_end(struct stream *s)
{
    xstr_set(&s->feed->to, s->shared->position);
    s->shared_at = s->shared->next;
}

static void on_news(void *arg, struct feed *f)
{
    (void)arg;
    for (struct stream *s = f->readers, *next; s; s = next) {
        next = s->next_reader;
        if (s->ending)
            continue;
        if (!f->ready && s->shared)
            move_end(s);
        else if (!s->open && f->key)
            begin(s, f);
        else if (!s->open && f->ready)
            open_stream(s);
        else if (s->at < f->first)
            cut_off(s);
        else if (!is_drained(s) || f->done)
            wake(s);
    }
}

static void on_failed(void *arg, struct feed *f, const char *code, const char *detail)
{
    (void)arg;
    for (struct stream *s = f->readers, *next; s; s = next) {
        next = s->next_reader;
        if (!s->open) {
            s->open = s->ending = true;
            request_refuse(s->rq, code, "%s", detail);
            request_go_on(s->rq);
        } else {
            end_stream(s, code);
        }
    }
}

static const struct feed_ops feed_ops = {pass_of, on_news, on_failed, is_wanted};

static void on_over(void *arg, struct pass *p, const char *why)
{
    struct events *all = arg;
    for (struct stream *s = all->first, *next; s; s = next) {
        next = s->behind;
        if (s->pass == p)
            end_stream(s, why);
    }
}

/* ---- places ---- */

static bool take_place(struct stream *s)
{
    struct events *all = s->all;
    const struct conf_http *h = &all->g->conf->platform.http;
    struct of_account *a = map_get(&all->accounts, s->rq->who.name);
    if (h->event_streams_per_account >= 0 && (a ? a->n : 0) >= h->event_streams_per_account) {
        request_refuse_for(s->rq, "event_streams", RETRY_MS / 1000, "http.event_streams_per_account: %lld are open",
                           (long long)h->event_streams_per_account);
        return false;
    }
    if ((int64_t)all->n >= h->event_streams) {
        request_refuse_for(s->rq, "busy", RETRY_MS / 1000, "http.event_streams: %lld are open", (long long)h->event_streams);
        return false;
    }
    if (!a) {
        a = xmalloc(sizeof *a);
        *a = (struct of_account){xstrdup(s->rq->who.name), 0};
        map_put(&all->accounts, a->account, a);
    }
    a->n++;
    s->of_account = a;
    s->behind = all->first;
    if (all->first)
        all->first->before = s;
    all->first = s;
    all->n++;
    return true;
}

static void leave_place(struct stream *s)
{
    struct events *all = s->all;
    struct of_account *a = s->of_account;
    if (!a)
        return;
    *(s->before ? &s->before->behind : &all->first) = s->behind;
    if (s->behind)
        s->behind->before = s->before;
    all->n--;
    if (--a->n)
        return;
    map_remove(&all->accounts, a->account);
    free(a->account);
    free(a);
}

static void free_stream(struct request *rq)
{
    struct stream *s = rq->data;
    struct events *all = s->all;
    struct feed *f = s->feed, *shared = s->shared;
    leave_feed(s);
    leave_place(s);
    give_back(all, f);
    if (shared != f)
        give_back(all, shared);
    pass_leave(s->pass);
    free(s->last_id);
    buf_fini(&s->extra);
    free(s);
}

/* NULL: it was answered. */
static struct stream *new_stream(struct request *rq)
{
    const char *last = request_header(rq, "Last-Event-ID");
    if (last && strlen(last) > MAX_LAST_ID) {
        request_refuse(rq, "parameter", "Last-Event-ID: is no position");
        return NULL;
    }
    struct stream *s = xcalloc(1, sizeof *s);
    *s = (struct stream){.all = rq->g->events, .rq = rq, .types = FEED_FOR_ALL, .last_id = last && *last ? xstrdup(last) : NULL};
    rq->data = s;
    rq->free_data = free_stream;
    if (!take_place(s))
        return NULL;
    s->pass = pass_take(&s->all->passes, rq);
    return s;
}

/* ---- requests ---- */

/* types=file,run.ended: names, or what is before their dot. */
static bool read_types(struct request *rq, uint32_t *ret)
{
    const char *text = uri_field(&rq->uri, "types");
    *ret = FEED_FOR_ALL;
    if (!text)
        return true;
    *ret = 1u << 31; /* what is for all */
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        uint32_t found = tenant_events_of(at, n);
        if (!found) {
            request_refuse(rq, "parameter", "types: there is no event \"%.*s\"", (int)(n < 40 ? n : 40), at);
            return false;
        }
        *ret |= found;
        at += n;
        if (!*at)
            return true;
    }
}
_Static_assert(N_TENANT_EVENTS < 31, "a bit is for all");

/* Two accounts that see the same datasets read the same feed. */
static char *scope_of(const struct account *who)
{
    AUTO_BUF struct buf b = {0};
    buf_adds(&b, who->datasets ? "alone" : "all");
    for (char **d = who->datasets; d && *d; d++)
        buf_addf(&b, " %s", *d);
    return xstrdup(b.p);
}

void get_events(struct request *rq)
{
    uint32_t types;
    struct stream *s = read_types(rq, &types) ? new_stream(rq) : NULL;
    if (!s)
        return;
    AUTO_FREE char *scope = scope_of(&rq->who);
    struct feed *f = feed_shared(&s->all->feeds, rq->tenant, scope);
    s->types = types;
    request_wait(rq);
    read_feed(s, f, f->next);
    if (f->ready)
        begin(s, f);
    else
        feed_kick(f);
}

/* All of it first, whatever the client had before: most of it has changed by then. */
void get_platform_events(struct request *rq)
{
    struct stream *s = new_stream(rq);
    if (!s)
        return;
    xstr_set(&s->last_id, NULL);
    struct feed *f = feed_of_platform(&s->all->feeds);
    request_wait(rq);
    read_feed(s, f, f->next);
    if (f->ready)
        begin(s, f);
    else
        feed_kick(f);
}

bool events_are_wanted(const struct request *rq)
{
    const char *accept = request_header(rq, MHD_HTTP_HEADER_ACCEPT);
    return accept && strstr(accept, "text/event-stream");
}

void follow_log(struct request *rq)
{
    int64_t tail;
    if (!uri_number(&rq->uri, "tail", DEFAULT_TAIL, 1, MAX_TAIL, &tail)) {
        request_refuse(rq, "bad_request", "tail is a number from 1 to %d", MAX_TAIL);
        return;
    }
    struct stream *s = new_stream(rq);
    if (!s)
        return;
    const char *from = s->last_id ? s->last_id : uri_field(&rq->uri, "from");
    request_wait(rq);
    read_feed(s, feed_of_log(&s->all->feeds, rq->tenant, rq->run_id, from, tail), 0);
    feed_kick(s->feed);
}

/* ---- life ---- */

static void beat(struct stream *s)
{
    const struct feed *f = s->feed;
    if (f && f->key && f->position) /* what was filtered out need not be looked at again after a break */
        buf_addf(&s->extra, ":\nid: %s\n\n", f->position);
    else
        buf_adds(&s->extra, ":\n\n");
    wake(s);
}

void events_sweep(struct events *all, int64_t now_ms)
{
    passes_sweep(&all->passes, now_ms);
    for (struct stream *s = all->first; s; s = s->behind)
        if (s->open && s->suspended && now_ms - s->sent_ms >= HEARTBEAT_MS)
            beat(s);
}

void events_end(struct events *all)
{
    for (struct stream *s = all ? all->first : NULL, *next; s; s = next) {
        next = s->behind;
        end_stream(s, "draining");
    }
}

size_t events_open(const struct events *all)
{
    return all ? all->n : 0;
}

struct events *events_new(struct gateway *g)
{
    struct events *all = xcalloc(1, sizeof *all);
    all->g = g;
    all->passes = (struct passes){.g = g, .over = on_over, .arg = all};
    feeds_init(&all->feeds, g, &feed_ops, all);
    return all;
}

void events_free(struct events *all)
{
    if (!all)
        return;
    feeds_fini(&all->feeds);
    passes_fini(&all->passes);
    map_fini(&all->accounts);
    free(all);
}
