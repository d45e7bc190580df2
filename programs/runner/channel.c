#include "channel.h"
#include "kill_tree.h"

#include "base/fd.h"
#include "base/log.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

void channel_say(struct runner *r, char what)
{
    r->said = what;
    /* A manager that is gone may have sent an order before: so the channel is not closed here, but where it is read to its end. */
    if (r->conn >= 0 && send(r->conn, &what, 1, MSG_NOSIGNAL) < 0)
        log_debug("say", r->spec->tenant, r->spec->run_id, "the manager does not listen");
}

void channel_take_order(struct runner *r)
{
    char order;
    ssize_t n = recv(r->conn, &order, 1, 0);
    if (n <= 0) {
        close(fd_take(&r->conn));
    } else if (order == RUN_ORDER_STOP && (r->state == RUNNER_running || r->state == RUNNER_starting)) {
        r->evidence.stopped = true;
        kill_tree_stop(r);
    }
}

void channel_accept(struct runner *r)
{
    int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (r->conn >= 0)
        close(r->conn);
    r->conn = fd;
    channel_say(r, r->said);
}

void channel_wait_for_ack(struct runner *r)
{
    while (access(r->spec->dir, F_OK) == 0) {
        struct pollfd p[] = {{r->conn, POLLIN, 0}, {r->listener, POLLIN, 0}};
        poll(p, 2, CHANNEL_HOME_CHECK_MS);
        char order = 0;
        if (p[0].revents && r->conn >= 0) {
            if (recv(r->conn, &order, 1, 0) <= 0)
                close(fd_take(&r->conn));
            if (order == RUN_ORDER_ACK)
                return;
        }
        if (p[1].revents)
            channel_accept(r);
    }
}
