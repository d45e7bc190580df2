/* The bytes of a map. Lines of ASCII, each ended by one linefeed, fields separated by one blank, nothing else anywhere:
 *
 *     mysimbdp-cells 1                   what it is, and its version
 *     serial 7                           rises with each map that is signed
 *     from 1764288000000                 ms since the epoch: when it was signed
 *     until 1766880000000                and until when it is valid
 *     cell a https://a.example:8443 PIN  of each cell, by name; PIN: 64 hexadecimal digits, or "-"
 *     tenant acme a                      of each tenant, by name; "tenant acme a moving" while it is being moved
 *     signature BASE64                   Ed25519 (RFC 8032) of all bytes before this line
 *
 * A draft begins with "mysimbdp-cells-draft 1", and has cells and tenants alone. Names rise strictly in the order of bytes, so none
 * is there twice, and one content has one spelling. The signature is looked at before anything else is believed. A file that was
 * cut has no signature; one that was changed has another one; the serial tells whether it is an older one. */
#include "map.h"

#include "base/fd.h"

#include <fcntl.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define MAGIC       "mysimbdp-cells 1\n"
#define DRAFT_MAGIC "mysimbdp-cells-draft 1\n"
#define SIGNATURE   "signature "

enum { SIGNATURE_TEXT = 88 /* 64 bytes in base64 */, SIGNATURE_LINE = 10 + SIGNATURE_TEXT + 1, N_FIELDS = 4 };

struct entry {
    uint32_t at; /* its name in the text */
    uint16_t cell;
    uint8_t n;
    bool moving;
};

struct cells_map {
    struct buf text;
    struct cells_cell *cells;
    struct entry *tenants;
    size_t n_cells, n_tenants;
    uint64_t serial;
    int64_t from_ms, until_ms;
    unsigned char hash[CELLS_HASH_BYTES];
};

struct field {
    char *p;
    size_t n;
};

struct reading {
    struct cells_map *m;
    char *at, *end;
    size_t line;
    struct field fields[N_FIELDS];
    size_t n_fields;
    struct err *e;
};

bool cells_valid_name(const char *name, size_t n)
{
    if (n < 1 || n > CELLS_NAME_MAX || name[0] < 'a' || name[0] > 'z')
        return false;
    for (size_t i = 1; i < n; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_' || name[i] == '-'))
            return false;
    return true;
}

bool cells_pin_parse(const char *text, char ret[CELLS_PIN_SIZE])
{
    size_t n = 0;
    for (const char *c = text; *c; c++) {
        char low = (char)(*c | 32);
        if (*c == ':')
            continue;
        if (n == CELLS_PIN_SIZE - 1 || !((*c >= '0' && *c <= '9') || (low >= 'a' && low <= 'f')))
            return false;
        ret[n++] = *c <= '9' ? *c : low;
    }
    ret[n] = 0;
    return n == CELLS_PIN_SIZE - 1;
}

/* ---- lines ---- */

static int bad(struct reading *r, const char *what)
{
    return err_set(r->e, ERR_FORMAT, "the map is damaged: line %zu: %s", r->line, what);
}

/* Takes the next line apart; the byte behind each field becomes NUL. */
static int take_line(struct reading *r)
{
    char *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    r->line++;
    r->n_fields = 0;
    if (!end)
        return bad(r, "it does not end");
    for (char *p = r->at; p <= end; r->n_fields++) {
        char *blank = memchr(p, ' ', (size_t)(end - p));
        char *stop = blank ? blank : end;
        if (r->n_fields == N_FIELDS || stop == p)
            return bad(r, "it has too many fields, or an empty one");
        for (const char *c = p; c < stop; c++)
            if (*c <= ' ' || *c > '~')
                return bad(r, "it has bytes that no map has");
        r->fields[r->n_fields] = (struct field){p, (size_t)(stop - p)};
        p = stop + 1;
    }
    r->at = end + 1;
    for (size_t i = 0; i < r->n_fields; i++)
        r->fields[i].p[r->fields[i].n] = 0;
    return 0;
}

static bool is(const struct field *f, const char *word)
{
    return !strcmp(f->p, word);
}

static int take_number(struct reading *r, const char *name, int64_t *ret)
{
    int64_t v = 0;
    int got = take_line(r);
    if (got < 0)
        return got;
    const struct field *f = &r->fields[1];
    if (r->n_fields != 2 || !is(&r->fields[0], name) || f->n > 18 || strspn(f->p, "0123456789") != f->n ||
        (f->n > 1 && *f->p == '0'))
        return bad(r, "serial, from and until are expected here");
    for (size_t i = 0; i < f->n; i++)
        v = v * 10 + (f->p[i] - '0');
    *ret = v;
    return 0;
}

static int take_cell(struct reading *r)
{
    struct cells_map *m = r->m;
    const struct field *f = r->fields;
    struct cells_cell c = {.name = f[1].p, .url = f[2].p};
    if (m->n_cells == CELLS_MAX)
        return err_set(r->e, ERR_LIMIT, "the map has more than %d cells", CELLS_MAX);
    if (m->n_tenants || r->n_fields != 4 || !cells_valid_name(f[1].p, f[1].n) || cells_url_parse(f[2].p, f[2].n, &c.at) < 0)
        return bad(r, "a cell is NAME URL PIN, and comes before the tenants");
    if (m->n_cells && strcmp(m->cells[m->n_cells - 1].name, c.name) >= 0)
        return bad(r, "cells have to be in order, each once");
    if (!is(&f[3], "-") && (f[3].n != CELLS_PIN_SIZE - 1 || !cells_pin_parse(f[3].p, c.pin) || strcmp(c.pin, f[3].p)))
        return bad(r, "the pin is no SHA-256");
    m->cells = xgrow(m->cells, m->n_cells, sizeof *m->cells);
    m->cells[m->n_cells++] = c;
    return 0;
}

static int find_cell(const struct cells_map *m, const char *name)
{
    size_t lo = 0, hi = m->n_cells;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(m->cells[mid].name, name);
        if (order == 0)
            return (int)mid;
        *(order < 0 ? &lo : &hi) = order < 0 ? mid + 1 : mid;
    }
    return -1;
}

