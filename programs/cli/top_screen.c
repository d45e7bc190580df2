/* The screen of `mysimbdp top`. It is drawn as answers come, and no key waits for one: who is away is asked again each second. */
#include "cli.h"
#include "term/colour.h"
#include "term/plot.h"
#include "term/table.h"
#include "term/text.h"
#include "top.h"
#include "top_link.h"

#include "base/clk.h"
#include "base/mem.h"

#include <errno.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>

/* What ncurses declares there has macros of short names. */
#undef lines
#undef columns

enum { REFRESH_MS = 1000, DETAIL_MS = 2000, PATIENCE_MS = 3000, PLAIN_MS = 5000, ESCAPE_MS = 25 };
enum { KEY_ESCAPE = 27, HEAD = 3, MAX_LAYOUT = 4096 /* columns */ };

enum question { ASKS_board, ASKS_history, ASKS_app, N_QUESTIONS };

struct screen {
    const struct home *h;
    struct top_board *v;
    const char *tenant;
    char *selected;            /* "tenant/app"; NULL: the first */
    size_t top;                /* the first row shown */
    struct top_detail *detail; /* NULL: the board is shown */
    struct top_link monitor, streammgr;
    enum question asked; /* of the monitor */
    int64_t due_ms[N_QUESTIONS], due_streammgr_ms;
    char *trouble; /* with the monitor; NULL: none */
    bool blocks, palette;
};

/* ---- asking ---- */

static void ask_monitor(struct screen *s, int64_t now_ms)
{
    static const char *const ops[] = {[ASKS_board] = "board", [ASKS_history] = "history"};
    static const int every_ms[] = {[ASKS_board] = REFRESH_MS, [ASKS_history] = TREND_SLOT_MS, [ASKS_app] = REFRESH_MS};
    struct err e = {0};
    AUTO_BUF struct buf rq = {0}, other = {0};
    int q = 0;
    while (q < N_QUESTIONS && (s->due_ms[q] > now_ms || (q == ASKS_app && !s->detail) || (q == ASKS_history && !s->v->doc)))
        q++;
    if (s->monitor.waits || q == N_QUESTIONS)
        return;
    if (q == ASKS_app)
        top_detail_requests(s->detail, &other, &rq);
    else
        top_add_request(&rq, ops[q], s->tenant);
    s->asked = (enum question)q;
    s->due_ms[q] = now_ms + every_ms[q];
    if (top_link_ask(&s->monitor, rq.p, &e) < 0)
        xstr_set(&s->trouble, e.msg);
}

static void ask_streammgr(struct screen *s, int64_t now_ms)
{
    struct err e = {0};
    AUTO_BUF struct buf rq = {0}, other = {0};
    if (!s->detail || s->streammgr.waits || s->due_streammgr_ms > now_ms)
        return;
    s->due_streammgr_ms = now_ms + DETAIL_MS;
    top_detail_requests(s->detail, &rq, &other);
    if (top_link_ask(&s->streammgr, rq.p, &e) < 0)
        top_detail_take_instances(s->detail, NULL, e.msg);
}

static void take_monitor(struct screen *s)
{
    struct err e = {0};
    bson_t *doc = NULL;
    const int r = s->monitor.waits ? top_link_take(&s->monitor, &doc, &e) : -EAGAIN;
    if (r == -EAGAIN)
        return;
    if (r < 0 && s->asked == ASKS_board)
        xstr_set(&s->trouble, e.msg);
    if (!doc)
        return;
    if (s->asked == ASKS_board) {
        xstr_set(&s->trouble, NULL);
        top_board_take(s->v, doc);
    } else if (s->asked == ASKS_app && s->detail) {
        top_detail_take_reports(s->detail, doc);
    } else {
        if (s->asked == ASKS_history)
            top_board_take_history(s->v, doc);
        bson_destroy(doc);
    }
}

static void take_streammgr(struct screen *s)
{
    struct err e = {0};
    bson_t *doc = NULL;
    const int r = s->streammgr.waits ? top_link_take(&s->streammgr, &doc, &e) : -EAGAIN;
    if (r == -EAGAIN)
        return;
    if (s->detail)
        top_detail_take_instances(s->detail, doc, r < 0 ? e.msg : NULL);
    else if (doc)
        bson_destroy(doc);
}

/* Answers to what is not asked any more are not taken for others. */
static void forget_answers(struct screen *s)
{
    if (s->streammgr.waits) {
        top_link_fini(&s->streammgr);
        top_link_init(&s->streammgr, s->h, "streammgr.sock");
    }
    if (s->monitor.waits && s->asked == ASKS_app) {
        top_link_fini(&s->monitor);
        top_link_init(&s->monitor, s->h, "monitor.sock");
    }
    s->due_streammgr_ms = s->due_ms[ASKS_app] = 0;
}

