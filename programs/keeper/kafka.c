#include "kafka.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "conf/conf.h"
#include "host/uid_block.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PROPERTIES = 32 << 10, ROOM_BYTES = 1 << 20 };

struct kafka_keeper {
    const struct home *home;
    int fd; /* -1: none runs */
    pid_t pid;
};

struct kafka_keeper *kafka_keeper_new(const struct home *h)
{
    struct kafka_keeper *k = xcalloc(1, sizeof *k);
    *k = (struct kafka_keeper){.home = h, .fd = -1};
    return k;
}

static void end(struct kafka_keeper *k)
{
    if (k->fd < 0)
        return;
    kill(k->pid, SIGKILL); /* it keeps nothing, and may be waiting for Kafka */
    spawn_part(k->fd, k->pid);
    k->fd = -1;
}

void kafka_keeper_free(struct kafka_keeper *k)
{
    if (!k)
        return;
    end(k);
    free(k);
}

static int add_settings(const char *path, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf text = {0}, settings = {0};
    struct stat st;
    int r = 0;
    if (*path && stat(path, &st) == 0 && st.st_mode & 077)
        r = err_set(e, ERR_CONFIG, "%s may be read by others than its owner (chmod 600)", path);
    if (r == 0 && *path)
        r = fd_read_file(AT_FDCWD, path, &text, MAX_PROPERTIES, e);
    if (r == 0 && *path)
        r = conf_kafka_settings(path, text.p ? text.p : "", &settings, e);
    json_str(out, "settings", r == 0 && settings.p ? settings.p : "");
    if (text.p)
        explicit_bzero(text.p, text.n);
    if (settings.p)
        explicit_bzero(settings.p, settings.n);
    return r;
}

static int start(struct kafka_keeper *k, const struct conf *c, const struct buf *order, int theirs, struct err *e)
{
    AUTO_FREE char *program = home_program(k->home, "simbdp-kafka");
    AUTO_FREE char *as = xasprintf("--uid=%lld", (long long)uid_of_program(k->home, c->platform.uid_base, UID_KAFKA));
    char *argv[] = {program, "--home", k->home->path, as, NULL};
    int r = spawn_partner(argv, &k->fd, &k->pid, e);
    if (r < 0) {
        k->fd = -1;
        return r;
    }
    r = fd_send(k->fd, order->p, order->n, &theirs, 1);
    return r < 0 ? err_sys(e, r, "simbdp-kafka cannot be told what to do") : 0;
}

int kafka_keeper_start(struct kafka_keeper *k, struct err *e)
{
    AUTO_BUF struct buf order = {0};
    struct conf *c = NULL;
    int v[2] = {-1, -1}, room = ROOM_BYTES;
    end(k);
    int r = conf_load(k->home->path, &c, e);
    if (r < 0)
        return r;
    json_begin(&order, NULL, '{');
    json_str(&order, "brokers", c->platform.kafka.brokers);
    r = add_settings(c->platform.kafka.properties_file, &order, e);
    json_end(&order, '}');
    if (r == 0 && !*c->platform.kafka.brokers)
        r = err_set(e, ERR_CONFIG, "kafka.brokers is empty");
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
        r = err_sys(e, -errno, "cannot make a socket for simbdp-kafka");
    for (int i = 0; r == 0 && i < 2; i++)
        setsockopt(v[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (r == 0)
        r = start(k, c, &order, v[1], e);
    explicit_bzero(order.p, order.n);
    conf_free(c);
    if (v[1] >= 0)
        close(v[1]);
    if (r < 0 && v[0] >= 0)
        close(v[0]);
    return r < 0 ? r : v[0];
}
