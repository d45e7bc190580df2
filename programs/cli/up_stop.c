#include "service.h"
#include "up_parts.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"

#include <poll.h>
#include <sys/socket.h>

enum { DRAIN_ASK_MS = 10000 };

void up_begin_stop(struct up *u)
{
    if (u->stopping)
        return;
    u->stopping = true;
    u->stopping_ms = clk_now_ms();
    service_tell(u->leave_runs ? "STOPPING=1\nSTATUS=stopping; runs go on"
                               : "STOPPING=1\nSTATUS=stopping; waiting for runs to end");
    if (u->leave_runs)
        return;
    for (size_t i = 0; i < N_DRAINS; i++)
        u->drains[i].wanted = true;
}

void up_end_drain(struct up *u)
{
    for (size_t i = 0; i < N_DRAINS; i++) {
        struct drain *d = &u->drains[i];
        if (!d->wanted)
            continue;
        log_warn("drain", NULL, NULL, "not waiting for the runs of %s; they go on, and the next `up` takes them back", d->program);
        d->wanted = false;
        if (d->fd >= 0)
            close(fd_take(&d->fd));
    }
}

/* Asks both managers to end all runs. A manager that is not running is started for that, since nobody else knows its runs. */
static void ask_to_drain(struct up *u, struct drain *d)
{
    struct program *p = up_program(u, d->program);
    int64_t now = clk_now_ms();
    if (now - u->stopping_ms > DRAIN_ASK_MS) {
        log_error("drain", NULL, NULL, "%s cannot be asked to end its runs; they may go on, and the next `up` takes them back",
                  d->program);
        d->wanted = false;
        return;
    }
    if (p && !p->pid && p->restart_at_ms <= now)
        up_start(u, p);
    d->fd = up_connect(u, d->program);
    if (d->fd >= 0 && send(d->fd, "{\"op\":\"drain\"}\n", 15, MSG_NOSIGNAL) < 0)
        close(fd_take(&d->fd));
}

void up_wait_for_drain(struct up *u)
{
    bool wanted = true;
    while (wanted) {
        struct pollfd p[N_DRAINS + 2] = {{u->sigfd, POLLIN, 0}, {u->listener, POLLIN, 0}};
        char answer[256];
        bool asking = false;
        wanted = false;
        for (size_t i = 0; i < N_DRAINS; i++) {
            struct drain *d = &u->drains[i];
            if (d->wanted && d->fd < 0)
                ask_to_drain(u, d);
            p[2 + i] = (struct pollfd){d->fd, POLLIN, 0};
            wanted |= d->wanted;
            asking |= d->wanted && d->fd < 0;
        }
        if (!wanted)
            break;
        poll(p, N_DRAINS + 2, asking ? TICK_MS : service_due_ms());
        for (size_t i = 0; i < N_DRAINS; i++) {
            struct drain *d = &u->drains[i];
            ssize_t n = p[2 + i].revents ? recv(d->fd, answer, sizeof answer, MSG_DONTWAIT) : -1;
            if (n < 0)
                continue;
            close(fd_take(&d->fd));
            d->wanted = n == 0; /* it ended before it could answer */
        }
        if (p[1].revents)
            up_on_down(u);
        up_attend(u);
    }
}