static int take_tenant(struct reading *r)
{
    struct cells_map *m = r->m;
    const struct field *f = r->fields;
    bool moving = r->n_fields == 4;
    if (m->n_tenants == CELLS_TENANTS_MAX)
        return err_set(r->e, ERR_LIMIT, "the map has more than %d tenants", CELLS_TENANTS_MAX);
    if (r->n_fields < 3 || (moving && !is(&f[3], "moving")) || !cells_valid_name(f[1].p, f[1].n))
        return bad(r, "a tenant is NAME CELL, or NAME CELL moving");
    int cell = find_cell(m, f[2].p);
    if (cell < 0)
        return bad(r, "there is no such cell");
    if (m->n_tenants && strcmp(m->text.p + m->tenants[m->n_tenants - 1].at, f[1].p) >= 0)
        return bad(r, "tenants have to be in order, each once");
    m->tenants = xgrow(m->tenants, m->n_tenants, sizeof *m->tenants);
    m->tenants[m->n_tenants++] = (struct entry){(uint32_t)(f[1].p - m->text.p), (uint16_t)cell, (uint8_t)f[1].n, moving};
    return 0;
}

static int take_rest(struct reading *r)
{
    int got = 0;
    while (got == 0 && r->at < r->end) {
        got = take_line(r);
        if (got == 0)
            got = is(&r->fields[0], "cell")     ? take_cell(r)
                  : is(&r->fields[0], "tenant") ? take_tenant(r)
                                                : bad(r, "it is none that a map has");
    }
    return got;
}

/* ---- all of it ---- */

static bool begins(const struct buf *b, const char *text)
{
    return b->n >= strlen(text) && !memcmp(b->p, text, strlen(text));
}

/* The text without its last line, whose signature has to be that of what is before. */
static int check_signature(struct reading *r, const unsigned char *key)
{
    unsigned char signature[crypto_sign_BYTES];
    struct buf *b = &r->m->text;
    size_t n = b->n > SIGNATURE_LINE ? b->n - SIGNATURE_LINE : 0, got;
    const char *line = b->p + n;
    if (!n || b->p[n - 1] != '\n' || b->p[b->n - 1] != '\n' || memcmp(line, SIGNATURE, strlen(SIGNATURE)) ||
        sodium_base642bin(signature, sizeof signature, line + strlen(SIGNATURE), SIGNATURE_TEXT, NULL, &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) ||
        got != sizeof signature)
        return err_set(r->e, ERR_REFUSED, "the map is not signed, or was cut");
    if (crypto_sign_verify_detached(signature, (const unsigned char *)b->p, n, key))
        return err_set(r->e, ERR_REFUSED, "the map is not signed by this key, or was changed since");
    r->end = b->p + n;
    return 0;
}

