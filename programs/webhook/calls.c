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
};

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
    if (c)
        free(c->name);
    free(c);
}

void calls_set(struct calls *c, const struct calls_settings *s)
{
    if (s->alive_ms != c->set.alive_ms)
        c->alive_due_ms = 0;
    c->set = *s;
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
    for (size_t i = c->n; i-- > 0;) {
        struct call *x = c->v[i];
        if (!strcmp(x->group, group))
            return !x->n_tries && !(i == 0 && c->under_way == A_CALL) && x->n + n <= CALLS_ALERTS &&
                           x->alerts.n + more < CALLS_BYTES
                       ? x
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

/* opentelemetry-proto, collector/trace/v1; JSON as its specification maps it. */
static void add_spans(struct buf *out, const struct call *x)
{
    json_begin(out, "resourceSpans", '[');
    json_begin(out, NULL, '{');
    json_raw(out, "resource",
             "{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"mysimbdp\"}},"
             "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"" SIMBDP_VERSION "\"}}]}");
    json_begin(out, "scopeSpans", '[');
    json_begin(out, NULL, '{');
    json_raw(out, "scope", "{\"name\":\"mysimbdp\"}");
    json_begin(out, "spans", '[');
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
    if (!c->set.spans) {
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
        if (c->set.spans)
            add_spans(ret_body, x);
        else
            add_alerts(ret_body, x);
        x->first_ms = x->n_tries++ ? x->first_ms : now_ms;
    }
    json_end(ret_body, '}');
    c->n_said = c->n_untold;
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
    if (o == CALLS_TOLD)
        take_out(c, 0);
    else if (o == CALLS_REFUSED || next_ms - x->first_ms > c->set.retry_ms)
        drop(c, 0);
    else
        x->due_ms = next_ms;
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
