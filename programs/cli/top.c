/* mysimbdp top: what the monitor's board shows, live. */
#include "cli.h"
#include "ledger.h"
#include "term/colour.h"
#include "term/table.h"
#include "term/text.h"

#include "base/clk.h"
#include "base/mem.h"
#include "conf/metric.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <ncurses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REFRESH_MS = 1000 };

struct row {
    const char *tenant, *app, *state, *why, *reason;
    double v[N_METRICS];
    int64_t decision;
};

struct view {
    enum metric sort;
    bool reversed, issues;
    size_t top; /* the first row shown */
    bson_t *doc;
    struct row *rows;
    size_t n;
};

/* ---- the board ---- */

static bool is_issue(const char *state)
{
    return strcmp(state, "OK") != 0 && strcmp(state, "STOPPED") != 0;
}

static void read_rows(struct view *v)
{
    bson_iter_t it;
    bson_t one;
    v->n = 0;
    if (!v->doc || !json_get_iter(v->doc, "rows", &it))
        return;
    while (json_next_doc(&it, &one)) {
        struct row r = {json_get_str(&one, "tenant_id", ""), json_get_str(&one, "app", ""),    json_get_str(&one, "state", ""),
                        json_get_str(&one, "why", NULL),     json_get_str(&one, "reason", ""), {0},
                        json_get_i64(&one, "decision", -1)};
        for (int m = 0; m < N_METRICS; m++)
            r.v[m] = json_get_f64(&one, metric_name((enum metric)m), NAN);
        if (v->issues && !is_issue(r.state))
            continue;
        v->rows = xgrow(v->rows, v->n, sizeof *v->rows);
        v->rows[v->n++] = r;
    }
}

static int rank(const char *state)
{
    static const char *const order[] = {"STALLED", "WARN", "OK", "STOPPED"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(state, order[i]))
            return i;
    return 4;
}

static int by_name(const struct row *a, const struct row *b)
{
    int c = strcmp(a->tenant, b->tenant);
    return c ? c : strcmp(a->app, b->app);
}

/* Sort order: texts ascending, figures descending, so that the busiest rows come first; unknown figures last. */
static int by_column(const void *pa, const void *pb, void *arg)
{
    const struct row *a = pa, *b = pb;
    const struct view *v = arg;
    double x = a->v[v->sort], y = b->v[v->sort];
    int c = 0;
    if (v->sort == METRIC_state)
        c = rank(a->state) - rank(b->state);
    else if (v->sort == METRIC_app)
        c = strcmp(a->app, b->app);
    else if (!metric_is_text(v->sort))
        c = isnan(x) || isnan(y) ? isnan(x) - isnan(y) : x < y ? 1 : x > y ? -1 : 0;
    return (v->reversed ? -c : c) ? (v->reversed ? -c : c) : by_name(a, b);
}

static void arrange(struct view *v)
{
    read_rows(v);
    if (v->n)
        qsort_r(v->rows, v->n, sizeof *v->rows, by_column, v);
}

/* ---- lines of text ---- */

static void figure(struct buf *b, double v, int width, const char *format)
{
    char cell[32] = "-";
    if (!isnan(v))
        snprintf(cell, sizeof cell, format, v);
    buf_addf(b, " %*s", width, cell);
}

/* Columns beside state and name. A terminal that is too narrow leaves out those of the highest rank first. */
static const struct column {
    const char *name;
    int width, rank;
    enum metric metric;
    const char *format;
} columns[] = {
    {"IN/S", 8, 1, METRIC_in_per_s, "%.1f"},        {"ACKED/S", 8, 1, METRIC_acked_per_s, "%.1f"},
    {"READY", 8, 1, METRIC_ready, "%.0f"},          {"LEASED", 7, 4, METRIC_leased, "%.0f"},
    {"OLDEST", 6, 2, METRIC_oldest_age_s, "%.0fs"}, {"DRAIN", 6, 5, METRIC_drain_s, "%.0fs"},
    {"INST", 6, 1, METRIC_instances, NULL},         {"AVG ms", 8, 6, METRIC_avg_ms, "%.2f"},
    {"P99 ms", 8, 7, METRIC_p99_ms, "%.2f"},        {"ERR", 4, 3, METRIC_errors, "%.0f"},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns, NAME_END = 32, DECISION_INDENT = 8 };
