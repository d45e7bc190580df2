/* mysimbdp upload: files and directories to the gateway, several at once. */
#include "agreed.h"
#include "board.h"
#include "listing.h"
#include "senders.h"

#include "base/clk.h"
#include "base/mem.h"
#include "query/words.h"
#include "term/progress.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
    PARALLEL = 4,
    MAX_PARALLEL = 64,
    TICK_MS = 150,
    LOOK_MS = 500,
    MAX_LOOK_MS = 2000,
    PAGE = 1000,
    MAX_ALONE = 20,
    NAME_SHOWN = 32
};

struct upload {
    struct remote *r;
    struct items all;
    struct senders *s; /* NULL: they have ended */
    struct board board;
    bool wait;
    int64_t began_ms, look_ms, pause_ms; /* when verdicts are looked at next, and how long until the one after that */
    size_t n_waiting;                    /* files that were taken, whose verdict is waited for */
    int worst;
};

/* ---- what is shown ---- */

static void add_line(struct buf *b, const struct upload *u, const struct item *i)
{
    int64_t sent = i->sent < i->size ? i->sent : i->size;
    AUTO_FREE char *text = progress_text(*i->note ? i->note : "sending", sent, sent, i->size, "B", clk_now_ms() - u->began_ms);
    size_t n = strlen(i->name);
    buf_addf(b, "  %s%s: %s\n", n > NAME_SHOWN ? "…" : "", i->name + (n > NAME_SHOWN ? n - NAME_SHOWN : 0), text);
}

static void draw(struct upload *u)
{
    AUTO_BUF struct buf b = {0};
    int64_t sent = 0, size = 0;
    size_t n_ended = 0, n = 0;
    if (!board_is_due(&u->board))
        return;
    if (u->s)
        senders_lock(u->s);
    for (size_t k = 0; k < u->all.n; k++) {
        const struct item *i = u->all.v[k];
        if (i->state == ITEM_FAILED && !i->sent)
            continue;
        n++;
        n_ended += i->state == ITEM_TAKEN;
        sent += i->state == ITEM_TAKEN ? i->size : i->sent;
        size += i->size;
        if (i->state == ITEM_SENDING)
            add_line(&b, u, i);
    }
    if (u->s)
        senders_unlock(u->s);
    AUTO_FREE char *text = progress_text("sent", sent, 0, size, "B", clk_now_ms() - u->began_ms);
    buf_addf(&b, "%zu of %zu files %s", n_ended, n, text);
    if (u->n_waiting)
        buf_addf(&b, "; %zu on their way", u->n_waiting);
    buf_adds(&b, "\n");
    board_draw(&u->board, &b);
}

static void print_taken(struct upload *u, const struct item *i)
{
    AUTO_BUF struct buf b = {0};
    board_clear(&u->board);
    if (!u->r->json) {
        printf("%s %s\n", i->file_id, i->path);
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "file_id", i->file_id);
    json_str(&b, "file_name", i->path);
    json_end(&b, '}');
    puts(b.p);
}

static void print_verdict(struct upload *u, const struct item *i, const bson_t *file)
{
    AUTO_FREE char *why = listing_cell(file, &(struct col){"why", COL_WORDS, 1});
    AUTO_BUF struct buf b = {0};
    board_clear(&u->board);
    if (!u->r->json) {
        printf("%s %s%s%s\n", i->file_id, json_get_str(file, "state", "?"), why ? ": " : "", why ? why : "");
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "file_id", i->file_id);
    json_str(&b, "file_name", i->name);
    json_str(&b, "state", json_get_str(file, "state", NULL));
    json_str(&b, "reason", json_get_str(file, "reason", NULL));
    json_str(&b, "detail", json_get_str(file, "detail", NULL));
    json_i64_or_null(&b, "rows_loaded", json_get_i64(file, "rows_loaded", -1));
    json_i64_or_null(&b, "rows_rejected", json_get_i64(file, "rows_rejected", -1));
    json_end(&b, '}');
    puts(b.p);
}

/* Prints what ended since the last look. Of a file whose end was told nothing changes any more. */
static void tell(struct upload *u)
{
    for (size_t k = 0; k < u->all.n; k++) {
        struct item *i = u->all.v[k];
        if (u->s)
            senders_lock(u->s);
        const enum item_state state = i->state;
        if (u->s)
            senders_unlock(u->s);
        if (i->told || (state != ITEM_TAKEN && state != ITEM_FAILED))
            continue;
        i->told = true;
        if (state == ITEM_FAILED) {
            board_clear(&u->board);
            remote_fail_at(u->r, i->path, &i->err);
            u->worst = REMOTE_FAILED;
        } else if (u->wait) {
            u->n_waiting++;
        } else {
            print_taken(u, i);
        }
    }
    fflush(stdout);
}

/* ---- verdicts ---- */

static bool is_waited_for(const struct item *i)
{
    return i->told && i->state == ITEM_TAKEN && !i->settled;
}

static void settle(struct upload *u, struct item *i, const bson_t *file)
{
    static const char *const final[] = {"ingested", "duplicate", "rejected", "vanished", "quarantined"};
    const char *state = json_get_str(file, "state", "");
    for (size_t k = 0; k < sizeof final / sizeof *final; k++)
        if (!strcmp(state, final[k])) {
            i->settled = true;
            u->n_waiting--;
            print_verdict(u, i, file);
            if (k > 1)
                u->worst = REMOTE_FAILED;
            u->pause_ms = LOOK_MS;
        }
}

