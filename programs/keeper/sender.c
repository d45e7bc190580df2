#include "sender.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_SECRET = 4096, MAX_PEM = 48 << 10, SEND_BYTES = 8 << 20 };

int sender_start(struct sender *s, const struct home *h, int64_t uid, struct err *e)
{
    AUTO_FREE char *program = home_program(h, "simbdp-webhook"), *as = xasprintf("--uid=%lld", (long long)uid);
    char *argv[] = {program, "--home", h->path, as, NULL};
    int r = spawn_partner(argv, &s->fd, &s->pid, e);
    if (r < 0) {
        s->fd = -1;
        return r;
    }
    int room = SEND_BYTES; /* of a busy second */
    if (setsockopt(s->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0)
        setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return 0;
}

bool sender_send(const struct sender *s, const char *text)
{
    return s->fd >= 0 && send(s->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void sender_set_log(const struct sender *s, int fd)
{
    static const char packet[] = "{\"op\":\"log\"}";
    if (s->fd >= 0 && fd_send(s->fd, packet, sizeof packet - 1, &fd, 1) < 0)
        log_debug("webhook", NULL, NULL, "simbdp-webhook is ending");
}

bool sender_has_ended(struct sender *s)
{
    if (s->fd < 0 || waitpid(s->pid, NULL, WNOHANG) != s->pid)
        return false;
    close(s->fd);
    s->fd = -1;
    return true;
}

void sender_stop(struct sender *s)
{
    if (s->fd >= 0)
        spawn_part(s->fd, s->pid);
    s->fd = -1;
}

int sender_add_secret(const struct home *h, const char *path, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf secret = {0};
    int r = *path ? fd_read_file(h->dirfd, path, &secret, MAX_SECRET, e) : 0;
    while (secret.n && (secret.p[secret.n - 1] == '\n' || secret.p[secret.n - 1] == '\r'))
        secret.n--;
    if (r == 0 && *path && !secret.n)
        r = err_set(e, ERR_CONFIG, "%s is empty", path);
    AUTO_FREE char *hex = xcalloc(2, secret.n + 1);
    for (size_t i = 0; i < secret.n; i++)
        sprintf(hex + 2 * i, "%02x", (unsigned char)secret.p[i]);
    json_str(out, "secret", hex);
    explicit_bzero(hex, 2 * secret.n);
    if (secret.p)
        explicit_bzero(secret.p, secret.n);
    return r;
}

int sender_add_ca(const struct home *h, const char *path, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf pem = {0};
    int r = *path ? fd_read_file(h->dirfd, path, &pem, MAX_PEM, e) : 0;
    json_str(out, "ca_pem", pem.p ? pem.p : "");
    return r;
}
