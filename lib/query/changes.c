#include "changes.h"
#include "objects.h"

#include "base/clk.h"
#include "base/map.h"
#include "base/mem.h"
#include "host/home.h"
#include "term/colour.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KNOWN = 100000, STATE = 11, STAMP = 19, TIME_AT = 11, NAME = 40, INDENT = 4 };

struct known {
    char id[ID_SIZE], state[32];
    unsigned look; /* in which it was seen last */
};

struct changes {
    const struct records *of;
    struct map rows; /* id -> struct known */
    unsigned look;
    bool first;
    int n_alone;
    size_t at;
};

struct changes *changes_new(const struct records *of)
{
    struct changes *c = xcalloc(1, sizeof *c);
    c->of = of;
    return c;
}

static void forget_all(struct changes *c)
{
    size_t i = 0;
    for (struct known *k; (k = map_next(&c->rows, &i));)
        free(k);
    map_fini(&c->rows);
}

void changes_free(struct changes *c)
{
    if (!c)
        return;
    forget_all(c);
    free(c);
}

void changes_begin(struct changes *c)
{
    c->first = c->look == 0 || c->rows.n > MAX_KNOWN;
    if (c->first)
        forget_all(c);
    c->look++;
    c->n_alone = 0;
    c->at = 0;
}

static bool is_on_its_way(const struct changes *c, const char *state)
{
    static const char *const files[] = {"received", "queued", "running", "waiting"};
    if (c->of == &records_runs)
        return strcmp(state, "ended") != 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strcmp(state, files[i]))
            return true;
    return false;
}

/* What a run came to is more than that it ended. */
static const char *state_of(const struct changes *c, const bson_t *row)
{
    const char *state = json_get_str(row, "state", "?"), *outcome = json_get_str(row, "outcome", "");
    return c->of == &records_runs && *outcome ? outcome : state;
}

bool changes_take(struct changes *c, const bson_t *row)
{
    const char *id = json_get_str(row, c->of->id, ""), *state = json_get_str(row, "state", "");
    struct known *k = map_get(&c->rows, id);
    if (!home_valid_id(id))
        return false;
    const bool same = k && !strcmp(k->state, state);
    if (!k) {
        k = xcalloc(1, sizeof *k);
        snprintf(k->id, sizeof k->id, "%s", id);
        map_put(&c->rows, id, k);
    }
    snprintf(k->state, sizeof k->state, "%s", state);
    k->look = c->look;
    return !same && !c->first;
}

const char *changes_missing(struct changes *c)
{
    if (c->n_alone == CHANGES_MAX_ALONE)
        return NULL;
    for (struct known *k; (k = map_next(&c->rows, &c->at));)
        if (k->look != c->look && is_on_its_way(c, k->state)) {
            k->look = c->look;
            c->n_alone++;
            return k->id;
        }
    return NULL;
}

void changes_end(struct changes *c)
{
    c->first = false;
}

static char *shown(const bson_t *row, const char *key, size_t room)
{
    AUTO_FREE char *plain = table_plain(json_get_str(row, key, "?"));
    return room ? table_shorten(plain, NAME) : xstrdup(plain);
}

/* Whose it is, and what of it. */
static void add_name(const struct changes *c, struct buf *b, const bson_t *row, size_t room)
{
    const bool file = c->of == &records_files;
    const char *tenant = json_get_str(row, "tenant_id", "");
    AUTO_FREE char *name = shown(row, file ? "file_name" : "app", room);
    if (*tenant)
        buf_addf(b, "%s/", tenant);
    if (file)
        buf_addf(b, "%s/", json_get_str(row, "dataset", "?"));
    buf_adds(b, name);
}

void changes_print(const struct changes *c, const bson_t *row, bool json)
{
    char stamp[CLK_RFC3339_SIZE];
    AUTO_BUF struct buf b = {0}, lines = {0};
    if (json) {
        json_from_bson(row, &b);
        puts(b.p);
        return;
    }
    const size_t room = table_room();
    const char *state = state_of(c, row);
    clk_rfc3339(clk_wall_ms(), stamp);
    buf_addf(&b, "%.*s  %s  ", room ? STAMP - TIME_AT : STAMP, room ? stamp + TIME_AT : stamp, json_get_str(row, c->of->id, "?"));
    const size_t from = b.n;
    buf_addf(&b, "%-*s  ", STATE, state);
    add_name(c, &b, row, room);
    AUTO_FREE char *why = c->of == &records_files ? object_cell(row, &(struct col){"why", COL_WORDS, 1})
                                                  : object_cell(row, &(struct col){"error", COL_LONG, 1});
    AUTO_FREE char *plain = why ? table_plain(why) : NULL;
    if (plain)
        buf_addf(&b, ": %s", plain);
    table_fold(&lines, b.p, 0, INDENT, room);
    colour_print(lines.p, lines.n, from, from + strlen(state), colour_of_state(state));
    puts("");
}
