#include "see.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_MS = 5000, MAX_TEXT = 1024 };

static int connect_within(const struct addrinfo *at, int ms)
{
    AUTO_FD int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, at->ai_addr, at->ai_addrlen) < 0 && errno != EINPROGRESS))
        return -errno;
    struct pollfd p = {fd, POLLOUT, 0};
    int n = poll(&p, 1, ms), error = 0;
    socklen_t size = sizeof error;
    if (n <= 0)
        return n < 0 ? -errno : -ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

/* NULL: it can be connected to. */
static const char *trouble(const char *host, const char *port)
{
    struct addrinfo want = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int r = getaddrinfo(host, port, &want, &found);
    if (r != 0)
        return gai_strerror(r);
    r = connect_within(found, CONNECT_MS);
    freeaddrinfo(found);
    return r < 0 ? err_text(r) : NULL;
}

int see(const char *file, char *const *pairs, int n, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *answer = xasprintf("%s.seen", file);
    int r = fd_read_file(AT_FDCWD, file, &text, MAX_TEXT, e);
    if (r < 0)
        return r;
    for (int i = 0; i < n; i++) {
        const char *host = pairs[2 * (size_t)i], *port = pairs[2 * (size_t)i + 1], *why = trouble(host, port);
        if (why)
            buf_addf(&text, "\n%s %s %s", host, port, why);
    }
    return fd_write_file(AT_FDCWD, answer, text.p, text.n, 0600, e);
}
