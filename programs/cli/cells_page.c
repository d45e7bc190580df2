#include "cells_page.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

enum { ROWS_MAX = 2000, TEXT_MAX = 500, REFRESH_S = 30 };

/* ---- HTML ---- */

/* Cut where that is no end of a character: whatever a cell says, the page is text. */
static void add_text(struct buf *b, const char *text)
{
    size_t n = strlen(text), at = n < TEXT_MAX ? n : TEXT_MAX;
    while (at < n && ((unsigned char)text[at] & 0xc0) == 0x80)
        at--;
    char *escaped = g_markup_escape_text(text, (gssize)at);
    buf_addf(b, "%s%s", escaped, at < n ? "…" : "");
    g_free(escaped);
}

static void cell_text(struct buf *b, const char *text)
{
    buf_adds(b, "<td>");
    add_text(b, text);
    buf_adds(b, "</td>");
}

/* Negative: it is not known. */
static void cell_count(struct buf *b, int64_t n)
{
    if (n < 0)
        buf_adds(b, "<td class=n>–</td>");
    else
        buf_addf(b, "<td class=n>%" PRId64 "</td>", n);
}

/* ---- what a cell says ---- */

static bool part(const bson_t *body, const char *name, bson_t *ret)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, body, name) && json_iter_doc(&it, ret);
}

struct sums {
    int64_t tenants, running, files, rows, messages, backlog, issues, alerts;
};

static void add_tenants(struct cells_page *p, const struct cells_map *m, const char *cell, const bson_t *machine, struct sums *s)
{
    bson_iter_t it;
    bson_t tenant, month;
    for (bool more = json_get_iter(machine, "tenants", &it); more && json_next_doc(&it, &tenant);) {
        const char *id = json_get_str(&tenant, "tenant_id", "");
        bool moving, has = part(&tenant, "month", &month);
        const struct cells_cell *where = cells_map_find(m, id, strlen(id), &moving);
        static const char *const names[] = {"files", "rows", "messages"};
        int64_t *const sums[] = {&s->files, &s->rows, &s->messages};
        int64_t running = json_get_i64(&tenant, "running", -1);
        const bool shown = p->n_tenants++ < ROWS_MAX;
        struct buf *b = &p->tenants;
        s->tenants++;
        if (shown) {
            buf_adds(b, "<tr>");
            cell_text(b, cell);
            cell_text(b, id);
            cell_count(b, running);
        }
        for (size_t i = 0; i < 3; i++) {
            int64_t n = has ? json_get_i64(&month, names[i], -1) : -1;
            *sums[i] += n > 0 ? n : 0;
            if (shown)
                cell_count(b, n);
        }
        if (shown) {
            cell_text(b, !where ? "not in the map" : !strcmp(where->name, cell) ? "" : where->name);
            buf_adds(b, "</tr>\n");
        }
    }
}

static void add_apps(struct cells_page *p, const char *cell, const bson_t *monitor, struct sums *s)
{
    bson_iter_t it, alerts;
    bson_t app;
    for (bool more = json_get_iter(monitor, "rows", &it); more && json_next_doc(&it, &app);) {
        const char *state = json_get_str(&app, "state", "");
        double ready = json_get_f64(&app, "ready", 0);
        s->backlog += ready > 0 && ready < 1e15 ? (int64_t)ready : 0;
        for (bool any = json_get_iter(&app, "alerts", &alerts); any && bson_iter_next(&alerts);)
            s->alerts++;
        if (strcmp(state, "warn") != 0 && strcmp(state, "stalled") != 0)
            continue;
        s->issues++;
        if (p->n_issues++ >= ROWS_MAX)
            continue;
        buf_adds(&p->issues, "<tr>");
        cell_text(&p->issues, cell);
        cell_text(&p->issues, json_get_str(&app, "tenant_id", ""));
        cell_text(&p->issues, json_get_str(&app, "app", ""));
        cell_text(&p->issues, state);
        cell_text(&p->issues, json_get_str(&app, "why", ""));
        buf_adds(&p->issues, "</tr>\n");
    }
}

static void add_link(struct buf *b, const struct cells_map *m, const char *cell)
{
    const char *url = NULL;
    for (size_t i = 0; i < cells_map_n_cells(m); i++)
        if (!strcmp(cells_map_cell(m, i)->name, cell))
            url = cells_map_cell(m, i)->url; /* signed, and http or https: lib/cells/url.c */
    buf_adds(b, "<td>");
    if (url) {
        buf_adds(b, "<a rel=noreferrer href=\"");
        add_text(b, url);
        buf_adds(b, "\">");
    }
    add_text(b, cell);
    buf_addf(b, "%s</td>", url ? "</a>" : "");
}

