#include "service.h"
#include "up_parts.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>

enum {
    WAIT_MS = 120000, /* for a program to answer, which may have much to read first */
    MAX_ENDS = 5,     /* of a program that was started again: then it will not come up */
};

bool up_is_being_upgraded(const struct up *u, const struct program *p)
{
    return u->upgrade.waiter >= 0 && u->upgrade.since_ms && &u->programs[u->upgrade.at] == p;
}

void up_upgrade_end(struct up *u, const char *error)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", !error);
    if (error) {
        json_str(&b, "error", error);
        json_str(&b, "code", "unavailable");
    }
    json_i64(&b, "n", (int64_t)u->upgrade.at);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (send(u->upgrade.waiter, b.p, b.n, MSG_NOSIGNAL) < 0)
        log_debug("upgrade", NULL, NULL, "whoever asked is gone");
    close(fd_take(&u->upgrade.waiter));
    service_tell(error ? "STATUS=ready; an upgrade ended before it was done" : "STATUS=ready");
    log_info("upgrade", NULL, NULL, "%zu of %zu programs were started again%s%s", u->upgrade.at, u->n, error ? ": " : "",
             error ? error : "");
}

static bool answers(struct up *u, const struct program *p)
{
    if (!up_is_ours(p)) /* MongoDB: what it is asked by answers for it */
        return p->pid != 0;
    if (!strcmp(p->name, "desk"))
        return up_is_listening(u, p->name);
    AUTO_BSON bson_t *status = up_status_of(u, p->name);
    return status && (strcmp(p->name, "gateway") || json_get_bool(status, "ready", false)) &&
           (strcmp(p->name, "batchmgr") || !strcmp(u->mongo.kind, "url") || !strcmp(json_get_str(status, "database", ""), "up"));
}

/* The program whose turn it is. One that ended meanwhile by itself is started by tick() anyway. */
void up_upgrade_step(struct up *u)
{
    struct program *p = &u->programs[u->upgrade.at];
    int64_t now = clk_now_ms();
    if (!u->upgrade.since_ms) {
        u->upgrade.since_ms = now;
        u->upgrade.n_ends = p->pid == 0;
        if (p->pid)
            kill(p->pid, SIGTERM); /* it was not reaped, so the pid is still its own */
    } else if (p->pid && p->started_ms < u->upgrade.since_ms) {
        if (now - u->upgrade.since_ms >= TERM_WAIT_MS)
            kill(p->pid, SIGKILL);
    } else if (p->pid && answers(u, p)) {
        u->upgrade.since_ms = 0;
        if (++u->upgrade.at == u->n)
            up_upgrade_end(u, NULL);
    } else if (u->upgrade.n_ends > MAX_ENDS || now - u->upgrade.since_ms >= WAIT_MS) {
        AUTO_FREE char *error = xasprintf("%s does not answer after it was started again; logs/%s.log says why. It goes on being "
                                          "started; those after it run as they were",
                                          p->name, p->name);
        u->upgrade.since_ms = 0;
        up_upgrade_end(u, error);
    }
}

/* The connection is ours from here on. */
void up_begin_upgrade(struct up *u, int fd)
{
    static const char busy[] =
        "{\"ok\":false,\"error\":\"the platform is starting or stopping, or an upgrade is going on\",\"code\":\"busy\"}\n";
    if (!u->ready || u->stopping || u->upgrade.waiter >= 0) {
        if (send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL) < 0)
            log_debug("upgrade", NULL, NULL, "whoever asked is gone");
        close(fd);
        return;
    }
    u->upgrade = (struct upgrade){.waiter = fd};
    service_tell("STATUS=upgrading");
}
