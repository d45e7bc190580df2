#include "feed.h"
#include "gateway.h"
#include "pass.h"
#include "platform.h"
#include "platform_diff.h"
#include "problem.h"

#include "base/clk.h"
#include "base/mem.h"
#include "host/tenant_events.h"
#include "loop/timer.h"

#include <string.h>

/* AT_ONCE: more would keep the keepers from those that wait for an answer. */
enum { AT_ONCE = 16, EVENTS_PER_POLL = 500, LOG_BYTES = 16 << 10, PAUSE_MS = 1000, PAST_RING = 512, LOG_RING = 4 };

/* ---- the ring ---- */

const struct feed_event *feed_at(const struct feed *f, uint64_t n)
{
    return f->ring[n % f->size];
}

void feed_drop(struct feed *f, uint64_t n)
{
    for (; f->first < n; f->first++) {
        struct feed_event **e = &f->ring[f->first % f->size];
        f->bytes -= (*e)->n;
        free(*e);
        *e = NULL;
    }
}

static void add_event(struct feed *f, uint32_t type, const struct buf *text)
{
    while (f->next - f->first == f->size || (f->next > f->first && f->bytes + text->n > f->max_bytes))
        feed_drop(f, f->first + 1);
    struct feed_event *e = xmalloc(sizeof *e + text->n);
    *e = (struct feed_event){.type = type, .n = text->n};
    memcpy(e->text, text->p, text->n);
    f->ring[f->next++ % f->size] = e;
    f->bytes += text->n;
}

/* ---- life ---- */

static void unlink_feed(struct feed *f)
{
    struct feeds *all = f->owner;
    *(f->before ? &f->before->behind : &all->first) = f->behind;
    *(f->behind ? &f->behind->before : &all->last) = f->before;
    f->before = f->behind = NULL;
}

static void link_feed(struct feed *f)
{
    struct feeds *all = f->owner;
    f->before = all->last;
    *(all->last ? &all->last->behind : &all->first) = f;
    all->last = f;
}

static void feed_free(struct feed *f)
{
    feed_drop(f, f->next);
    unlink_feed(f);
    f->owner->n--;
    platform_diff_free(f->platform);
    if (f->latest)
        bson_destroy(f->latest);
    buf_fini(&f->whole);
    free(f->ring);
    free(f->key);
    free(f->tenant);
    free(f->run_id);
    free(f->position);
    free(f->to);
    free(f);
}

static struct feed *feed_new(struct feeds *all, const char *tenant, uint64_t size)
{
    struct feed *f = xcalloc(1, sizeof *f);
    f->owner = all;
    f->size = size;
    f->max_bytes = FEED_BYTES;
    f->ring = xcalloc(size, sizeof(struct feed_event *));
    f->tenant = xstrdup(tenant);
    link_feed(f);
    if (!all->n++)
        timer_set(all->timer, FEED_POLL_MS);
    return f;
}

struct feed *feed_shared(struct feeds *all, const char *tenant, const char *scope)
{
    AUTO_FREE char *key = xasprintf("%s %s", tenant, scope);
    struct feed *f = map_get(&all->shared, key);
    if (f)
        return f;
    f = feed_new(all, tenant, FEED_EVENTS);
    f->key = xstrdup(key);
    map_put(&all->shared, key, f);
    return f;
}

struct feed *feed_of_past(struct feeds *all, const char *tenant, const char *from, const char *to)
{
    struct feed *f = feed_new(all, tenant, PAST_RING);
    f->position = xstrdup(from);
    f->to = xstrdup(to);
    return f;
}

struct feed *feed_of_log(struct feeds *all, const char *tenant, const char *run_id, const char *from, int64_t tail)
{
    struct feed *f = feed_new(all, tenant, LOG_RING);
    f->run_id = xstrdup(run_id);
    f->position = xstrdup(from);
    f->tail = tail;
    return f;
}

/* No tenant's key is like that: there is a blank in it. */
static const char platform_key[] = "platform";

struct feed *feed_of_platform(struct feeds *all)
{
    struct feed *f = map_get(&all->shared, platform_key);
    if (f)
        return f;
    f = feed_new(all, "", FEED_PLATFORM_EVENTS);
    f->max_bytes = FEED_PLATFORM_BYTES;
    f->platform = platform_diff_new();
    f->latest = bson_new();
    f->key = xstrdup(platform_key);
    map_put(&all->shared, f->key, f);
    return f;
}

