#include "calls.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>

enum { BEAT_MS = 5000, ID_BYTES = 16 };

struct call {
    char *group, id[2 * ID_BYTES + 1];
    struct buf alerts; /* the objects, with commas between them */
    int64_t n;
    int64_t due_ms, first_ms; /* first_ms: it was made first; 0: not yet */
    int n_tries;
};

struct calls {
    char *name;
    struct calls_settings set;
    struct call *v[CALLS_WAITING]; /* oldest first */
    size_t n;
    enum { NOTHING, A_CALL, ALIVE } under_way; /* A_CALL: v[0] */
    int64_t beat_ms, alive_due_ms;             /* beat_ms 0: none yet */
    int64_t n_dropped, n_untold;               /* untold: of those, no call said so yet */
    int64_t n_said;                            /* by the call that is under way */
    int64_t n_told, n_rejected, rejects;       /* rejects: of the call that is under way */
    char *resource;
};

/* opentelemetry-proto, collector/{trace,metrics,logs}/v1; JSON as its specification maps it. */
static const struct {
    const char *name, *outer, *inner, *items;
} kinds[N_CALLS_KINDS] = {[CALLS_OF_alerts] = {"alerts", NULL, NULL, NULL},
                          [CALLS_OF_traces] = {"traces", "resourceSpans", "scopeSpans", "spans"},
                          [CALLS_OF_metrics] = {"metrics", "resourceMetrics", "scopeMetrics", "metrics"},
                          [CALLS_OF_logs] = {"logs", "resourceLogs", "scopeLogs", "logRecords"}};

int calls_kind_of(const char *name, enum calls_kind *ret)
{
    for (int i = 0; i < N_CALLS_KINDS; i++)
        if (!strcmp(kinds[i].name, name)) {
            *ret = (enum calls_kind)i;
            return 0;
        }
    return -1;
}

const char *calls_kind_name(enum calls_kind k)
{
    return kinds[k].name;
}

struct calls *calls_new(const char *name)
{
    struct calls *c = xcalloc(1, sizeof *c);
    c->name = xstrdup(name);
    return c;
}

static void call_free(struct call *x)
{
    free(x->group);
    buf_fini(&x->alerts);
    free(x);
}

void calls_free(struct calls *c)
{
    for (size_t i = 0; c && i < c->n; i++)
        call_free(c->v[i]);
    if (!c)
        return;
    free(c->name);
    free(c->resource);
    free(c);
}

void calls_set(struct calls *c, const struct calls_settings *s)
{
    if (s->alive_ms != c->set.alive_ms)
        c->alive_due_ms = 0;
    xstr_set(&c->resource, s->resource);
    c->set = *s;
    c->set.resource = c->resource;
}

static void take_out(struct calls *c, size_t at)
{
    call_free(c->v[at]);
    memmove(&c->v[at], &c->v[at + 1], (--c->n - at) * sizeof *c->v);
}

static void drop(struct calls *c, size_t at)
{
    c->n_dropped += c->v[at]->n;
    c->n_untold += c->v[at]->n;
    take_out(c, at);
}

/* The last call of the group, when it was not made yet and has room. */
static struct call *open_call(const struct calls *c, const char *group, size_t more, int64_t n)
{
    const bool alerts = c->set.kind == CALLS_OF_alerts;
    const int64_t most = alerts ? CALLS_ALERTS : CALLS_ITEMS;
    const size_t most_bytes = alerts ? CALLS_BYTES : CALLS_ITEMS_BYTES;
    for (size_t i = c->n; i-- > 0;) {
        struct call *x = c->v[i];
        if (!strcmp(x->group, group))
            return !x->n_tries && !(i == 0 && c->under_way == A_CALL) && x->n + n <= most && x->alerts.n + more < most_bytes ? x
                                                                                                                             : NULL;
    }
    return NULL;
}

void calls_add(struct calls *c, int64_t now_ms, const char *group, const char *json, int64_t n)
{
    struct call *x = open_call(c, group, strlen(json), n);
    if (!x) {
        unsigned char id[ID_BYTES];
        if (c->n == CALLS_WAITING)
            drop(c, c->under_way == A_CALL);
        x = c->v[c->n++] = xcalloc(1, sizeof *x);
        x->group = xstrdup(group);
        x->due_ms = now_ms + c->set.group_ms;
        randombytes_buf(id, sizeof id);
        sodium_bin2hex(x->id, sizeof x->id, id, sizeof id);
    }
    buf_adds(&x->alerts, x->n ? "," : "");
    x->n += n;
    buf_adds(&x->alerts, json);
}

void calls_alive(struct calls *c, int64_t now_ms)
{
    c->beat_ms = now_ms;
}

static bool is_alive(const struct calls *c, int64_t now_ms)
{
    return c->set.alive_ms && c->beat_ms && now_ms - c->beat_ms < BEAT_MS;
}

