/* simbdp-kafka: the broker's way to Kafka (docs/kafka.md). It talks to hosts that are not ours, by a library with threads of its
 * own, so it is a program beside the broker, and a user of its own without capabilities. The broker's keeper for Kafka starts it,
 * and hands over on stdin, in one packet, the broker's socket and a JSON object:
 *   {"brokers":"HOST:PORT,…","settings":"NAME=VALUE\n…"}
 * From then on it does what the broker's frames say (lib/wire/kafka_frames.h), and ends with it. */
#include "client.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_PACKET = 64 << 10,
    READ_BYTES = 256 << 10,
    AHEAD = 4 << 20, /* bytes for the broker that may wait before no more records are taken */
    POLL_MS = 100,
    LAST_MS = 1000,
};

struct program {
    struct client client;
    int fd; /* the broker's */
    struct buf in, leaving;
    size_t left; /* how much of `leaving` has left */
};

/* ---- what the broker says ---- */

static struct topic *topic_of(struct client *c, uint32_t stream, const char *name, uint32_t part)
{
    char key[16];
    snprintf(key, sizeof key, "%" PRIu32, stream);
    struct topic *t = map_get(&c->topics, key);
    if (t || !name)
        return t;
    t = xcalloc(1, sizeof *t);
    *t = (struct topic){.client = c, .stream = stream, .part = part, .name = xstrdup(name)};
    t->out = rd_kafka_topic_new(c->producer, name, NULL);
    map_put(&c->topics, key, t);
    return t;
}

static void open_topic(struct client *c, uint32_t stream, struct reader *r)
{
    AUTO_FREE char *name = read_str(r);
    uint32_t part = read_u32(r);
    struct topic *t = r->ok ? topic_of(c, stream, name, part) : NULL;
    r->ok = t && t->out && t->part == part && !strcmp(t->name, name);
    if (!r->ok)
        return;
    t->closed = false;
    jobs_open(t, r);
}

/* False: this is nothing that the broker says. */
static bool obey(struct client *c, uint32_t verb, uint32_t stream, struct reader *r)
{
    struct topic *t = topic_of(c, stream, NULL, 0);
    if (verb == KAFKA_OPEN)
        open_topic(c, stream, r);
    else if (verb == KAFKA_JOIN)
        member_join(c, r);
    else if (verb == KAFKA_RELEASE)
        member_release(c);
    else if (verb == KAFKA_ALIVE)
        member_alive(c);
    else if (!t)
        return verb == KAFKA_CLOSE; /* it never came to that */
    else if (verb == KAFKA_PRODUCE)
        traffic_produce(t, r);
    else if (verb == KAFKA_FOLLOW)
        traffic_follow(t, read_u64(r));
    else if (verb == KAFKA_COMMIT)
        jobs_commit(t, r);
    else if (verb == KAFKA_KEEP)
        member_keep(t, r);
    else if (verb == KAFKA_LOOK)
        jobs_look(t, r);
    else if (verb == KAFKA_TRIM)
        jobs_trim(t, r);
    else if (verb == KAFKA_CLOSE)
        traffic_close(t);
    else
        return false;
    return r->ok;
}

