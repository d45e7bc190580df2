#include "draft.h"

#include "base/map.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

struct cell {
    char *name, *url;
    char pin[CELLS_PIN_SIZE];
    size_t n_tenants;
};

struct tenant {
    char *name;
    struct cell *cell;
    bool moving;
};

struct cells_draft {
    struct map cells, tenants;
};

struct cells_draft *cells_draft_new(void)
{
    return xcalloc(1, sizeof(struct cells_draft));
}

static void put_cell(struct cells_draft *d, const char *name, const char *url, const char *pin)
{
    struct cell *c = xcalloc(1, sizeof *c);
    c->name = xstrdup(name);
    c->url = xstrdup(url);
    memcpy(c->pin, pin, strlen(pin) + 1);
    map_put(&d->cells, name, c);
}

static void put_tenant(struct cells_draft *d, const char *name, struct cell *c, bool moving)
{
    struct tenant *t = map_get(&d->tenants, name);
    if (t) {
        t->cell->n_tenants--;
    } else {
        t = xcalloc(1, sizeof *t);
        t->name = xstrdup(name);
        map_put(&d->tenants, name, t);
    }
    t->cell = c;
    t->moving = moving;
    c->n_tenants++;
}

struct cells_draft *cells_draft_of(const struct cells_map *m)
{
    struct cells_draft *d = cells_draft_new();
    for (size_t i = 0; i < cells_map_n_cells(m); i++) {
        const struct cells_cell *c = cells_map_cell(m, i);
        put_cell(d, c->name, c->url, c->pin);
    }
    for (size_t i = 0; i < cells_map_n_tenants(m); i++) {
        const struct cells_cell *c;
        size_t n;
        bool moving;
        const char *name = cells_map_tenant(m, i, &n, &c, &moving);
        AUTO_FREE char *copy = xstrndup(name, n);
        put_tenant(d, copy, map_get(&d->cells, c->name), moving);
    }
    return d;
}

static void free_cell(struct cell *c)
{
    free(c->name);
    free(c->url);
    free(c);
}

static void free_tenant(struct tenant *t)
{
    free(t->name);
    free(t);
}

void cells_draft_free(struct cells_draft *d)
{
    size_t i = 0, k = 0;
    if (!d)
        return;
    for (struct cell *c; (c = map_next(&d->cells, &i));)
        free_cell(c);
    for (struct tenant *t; (t = map_next(&d->tenants, &k));)
        free_tenant(t);
    map_fini(&d->cells);
    map_fini(&d->tenants);
    free(d);
}

/* ---- changes ---- */

static int check_name(const char *what, const char *name, struct err *e)
{
    return cells_valid_name(name, strlen(name))
               ? 0
               : err_set(e, ERR_USAGE, "\"%s\" is no name of a %s: [a-z][a-z0-9_-]*, at most %d characters", name, what,
                         CELLS_NAME_MAX);
}

static int check_place(const char *url, const char *pin, char ret_pin[CELLS_PIN_SIZE], struct err *e)
{
    struct cells_url u;
    *ret_pin = 0;
    if (cells_url_parse(url, strlen(url), &u) < 0)
        return err_set(e, ERR_USAGE, "\"%s\" is no https://HOST[:PORT] (http:// is for this machine alone)", url);
    if (pin && !u.tls)
        return err_set(e, ERR_USAGE, "--pin is of a certificate, and %s has none", url);
    if (pin && !cells_pin_parse(pin, ret_pin))
        return err_set(e, ERR_USAGE, "\"%s\" is no SHA-256 of a certificate, as `mysimbdp status` shows it", pin);
    return 0;
}

int cells_draft_add(struct cells_draft *d, const char *name, const char *url, const char *pin, struct err *e)
{
    char own[CELLS_PIN_SIZE];
    int r = check_name("cell", name, e);
    if (r == 0)
        r = check_place(url, pin, own, e);
    if (r < 0)
        return r;
    if (map_get(&d->cells, name))
        return err_set(e, -EEXIST, "there is a cell %s; `cells change` gives it another URL or pin", name);
    if (d->cells.n == CELLS_MAX)
        return err_set(e, ERR_LIMIT, "a map has at most %d cells", CELLS_MAX);
    put_cell(d, name, url, own);
    return 0;
}

