#include "platform_diff.h"

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

#include <sodium.h>
#include <string.h>

enum { HASH = crypto_generichash_BYTES_MIN };

struct value {
    unsigned char hash[HASH];
    unsigned turn;                /* when it was last there */
    bool is_null;                 /* of a program: it does not answer */
    char *program, *member, *row; /* row NULL: it is no list's element; member NULL: it is the program */
};

struct platform_diff {
    struct map values; /* program, member, row with \x1f between them -> struct value */
    unsigned turn;
};

struct platform_diff *platform_diff_new(void)
{
    return xcalloc(1, sizeof(struct platform_diff));
}

static void value_free(struct value *v)
{
    free(v->program);
    free(v->member);
    free(v->row);
    free(v);
}

void platform_diff_free(struct platform_diff *d)
{
    size_t i = 0;
    if (!d)
        return;
    for (struct value *v; (v = map_next(&d->values, &i));)
        value_free(v);
    map_fini(&d->values);
    free(d);
}

void platform_write(const struct platform_part *parts, size_t n, struct buf *out)
{
    json_begin(out, NULL, '{');
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf text = {0};
        if (parts[i].doc)
            json_from_bson(parts[i].doc, &text);
        json_raw(out, parts[i].program, text.p);
    }
    json_end(out, '}');
}

/* ---- what is there ---- */

/* Where in the document, of which the value's bytes are compared. */
struct place {
    const char *program, *member, *row;
};

/* True: it is another one than before, or new. */
static bool is_changed(struct platform_diff *d, const struct place *at, const void *p, size_t n)
{
    unsigned char hash[HASH];
    AUTO_FREE char *key = xasprintf("%s\x1f%s\x1f%s", at->program, at->member ? at->member : "", at->row ? at->row : "");
    struct value *v = map_get(&d->values, key);
    crypto_generichash(hash, sizeof hash, p, n, NULL, 0);
    if (v && v->turn == d->turn) /* twice in a list: each time it is sent, since who reads it has one of them */
        memset(v->hash, 0, sizeof v->hash);
    const bool same = v && !memcmp(v->hash, hash, sizeof hash);
    if (!v) {
        v = xcalloc(1, sizeof *v);
        *v = (struct value){.program = xstrdup(at->program),
                            .member = at->member ? xstrdup(at->member) : NULL,
                            .row = at->row ? xstrdup(at->row) : NULL};
        map_put(&d->values, key, v);
    }
    memcpy(v->hash, hash, sizeof hash);
    v->turn = d->turn;
    return !same;
}

static bool is_program_changed(struct platform_diff *d, const char *program, bool is_null)
{
    AUTO_FREE char *key = xasprintf("%s\x1f\x1f", program);
    const bool changed = is_changed(d, &(struct place){program, NULL, NULL}, &is_null, sizeof is_null);
    struct value *v = map_get(&d->values, key);
    v->is_null = is_null;
    return changed;
}

/* The value under the iterator as JSON. */
static void add_value(struct buf *out, const char *key, const bson_iter_t *it)
{
    AUTO_BUF struct buf text = {0};
    bson_t one = BSON_INITIALIZER;
    bson_append_iter(&one, "v", 1, it);
    json_from_bson(&one, &text);
    bson_destroy(&one);
    const char *from = strchr(text.p, ':');
    char *end = strrchr(text.p, '}');
    *end = 0;
    json_raw(out, key, from + 1);
}

/* NULL: it has none. */
static char *key_of(const bson_t *row)
{
    const char *tenant = json_get_str(row, "tenant_id", ""), *app = json_get_str(row, "app", NULL),
               *run = json_get_str(row, "run_id", NULL), *other = json_get_str(row, "place", json_get_str(row, "program", ""));
    if (!*tenant)
        return *other ? xstrdup(other) : NULL;
    return xasprintf("%s%s%s%s%s", tenant, app ? "/" : "", app ? app : "", run ? "/" : "", run ? run : "");
}