/* False: the broker is gone, or not what it was. */
static bool read_frames(struct program *g)
{
    buf_reserve(&g->in, READ_BYTES);
    ssize_t n = recv(g->fd, g->in.p + g->in.n, READ_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    g->in.n += (size_t)n;
    size_t at = 0;
    while (g->in.n - at >= 4) {
        size_t len = le_u32(g->in.p + at);
        if (len < KAFKA_FRAME_HEAD || len > KAFKA_MAX_FRAME)
            return false;
        if (g->in.n - at - 4 < len)
            break;
        const unsigned char *p = (const unsigned char *)g->in.p + at + 4;
        struct reader r = {p + KAFKA_FRAME_HEAD, len - KAFKA_FRAME_HEAD, true};
        if (!obey(&g->client, le_u32(p), le_u32(p + 4), &r))
            return false;
        at += 4 + len;
    }
    buf_consume(&g->in, at);
    return true;
}

/* ---- what it is told ---- */

static bool write_frames(struct program *g)
{
    if (g->left == g->leaving.n) {
        g->leaving.n = g->left = 0;
        pthread_mutex_lock(&g->client.lock);
        struct buf empty = g->leaving;
        g->leaving = g->client.out;
        g->client.out = empty;
        pthread_mutex_unlock(&g->client.lock);
    }
    if (g->left == g->leaving.n)
        return true;
    ssize_t n = send(g->fd, g->leaving.p + g->left, g->leaving.n - g->left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    g->left += (size_t)n;
    return true;
}

static size_t waiting(struct program *g)
{
    pthread_mutex_lock(&g->client.lock);
    size_t n = g->client.out.n + g->leaving.n - g->left;
    pthread_mutex_unlock(&g->client.lock);
    return n;
}

/* So that it is known why it ends; the broker reads it, or is gone. */
static void write_rest(struct program *g)
{
    struct pollfd p = {g->fd, POLLOUT, 0};
    while (waiting(g) && poll(&p, 1, LAST_MS) > 0 && write_frames(g)) {
    }
}

static void run(struct program *g)
{
    for (bool goes_on = true; goes_on;) {
        uint64_t n;
        size_t wait = waiting(g);
        struct pollfd p[] = {
            {g->fd, (short)(POLLIN | (wait ? POLLOUT : 0)), 0}, {g->client.wake_fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        bool more = wait < AHEAD && traffic_take_records(&g->client, SIZE_MAX) > 0;
        poll(p, 3, more ? 0 : POLL_MS);
        if (read(g->client.wake_fd, &n, sizeof n) < 0)
            n = 0;
        traffic_poll(&g->client);
        member_poll(&g->client);
        goes_on = !g->client.dead && !p[2].revents && (!p[0].revents || read_frames(g)) && write_frames(g);
        if (goes_on && !p[0].revents && member_is_orphan(&g->client)) {
            log_error("kafka", NULL, NULL, "the broker says nothing: its partitions go to others");
            return;
        }
    }
}

/* ---- life ---- */

/* A descriptor of the broker's, or negative. */
static int take_order(struct client *c, struct err *e)
{
    static char text[MAX_PACKET];
    int fd = -1;
    size_t n_fds = 0;
    ssize_t n = fd_recv(STDIN_FILENO, text, sizeof text, &fd, 1, &n_fds);
    if (n <= 0 || n_fds != 1)
        return err_set(e, ERR_CLOSED, "nobody says what is to be done");
    AUTO_BSON bson_t *doc = json_parse(text, (size_t)n, e);
    int r = doc ? client_open(c, json_get_str(doc, "brokers", ""), json_get_str(doc, "settings", ""), e) : e->code;
    explicit_bzero(text, sizeof text);
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

static const char usage[] =
    "usage: simbdp-kafka --home HOME --uid=UID      HOME names it, it reads nothing there; -1: it stays who it is\n"
    "stdin: the socket of the broker's keeper for Kafka, which starts it, and with which it ends.\n";

int main(int argc, char **argv)
{
    struct program g = {0};
    struct err e = {0};
    log_init("kafka");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc != 4 || strcmp(argv[1], "--home") != 0 || strncmp(argv[3], "--uid=", 6) != 0)
        return fputs(usage, stderr), 2;
    signal(SIGPIPE, SIG_IGN);
    clearenv(); /* it may hold secrets (MONGO_URL) */
    int64_t uid = strtoll(argv[3] + 6, NULL, 10);
    const char *const writable[] = {"/dev/null"};
    int r = confine_program(&(struct confinement){uid >= 0, uid, -1, writable, 1});
    if (r < 0)
        return log_error("start", NULL, NULL, "cannot give up rights: %s", err_text(r)), 1;
    g.fd = take_order(&g.client, &e);
    r = g.fd < 0 ? g.fd : jobs_start(&g.client);
    if (r < 0)
        return log_error("start", NULL, NULL, "%s", e.msg), 1;
    run(&g);
    write_rest(&g);
    _exit(0); /* what is under way is not waited for: nobody was told that it is stored */
}