void cells_page_add(struct cells_page *p, const struct cells_map *m, const char *cell, const char *error, const bson_t *body)
{
    struct sums s = {0};
    bson_t batch, monitor, machine;
    struct buf *b = &p->cells;
    bool has_batch = !error && part(body, "batchmgr", &batch), has_monitor = !error && part(body, "monitor", &monitor),
         has_machine = !error && part(body, "machine", &machine);
    p->n_cells++;
    p->n_silent += error != NULL;
    if (has_machine)
        add_tenants(p, m, cell, &machine, &s);
    if (has_monitor)
        add_apps(p, cell, &monitor, &s);
    buf_addf(b, "<tr%s>", error || !has_batch || !has_monitor ? " class=bad" : "");
    add_link(b, m, cell);
    cell_text(b, error          ? error
                 : !has_batch   ? "batchmgr does not answer"
                 : !has_monitor ? "the monitor does not answer"
                                : "answers");
    cell_text(b, has_batch ? json_get_str(&batch, "intake", "") : "");
    cell_text(b, has_batch ? json_get_str(&batch, "database", "") : "");
    cell_count(b, has_machine ? s.tenants : -1);
    cell_count(b, has_batch ? json_get_i64(&batch, "running", -1) : -1);
    cell_count(b, has_batch ? json_get_i64(&batch, "queued", -1) : -1);
    cell_count(b, has_batch ? json_get_i64(&batch, "held", -1) : -1);
    cell_count(b, has_monitor ? s.backlog : -1);
    cell_count(b, has_monitor ? s.issues : -1);
    cell_count(b, has_monitor ? s.alerts : -1);
    cell_count(b, has_machine ? s.files : -1);
    cell_count(b, has_machine ? s.rows : -1);
    cell_count(b, has_machine ? s.messages : -1);
    buf_adds(b, "</tr>\n");
}

/* ---- the page ---- */

static void table(struct buf *b, const char *title, const char *heads, const struct buf *rows, int64_t n)
{
    buf_addf(b, "<h2>%s</h2>\n", title);
    if (!n) {
        buf_adds(b, "<p>none</p>\n");
        return;
    }
    buf_addf(b, "<table><thead><tr>%s</tr></thead><tbody>\n", heads);
    buf_add(b, rows->p, rows->n);
    buf_adds(b, "</tbody></table>\n");
    if (n > ROWS_MAX)
        buf_addf(b, "<p>%" PRId64 " more: <code>mysimbdp cells stats</code></p>\n", n - ROWS_MAX);
}

int cells_page_write(const struct cells_page *p, const char *path, struct err *e)
{
    char now[CLK_RFC3339_SIZE];
    AUTO_BUF struct buf b = {0};
    buf_addf(&b,
             "<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>Cells</title>\n"
             "<meta http-equiv=refresh content=%d><meta name=viewport content=\"width=device-width\">\n"
             "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
             "<style>body{font:14px system-ui,sans-serif;margin:1.5em;color-scheme:light dark}table{border-collapse:collapse}"
             "td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid "
             "#8886}.n{text-align:right;font-variant-numeric:tabular-nums}"
             ".bad td{color:#c33}</style></head><body>\n<h1>Cells</h1>\n<p>%s: %d of %d answer.</p>\n",
             REFRESH_S, clk_rfc3339(clk_wall_ms(), now), p->n_cells - p->n_silent, p->n_cells);
    table(&b, "Cells",
          "<th>cell<th>how it is<th>intake<th>database<th>tenants<th>runs<th>files queued<th>held<th>messages waiting"
          "<th>apps with issues<th>alerts<th>files this month<th>rows<th>messages",
          &p->cells, p->n_cells);
    table(&b, "What needs a look", "<th>cell<th>tenant<th>app<th>state<th>why", &p->issues, p->n_issues);
    table(&b, "Tenants, this month", "<th>cell<th>tenant<th>runs<th>files<th>rows<th>messages<th>the map says", &p->tenants,
          p->n_tenants);
    buf_adds(&b, "</body></html>\n");
    return fd_write_file(AT_FDCWD, path, b.p, b.n, 0640, e);
}

void cells_page_fini(struct cells_page *p)
{
    buf_fini(&p->cells);
    buf_fini(&p->issues);
    buf_fini(&p->tenants);
}