static const char decision_name[] = "DECISION";

/* The highest rank of columns that fit the width (0: all fit). */
static int rank_shown(size_t room)
{
    for (int rank = 9; room && rank > 1; rank--) {
        size_t n = NAME_END;
        for (size_t k = 0; k < N_COLUMNS; k++)
            n += columns[k].rank <= rank ? (size_t)columns[k].width + 1 : 0;
        if (n <= room)
            return rank;
    }
    return room ? 1 : 9;
}

static void add_header(struct buf *b, size_t room)
{
    buf_addf(b, "%-7s %-24s", "STATE", "TENANT/APP");
    for (size_t k = 0; k < N_COLUMNS; k++)
        if (columns[k].rank <= rank_shown(room))
            buf_addf(b, " %*s", columns[k].width, columns[k].name);
    if (!room || b->n + 2 + strlen(decision_name) <= room)
        buf_addf(b, "  %s", decision_name);
}

static void add_figure(struct buf *b, const struct row *r, const struct column *c)
{
    char inst[32] = "-";
    if (c->format) {
        figure(b, r->v[c->metric], c->width, c->format);
        return;
    }
    if (!isnan(r->v[METRIC_instances]))
        snprintf(inst, sizeof inst, "%.0f/%.0f", r->v[METRIC_instances], r->v[METRIC_desired]);
    buf_addf(b, " %*s", c->width, inst);
}

/* The last decision is never cut: it follows the figures, or stands on lines of its own where it is too long. */
static void add_row(struct buf *b, const struct row *r, size_t room)
{
    AUTO_BUF struct buf decision = {0};
    AUTO_FREE char *name = xasprintf("%s/%s", r->tenant, r->app);
    buf_addf(b, "%-7s %-24.24s", r->state, name);
    for (size_t k = 0; k < N_COLUMNS; k++)
        if (columns[k].rank <= rank_shown(room))
            add_figure(b, r, &columns[k]);
    if (r->decision >= 0)
        buf_addf(&decision, "%lld: ", (long long)r->decision);
    buf_addf(&decision, "%s%s%s%s", r->reason, r->why ? "  [" : "", r->why ? r->why : "", r->why ? "]" : "");
    buf_make_plain(&decision, 0);
    buf_make_plain(b, 0);
    size_t at = b->n + 2;
    if (room && at + table_width(decision.p) > room) {
        buf_addf(b, "\n%*s", DECISION_INDENT, "");
        table_fold(b, decision.p, DECISION_INDENT, DECISION_INDENT, room);
    } else {
        buf_addf(b, "  %s", decision.p);
    }
}

/* The next tenant that has files; false: none. */
static bool next_batch(bson_iter_t *it, bool issues, struct buf *b)
{
    bson_t t;
    while (json_next_doc(it, &t)) {
        const char *why = json_get_str(&t, "waits_for", NULL);
        if (!json_get_i64(&t, "unfinished", 0))
            continue;
        if (issues && !why)
            continue;
        buf_addf(b, "%-24s %8lld %8lld %8lld %10lld  %s", json_get_str(&t, "tenant_id", ""),
                 (long long)json_get_i64(&t, "queued", 0), (long long)json_get_i64(&t, "held", 0),
                 (long long)json_get_i64(&t, "running", 0), (long long)json_get_i64(&t, "unfinished", 0), why ? why : "");
        return true;
    }
    return false;
}