/* ---- drawing ---- */

static void put(int y, const char *text, int attributes)
{
    attron(attributes);
    mvaddnstr(y, 0, text, (int)table_bytes_within(text, (size_t)COLS));
    attroff(attributes);
}

/* What is wrong stands out without colours, too. */
static int attributes_of(const struct screen *s, const char *state)
{
    const enum colour colour = colour_of_state(state);
    const int plain = colour == COLOUR_bad ? (int)A_STANDOUT : colour == COLOUR_wait ? (int)A_BOLD : (int)A_NORMAL;
    return s->palette ? plain | (int)COLOR_PAIR(colour) : plain;
}

/* Pairs are numbered as enum colour is. */
static bool begin_palette(void)
{
    static const struct {
        enum colour colour;
        short of;
    } pairs[] = {{COLOUR_good, COLOR_GREEN}, {COLOUR_busy, COLOR_CYAN}, {COLOUR_wait, COLOR_YELLOW}, {COLOUR_bad, COLOR_RED}};
    if (!colour_is_wanted() || !has_colors() || start_color() != OK || use_default_colors() != OK)
        return false;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        init_pair((short)pairs[i].colour, pairs[i].of, -1);
    init_pair(COLOUR_faint, -1, -1);
    return true;
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; text && (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* Returns the line below, after one that is blank or says what is wrong. */
static int draw_title(const struct screen *s, const char *what)
{
    enum { MAX_TROUBLE = 3, ROOMY = 100, STAMP = 19, DATE = 11 };
    int y = 1;
    const struct top_board *v = s->v;
    AUTO_FREE char *home = table_shorten(s->h->path, COLS > 120 ? 60 : 24);
    const char *at = v->doc ? json_get_str(v->doc, "at", "") : "";
    const size_t date = COLS < ROOMY && strlen(at) > DATE ? DATE : 0; /* left out where room is scarce */
    AUTO_FREE char *line = xasprintf("mysimbdp top  %s  %.*s  %s", home, STAMP - (int)date, at + date, what);
    put(0, line, A_BOLD);
    if (!s->trouble)
        return HEAD - 1;
    AUTO_BUF struct buf trouble = {0};
    table_fold(&trouble, s->trouble, 0, 0, (size_t)COLS);
    char *rest = trouble.p;
    for (char *l; y <= MAX_TROUBLE && (l = strsep(&rest, "\n")); y++)
        put(y, l, A_STANDOUT);
    return y;
}

/* Draws the row's lines, as far as there is room. */
static int draw_row(const struct screen *s, const struct top_row *r, const struct top_layout *l, bool selected, int y, int end)
{
    AUTO_BUF struct buf b = {0};
    top_add_row(&b, s->v, r, l, selected);
    char *at = b.p;
    const int attributes = attributes_of(s, r->state);
    for (char *line; y < end && (line = strsep(&at, "\n")); y++, selected = false)
        put(y, line, selected ? attributes | (int)A_REVERSE : attributes);
    return y;
}

static size_t selected_row(const struct screen *s)
{
    for (size_t i = 0; s->selected && i < s->v->n; i++) {
        AUTO_FREE char *name = xasprintf("%s/%s", s->v->rows[i].tenant, s->v->rows[i].app);
        if (!strcmp(name, s->selected))
            return i;
    }
    return 0;
}

static void select_row(struct screen *s, size_t i)
{
    free(s->selected);
    s->selected = i < s->v->n ? xasprintf("%s/%s", s->v->rows[i].tenant, s->v->rows[i].app) : NULL;
}

/* Scrolls so that the selected row is on the screen whole, if it can be. */
static void keep_in_sight(struct screen *s, size_t selected, const struct top_layout *l, int room)
{
    if (s->top > selected || s->top >= s->v->n)
        s->top = selected;
    int height = 0;
    for (size_t i = s->v->n ? selected + 1 : 0; i-- > s->top;) {
        AUTO_BUF struct buf b = {0};
        top_add_row(&b, s->v, &s->v->rows[i], l, false);
        height += count_lines(b.p) + 1;
        if (height > room && i < selected) {
            s->top = i + 1;
            return;
        }
    }
}

static void draw_board(struct screen *s, const struct top_layout *l)
{
    const struct top_board *v = s->v;
    AUTO_BUF struct buf header = {0}, below = {0};
    AUTO_FREE char *what = xasprintf("%zu apps%s  sorted by %s%s", v->n, v->issues ? " with issues" : "", metric_name(v->sort),
                                     v->reversed ? ", reversed" : "");
    int y = draw_title(s, what);
    top_add_header(&header, l);
    put(y++, header.p, A_REVERSE);
    top_add_below(&below, v, l);
    const int left = LINES - y - 2, limit = left / 3 + 1, n = count_lines(below.p);
    const int end = LINES - 1 - (n < limit ? n : limit);
    const size_t selected = selected_row(s);
    keep_in_sight(s, selected, l, end - y);
    for (size_t i = s->top; i < v->n && y < end; i++)
        y = draw_row(s, &v->rows[i], l, i == selected, y, end);
    char *at = below.p;
    for (char *line; y < LINES - 1 && at && (line = strsep(&at, "\n")) && *line; y++)
        put(y, line, top_is_header(line) ? A_REVERSE : A_NORMAL);
    put(LINES - 1, "q quit  Enter details  s/S sort  r reverse  i issues  arrows, PgUp/PgDn", A_DIM);
}

static void draw_detail(struct screen *s, const struct top_layout *l)
{
    struct top_detail *d = s->detail;
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *what = xasprintf("%s/%s", d->tenant, d->app);
    int y = draw_title(s, what);
    top_detail_add(&text, d, s->v, l, (size_t)LINES);
    const int n = count_lines(text.p), room = LINES - 1 - y;
    const size_t last = n > room ? (size_t)(n - room) : 0;
    d->scrolled = d->scrolled < last ? d->scrolled : last;
    size_t skip = d->scrolled;
    char *at = text.p;
    for (char *line; y < LINES - 1 && at && (line = strsep(&at, "\n")) && *line;) {
        if (skip) {
            skip--;
            continue;
        }
        char state[16];
        snprintf(state, sizeof state, "%.*s", (int)strcspn(line + 1, ": "), line + 1);
        put(y++, line + 1,
            line[0] == TOP_HEADING ? (int)A_REVERSE
            : line[0] == TOP_STATE ? attributes_of(s, state)
                                   : (int)A_NORMAL);
    }
    put(LINES - 1, last ? "Esc back  arrows, PgUp/PgDn scroll  q back" : "Esc, q back", A_DIM);
}

static void draw(struct screen *s)
{
    struct top_layout l;
    top_layout_init(&l, COLS < MAX_LAYOUT ? (size_t)COLS : MAX_LAYOUT, true, s->blocks);
    erase();
    if (s->detail)
        draw_detail(s, &l);
    else
        draw_board(s, &l);
    refresh();
}

/* ---- keys ---- */

static enum metric next_sort(enum metric m, int step)
{
    do
        m = (enum metric)(((int)m + step + N_METRICS) % N_METRICS);
    while (m == METRIC_stream);
    return m;
}

static size_t page(void)
{
    return LINES > 8 ? (size_t)LINES - 6 : 1;
}

/* Where a key leads from line `at` of n; n where it leads nowhere else. */
static size_t moved(int key, size_t at, size_t n)
{
    const size_t by = key == KEY_NPAGE || key == KEY_PPAGE ? page() : 1, last = n ? n - 1 : 0;
    if (key == KEY_DOWN || key == 'j' || key == KEY_NPAGE)
        return at + by < last ? at + by : last;
    if (key == KEY_UP || key == 'k' || key == KEY_PPAGE)
        return at > by ? at - by : 0;
    if (key == KEY_HOME)
        return 0;
    return key == KEY_END ? last : at;
}

static void leave_detail(struct screen *s)
{
    forget_answers(s);
    top_detail_free(s->detail);
    s->detail = NULL;
}

static void on_key_in_detail(struct screen *s, int key)
{
    if (key == 'q' || key == 'Q' || key == KEY_ESCAPE || key == KEY_LEFT || key == KEY_BACKSPACE)
        leave_detail(s);
    else
        s->detail->scrolled = moved(key, s->detail->scrolled, SIZE_MAX);
}

/* False: the user wants to leave. */
static bool on_key(struct screen *s, int key)
{
    struct top_board *v = s->v;
    if (s->detail) {
        on_key_in_detail(s, key);
        return true;
    }
    if (key == 'q' || key == 'Q' || key == KEY_ESCAPE)
        return false;
    const size_t at = selected_row(s);
    if ((key == '\n' || key == '\r' || key == KEY_ENTER || key == KEY_RIGHT) && at < v->n) {
        select_row(s, at);
        forget_answers(s);
        s->detail = top_detail_new(s->h, v->rows[at].tenant, v->rows[at].app);
        return true;
    }
    if (key == 's' || key == 'S')
        v->sort = next_sort(v->sort, key == 's' ? 1 : -1);
    else if (key == 'r')
        v->reversed = !v->reversed;
    else if (key == 'i')
        v->issues = !v->issues;
    else if (moved(key, at, v->n) != at)
        select_row(s, moved(key, at, v->n));
    top_board_arrange(v);
    return true;
}

/* ---- the loop ---- */

static int64_t next_due(const struct screen *s)
{
    int64_t due = INT64_MAX;
    for (int q = 0; q < N_QUESTIONS; q++)
        if (!s->monitor.waits && (q != ASKS_app || s->detail) && (q != ASKS_history || s->v->doc) && s->due_ms[q] < due)
            due = s->due_ms[q];
    if (s->detail && !s->streammgr.waits && s->due_streammgr_ms < due)
        due = s->due_streammgr_ms;
    return due;
}

static void note_silence(struct screen *s, int64_t now_ms)
{
    if (!s->monitor.waits || now_ms - s->monitor.asked_ms < PATIENCE_MS)
        return;
    free(s->trouble);
    s->trouble = xasprintf("the monitor does not answer since %lld s", (long long)((now_ms - s->monitor.asked_ms) / 1000));
}

/* Until something comes, or is due. False: the terminal is gone. */
static bool wait(struct screen *s)
{
    struct pollfd p[] = {{STDOUT_FILENO, 0, 0},
                         {isatty(STDIN_FILENO) ? STDIN_FILENO : -1, POLLIN, 0},
                         {s->monitor.waits ? s->monitor.fd : -1, POLLIN, 0},
                         {s->streammgr.waits ? s->streammgr.fd : -1, POLLIN, 0}};
    const int64_t left = next_due(s) - clk_now_ms();
    if (poll(p, sizeof p / sizeof *p, left < 0 ? 0 : left < REFRESH_MS ? (int)left : REFRESH_MS) < 0)
        return errno == EINTR;
    return !((p[0].revents | p[1].revents) & (POLLHUP | POLLERR | POLLNVAL));
}

static void run(struct screen *s)
{
    for (bool go = true; go;) {
        const int64_t now_ms = clk_now_ms();
        ask_monitor(s, now_ms);
        ask_streammgr(s, now_ms);
        note_silence(s, now_ms);
        draw(s);
        go = wait(s);
        take_monitor(s);
        take_streammgr(s);
        for (int key; go && (key = getch()) != ERR;)
            go = on_key(s, key);
    }
}

/* Whether the cursor of this terminal can be moved. */
static bool can_draw(void)
{
    int status;
    if (setupterm(NULL, STDOUT_FILENO, &status) != OK)
        return false;
    const char *cup = tigetstr("cup");
    const bool can = cup && cup != (char *)-1;
    del_curterm(cur_term);
    return can;
}

/* On one that cannot: printed again and again, until it is stopped. */
static int repeat(struct cli *c, const struct home *h, struct top_board *v, const char *tenant)
{
    AUTO_BUF struct buf rq = {0};
    top_add_request(&rq, "board", tenant);
    while (fflush(stdout) == 0 && !ferror(stdout)) {
        struct err e = {0};
        bson_t *doc = NULL;
        if (cli_request_now(h, "monitor.sock", rq.p, &doc, &e) < 0) {
            cli_fail(c, &e);
        } else {
            top_board_take(v, doc);
            printf("%.19s\n", json_get_str(v->doc, "at", ""));
            top_print(v);
            puts("");
        }
        poll(NULL, 0, PLAIN_MS);
    }
    return CLI_DONE;
}

int top_live(struct cli *c, const struct home *h, struct top_board *v, const char *tenant)
{
    struct err e = {0};
    struct screen s = {.h = h, .v = v, .tenant = tenant};
    if (!isatty(STDOUT_FILENO))
        return err_set(&e, ERR_USAGE, "this is no terminal; `mysimbdp top --once` prints it once"), cli_fail(c, &e);
    setlocale(LC_ALL, "");
    if (!can_draw())
        return repeat(c, h, v, tenant);
    text_unguard(); /* curses writes escape sequences of its own, and shows those in names itself */
    initscr();
    s.blocks = plot_has_blocks();
    s.palette = begin_palette();
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    set_escdelay(ESCAPE_MS);
    timeout(0);
    top_link_init(&s.monitor, h, "monitor.sock");
    top_link_init(&s.streammgr, h, "streammgr.sock");
    run(&s);
    endwin();
    top_detail_free(s.detail);
    top_link_fini(&s.monitor);
    top_link_fini(&s.streammgr);
    free(s.selected);
    free(s.trouble);
    return CLI_DONE;
}

/* ---- once ---- */

void top_print(struct top_board *v)
{
    struct top_layout l;
    AUTO_BUF struct buf header = {0}, below = {0};
    top_layout_init(&l, table_room(), false, false);
    top_board_arrange(v);
    top_add_header(&header, &l);
    puts(header.p);
    for (size_t i = 0; i < v->n; i++) {
        AUTO_BUF struct buf b = {0};
        const char *state = v->rows[i].state;
        top_add_row(&b, v, &v->rows[i], &l, false);
        colour_print(b.p, b.n, 0, strlen(state), colour_of_state(state));
        puts("");
    }
    if (top_add_below(&below, v, &l))
        printf("\n%s", below.p);
}