static int find(const struct cells_draft *d, const char *name, struct cell **ret, struct err *e)
{
    *ret = map_get(&d->cells, name);
    return *ret ? 0 : err_set(e, -ENOENT, "there is no cell %s", name);
}

int cells_draft_change(struct cells_draft *d, const char *name, const char *url, const char *pin, struct err *e)
{
    char own[CELLS_PIN_SIZE];
    struct cell *c;
    int r = find(d, name, &c, e);
    if (r == 0)
        r = check_place(url, pin, own, e);
    if (r < 0)
        return r;
    xstr_set(&c->url, url);
    memcpy(c->pin, own, sizeof own);
    return 0;
}

int cells_draft_remove(struct cells_draft *d, const char *name, struct err *e)
{
    struct cell *c;
    int r = find(d, name, &c, e);
    if (r < 0)
        return r;
    if (c->n_tenants)
        return err_set(e, ERR_REFUSED, "cell %s has %zu tenants; move them first", name, c->n_tenants);
    map_remove(&d->cells, name);
    free_cell(c);
    return 0;
}

int cells_draft_assign(struct cells_draft *d, const char *tenant, const char *cell, bool moving, struct err *e)
{
    struct cell *c;
    int r = check_name("tenant", tenant, e);
    if (r == 0)
        r = find(d, cell, &c, e);
    if (r < 0)
        return r;
    if (d->tenants.n == CELLS_TENANTS_MAX && !map_get(&d->tenants, tenant))
        return err_set(e, ERR_LIMIT, "a map has at most %d tenants", CELLS_TENANTS_MAX);
    put_tenant(d, tenant, c, moving);
    return 0;
}

int cells_draft_forget(struct cells_draft *d, const char *tenant, struct err *e)
{
    struct tenant *t = map_remove(&d->tenants, tenant);
    if (!t)
        return err_set(e, -ENOENT, "the map does not name %s", tenant);
    t->cell->n_tenants--;
    free_tenant(t);
    return 0;
}

/* ---- as text ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(**(char *const *const *)a, **(char *const *const *)b); /* cell and tenant begin with their name */
}

static void **in_order(const struct map *m)
{
    void **v = xcalloc(m->n + 1, sizeof *v);
    size_t i = 0, n = 0;
    for (void *x; (x = map_next(m, &i));)
        v[n++] = x;
    qsort(v, n, sizeof *v, by_name);
    return v;
}

static void write_rest(const struct cells_draft *d, struct buf *out)
{
    AUTO_FREE void **cells = in_order(&d->cells);
    AUTO_FREE void **tenants = in_order(&d->tenants);
    for (size_t i = 0; i < d->cells.n; i++) {
        const struct cell *c = cells[i];
        buf_addf(out, "cell %s %s %s\n", c->name, c->url, *c->pin ? c->pin : "-");
    }
    for (size_t i = 0; i < d->tenants.n; i++) {
        const struct tenant *t = tenants[i];
        buf_addf(out, "tenant %s %s%s\n", t->name, t->cell->name, t->moving ? " moving" : "");
    }
}

void cells_draft_write(const struct cells_draft *d, struct buf *out)
{
    buf_adds(out, "mysimbdp-cells-draft 1\n");
    write_rest(d, out);
}

void cells_draft_sign(const struct cells_draft *d, uint64_t serial, int64_t from_ms, int64_t until_ms,
                      const unsigned char secret[CELLS_SECRET_BYTES], struct buf *out)
{
    unsigned char signature[crypto_sign_BYTES];
    char text[sodium_base64_ENCODED_LEN(crypto_sign_BYTES, sodium_base64_VARIANT_ORIGINAL)];
    size_t from = out->n;
    buf_addf(out, "mysimbdp-cells 1\nserial %" PRIu64 "\nfrom %" PRId64 "\nuntil %" PRId64 "\n", serial, from_ms, until_ms);
    write_rest(d, out);
    crypto_sign_detached(signature, NULL, (const unsigned char *)out->p + from, out->n - from, secret);
    sodium_bin2base64(text, sizeof text, signature, sizeof signature, sodium_base64_VARIANT_ORIGINAL);
    buf_addf(out, "signature %s\n", text);
}
