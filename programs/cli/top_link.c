#include "top_link.h"
#include "cli.h"

#include "base/clk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_ANSWER = 64 << 20 };

void top_link_init(struct top_link *l, const struct home *h, const char *socket_name)
{
    *l = (struct top_link){.h = h, .socket_name = socket_name, .fd = -1};
}

static void lose(struct top_link *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    l->waits = false;
    buf_reset(&l->in);
}

void top_link_fini(struct top_link *l)
{
    lose(l);
    buf_fini(&l->in);
}

int top_link_ask(struct top_link *l, const char *request, struct err *e)
{
    AUTO_BUF struct buf line = {0};
    l->asked_ms = clk_now_ms();
    if (l->fd < 0)
        l->fd = cli_connect(l->h, l->socket_name, e);
    if (l->fd < 0)
        return l->fd;
    buf_addf(&line, "%s\n", request);
    if (send(l->fd, line.p, line.n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)line.n) {
        lose(l);
        return err_set(e, ERR_CLOSED, "%.*s went away; it is asked again", (int)strcspn(l->socket_name, "."), l->socket_name);
    }
    l->waits = true;
    return 0;
}

/* True: a whole line is there. False: *ret_r is 0 when it may still come. */
static bool receive(struct top_link *l, int *ret_r)
{
    *ret_r = 0;
    for (;;) {
        buf_reserve(&l->in, 65536);
        const ssize_t n = recv(l->fd, l->in.p + l->in.n, 65536 - 1, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0 || l->in.n > MAX_ANSWER) {
            *ret_r = ERR_CLOSED;
            return false;
        }
        l->in.n += (size_t)n;
        l->in.p[l->in.n] = 0;
        if (l->in.p[l->in.n - 1] == '\n')
            return true;
    }
}

int top_link_take(struct top_link *l, bson_t **ret, struct err *e)
{
    int r;
    if (!receive(l, &r)) {
        if (!r)
            return -EAGAIN;
        lose(l);
        return err_set(e, r, "%.*s went away; it is asked again", (int)strcspn(l->socket_name, "."), l->socket_name);
    }
    l->waits = false;
    bson_t *doc = json_parse(l->in.p, l->in.n - 1, e);
    buf_reset(&l->in);
    if (!doc) {
        lose(l);
        return ERR_FORMAT;
    }
    if (!json_get_bool(doc, "ok", false)) {
        err_set(e, ERR_REFUSED, "%s", json_get_str(doc, "error", "refused without a reason"));
        bson_destroy(doc);
        return ERR_REFUSED;
    }
    *ret = doc;
    return 0;
}