/* Of the newest files; in *seen, those of ours that are among them. */
static int look_at_page(struct upload *u, bool *seen, struct err *e)
{
    AUTO_DOCS struct docs page = {0};
    int r = listing_pages(u->r, "files", "", PAGE, &page, e);
    for (size_t d = 0; r == 0 && d < page.n; d++) {
        const char *id = json_get_str(page.v[d], "file_id", "");
        for (size_t k = 0; k < u->all.n; k++)
            if (is_waited_for(u->all.v[k]) && !strcmp(u->all.v[k]->file_id, id)) {
                seen[k] = true;
                settle(u, u->all.v[k], page.v[d]);
            }
    }
    return r;
}

static int look_at_one(struct upload *u, struct item *i, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_BSON bson_t *file = NULL;
    remote_path(u->r, &path, "files/%s", i->file_id);
    int r = remote_get(u->r, path.p, &file, e);
    if (r == 0)
        settle(u, i, file);
    return r;
}

/* Few are asked for one by one; of many, those that are not among the newest files. */
static int look(struct upload *u, struct err *e)
{
    AUTO_FREE bool *seen = xcalloc(u->all.n + 1, sizeof *seen);
    int n = 0, r = u->n_waiting > MAX_ALONE ? look_at_page(u, seen, e) : 0;
    for (size_t k = 0; r == 0 && k < u->all.n && n < MAX_ALONE; k++)
        if (is_waited_for(u->all.v[k]) && !seen[k]) {
            r = look_at_one(u, u->all.v[k], e);
            n++;
        }
    fflush(stdout);
    return r;
}

/* When it is time. False: it cannot be found out, and was told. */
static bool look_if_due(struct upload *u)
{
    struct err e = {0};
    if (!u->n_waiting || clk_now_ms() < u->look_ms)
        return true;
    u->pause_ms = u->pause_ms + u->pause_ms / 4;
    if (u->pause_ms > MAX_LOOK_MS)
        u->pause_ms = MAX_LOOK_MS;
    int r = look(u, &e);
    u->look_ms = clk_now_ms() + u->pause_ms;
    if (r == 0)
        return true;
    board_clear(&u->board);
    remote_fail(u->r, &e);
    fprintf(stderr, "  %zu files are handed in, and go on; `mysimbdp files` says what becomes of them\n", u->n_waiting);
    u->worst = REMOTE_FAILED;
    return false;
}

/* ---- all of it ---- */

/* Where nobody sees the lines above. */
static void tell_sum(const struct upload *u)
{
    int64_t bytes = 0;
    size_t n = 0;
    for (size_t k = 0; k < u->all.n; k++)
        if (u->all.v[k]->state == ITEM_TAKEN) {
            n++;
            bytes += u->all.v[k]->size;
        }
    if (!u->board.terminal)
        fprintf(stderr, "%zu of %zu files sent, %.1f MB in %.1f s\n", n, u->all.n, (double)bytes / 1e6,
                (double)(clk_now_ms() - u->began_ms) / 1e3);
}

static void send_all(struct upload *u, const struct send_order *o, int n_parallel)
{
    bool asking = true;
    u->began_ms = clk_now_ms();
    u->pause_ms = LOOK_MS;
    board_begin(&u->board);
    u->s = senders_start(&u->r->target, o, &u->all, n_parallel < (int)u->all.n ? n_parallel : (int)u->all.n);
    for (bool going = true; going;) {
        going = senders_wait(u->s, TICK_MS);
        tell(u);
        asking = asking && look_if_due(u);
        draw(u);
    }
    senders_end(u->s);
    u->s = NULL;
    board_clear(&u->board);
    tell_sum(u);
    while (asking && u->n_waiting) {
        poll(NULL, 0, TICK_MS);
        asking = look_if_due(u);
        draw(u);
    }
    board_clear(&u->board);
}

int verb_upload(struct remote *r)
{
    struct upload u = {.r = r};
    struct send_order o = {
        .dataset = remote_opt(r, "--dataset"), .app = remote_opt(r, "--app"), .force = remote_flag(r, "--force")};
    int64_t parallel = PARALLEL;
    u.wait = remote_flag(r, "--wait");
    int code = remote_number(r, "--parallel", remote_opt(r, "--parallel"), 1, MAX_PARALLEL, &parallel);
    if (!code)
        code = remote_args(r, 1, -1);
    if (!code && !o.dataset)
        code = remote_usage(r, "say into which dataset, with --dataset D");
    o.patience_ms = r->retry_for_ms ? r->retry_for_ms : REMOTE_SEND_MS;
    if (code || (code = remote_open(r)))
        return code;
    for (int i = 0; i < r->argc; i++)
        items_add(&u.all, r->argv[i]);
    o.url = r->target.url;
    o.tenant = r->target.tenant;
    if (!u.all.n)
        fputs("no files to send\n", stderr);
    else if (!(code = agreed_check(r, o.dataset, &u.all)))
        send_all(&u, &o, (int)parallel);
    items_fini(&u.all);
    return code ? code : u.worst;
}
