/* mysimbdp cells stats, files, page: every cell is asked over HTTP, all at once, by simbdp-cells --ask. A cell that does not answer
 * in time is said, and the others' rows are shown all the same; then the exit code is 1. */
#include "cells.h"
#include "cells_page.h"
#include "listing.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "cells/map.h"
#include "term/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>

enum { OUTPUT_MAX = 1 << 30, DEADLINE_S = 10, DEADLINE_MAX_S = 3600, LIMIT = 20, LIMIT_MAX = 1000 };

struct asking {
    struct cli *c;
    const struct cells_ask *q;
    struct cells_map *m;
    struct buf requests, rows; /* rows: a JSON array */
    struct cells_page page;
    int n_failed;
};

static const struct col stats_cols[] = {
    {"cell", COL_TEXT, 1},    {"tenant_id", COL_TEXT, 1},    {"running", COL_COUNT, 2}, {"refused_day", COL_COUNT, 3},
    {"files", COL_COUNT, 1},  {"bytes", COL_COUNT, 1},       {"rows", COL_COUNT, 2},    {"messages", COL_COUNT, 2},
    {"cpu_s", COL_NUMBER, 2}, {"instance_s", COL_NUMBER, 3}, {"map_says", COL_TEXT, 4},
};
static const struct col file_cols[] = {
    {"received_at", COL_TEXT, 2}, {"cell", COL_TEXT, 1},         {"tenant_id", COL_TEXT, 1},      {"file_id", COL_ID, 1},
    {"dataset", COL_TEXT, 2},     {"file_name", COL_LONG, 2},    {"state", COL_TEXT, 1},          {"reason", COL_LONG, 3},
    {"size_bytes", COL_COUNT, 3}, {"rows_loaded", COL_COUNT, 3}, {"rows_rejected", COL_COUNT, 4},
};

/* ---- what is asked ---- */

