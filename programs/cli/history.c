/* mysimbdp history: the configurations that were accepted, and the way back to one. */
#include "accept.h"
#include "account_change.h"
#include "conf_changes.h"
#include "cli.h"
#include "listing.h"

#include "base/clk.h"
#include "base/mem.h"
#include "conf/history.h"
#include "conf/swap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct col cols[] = {
    {"number", COL_COUNT, 1}, {"at", COL_TEXT, 1},       {"who", COL_TEXT, 1},
    {"what", COL_LONG, 1},    {"tenants", COL_COUNT, 2}, {"state", COL_TEXT, 2},
};
enum { N_FILES_BESIDE_TENANTS = 2 };

/* entry NULL: it cannot be read, since it is in that state. */
static void add_row(struct buf *b, int64_t number, const struct conf_entry *entry, const char *state)
{
    char at[CLK_RFC3339_SIZE];
    json_begin(b, NULL, '{');
    json_i64(b, "number", number);
    json_str(b, "at", entry ? clk_rfc3339(entry->at_wall_ms, at) : NULL);
    json_str(b, "who", entry ? entry->who : NULL);
    json_str(b, "what", entry ? entry->what : NULL);
    json_i64_or_null(b, "tenants", entry ? (int64_t)entry->texts.n - N_FILES_BESIDE_TENANTS : -1);
    json_str(b, "state", state);
    json_end(b, '}');
}

static int list(struct cli *c, const struct home *h)
{
    AUTO_FREE int64_t *v = NULL;
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    int64_t n = history_numbers(h->dirfd, &v, &e);
    if (n < 0)
        return cli_fail(c, &e);
    json_begin(&b, NULL, '[');
    for (int64_t i = 0; i < n; i++) {
        struct conf_entry entry = {0};
        int r = history_read(h->dirfd, v[i], &entry, &e);
        add_row(&b, v[i], r == 0 ? &entry : NULL, r == 0 ? "kept" : r == ERR_VERSION ? "newer" : "damaged");
        conf_entry_fini(&entry);
    }
    json_end(&b, ']');
    return cli_list_array(c, "configurations that were accepted", b.p, b.n, cols, sizeof cols / sizeof *cols);
}

static int show(struct cli *c, const struct home *h, int64_t number)
{
    struct conf_entry entry = {0};
    struct err e = {0};
    if (history_read(h->dirfd, number, &entry, &e) < 0)
        return cli_fail(c, &e);
    for (size_t i = 0; i < entry.texts.n; i++) {
        const struct conf_text *t = &entry.texts.v[i];
        const char *text = t->text.p ? t->text.p : "";
        AUTO_BUF struct buf b = {0};
        if (!c->json) {
            printf("# %s\n%s%s", t->path, text, t->text.n && text[t->text.n - 1] != '\n' ? "\n" : "");
            continue;
        }
        json_begin(&b, NULL, '{');
        json_str(&b, "path", t->path);
        json_strn(&b, "text", text, t->text.n);
        json_end(&b, '}');
        puts(b.p);
    }
    conf_entry_fini(&entry);
    return CLI_DONE;
}

/* to 0: the files as they are. */
static int diff(struct cli *c, const struct home *h, int64_t from, int64_t to)
{
    struct conf *a = NULL, *b = NULL;
    struct err e = {0};
    int64_t number;
    int r = conf_changes_load(h, from, &a, &number, &e);
    if (r == 0)
        r = to ? conf_changes_load(h, to, &b, &number, &e) : cli_conf(c, h, &b) ? ERR_CONFIG : 0;
    if (r == 0)
        conf_changes_print(c, a, b);
    conf_free(a);
    conf_free(b);
    if (r == ERR_CONFIG && !*e.msg)
        return CLI_FAILED;
    return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

/* ---- back ---- */

struct rollback {
    const struct home *h;
    const char *who;
    struct conf_entry entry;
    struct conf_texts present;
};

static int audit(const struct rollback *rb, const char *outcome, struct err *e)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)rb->entry.number);
    return audit_add(rb->h->dirfd, &(struct audit_record){rb->who, "local", "configuration_rollback", NULL, number, outcome}, e);
}