/* The next app whose runs report. */
static bool next_batch_app(bson_iter_t *it, bool issues, struct buf *b)
{
    bson_t a;
    if (issues || !json_next_doc(it, &a))
        return false;
    AUTO_FREE char *name = xasprintf("%s/%s", json_get_str(&a, "tenant_id", ""), json_get_str(&a, "app", ""));
    buf_addf(b, "%-24s %8lld", name, (long long)json_get_i64(&a, "reporting", 0));
    figure(b, json_get_f64(&a, "acked_per_s", NAN), 9, "%.1f");
    figure(b, json_get_f64(&a, "avg_ms", NAN), 8, "%.2f");
    figure(b, json_get_f64(&a, "p99_ms", NAN), 8, "%.2f");
    figure(b, json_get_f64(&a, "errors", NAN), 4, "%.0f");
    buf_addf(b, "  %s", json_get_str(&a, "error", ""));
    return true;
}

/* Reports that were refused, a line a tenant. */
static bool next_refused(bson_iter_t *it, bool issues, struct buf *b)
{
    bson_t t;
    bson_iter_t field;
    (void)issues; /* every refusal is an issue */
    if (!json_next_doc(it, &t) || !bson_iter_init(&field, &t))
        return false;
    const char *tenant = json_get_str(&t, "tenant_id", "");
    buf_addf(b, "reports refused of %s:", *tenant ? tenant : "(unknown)");
    while (bson_iter_next(&field))
        if (strcmp(bson_iter_key(&field), "taken") != 0 && BSON_ITER_HOLDS_INT(&field) && bson_iter_as_int64(&field))
            buf_addf(b, " %s %lld", bson_iter_key(&field), (long long)bson_iter_as_int64(&field));
    buf_addf(b, "; the last: %s", json_get_str(&t, "last", ""));
    return true;
}

/* The blocks below the stream apps: tenants whose files wait, batch apps that report, refused reports. */
static const struct section {
    const char *key, *header; /* heading of the block; NULL: none */
    bool (*next)(bson_iter_t *it, bool issues, struct buf *b);
} sections[] = {
    {"batch", "FILES OF TENANT            QUEUED     HELD  RUNNING UNFINISHED  WAITS FOR", next_batch},
    {"batch_apps", "BATCH APP               REPORTING    DONE/S   AVG ms   P99 ms  ERR  LAST ERROR", next_batch_app},
    {"refused", NULL, next_refused},
};

static bool is_header(const char *line)
{
    for (size_t k = 0; k < sizeof sections / sizeof *sections; k++)
        if (sections[k].header && !strcmp(line, sections[k].header))
            return true;
    return false;
}

static size_t add_section(const struct view *v, const struct section *s, size_t room, struct buf *out)
{
    bson_iter_t it;
    size_t lines = 0;
    if (!json_get_iter(v->doc, s->key, &it))
        return 0;
    for (;; lines++) {
        AUTO_BUF struct buf b = {0};
        if (!s->next(&it, v->issues, &b))
            return lines;
        if (lines == 0 && s->header) {
            buf_addf(out, "%s\n", s->header);
            lines++;
        }
        buf_make_plain(&b, 0);
        table_fold(out, b.p, 0, DECISION_INDENT, room);
        buf_adds(out, "\n");
    }
}