static void add_escaped(struct buf *b, const char *text)
{
    for (; *text; text++) {
        const char c = *text, low = (char)(c | 32);
        if ((low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || strchr("-._~", c))
            buf_add(b, text, 1);
        else
            buf_addf(b, "%%%02X", (unsigned char)c);
    }
}

static void ask_files_of(struct asking *a, const struct cells_cell *cell, const char *tenant, size_t n)
{
    char since[CLK_RFC3339_SIZE];
    struct buf *b = &a->requests;
    buf_addf(b, "%s /v1/tenants/%.*s/files?limit=%lld", cell->name, (int)n, tenant, (long long)a->q->limit);
    if (a->q->state) {
        buf_adds(b, "&state=");
        add_escaped(b, a->q->state);
    }
    if (a->q->since_ms) {
        buf_adds(b, "&since=");
        add_escaped(b, clk_rfc3339(a->q->since_ms, since));
    }
    buf_adds(b, "\n");
}

/* A cell's stand together. */
static void ask_files(struct asking *a)
{
    for (size_t i = 0; i < cells_map_n_cells(a->m); i++)
        for (size_t k = 0; k < cells_map_n_tenants(a->m); k++) {
            const struct cells_cell *cell;
            size_t n;
            bool moving;
            const char *tenant = cells_map_tenant(a->m, k, &n, &cell, &moving);
            if (cell == cells_map_cell(a->m, i) &&
                (!a->q->tenant || (n == strlen(a->q->tenant) && !memcmp(tenant, a->q->tenant, n))))
                ask_files_of(a, cell, tenant, n);
        }
}

static void ask_stats(struct asking *a)
{
    for (size_t i = 0; i < cells_map_n_cells(a->m); i++)
        buf_addf(&a->requests, "%s /v1/platform\n", cells_map_cell(a->m, i)->name);
}

/* ---- what is answered ---- */

static void add_stats(struct asking *a, const char *cell, const bson_t *body)
{
    bson_iter_t it;
    bson_t tenant, month, machine;
    const struct cells_cell *where;
    bool moving;
    if (!bson_iter_init_find(&it, body, "machine") || !json_iter_doc(&it, &machine) || !json_get_iter(&machine, "tenants", &it)) {
        fprintf(stderr, "mysimbdp cells: %s: it says nothing of its tenants\n", cell);
        a->n_failed++;
        return;
    }
    while (json_next_doc(&it, &tenant)) {
        const char *id = json_get_str(&tenant, "tenant_id", "");
        bson_iter_t at;
        bool has = bson_iter_init_find(&at, &tenant, "month") && json_iter_doc(&at, &month);
        if (a->q->tenant && strcmp(id, a->q->tenant) != 0)
            continue;
        where = cells_map_find(a->m, id, strlen(id), &moving);
        json_begin(&a->rows, NULL, '{');
        json_str(&a->rows, "cell", cell);
        json_str(&a->rows, "tenant_id", id);
        json_i64_or_null(&a->rows, "running", json_get_i64(&tenant, "running", -1));
        json_i64_or_null(&a->rows, "refused_day", json_get_i64(&tenant, "refused_day", -1));
        static const char *const counts[] = {"files", "bytes", "rows", "messages"}, *const times[] = {"cpu_s", "instance_s"};
        for (size_t i = 0; i < 4; i++)
            json_i64_or_null(&a->rows, counts[i], has ? json_get_i64(&month, counts[i], -1) : -1);
        for (size_t i = 0; i < 2; i++)
            json_f64(&a->rows, times[i], has ? json_get_f64(&month, times[i], 0) : 0);
        json_str(&a->rows, "map_says", where ? where->name : NULL);
        json_end(&a->rows, '}');
    }
}

static void add_files(struct asking *a, const char *cell, const bson_t *body)
{
    static const char *const texts[] = {"received_at", "tenant_id", "file_id", "dataset", "file_name", "state", "reason"},
                             *const counts[] = {"size_bytes", "rows_loaded", "rows_rejected"};
    bson_iter_t it;
    bson_t file;
    for (bool more = json_get_iter(body, "files", &it); more && json_next_doc(&it, &file);) {
        json_begin(&a->rows, NULL, '{');
        json_str(&a->rows, "cell", cell);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            json_str(&a->rows, texts[i], json_get_str(&file, texts[i], NULL));
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            json_i64_or_null(&a->rows, counts[i], json_get_i64(&file, counts[i], -1));
        json_end(&a->rows, '}');
    }
}

static void take_line(struct asking *a, const char *line, size_t n)
{
    AUTO_BSON bson_t *doc = json_parse(line, n, NULL);
    bson_iter_t it;
    bson_t body;
    const char *cell = doc ? json_get_str(doc, "cell", "") : "",
               *error = doc ? json_get_str(doc, "error", NULL) : "it said nothing";
    if (!error && (!bson_iter_init_find(&it, doc, "body") || !json_iter_doc(&it, &body)))
        error = "it said nothing";
    if (a->q->out)
        cells_page_add(&a->page, a->m, cell, error, &body);
    if (error) {
        fprintf(stderr, "mysimbdp cells: %s: %s\n", cell, error);
        a->n_failed++;
    } else if (a->q->out) {
        return;
    } else if (a->q->files) {
        add_files(a, cell, &body);
    } else {
        add_stats(a, cell, &body);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* They begin with the cell's name, and come as cells answered. */
static void take_lines(struct asking *a, char *text)
{
    char **lines = NULL, *save, *line = strtok_r(text, "\n", &save);
    size_t n = 0;
    for (; line; line = strtok_r(NULL, "\n", &save)) {
        lines = xgrow(lines, n, sizeof *lines);
        lines[n++] = line;
    }
    if (n)
        qsort(lines, n, sizeof *lines, by_text);
    for (size_t i = 0; i < n; i++)
        take_line(a, lines[i], strlen(lines[i]));
    free(lines);
}

/* ---- asking ---- */

static int run(struct asking *a, const char *map, const char *key, struct buf *out, struct err *e)
{
    char self[PATH_MAX], requests[64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    AUTO_FREE char *program = xasprintf("%.*ssimbdp-cells", slash ? (int)(slash + 1 - self) : 0, self);
    AUTO_FREE char *deadline = xasprintf("%lld", (long long)a->q->deadline_s);
    AUTO_FD int fd = memfd_create("requests", 0); /* the program has it, too */
    if (fd < 0 || fd_write_all(fd, a->requests.p, a->requests.n) < 0)
        return err_sys(e, -errno, "cannot keep the questions");
    snprintf(requests, sizeof requests, "/proc/self/fd/%d", fd);
    char *argv[] = {program,      "--ask",  "--map",        (char *)map, "--key", (char *)key, "--tokens", (char *)a->q->tokens,
                    "--requests", requests, "--deadline-s", deadline,    NULL};
    return spawn_output(argv, environ, out, OUTPUT_MAX, NULL, e);
}

static int ask(struct asking *a, const char *dir, struct err *e)
{
    AUTO_FREE char *map = xasprintf("%s/" CELLS_MAP, dir);
    AUTO_FREE char *key = xasprintf("%s/" CELLS_PUBLIC_FILE, dir);
    AUTO_BUF struct buf out = {0};
    unsigned char public[CELLS_PUBLIC_BYTES];
    int r = cells_key_public(AT_FDCWD, key, public, e);
    if (r == 0)
        r = cells_map_read(AT_FDCWD, map, public, &a->m, e);
    if (r < 0)
        return r;
    if (a->q->files)
        ask_files(a);
    else
        ask_stats(a);
    if (a->requests.n)
        r = run(a, map, key, &out, e);
    json_begin(&a->rows, NULL, '[');
    if (r == 0 && out.p)
        take_lines(a, out.p);
    json_end(&a->rows, ']');
    return r == 0 && a->q->out ? cells_page_write(&a->page, a->q->out, e) : r;
}

int cells_ask(struct cli *c, const struct cells_ask *q)
{
    struct err e = {0};
    struct asking a = {.c = c, .q = q};
    int r = ask(&a, q->dir, &e);
    if (r < 0)
        r = cli_fail(c, &e);
    else if (q->out)
        r = CLI_DONE;
    else if (q->files)
        r = cli_list_array(c, "files", a.rows.p, a.rows.n, file_cols, sizeof file_cols / sizeof *file_cols);
    else
        r = cli_list_array(c, "tenants", a.rows.p, a.rows.n, stats_cols, sizeof stats_cols / sizeof *stats_cols);
    buf_fini(&a.requests);
    buf_fini(&a.rows);
    cells_page_fini(&a.page);
    cells_map_free(a.m);
    return r == CLI_DONE && a.n_failed ? CLI_FAILED : r;
}

static int number(struct cli *c, const char *name, int64_t def, int64_t max, int64_t *ret)
{
    const char *text = cli_opt(c, name);
    char *end = NULL;
    *ret = text ? strtoll(text, &end, 10) : def;
    return text && (!*text || *end || *ret < 1 || *ret > max) ? cli_usage(c, "%s is 1 to %lld", name, (long long)max) : 0;
}

int cells_ask_options(struct cli *c, struct cells_ask *ret)
{
    const char *since = cli_opt(c, "--since");
    ret->tokens = cli_opt(c, "--tokens");
    ret->tenant = cli_opt(c, "--tenant");
    ret->state = cli_opt(c, "--state");
    int r = number(c, "--deadline-s", DEADLINE_S, DEADLINE_MAX_S, &ret->deadline_s);
    if (r == 0)
        r = number(c, "--limit", LIMIT, LIMIT_MAX, &ret->limit);
    if (r == 0 && since && clk_parse_since(since, &ret->since_ms) < 0)
        r = cli_usage(c, "--since %s is no time", since);
    return r;
}
