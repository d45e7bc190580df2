/* mysimbdp upload: asks batchmgr for a slot, writes the file below staging/.incoming, and commits. Once the commit is answered, the
 * file is the platform's. */
#include "cli.h"
#include "ledger.h"
#include "term/progress.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 20, POLL_MS = 50, LOOK_MS = 1000, RESULT_MAX = 65536 };

static int copy(int from, const char *path, struct progress *p, int64_t size, struct err *e)
{
    AUTO_FD int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    AUTO_FREE char *chunk = xmalloc(CHUNK);
    int64_t done = 0;
    ssize_t n = 0;
    if (to < 0)
        return err_sys(e, -errno, "cannot write %s", path);
    while ((n = read(from, chunk, CHUNK)) > 0) {
        int r = fd_write_all(to, chunk, (size_t)n);
        if (r < 0)
            return err_sys(e, r, "cannot write %s", path);
        done += n;
        progress_show(p, "copying", done, size, "B");
    }
    if (n < 0)
        return err_sys(e, -errno, "cannot read %s", p->name);
    return fsync(to) < 0 ? err_sys(e, -errno, "cannot sync %s", path) : 0;
}

static int upload(int conn, const char *tenant, const char *dataset, const char *file, const char *app, bool force,
                  struct progress *p, char ret_id[ID_SIZE], struct err *e)
{
    struct stat st;
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *trace = trace_keep(getenv("TRACEPARENT"), getenv("TRACESTATE"));
    AUTO_BSON bson_t *slot = NULL;
    AUTO_BSON bson_t *done = NULL;
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, -errno, "%s", file);
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "%s is not a regular file", file);
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "upload_begin");
    json_str(&b, "tenant_id", tenant);
    json_str(&b, "dataset", dataset);
    json_str(&b, "name", p->name);
    json_i64(&b, "size", st.st_size);
    if (app)
        json_str(&b, "app", app);
    json_bool(&b, "force", force);
    json_str(&b, "trace", trace);
    json_end(&b, '}');
    int r = cli_exchange(conn, b.p, &slot, e);
    if (r < 0)
        return r;
    snprintf(ret_id, ID_SIZE, "%s", json_get_str(slot, "file_id", ""));
    r = copy(fd, json_get_str(slot, "path", ""), p, st.st_size, e);
    buf_reset(&b);
    json_begin(&b, NULL, '{');
    json_str(&b, "op", r < 0 ? "upload_abort" : "upload_commit");
    json_str(&b, "file_id", ret_id);
    json_end(&b, '}');
    int n = cli_exchange(conn, b.p, &done, r < 0 ? NULL : e);
    return r < 0 ? r : n;
}

/* ---- waiting ---- */

struct wait {
    struct cli *c;
    const struct home *h;
    const char *id;
    struct progress *p;
};

