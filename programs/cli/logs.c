/* What a run printed: runs/<run_id>/log.1 (the older half) and log, then those of the loading step. -f goes on until the run ended.
 */
#include "cli.h"
#include "ledger.h"
#include "term/text.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

/* raw: bytes as they were printed. Else a terminal is not given anything that it would obey. */
static int64_t print_from(int dirfd, const char *name, int64_t offset, bool raw)
{
    char chunk[65536];
    AUTO_FD int fd = beneath_open(dirfd, name, O_RDONLY | O_NONBLOCK, 0);
    AUTO_BUF struct buf b = {0};
    ssize_t n;
    if (fd < 0)
        return offset;
    while ((n = pread(fd, chunk, sizeof chunk, offset)) > 0) {
        buf_reset(&b);
        size_t taken = raw ? (size_t)n : text_append(&b, chunk, (size_t)n, n > TEXT_MAX_CHARACTER);
        if (fd_write_all(STDOUT_FILENO, raw ? chunk : b.p, raw ? (size_t)n : b.n) < 0)
            return offset;
        offset += (int64_t)taken;
    }
    return offset;
}

static bool ended(struct cli *c, const struct home *h, const char *run)
{
    bool none, yes = true;
    sqlite3 *db = cli_ledger(c, h, &none);
    sqlite3_stmt *s = NULL;
    if (!db)
        return true;
    sqlite3_prepare_v2(
        db, "SELECT state='ended' FROM runs WHERE run_id=?1 UNION ALL SELECT state='ended' FROM streams.instances WHERE run_id=?1",
        -1, &s, NULL);
    sqlite3_bind_text(s, 1, run, -1, SQLITE_STATIC);
    if (sqlite3_step(s) == SQLITE_ROW)
        yes = sqlite3_column_int(s, 0) != 0;
    sqlite3_finalize(s);
    sqlite3_close(db);
    return yes;
}

static void follow(struct cli *c, const struct home *h, const char *run, int dirfd, int64_t at, const char *dir, bool raw)
{
    AUTO_FD int in = inotify_init1(IN_CLOEXEC);
    inotify_add_watch(in, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO);
    for (bool last = false; !last;) {
        char events[4096];
        struct pollfd p = {in, POLLIN, 0};
        if (poll(&p, 1, 500) > 0 && read(in, events, sizeof events) < 0)
            return;
        last = ended(c, h, run);
        struct stat st;
        if (fstatat(dirfd, "log", &st, 0) == 0 && st.st_size < at) {
            print_from(dirfd, "log.1", at, raw); /* the log was rotated since the last look */
            at = 0;
        }
        at = print_from(dirfd, "log", at, raw);
    }
}

int verb_logs(struct cli *c)
{
    struct home h;
    bool f = cli_flag(c, "-f"), raw = cli_flag(c, "--raw");
    int r = cli_args(c, 1, 1);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    const char *run = c->argv[0];
    if (cli_whole_id(c, &h, true, &run)) {
        home_close(&h);
        return CLI_FAILED;
    }
    AUTO_FREE char *dir = xasprintf("%s/runs/%s", h.path, run);
    AUTO_FD int fd = home_valid_id(run) ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        fprintf(stderr,
                "mysimbdp logs: no output of a run %s is kept; `mysimbdp runs` shows the runs, and retention.logs_days says how "
                "long theirs are kept\n",
                run);
        home_close(&h);
        return CLI_FAILED;
    }
    print_from(fd, "log.1", 0, raw);
    int64_t at = print_from(fd, "log", 0, raw);
    if (f)
        follow(c, &h, run, fd, at, dir, raw);
    print_from(fd, "load/log", 0, raw);
    home_close(&h);
    return CLI_DONE;
}