static bool add_below(const struct view *v, size_t room, struct buf *out)
{
    size_t lines = 0;
    for (size_t k = 0; v->doc && k < sizeof sections / sizeof *sections; k++)
        lines += add_section(v, &sections[k], room, out);
    return lines > 0;
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; text && (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* ---- once ---- */

static void print_json(const struct view *v)
{
    static const char *const kinds[][2] = {
        {"rows", "app"}, {"batch", "batch"}, {"batch_apps", "batch_app"}, {"refused", "reports"}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        bson_iter_t it;
        bson_t one;
        if (!json_get_iter(v->doc, kinds[k][0], &it))
            continue;
        while (json_next_doc(&it, &one)) {
            AUTO_BUF struct buf b = {0};
            if (v->issues && k == 0 && !is_issue(json_get_str(&one, "state", "")))
                continue;
            json_from_bson(&one, &b);
            printf("{\"kind\":\"%s\",%s\n", kinds[k][1], b.p + 1 + strspn(b.p + 1, " "));
        }
    }
}

static void print_text(struct view *v)
{
    const size_t room = table_room();
    AUTO_BUF struct buf header = {0};
    arrange(v);
    add_header(&header, room);
    puts(header.p);
    for (size_t i = 0; i < v->n; i++) {
        AUTO_BUF struct buf b = {0};
        const char *state = v->rows[i].state;
        add_row(&b, &v->rows[i], room);
        colour_print(b.p, b.n, 0, strlen(state), colour_of_state(state));
        puts("");
    }
    AUTO_BUF struct buf below = {0};
    if (add_below(v, room, &below))
        printf("\n%s", below.p);
}

/* ---- the screen ---- */

static bool has_palette;

static void put(int y, const char *text, int attributes)
{
    attron(attributes);
    mvaddnstr(y, 0, text, COLS);
    attroff(attributes);
}

/* What is wrong stands out without colours, too. */
static int attributes_of(const char *state)
{
    const enum colour colour = colour_of_state(state);
    const int plain = colour == COLOUR_bad ? (int)A_STANDOUT : colour == COLOUR_wait ? (int)A_BOLD : (int)A_NORMAL;
    return has_palette ? plain | (int)COLOR_PAIR(colour) : plain;
}

/* Pairs are numbered as enum colour is. */
static void begin_palette(void)
{
    static const struct {
        enum colour colour;
        short of;
    } pairs[] = {{COLOUR_good, COLOR_GREEN}, {COLOUR_busy, COLOR_CYAN}, {COLOUR_wait, COLOR_YELLOW}, {COLOUR_bad, COLOR_RED}};
    has_palette = colour_is_wanted() && has_colors() && start_color() == OK && use_default_colors() == OK;
    for (size_t i = 0; has_palette && i < sizeof pairs / sizeof *pairs; i++)
        init_pair((short)pairs[i].colour, pairs[i].of, -1);
    if (has_palette)
        init_pair(COLOUR_faint, -1, -1);
}

/* Draws the row's lines, as far as there is room. */
static int draw_row(const struct row *r, int y, int end)
{
    AUTO_BUF struct buf b = {0};
    add_row(&b, r, (size_t)COLS);
    char *at = b.p;
    for (char *l; y < end && (l = strsep(&at, "\n")); y++)
        put(y, l, attributes_of(r->state));
    return y;
}

static void draw_head(const struct view *v, const char *home, const char *trouble)
{
    char line[512];
    AUTO_BUF struct buf header = {0};
    snprintf(line, sizeof line, "mysimbdp top  %s  %s  %zu apps%s  sorted by %s%s", home,
             v->doc ? json_get_str(v->doc, "at", "") : "", v->n, v->issues ? " with issues" : "", metric_name(v->sort),
             v->reversed ? ", reversed" : "");
    put(0, line, A_BOLD);
    if (trouble)
        put(1, trouble, A_STANDOUT);
    add_header(&header, (size_t)COLS);
    put(2, header.p, A_REVERSE);
}

static void draw(const struct view *v, const char *home, const char *trouble)
{
    int y = 3, left = LINES - 5;
    erase();
    draw_head(v, home, trouble);
    AUTO_BUF struct buf below = {0};
    add_below(v, (size_t)COLS, &below);
    int n_below = count_lines(below.p), room = left / 3 + 1;
    n_below = n_below < room ? n_below : room;
    for (size_t i = v->top; i < v->n && y < LINES - 1 - n_below; i++)
        y = draw_row(&v->rows[i], y, LINES - 1 - n_below);
    char *at = below.p;
    for (char *l; y < LINES - 1 && at && (l = strsep(&at, "\n")) && *l; y++)
        put(y, l, is_header(l) ? A_REVERSE : A_NORMAL);
    put(LINES - 1, "q quit  s/S sort by next/previous column  r reverse  i issues  arrows, PgUp/PgDn", A_DIM);
    refresh();
}

static enum metric next_sort(enum metric m, int step)
{
    do
        m = (enum metric)(((int)m + step + N_METRICS) % N_METRICS);
    while (m == METRIC_stream);
    return m;
}

/* False: the user wants to leave. */
static bool on_key(struct view *v, int key)
{
    size_t page = LINES > 8 ? (size_t)LINES - 6 : 1;
    if (key == 'q' || key == 'Q' || key == 27)
        return false;
    if (key == 's' || key == 'S')
        v->sort = next_sort(v->sort, key == 's' ? 1 : -1);
    else if (key == 'r')
        v->reversed = !v->reversed;
    else if (key == 'i')
        v->issues = !v->issues;
    else if (key == KEY_DOWN || key == 'j')
        v->top++;
    else if ((key == KEY_UP || key == 'k') && v->top)
        v->top--;
    else if (key == KEY_NPAGE)
        v->top += page;
    else if (key == KEY_PPAGE)
        v->top -= v->top < page ? v->top : page;
    arrange(v);
    if (v->top >= v->n)
        v->top = v->n ? v->n - 1 : 0;
    return true;
}

static int live(struct cli *c, const struct home *h, struct view *v, const char *request)
{
    struct err e = {0};
    int fd = -1;
    setlocale(LC_ALL, "");
    text_unguard(); /* curses writes escape sequences of its own, and shows those in names itself */
    if (!isatty(STDOUT_FILENO) || !initscr())
        return err_set(&e, ERR_USAGE, "this is no terminal; `mysimbdp top --once` prints it once"), cli_fail(c, &e);
    begin_palette();
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    set_escdelay(25);
    int64_t asked_ms = 0;
    for (bool go = true; go;) {
        int64_t now = clk_now_ms();
        if (now - asked_ms >= REFRESH_MS) {
            bson_t *next = NULL;
            asked_ms = now;
            e = (struct err){0};
            if (fd < 0)
                fd = cli_connect(h, "monitor.sock", &e);
            if (fd >= 0 && cli_exchange(fd, request, &next, &e) < 0) {
                close(fd);
                fd = -1;
            }
            if (next) {
                if (v->doc)
                    bson_destroy(v->doc);
                v->doc = next;
                arrange(v);
            }
        }
        draw(v, h->path, e.code ? e.msg : NULL);
        timeout((int)(REFRESH_MS - (clk_now_ms() - asked_ms) > 0 ? REFRESH_MS - (clk_now_ms() - asked_ms) : 0));
        int key = getch();
        go = key == ERR || on_key(v, key);
    }
    endwin();
    if (fd >= 0)
        close(fd);
    return CLI_DONE;
}

int verb_top(struct cli *c)
{
    struct home h;
    struct err e = {0};
    struct view v = {.sort = METRIC_state};
    AUTO_BUF struct buf rq = {0};
    const char *sort = cli_opt(c, "--sort"), *tenant = cli_opt(c, "--tenant");
    bool once = cli_flag(c, "--once");
    v.issues = cli_flag(c, "--issues");
    int column = sort ? metric_find(sort, strlen(sort)) : METRIC_state, r = cli_args(c, 0, 0);
    if (r)
        return r;
    if (column < 0)
        return cli_usage(c, "no column \"%s\"; `mysimbdp check --keys` lists them", sort);
    v.sort = (enum metric)column;
    if (cli_home_of_tenant(c, &h, tenant))
        return CLI_FAILED;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", "board");
    if (tenant)
        json_str(&rq, "tenant_id", tenant);
    json_end(&rq, '}');
    if (!once && !c->json) {
        r = live(c, &h, &v, rq.p);
    } else if (cli_request(&h, "monitor.sock", rq.p, &v.doc, &e) < 0) {
        r = cli_fail(c, &e);
    } else if (c->json) {
        print_json(&v);
    } else {
        print_text(&v);
    }
    if (v.doc)
        bson_destroy(v.doc);
    free(v.rows);
    home_close(&h);
    return r;
}
