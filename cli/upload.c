/* Asks batchmgr for a slot, writes below staging/.incoming, commits. The file is the platform's once commit is answered. */
#include "cli.h"
#include "common/clk.h"
#include "common/fd.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 20, BAR = 30, POLL_MS = 50 };

static void progress(const char *name, int64_t done, int64_t total)
{
    static int64_t last_ms;
    if (!isatty(STDERR_FILENO) || (done < total && clk_now_ms() - last_ms < 100))
        return;
    last_ms = clk_now_ms();
    int filled = total > 0 ? (int)(done * BAR / total) : BAR;
    dprintf(STDERR_FILENO, "\r%-30.30s [%.*s%*s] %3d%% %.1f MB%s", name, filled, "##############################", BAR - filled, "",
            total > 0 ? (int)(done * 100 / total) : 100, (double)done / 1e6, done >= total ? "\n" : "");
}

static int copy(int from, const char *path, const char *name, int64_t size, struct err *e)
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
        progress(name, done, size > done ? size : done);
    }
    if (n < 0)
        return err_sys(e, -errno, "cannot read %s", name);
    return fsync(to) < 0 ? err_sys(e, -errno, "cannot sync %s", path) : 0;
}

static int upload(int conn, const char *tenant, const char *dataset, const char *file, const char *app, bool force,
                  char ret_id[ID_SIZE], struct err *e)
{
    struct stat st;
    const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *slot = NULL;
    AUTO_BSON bson_t *done = NULL;
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, -errno, "%s", file);
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "%s is not a regular file", file);
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "upload_begin");
    json_str(&b, "tenant", tenant);
    json_str(&b, "dataset", dataset);
    json_str(&b, "name", name);
    json_i64(&b, "size", st.st_size);
    if (app)
        json_str(&b, "app", app);
    json_bool(&b, "force", force);
    json_end(&b, '}');
    int r = cli_exchange(conn, b.p, &slot, e);
    if (r < 0)
        return r;
    snprintf(ret_id, ID_SIZE, "%s", json_get_str(slot, "file_id", ""));
    r = copy(fd, json_get_str(slot, "path", ""), name, st.st_size, e);
    buf_reset(&b);
    json_begin(&b, NULL, '{');
    json_str(&b, "op", r < 0 ? "upload_abort" : "upload_commit");
    json_str(&b, "file_id", ret_id);
    json_end(&b, '}');
    int n = cli_exchange(conn, b.p, &done, r < 0 ? NULL : e);
    return r < 0 ? r : n;
}

/* Until the file has its final state; prints it. CLI_FAILED unless it was ingested or is a duplicate. */
static int wait_for(struct cli *c, const struct home *h, const char *id)
{
    bool none;
    sqlite3 *db = cli_ledger(c, h, &none);
    sqlite3_stmt *s = NULL;
    int r = -1;
    if (!db)
        return CLI_FAILED;
    sqlite3_prepare_v2(
        db,
        "SELECT state, reason, detail, rows_loaded FROM files WHERE file_id=?1 AND place!='work' AND state IN('ingested',"
        "'rejected','duplicate','vanished','quarantined')",
        -1, &s, NULL);
    while (r < 0) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW) {
            const char *state = (const char *)sqlite3_column_text(s, 0), *reason = (const char *)sqlite3_column_text(s, 1);
            const char *detail = (const char *)sqlite3_column_text(s, 2);
            r = !strcmp(state, "ingested") || !strcmp(state, "duplicate") ? CLI_DONE : CLI_FAILED;
            if (!c->json)
                printf("%s %s%s%s%s%s\n", id, state, reason ? ": " : "", reason ? reason : "", detail ? ": " : "",
                       detail ? detail : "");
        }
        sqlite3_reset(s);
        if (r < 0)
            poll(NULL, 0, POLL_MS);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return r;
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
        e = (struct err){0};
        if (upload(conn, c->argv[0], c->argv[1], c->argv[i], app, force, id, &e) < 0) {
            worst = CLI_FAILED;
            fprintf(stderr, "mysimbdp upload: %s: %s\n", c->argv[i], e.msg);
            continue;
        }
        if (c->json) {
            AUTO_BUF struct buf b = {0};
            json_begin(&b, NULL, '{');
            json_str(&b, "file_id", id);
            json_str(&b, "file_name", c->argv[i]);
            json_end(&b, '}');
            puts(b.p);
        } else if (!wait) {
            printf("%s %s\n", id, c->argv[i]);
        }
        fflush(stdout);
        if (wait && wait_for(c, &h, id))
            worst = CLI_FAILED;
    }
    close(conn);
    home_close(&h);
    return worst;
}