/* Nobody else comes to it. */
static void withdraw(struct feed *f)
{
    if (f->key && map_get(&f->owner->shared, f->key) == f)
        map_remove(&f->owner->shared, f->key);
}

void feed_leave(struct feed *f)
{
    if (!f)
        return;
    withdraw(f);
    f->left = true;
    if (!f->asked)
        feed_free(f);
}

/* ---- answers ---- */

/* A line of `events`: name, position, JSON, a blank between them; none of them has a line's end in it. */
static void add_line(struct feed *f, const char *line, size_t n)
{
    AUTO_BUF struct buf b = {0};
    const char *end = line + n, *position = memchr(line, ' ', n);
    const char *data = position ? memchr(position + 1, ' ', (size_t)(end - position - 1)) : NULL;
    if (!data)
        return;
    size_t n_name = (size_t)(position - line);
    uint32_t type = tenant_events_of(line, n_name);
    buf_addf(&b, "event: %.*s\nid: %.*s\ndata: %.*s\n\n", (int)n_name, line, (int)(data - position - 1), position + 1,
             (int)(end - data - 1), data + 1);
    add_event(f, type ? type : FEED_FOR_ALL, &b);
}

static void take_events(struct feed *f, const bson_t *head, const char *body, size_t n)
{
    for (const char *lf; n && (lf = memchr(body, '\n', n)); n -= (size_t)(lf + 1 - body), body = lf + 1)
        add_line(f, body, (size_t)(lf - body));
    if (json_get_bool(head, "ahead", false)) /* what it reads up to has to come that far first */
        return;
    xstr_set(&f->position, json_get_str(head, "position", ""));
    f->ready = true;
    f->done = f->to && !json_get_bool(head, "more", false);
}

static void add_log_event(struct feed *f, const char *event, const char *position, const struct buf *data)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "event: %s\nid: %s\ndata: ", event, position);
    buf_add(&b, data->p, data->n);
    buf_adds(&b, "\n\n");
    add_event(f, FEED_FOR_ALL, &b);
}

static void take_log(struct feed *f, const bson_t *head, const char *body, size_t n)
{
    const char *position = json_get_str(head, "position", "");
    bool cut = json_get_bool(head, "cut", false);
    if (n || (cut && f->ready)) {
        AUTO_BUF struct buf data = {0};
        json_begin(&data, NULL, '{');
        json_strn(&data, "text", body, n);
        json_bool(&data, "cut", cut);
        json_end(&data, '}');
        add_log_event(f, "log", position, &data);
    }
    xstr_set(&f->position, position);
    f->ready = true;
    f->done = json_get_bool(head, "ended", false);
    if (f->done)
        add_log_event(f, "end", position, &(struct buf){.p = (char *)"{\"reason\":\"ended\"}", .n = 18});
}

static void ask_due(struct feeds *all);

static void take_answer(struct feed *f, int code, const bson_t *head, const char *body, size_t n)
{
    struct feeds *all = f->owner;
    const char *error = code < 0 ? "unavailable" : json_get_str(head, "code", NULL);
    struct pass *p = all->ops->pass(all->arg, f);
    f->due_ms = clk_now_ms() + (error ? PAUSE_MS : !f->done && json_get_bool(head, "more", false) ? 0 : FEED_POLL_MS);
    if (error && !strcmp(error, "unauthorized")) {
        if (p)
            pass_doubt(p);
    } else if (error && problem_status(error) != 503) {
        withdraw(f);
        f->done = true;
        all->ops->failed(all->arg, f, error, json_get_str(head, "detail", ""));
    } else if (!error) {
        (f->run_id ? take_log : take_events)(f, head, body, n);
        all->ops->news(all->arg, f);
    }
}

static void on_answer(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    struct feed *f = arg;
    struct feeds *all = f->owner;
    f->asked = false;
    all->n_asked--;
    if (f->left)
        feed_free(f);
    else
        take_answer(f, code, head, body, n);
    ask_due(all);
}

/* ---- the platform's figures ---- */

