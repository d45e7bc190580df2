#include "silences.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

#define SILENCES "state/silences.json"
enum { MAX_BYTES = 4 << 20, LOCK_MS = 10000 };

static void fini(struct silence *s)
{
    char *const strings[] = {s->id, s->tenant, s->app, s->alert, s->by, s->why};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
}

void silences_free(struct silence *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fini(&v[i]);
    free(v);
}

static struct silence copy(const char *id, const struct silence *s)
{
    return (struct silence){xstrdup(id),    xstrdup(s->tenant), xstrdup(s->app),  xstrdup(s->alert),
                            xstrdup(s->by), xstrdup(s->why),    s->until_wall_ms, s->made_wall_ms};
}

static int take(const bson_t *doc, int64_t wall_ms, struct silence **v, size_t *n)
{
    struct silence s = {.tenant = (char *)json_get_str(doc, "tenant_id", ""),
                        .app = (char *)json_get_str(doc, "app", ""),
                        .alert = (char *)json_get_str(doc, "alert", ""),
                        .by = (char *)json_get_str(doc, "by", ""),
                        .why = (char *)json_get_str(doc, "why", "")};
    if (clk_parse(json_get_str(doc, "until", ""), &s.until_wall_ms) < 0)
        return ERR_FORMAT;
    clk_parse(json_get_str(doc, "made_at", ""), &s.made_wall_ms);
    if (s.until_wall_ms <= wall_ms || !(*s.tenant || *s.app || *s.alert) || *n == SILENCES_MOST)
        return 0;
    *v = xgrow(*v, *n, sizeof **v);
    (*v)[(*n)++] = copy(json_get_str(doc, "id", ""), &s);
    return 0;
}

int silences_read(const struct home *h, int64_t wall_ms, struct silence **ret, size_t *ret_n, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    struct silence *v = NULL;
    bson_iter_t it;
    bson_t one;
    size_t n = 0;
    int r = fd_is_gone(h->dirfd, SILENCES) ? -ENOENT : fd_read_file(h->dirfd, SILENCES, &text, MAX_BYTES, e);
    AUTO_BSON bson_t *doc = r == 0 ? json_parse(text.p ? text.p : "", text.n, e) : NULL;
    if (r == 0 && !doc)
        r = err_set(e, ERR_FORMAT, SILENCES " is damaged (nothing is silenced); remove it to begin anew");
    if (doc && json_get_iter(doc, "silences", &it))
        while (r == 0 && json_next_doc(&it, &one))
            if (take(&one, wall_ms, &v, &n) < 0)
                r = err_set(e, ERR_FORMAT, SILENCES " has a silence without an end that can be read; remove it to begin anew");
    if (r < 0 && r != -ENOENT) {
        silences_free(v, n);
        return r;
    }
    *ret = v;
    *ret_n = n;
    return 0;
}

static bool is_or_any(const char *pattern, const char *value)
{
    return !*pattern || !strcmp(pattern, value);
}

const struct silence *silences_find(const struct silence *v, size_t n, const char *tenant, const char *app, const char *alert)
{
    for (size_t i = 0; i < n; i++)
        if (is_or_any(v[i].tenant, tenant) && is_or_any(v[i].app, app) && is_or_any(v[i].alert, alert))
            return &v[i];
    return NULL;
}

static int put(const struct home *h, const struct silence *v, size_t n, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_begin(&b, "silences", '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&b, NULL, '{');
        json_str(&b, "id", v[i].id);
        json_str(&b, "tenant_id", v[i].tenant);
        json_str(&b, "app", v[i].app);
        json_str(&b, "alert", v[i].alert);
        json_time(&b, "until", v[i].until_wall_ms);
        json_time(&b, "made_at", v[i].made_wall_ms);
        json_str(&b, "by", v[i].by);
        json_str(&b, "why", v[i].why);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(h->dirfd, SILENCES, b.p, b.n, 0600, e);
}

int silences_add(const struct home *h, int64_t wall_ms, struct silence *s, struct err *e)
{
    struct silence *v = NULL;
    size_t n = 0;
    char id[ID_SIZE];
    AUTO_FD int lock = home_lock(h, "silences", LOCK_MS, e);
    int r = lock < 0 ? lock : silences_read(h, wall_ms, &v, &n, e);
    if (r == 0 && n == SILENCES_MOST)
        r = err_set(e, ERR_LIMIT, "there are %d silences already; end some of them first", SILENCES_MOST);
    if (r == 0) {
        home_new_id(id);
        v = xgrow(v, n, sizeof *v);
        v[n++] = copy(id, s);
        r = put(h, v, n, e);
    }
    if (r == 0)
        s->id = xstrdup(id);
    silences_free(v, n);
    return r;
}

int silences_remove(const struct home *h, int64_t wall_ms, const char *id, struct err *e)
{
    struct silence *v = NULL;
    size_t n = 0, at = 0;
    AUTO_FD int lock = home_lock(h, "silences", LOCK_MS, e);
    int r = lock < 0 ? lock : silences_read(h, wall_ms, &v, &n, e);
    while (r == 0 && at < n && strcmp(v[at].id, id) != 0)
        at++;
    if (r == 0 && at == n)
        r = err_set(e, -ENOENT, "there is no silence %s; `mysimbdp alerts silences` lists them", id);
    if (r == 0) {
        fini(&v[at]);
        memmove(&v[at], &v[at + 1], (--n - at) * sizeof *v);
        r = put(h, v, n, e);
    }
    silences_free(v, n);
    return r;
}