static int take_signed(struct reading *r, const unsigned char *key)
{
    struct cells_map *m = r->m;
    int64_t serial = 0;
    int got = check_signature(r, key);
    if (got == 0)
        got = take_line(r); /* the magic */
    if (got == 0)
        got = take_number(r, "serial", &serial);
    if (got == 0)
        got = take_number(r, "from", &m->from_ms);
    if (got == 0)
        got = take_number(r, "until", &m->until_ms);
    m->serial = (uint64_t)serial;
    if (got == 0 && (!serial || m->until_ms <= m->from_ms))
        return bad(r, "serial is 1 or more, and until is later than from");
    return got;
}

int cells_map_parse(struct buf *text, const unsigned char key[CELLS_PUBLIC_BYTES], struct cells_map **ret, struct err *e)
{
    AUTO_CELLS_MAP struct cells_map *m = xcalloc(1, sizeof *m);
    m->text = *text;
    *text = (struct buf){0};
    struct reading r = {.m = m, .at = m->text.p, .end = m->text.p + m->text.n, .e = e};
    if (m->text.n > CELLS_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "the map has more than %d bytes", CELLS_BYTES_MAX);
    if (!key && begins(&m->text, MAGIC))
        return err_set(e, ERR_FORMAT, "this is a signed map, not a draft");
    if (!begins(&m->text, key ? MAGIC : DRAFT_MAGIC))
        return begins(&m->text, "mysimbdp-cells ") ? err_set(e, ERR_VERSION, "the map is of another version than 1")
                                                   : err_set(e, ERR_FORMAT, "this is no %s of cells", key ? "map" : "draft");
    crypto_generichash(m->hash, sizeof m->hash, (const unsigned char *)m->text.p, m->text.n, NULL, 0);
    int got = key ? take_signed(&r, key) : take_line(&r);
    if (got == 0)
        got = take_rest(&r);
    if (got < 0)
        return got;
    *ret = TAKE(m);
    return 0;
}

int cells_map_read(int dirfd, const char *path, const unsigned char key[CELLS_PUBLIC_BYTES], struct cells_map **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(dirfd, path, &b, CELLS_BYTES_MAX, e);
    if (r == 0 && !b.n)
        r = err_set(e, ERR_FORMAT, "it is empty");
    if (r == 0)
        r = cells_map_parse(&b, key, ret, e);
    if (r < 0)
        err_context(e, "%s", path);
    return r;
}

void cells_map_free(struct cells_map *m)
{
    if (!m)
        return;
    buf_fini(&m->text);
    free(m->cells);
    free(m->tenants);
    free(m);
}

int cells_map_check_time(const struct cells_map *m, int64_t wall_ms, struct err *e)
{
    if (wall_ms >= m->until_ms)
        return err_set(e, ERR_REFUSED, "the map has expired; `mysimbdp cells sign` makes a new one");
    if (wall_ms + CELLS_AHEAD_MS < m->from_ms)
        return err_set(e, ERR_REFUSED, "the map was signed in the future; one of the clocks is wrong");
    return 0;
}

const struct cells_cell *cells_map_find(const struct cells_map *m, const char *tenant, size_t n, bool *ret_moving)
{
    size_t lo = 0, hi = m->n_tenants;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct entry *t = &m->tenants[mid];
        int order = memcmp(m->text.p + t->at, tenant, t->n < n ? t->n : n);
        if (order == 0 && t->n == n) {
            *ret_moving = t->moving;
            return &m->cells[t->cell];
        }
        if (order == 0)
            order = t->n < n ? -1 : 1;
        *(order < 0 ? &lo : &hi) = order < 0 ? mid + 1 : mid;
    }
    return NULL;
}

size_t cells_map_n_cells(const struct cells_map *m)
{
    return m->n_cells;
}

size_t cells_map_n_tenants(const struct cells_map *m)
{
    return m->n_tenants;
}

const struct cells_cell *cells_map_cell(const struct cells_map *m, size_t i)
{
    return &m->cells[i];
}

const char *cells_map_tenant(const struct cells_map *m, size_t i, size_t *ret_n, const struct cells_cell **ret_cell,
                             bool *ret_moving)
{
    const struct entry *t = &m->tenants[i];
    *ret_n = t->n;
    *ret_cell = &m->cells[t->cell];
    *ret_moving = t->moving;
    return m->text.p + t->at;
}

uint64_t cells_map_serial(const struct cells_map *m)
{
    return m->serial;
}

int64_t cells_map_from_ms(const struct cells_map *m)
{
    return m->from_ms;
}

int64_t cells_map_until_ms(const struct cells_map *m)
{
    return m->until_ms;
}

const unsigned char *cells_map_hash(const struct cells_map *m)
{
    return m->hash;
}
