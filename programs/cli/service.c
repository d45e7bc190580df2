#include "service.h"

#include "base/clk.h"
#include "base/fd.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    int fd; /* connected; -1: nobody listens */
    int64_t interval_ms, due_ms;
} manager = {.fd = -1};

/* A path, or an abstract name that begins with "@". */
static int connect_to(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    if (n < 2 || n >= sizeof at.sun_path || !strchr("/@", name[0]))
        return -EINVAL;
    memcpy(at.sun_path, name, n);
    if (name[0] == '@')
        at.sun_path[0] = 0;
    AUTO_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        return -errno;
    return fd_take(&fd);
}

/* Half of what the manager waits for, so that one may come late. */
static int64_t watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!usec || (pid && atoll(pid) != getpid()))
        return 0;
    int64_t ms = atoll(usec) / 2000;
    return ms < 1 || ms > INT_MAX ? 0 : ms;
}

void service_take(void)
{
    const char *name = getenv("NOTIFY_SOCKET");
    manager.fd = name ? connect_to(name) : -1;
    if (manager.fd >= 0)
        manager.interval_ms = watchdog_ms();
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void service_tell(const char *assignments)
{
    if (manager.fd >= 0 && send(manager.fd, assignments, strlen(assignments), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        close(fd_take(&manager.fd)); /* it is gone; nobody else will come by this name */
}

int service_due_ms(void)
{
    if (manager.fd < 0 || !manager.interval_ms)
        return -1;
    int64_t left = manager.due_ms - clk_now_ms();
    return left < 0 ? 0 : (int)left;
}

void service_alive(void)
{
    if (service_due_ms() != 0)
        return;
    manager.due_ms = clk_now_ms() + manager.interval_ms;
    service_tell("WATCHDOG=1");
}