static bool is_list(const bson_iter_t *member)
{
    bson_iter_t it;
    bson_t row;
    if (!BSON_ITER_HOLDS_ARRAY(member) || !bson_iter_recurse(member, &it))
        return false;
    while (bson_iter_next(&it)) {
        AUTO_FREE char *key = BSON_ITER_HOLDS_DOCUMENT(&it) && json_iter_doc(&it, &row) ? key_of(&row) : NULL;
        if (!key)
            return false;
    }
    return true;
}

static void add_rows(struct platform_diff *d, const struct place *at, const bson_iter_t *member, struct buf *out)
{
    AUTO_BUF struct buf rows = {0};
    bson_iter_t it;
    bson_t row;
    /* That there is the list is a value, too: it may be empty. */
    bool changed = is_changed(d, at, "", 0);
    json_begin(&rows, NULL, '[');
    for (bson_iter_recurse(member, &it); json_next_doc(&it, &row);) {
        AUTO_FREE char *key = key_of(&row);
        if (!is_changed(d, &(struct place){at->program, at->member, key}, bson_get_data(&row), row.len))
            continue;
        AUTO_BUF struct buf text = {0};
        json_from_bson(&row, &text);
        json_raw(&rows, NULL, text.p);
        changed = true;
    }
    json_end(&rows, ']');
    if (changed)
        json_raw(out, at->member, rows.p);
}

static void add_program(struct platform_diff *d, const char *program, const bson_t *doc, struct buf *out)
{
    AUTO_BUF struct buf members = {0};
    bson_iter_t it;
    json_begin(&members, NULL, '{');
    const size_t empty = members.n;
    bool changed = is_program_changed(d, program, false);
    for (bson_iter_init(&it, doc); bson_iter_next(&it);) {
        const struct place at = {program, bson_iter_key(&it), NULL};
        if (is_list(&it))
            add_rows(d, &at, &it, &members);
        else if (is_changed(d, &at, it.raw + it.off, it.next_off - it.off)) /* with its type */
            add_value(&members, at.member, &it);
    }
    changed |= members.n > empty;
    json_end(&members, '}');
    if (changed)
        json_raw(out, program, members.p);
}

/* ---- what is not there any more ---- */

static bool is_null(struct platform_diff *d, const char *program)
{
    AUTO_FREE char *key = xasprintf("%s\x1f\x1f", program);
    const struct value *v = map_get(&d->values, key);
    return !v || v->is_null;
}

/* Of a program that is null nothing is listed: all of it is gone. */
static void add_gone(struct platform_diff *d, struct buf *out)
{
    AUTO_BUF struct buf gone = {0};
    size_t i = 0;
    json_begin(&gone, NULL, '[');
    const size_t empty = gone.n;
    for (struct value *v; (v = map_next(&d->values, &i));) {
        if (v->turn == d->turn)
            continue;
        if (v->member && !is_null(d, v->program)) {
            json_begin(&gone, NULL, '[');
            json_str(&gone, NULL, v->program);
            json_str(&gone, NULL, v->member);
            if (v->row)
                json_str(&gone, NULL, v->row);
            json_end(&gone, ']');
        }
        AUTO_FREE char *key = xasprintf("%s\x1f%s\x1f%s", v->program, v->member ? v->member : "", v->row ? v->row : "");
        map_remove(&d->values, key);
        value_free(v);
    }
    const bool any = gone.n > empty;
    json_end(&gone, ']');
    if (any)
        json_raw(out, "gone", gone.p);
}

void platform_diff(struct platform_diff *d, const struct platform_part *parts, size_t n, struct buf *out)
{
    AUTO_BUF struct buf b = {0};
    d->turn++;
    json_begin(&b, NULL, '{');
    const size_t empty = b.n;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].doc)
            add_program(d, parts[i].program, parts[i].doc, &b);
        else if (is_program_changed(d, parts[i].program, true))
            json_null(&b, parts[i].program);
    }
    add_gone(d, &b);
    const bool any = b.n > empty;
    json_end(&b, '}');
    if (any)
        buf_add(out, b.p, b.n);
}