/* Reads the counts that the loader, or an app, has written so far. False: there is nothing that can be read. */
static bool rows_so_far(const struct wait *w, const char *run, const char *step, int64_t *ret_rows)
{
    AUTO_FREE char *path = xasprintf("runs/%s/%sapp/result.json", run, strcmp(step, "load") ? "" : "load/");
    AUTO_FD int fd = beneath_open(w->h->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
    AUTO_BUF struct buf b = {0};
    if (fd < 0 || fd_read_all(fd, &b, RESULT_MAX) < 0 || !b.n)
        return false;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    int64_t loaded = doc ? json_get_i64(doc, "rows_loaded", -1) : -1, rejected = doc ? json_get_i64(doc, "rows_rejected", 0) : 0;
    *ret_rows = loaded + (rejected > 0 ? rejected : 0);
    return loaded >= 0;
}

/* s: a row of progress_sql. */
static void show(const struct wait *w, sqlite3_stmt *s)
{
    const char *state = (const char *)sqlite3_column_text(s, 0), *why = (const char *)sqlite3_column_text(s, 4);
    const char *run = (const char *)sqlite3_column_text(s, 5), *app = (const char *)sqlite3_column_text(s, 7);
    const char *step = (const char *)sqlite3_column_text(s, 8);
    int64_t rows = 0;
    AUTO_FREE char *phase = NULL;
    if (!strcmp(state, "received"))
        phase = xstrdup("inspecting");
    else if (strcmp(state, "running") || !run || !app || !step)
        phase = xasprintf("%s%s%s", state, why ? ", " : "", why ? why : "");
    else
        phase = xasprintf("%s %s",
                          !strcmp(step, "load")    ? "loading, app"
                          : !strcmp(step, "check") ? "checking, app"
                                                   : "running app",
                          app);
    bool counted = step && strcmp(step, "check") && !strcmp(state, "running") && rows_so_far(w, run, step, &rows);
    progress_show(w->p, phase, rows, sqlite3_column_type(s, 6) == SQLITE_NULL ? -1 : sqlite3_column_int64(s, 6),
                  counted ? "rows" : NULL);
}

static void print_end(const struct wait *w, sqlite3_stmt *s)
{
    const char *state = (const char *)sqlite3_column_text(s, 0), *why = (const char *)sqlite3_column_text(s, 4);
    AUTO_BUF struct buf b = {0};
    progress_clear(w->p);
    if (!w->c->json) {
        printf("%s %s%s%s\n", w->id, state, why ? ": " : "", why ? why : "");
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "file_id", w->id);
    json_str(&b, "file_name", w->p->name);
    json_str(&b, "state", state);
    json_str(&b, "reason", (const char *)sqlite3_column_text(s, 9));
    json_str(&b, "detail", (const char *)sqlite3_column_text(s, 10));
    json_i64_or_null(&b, "rows_loaded", sqlite3_column_int64(s, 2));
    json_i64_or_null(&b, "rows_rejected", sqlite3_column_int64(s, 3));
    json_end(&b, '}');
    puts(b.p);
}

static const char progress_sql[] =
    "SELECT f.state, f.place!='work' AND f.state IN('ingested','rejected','duplicate','vanished','quarantined'), f.rows_loaded, "
    "f.rows_rejected, words(f.state, f.reason, f.detail, f.rows_loaded, f.rows_rejected), f.run_id, nullif(f.rows, -1), r.app, "
    "r.step, f.reason, f.detail FROM files f LEFT JOIN runs r ON r.run_id=f.run_id WHERE f.file_id=?1";

/* Whether the file has its final state, which was printed; *ret is then the exit code. */
static bool look(const struct wait *w, sqlite3_stmt *s, int *ret)
{
    bool ended = false;
    sqlite3_bind_text(s, 1, w->id, -1, SQLITE_STATIC);
    if (sqlite3_step(s) == SQLITE_ROW) {
        const char *state = (const char *)sqlite3_column_text(s, 0);
        ended = sqlite3_column_int(s, 1) != 0;
        *ret = !strcmp(state, "ingested") || !strcmp(state, "duplicate") ? CLI_DONE : CLI_FAILED;
        if (ended)
            print_end(w, s);
        else
            show(w, s);
    }
    sqlite3_reset(s);
    return ended;
}

/* Waits until the file has its final state, and prints that. CLI_FAILED unless it was ingested or is a duplicate. */
static int wait_for(const struct wait *w)
{
    bool none, ended = false;
    sqlite3 *db = cli_ledger(w->c, w->h, &none);
    sqlite3_stmt *s = NULL;
    int r = CLI_FAILED;
    if (!db || sqlite3_prepare_v2(db, progress_sql, -1, &s, NULL) != SQLITE_OK) {
        sqlite3_close(db);
        return CLI_FAILED;
    }
    for (int64_t look_ms = clk_now_ms() + LOOK_MS; !(ended = look(w, s, &r));) {
        if (clk_now_ms() >= look_ms && !cli_is_running(w->h))
            break;
        look_ms = clk_now_ms() >= look_ms ? clk_now_ms() + LOOK_MS : look_ms;
        poll(NULL, 0, POLL_MS);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    if (!ended) {
        progress_clear(w->p);
        fprintf(stderr, "mysimbdp upload: the platform went down; %s is handed in and goes on with the next `mysimbdp up`\n",
                w->id);
    }
    return ended ? r : CLI_FAILED;
}

static void print_handed_in(const struct cli *c, const char *id, const char *file)
{
    AUTO_BUF struct buf b = {0};
    if (!c->json) {
        printf("%s %s\n", id, file);
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "file_id", id);
    json_str(&b, "file_name", file);
    json_end(&b, '}');
    puts(b.p);
}

int verb_upload(struct cli *c)
{
    struct home h;
    struct err e = {0};
    const char *app = cli_opt(c, "--app");
    bool force = cli_flag(c, "--force"), wait = cli_flag(c, "--wait");
    int r = cli_args(c, 3, -1), worst = CLI_DONE;
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    int conn = cli_connect_wait(&h, "batchmgr.sock", &e);
    if (conn < 0) {
        home_close(&h);
        return cli_fail(c, &e);
    }
    for (int i = 2; i < c->argc; i++) {
        char id[ID_SIZE] = "";
        struct progress p;
        progress_begin(&p, strrchr(c->argv[i], '/') ? strrchr(c->argv[i], '/') + 1 : c->argv[i]);
        e = (struct err){0};
        if (upload(conn, c->argv[0], c->argv[1], c->argv[i], app, force, &p, id, &e) < 0) {
            worst = CLI_FAILED;
            progress_clear(&p);
            fprintf(stderr, "mysimbdp upload: %s: %s\n", c->argv[i], e.msg);
            continue;
        }
        if (!wait) {
            progress_clear(&p);
            print_handed_in(c, id, c->argv[i]);
        } else if (wait_for(&(struct wait){c, &h, id, &p})) {
            worst = CLI_FAILED;
        }
        fflush(stdout);
    }
    close(conn);
    home_close(&h);
    return worst;
}
