/* What both homes' sides of a move do (tenant_move.h). */
#include "tenant_move.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int tenant_order_batchmgr(const struct home *h, const char *op, const char *tenant, void (*more)(void *arg, struct buf *b),
                          void *arg, bson_t **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc = NULL;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", op);
    json_str(&b, "tenant_id", tenant);
    if (more)
        more(arg, &b);
    json_end(&b, '}');
    AUTO_FD int fd = cli_connect_wait(h, "batchmgr.sock", e);
    const int r = fd < 0 ? fd : cli_exchange_long(fd, b.p, NULL, NULL, ret ? ret : &doc, e);
    if (r < 0)
        err_context(e, "batchmgr of %s", h->path);
    return r;
}

int tenant_tell_others(const struct home *h, const char *tenant, struct err *e)
{
    const int r = cli_tell(h, "broker.sock", "tenants", tenant, e);
    return r == 0 ? cli_tell(h, "streammgr.sock", "tenants", tenant, e) : r;
}

int tenant_order(const struct home *h, const char *program, const char *op, const char *tenant, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc = NULL;
    AUTO_FREE char *socket = xasprintf("%s.sock", program);
    json_begin(&b, NULL, '{');
    json_str(&b, "op", op);
    json_str(&b, "tenant_id", tenant);
    json_end(&b, '}');
    AUTO_FD int fd = cli_connect_wait(h, socket, e);
    const int r = fd < 0 ? fd : cli_exchange_long(fd, b.p, NULL, NULL, &doc, e);
    if (r < 0)
        err_context(e, "%s of %s", program, h->path);
    return r;
}

char *tenant_program(const char *name)
{
    char exe[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    const char *slash = strrchr(exe, '/');
    return xasprintf("%.*s%s", slash ? (int)(slash + 1 - exe) : 0, exe, name);
}

int tenant_wait(pid_t pid, const char *name, struct err *e)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : err_set(e, ERR_CLOSED, "%s was killed (signal %d)", name, WTERMSIG(status));
}

int tenant_run(char *const argv[], struct err *e)
{
    posix_spawn_file_actions_t fa;
    pid_t pid;
    posix_spawn_file_actions_init(&fa);
    const int r = spawn_start(argv, environ, &fa, 0, &pid);
    return r < 0 ? err_sys(e, r, "cannot execute %s", argv[0]) : tenant_wait(pid, argv[0], e);
}

void tenant_tidy(const struct home *h, const char *tenant)
{
    static const char *const names[] = {"in", "mongo", "rows.db", "conf", "kept", "tenant.json", "streams", "book.db", "out"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.%s", tenant, names[i]);
        fd_remove_tree(h->dirfd, path);
    }
}

int tenant_move_forbids(const struct home *h, const char *tenant, struct err *e)
{
    AUTO_MOVE struct move_record r = {0};
    if (move_record_read(h, tenant, &r, NULL) < 0 || r.phase == MOVE_moved || r.phase == MOVE_done || r.phase == MOVE_here)
        return 0;
    return err_set(e, ERR_REFUSED, "%s is being moved %s %s; `mysimbdp tenant move %s --undo --home %s` goes back first", tenant,
                   r.source ? "to" : "from", r.other, tenant, r.source ? h->path : r.other);
}