int64_t calls_due_ms(const struct calls *c, int64_t now_ms)
{
    int64_t due = c->n ? c->v[0]->due_ms : INT64_MAX;
    if (c->under_way)
        return INT64_MAX;
    return is_alive(c, now_ms) && c->alive_due_ms < due ? c->alive_due_ms : due;
}

static void add_items(const struct calls *c, struct buf *out, const struct call *x)
{
    const enum calls_kind k = c->set.kind;
    json_begin(out, kinds[k].outer, '[');
    json_begin(out, NULL, '{');
    json_raw(out, "resource", c->resource ? c->resource : "{}");
    json_begin(out, kinds[k].inner, '[');
    json_begin(out, NULL, '{');
    json_raw(out, "scope", "{\"name\":\"mysimbdp\",\"version\":\"" SIMBDP_VERSION "\"}");
    json_begin(out, kinds[k].items, '[');
    buf_add(out, x->alerts.p, x->alerts.n);
    json_end(out, ']');
    json_end(out, '}');
    json_end(out, ']');
    json_end(out, '}');
    json_end(out, ']');
}

static void add_alerts(struct buf *out, const struct call *x)
{
    json_str(out, "state", "alerts");
    json_str(out, "group", x->group);
    json_begin(out, "alerts", '[');
    buf_add(out, x->alerts.p, x->alerts.n);
    json_end(out, ']');
}

bool calls_next(struct calls *c, int64_t now_ms, int64_t wall_ms, struct buf *ret_body, char ret_id[33])
{
    if (calls_due_ms(c, now_ms) > now_ms)
        return false;
    bool alive = is_alive(c, now_ms) && c->alive_due_ms <= now_ms;
    json_begin(ret_body, NULL, '{');
    if (c->set.kind == CALLS_OF_alerts) {
        json_str(ret_body, "webhook", c->name);
        json_time(ret_body, "at", wall_ms);
        json_i64(ret_body, "dropped", c->n_untold);
    }
    if (alive) {
        unsigned char id[ID_BYTES];
        randombytes_buf(id, sizeof id);
        sodium_bin2hex(ret_id, 2 * ID_BYTES + 1, id, sizeof id);
        json_str(ret_body, "state", "alive");
        json_i64(ret_body, "every_s", c->set.alive_ms / 1000);
        c->alive_due_ms = now_ms + c->set.alive_ms;
    } else {
        struct call *x = c->v[0];
        memcpy(ret_id, x->id, sizeof x->id);
        if (c->set.kind == CALLS_OF_alerts)
            add_alerts(ret_body, x);
        else
            add_items(c, ret_body, x);
        x->first_ms = x->n_tries++ ? x->first_ms : now_ms;
    }
    json_end(ret_body, '}');
    c->n_said = c->n_untold;
    c->rejects = 0;
    c->under_way = alive ? ALIVE : A_CALL;
    return true;
}

/* Twice as long each time, less up to a quarter. */
static int64_t delay_ms(int n_tries, int64_t ask_ms, uint32_t random)
{
    int64_t ms = CALLS_FIRST_MS;
    for (int i = 1; i < n_tries && ms < CALLS_MOST_MS; i++)
        ms *= 2;
    ms = ms < CALLS_MOST_MS ? ms : CALLS_MOST_MS;
    ms -= (int64_t)(random % 1000) * ms / 4000;
    ask_ms = ask_ms < CALLS_ASKED_MS ? ask_ms : CALLS_ASKED_MS;
    return ms > ask_ms ? ms : ask_ms;
}

void calls_done(struct calls *c, int64_t now_ms, enum calls_outcome o, int64_t ask_ms, uint32_t random)
{
    bool alive = c->under_way == ALIVE;
    c->under_way = NOTHING;
    if (o == CALLS_TOLD)
        c->n_untold -= c->n_said;
    if (alive)
        return;
    struct call *x = c->v[0];
    int64_t next_ms = now_ms + delay_ms(x->n_tries, ask_ms, random);
    if (o == CALLS_TOLD) {
        c->n_rejected += c->rejects;
        c->n_told += x->n - c->rejects;
        take_out(c, 0);
    } else if (o == CALLS_REFUSED || next_ms - x->first_ms > c->set.retry_ms) {
        drop(c, 0);
    } else {
        x->due_ms = next_ms;
    }
}

void calls_rejected(struct calls *c, int64_t n)
{
    const int64_t all = c->under_way == A_CALL ? c->v[0]->n : 0;
    c->rejects = n < 0 ? 0 : n < all ? n : all;
}

struct calls_counts calls_counts(const struct calls *c)
{
    return (struct calls_counts){c->n_told, c->n_rejected, c->n_dropped};
}

bool calls_is_under_way(const struct calls *c)
{
    return c->under_way != NOTHING;
}

int64_t calls_n_dropped(const struct calls *c)
{
    return c->n_dropped;
}

int64_t calls_n_waiting(const struct calls *c)
{
    int64_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        n += c->v[i]->n;
    return n;
}
