#include "channel.h"

#include "base/clk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINGER_BYTES = 1 << 20 };

/* Of gnutls_record_recv and _send, and of the system's calls. */
static int64_t result(const struct channel *c, int64_t n)
{
    if (n >= 0)
        return n;
    if (!c->tls)
        return errno == EAGAIN || errno == EINTR ? -EAGAIN : -errno;
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EPROTO;
}

int channel_fill(struct channel *c)
{
    size_t room = sizeof c->in - c->n;
    if (c->ended || !room)
        return 0;
    int64_t n = result(c, c->tls ? gnutls_record_recv(c->tls, c->in + c->n, room) : recv(c->fd, c->in + c->n, room, 0));
    if (n == -EAGAIN)
        return 0;
    if (n < 0)
        return (int)n;
    c->ended = n == 0;
    c->n += (size_t)n;
    return 1;
}

bool channel_has_more(const struct channel *c)
{
    return c->tls && gnutls_record_check_pending(c->tls) > 0;
}

void channel_use(struct channel *c, size_t n)
{
    memmove(c->in, c->in + n, c->n - n);
    c->n -= n;
}

int64_t channel_send(struct channel *c, const char *p, size_t n)
{
    int64_t sent = result(c, c->tls ? gnutls_record_send(c->tls, p, n) : send(c->fd, p, n, MSG_NOSIGNAL));
    return sent == -EAGAIN ? 0 : sent;
}

int channel_wait(const struct channel *c, short events, int64_t deadline_ms)
{
    struct pollfd p = {c->fd, events, 0};
    int64_t left = deadline_ms - clk_now_ms();
    if (left <= 0 || poll(&p, 1, (int)left) == 0)
        return -ETIMEDOUT;
    return 0;
}

int channel_send_all(struct channel *c, const char *p, size_t n, int64_t deadline_ms)
{
    while (n) {
        int64_t sent = channel_send(c, p, n);
        if (sent < 0)
            return (int)sent;
        p += sent;
        n -= (size_t)sent;
        if (!sent && channel_wait(c, POLLOUT, deadline_ms) < 0)
            return -ETIMEDOUT;
    }
    return 0;
}

int channel_handshake(struct channel *c, int64_t deadline_ms)
{
    for (;;) {
        int r = gnutls_handshake(c->tls);
        if (r == GNUTLS_E_SUCCESS)
            return 0;
        if (gnutls_error_is_fatal(r))
            return -EPROTO;
        if (channel_wait(c, gnutls_record_get_direction(c->tls) ? POLLOUT : POLLIN, deadline_ms) < 0)
            return -ETIMEDOUT;
    }
}

void channel_close(struct channel *c, bool abort)
{
    struct linger none = {1, 0};
    if (c->fd < 0)
        return;
    if (abort)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    else if (c->tls)
        gnutls_bye(c->tls, GNUTLS_SHUT_WR); /* once: who does not take it does without */
    if (c->tls)
        gnutls_deinit(c->tls);
    close(c->fd);
    c->fd = -1;
    c->tls = NULL;
    c->n = 0;
    c->ended = false;
}

void channel_linger(struct channel *c, int64_t deadline_ms)
{
    char room[4096];
    int64_t dropped = 0;
    if (c->tls)
        gnutls_bye(c->tls, GNUTLS_SHUT_WR);
    shutdown(c->fd, SHUT_WR);
    while (dropped < LINGER_BYTES && channel_wait(c, POLLIN, deadline_ms) == 0) {
        ssize_t n = recv(c->fd, room, sizeof room, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return;
        dropped += n > 0 ? n : 0;
    }
}