/* The first time there is nobody yet who has what was before. */
static void take_platform(struct feed *f, const struct platform_part *parts, size_t n)
{
    AUTO_BUF struct buf change = {0};
    platform_diff(f->platform, parts, n, &change);
    if (change.n || !f->ready) {
        buf_fini(&f->whole);
        bson_reinit(f->latest);
        for (size_t i = 0; i < n; i++)
            if (parts[i].doc)
                bson_append_document(f->latest, parts[i].program, -1, parts[i].doc);
            else
                bson_append_null(f->latest, parts[i].program, -1);
    }
    if (change.n && f->ready) {
        AUTO_BUF struct buf text = {0};
        buf_addf(&text, "event: change\ndata: %s\n\n", change.p);
        add_event(f, FEED_FOR_ALL, &text);
    }
    f->ready = true;
}

const struct buf *feed_whole(struct feed *f)
{
    if (!f->whole.n) {
        AUTO_BUF struct buf text = {0};
        json_from_bson(f->latest, &text);
        buf_addf(&f->whole, "event: platform\ndata: %s\n\n", text.p);
    }
    return &f->whole;
}

static void on_platform(void *arg, const struct platform_part *parts, size_t n)
{
    struct feed *f = arg;
    struct feeds *all = f->owner;
    f->asked = false;
    all->n_asked--;
    if (f->left) {
        feed_free(f);
    } else {
        take_platform(f, parts, n);
        const int64_t now_ms = clk_now_ms(), pause_ms = 10 * (now_ms - f->asked_ms);
        f->due_ms = now_ms + (pause_ms < FEED_PLATFORM_MS       ? FEED_PLATFORM_MS
                              : pause_ms < FEED_PLATFORM_MAX_MS ? pause_ms
                                                                : FEED_PLATFORM_MAX_MS);
        all->ops->news(all->arg, f);
    }
    ask_due(all);
}

/* ---- questions ---- */

static bool ask_platform(struct feed *f, const struct pass *p)
{
    f->asked = true;
    f->owner->n_asked++;
    f->asked_ms = clk_now_ms();
    platform_collect(f->owner->g, p->ticket, on_platform, f);
    return true;
}

static bool ask(struct feed *f, const struct pass *p)
{
    struct gateway *g = f->owner->g;
    if (f->platform)
        return ask_platform(f, p);
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "ticket", p->ticket);
    json_str(&b, "query", f->run_id ? "log" : "events");
    json_str(&b, "tenant_id", f->tenant);
    json_begin(&b, "params", '{');
    json_str(&b, "from", f->position);
    if (f->run_id) {
        json_str(&b, "run_id", f->run_id);
        json_i64(&b, "most", LOG_BYTES);
        if (!f->position)
            json_i64(&b, "tail", f->tail);
    } else {
        json_str(&b, "to", f->to);
        json_i64(&b, "limit", EVENTS_PER_POLL);
    }
    json_end(&b, '}');
    json_end(&b, '}');
    struct keeper *k = g->keepers[KEEPER_OF_QUERIES + g->next_query++ % (N_GATEWAY_KEEPERS - KEEPER_OF_QUERIES)];
    f->asked = keeper_ask(k, KEEPER_QUERY, b.p, b.n, on_answer, f) == 0;
    f->owner->n_asked += f->asked;
    return f->asked;
}

/* Those that were asked go behind the others, so that all have their turn. */
static void ask_due(struct feeds *all)
{
    int64_t now_ms = clk_now_ms(), next_ms = FEED_POLL_MS;
    size_t n = all->n;
    for (struct feed *f = all->first, *behind; f && n-- && all->n_asked < AT_ONCE; f = behind) {
        behind = f->behind;
        if (f->asked || f->done || f->left || !all->ops->wants(all->arg, f))
            continue;
        if (f->due_ms > now_ms) {
            next_ms = f->due_ms - now_ms < next_ms ? f->due_ms - now_ms : next_ms;
            continue;
        }
        struct pass *p = all->ops->pass(all->arg, f);
        if (p && !ask(f, p))
            break;
        unlink_feed(f);
        link_feed(f);
    }
    if (all->n)
        timer_set(all->timer, next_ms > 0 ? next_ms : 1);
}

void feed_kick(struct feed *f)
{
    if (!f->asked && !f->done)
        timer_set(f->owner->timer, 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    ask_due(arg);
}

void feeds_init(struct feeds *all, struct gateway *g, const struct feed_ops *ops, void *arg)
{
    *all = (struct feeds){.g = g, .ops = ops, .arg = arg};
    all->timer = event_new(g->base, -1, 0, on_timer, all);
}

void feeds_fini(struct feeds *all)
{
    while (all->first)
        feed_free(all->first);
    map_fini(&all->shared);
    event_free(all->timer);
}