/* The files that were there, and the programs with them. */
static void go_back(const struct rollback *rb, struct err *e)
{
    struct err later = {0};
    int r = conf_swap_undo(rb->h->dirfd, &later);
    if (r == 0)
        r = cli_tell_all(rb->h, "reload", &later);
    if (r < 0)
        err_context(e, "%s; and then what was in force could not be put back", later.msg);
}

/* Once the files are in place. */
static int take(const struct rollback *rb, struct err *e)
{
    AUTO_FREE char *what = xasprintf("rollback to %lld", (long long)rb->entry.number);
    int r = accept_reload(rb->h, rb->who, what, false, e);
    if (r == 0)
        r = audit(rb, "ok", e);
    if (r == 0)
        r = conf_swap_end(rb->h->dirfd, e);
    if (r < 0)
        go_back(rb, e);
    return r;
}

static int rollback_locked(struct cli *c, struct rollback *rb, int64_t number, struct err *e)
{
    struct conf *from = NULL, *to = NULL;
    struct err unread = {0};
    int64_t found;
    int r = history_read(rb->h->dirfd, number, &rb->entry, e);
    if (r == 0)
        r = conf_changes_load(rb->h, number, &to, &found, e);
    if (r == 0)
        r = conf_texts_read(rb->h->dirfd, &rb->present, e);
    if (r == 0 && conf_load(rb->h->path, &from, &unread) == 0) /* what is there may have errors: that is a reason to go back */
        conf_changes_print(c, from, to);
    conf_free(from);
    conf_free(to);
    if (r == 0)
        r = conf_swap_begin(rb->h->dirfd, &rb->present, &rb->entry.texts, e);
    return r == 0 ? take(rb, e) : r;
}

static int rollback(struct cli *c, const struct home *h, const char *who, int64_t number)
{
    struct rollback rb = {.h = h, .who = who, .entry = {.number = number}};
    struct err e = {0}, unrecorded = {0};
    int lock = accept_lock(h, ACCEPT_WAIT_MS, &e);
    if (lock < 0)
        return cli_fail(c, &e);
    int r = rollback_locked(c, &rb, number, &e);
    if (r < 0) {
        rb.entry.number = number;
        err_context(&e, "the configuration stays as it is");
        audit(&rb, r == -ENOENT ? "not_found" : "refused", &unrecorded);
    } else if (!c->json) {
        printf(cli_is_running(h) ? "configuration %lld holds again\n"
                                 : "the files are those of configuration %lld; they hold when the platform is started\n",
               (long long)number);
    }
    conf_entry_fini(&rb.entry);
    conf_texts_fini(&rb.present);
    close(lock);
    return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

static bool parse_number(const char *text, int64_t *ret)
{
    char *end;
    *ret = strtoll(text, &end, 10);
    return *text && !*end && *ret > 0 && *ret < INT32_MAX;
}

int verb_history(struct cli *c)
{
    struct home h;
    int64_t n = 0, other = 0;
    AUTO_FREE char *who = account_who();
    int r = cli_args(c, 1, 3);
    if (r)
        return r;
    const char *what = c->argv[0];
    const bool lists = !strcmp(what, "list"), diffs = !strcmp(what, "diff"), shows = !strcmp(what, "show");
    if (!lists && !diffs && !shows && strcmp(what, "rollback") != 0)
        return cli_usage(c, "unknown: %s", what);
    if (lists ? c->argc != 1 : c->argc < 2 || (c->argc > 2 && !diffs))
        return cli_usage(c, "%s: wrong number of arguments", what);
    if ((!lists && !parse_number(c->argv[1], &n)) || (c->argc == 3 && !parse_number(c->argv[2], &other)))
        return cli_usage(c, "\"%s\" is no number of a configuration; `mysimbdp history list` has them", c->argv[c->argc - 1]);
    if (cli_home(c, &h))
        return CLI_FAILED;
    r = lists ? list(c, &h) : diffs ? diff(c, &h, n, other) : shows ? show(c, &h, n) : rollback(c, &h, who, n);
    home_close(&h);
    return r;
}
