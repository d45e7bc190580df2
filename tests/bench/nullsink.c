/* A MongoDB that answers every insert and stores nothing: what is measured against it is the client alone.
 *   nullsink PORT-FILE    listens on a free port of 127.0.0.1, writes the port to PORT-FILE, serves until it is killed
 * Speaks OP_MSG, and OP_QUERY for the handshake of older drivers (wire protocol of the MongoDB manual). A thread a
 * connection. The documents of an insert are counted, so that the answer is true. */
#include <arpa/inet.h>
#include <bson/bson.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OP_REPLY = 1, OP_QUERY = 2004, OP_MSG = 2013, MESSAGE_MAX = 64 << 20 };

static int read_all(int fd, void *p, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = read(fd, (char *)p + got, n - got);
        if (r <= 0)
            return -1;
        got += (size_t)r;
    }
    return 0;
}

static void put32(unsigned char *p, uint32_t v)
{
    v = BSON_UINT32_TO_LE(v);
    memcpy(p, &v, 4);
}

static uint32_t get32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return BSON_UINT32_FROM_LE(v);
}

static void add_hello(bson_t *b)
{
    BSON_APPEND_BOOL(b, "ismaster", true);
    BSON_APPEND_BOOL(b, "isWritablePrimary", true);
    BSON_APPEND_INT32(b, "maxBsonObjectSize", 16 << 20);
    BSON_APPEND_INT32(b, "maxMessageSizeBytes", 48000000);
    BSON_APPEND_INT32(b, "maxWriteBatchSize", 100000);
    BSON_APPEND_INT32(b, "minWireVersion", 0);
    BSON_APPEND_INT32(b, "maxWireVersion", 8);
}

static int answer(int fd, uint32_t to, int op, int64_t n, bool hello)
{
    unsigned char head[36] = {0};
    bson_t b = BSON_INITIALIZER;
    if (hello)
        add_hello(&b);
    if (n >= 0)
        BSON_APPEND_INT32(&b, "n", (int32_t)n);
    BSON_APPEND_DOUBLE(&b, "ok", 1.0);
    size_t size = op == OP_MSG ? 21 : 36;
    put32(head, (uint32_t)(size + b.len));
    put32(head + 8, to);
    put32(head + 12, (uint32_t)op);
    if (op == OP_REPLY)
        put32(head + 32, 1);
    struct {
        unsigned char bytes[4096];
    } out;
    memcpy(out.bytes, head, size);
    memcpy(out.bytes + size, bson_get_data(&b), b.len);
    int r = write(fd, out.bytes, size + b.len) == (ssize_t)(size + b.len) ? 0 : -1;
    bson_destroy(&b);
    return r;
}

/* Documents of an insert: those of a section of kind 1, else the array in the body. */
static int64_t count_documents(const unsigned char *p, size_t n, const bson_t *body)
{
    int64_t count = 0;
    bson_iter_t it, in;
    size_t at = body->len + 1;
    if (at + 5 < n && p[at] == 1) {
        size_t end = at + 1 + get32(p + at + 1);
        for (at += 5 + strlen((const char *)p + at + 5) + 1; at + 4 <= end; at += get32(p + at))
            count++;
    } else if (bson_iter_init_find(&it, body, "documents") && bson_iter_recurse(&it, &in)) {
        while (bson_iter_next(&in))
            count++;
    }
    return count;
}

static int serve_message(int fd, unsigned char *p, size_t n, uint32_t id)
{
    bson_t body;
    bson_iter_t it;
    if (n < 10 || p[4] != 0 || !bson_init_static(&body, p + 5, get32(p + 5)) || !bson_iter_init(&it, &body) || !bson_iter_next(&it))
        return -1;
    const char *name = bson_iter_key(&it);
    bool hello = !strcasecmp(name, "ismaster") || !strcmp(name, "hello");
    return answer(fd, id, OP_MSG, strcmp(name, "insert") ? -1 : count_documents(p + 4, n - 4, &body), hello);
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    unsigned char head[16], *p = malloc(MESSAGE_MAX);
    while (read_all(fd, head, sizeof head) == 0) {
        uint32_t n = get32(head) - 16;
        if (n > MESSAGE_MAX || read_all(fd, p, n) < 0)
            break;
        if (get32(head + 12) == OP_QUERY ? answer(fd, get32(head + 4), OP_REPLY, -1, true)
                                         : serve_message(fd, p, n, get32(head + 4)))
            break;
    }
    free(p);
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    FILE *f = argc == 2 ? fopen(argv[1], "w") : NULL;
    if (!f || bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 64) < 0 || getsockname(s, (struct sockaddr *)&a, &len) < 0)
        return fprintf(stderr, "usage: nullsink PORT-FILE\n"), 2;
    fprintf(f, "%d\n", ntohs(a.sin_port));
    fclose(f);
    for (int fd; (fd = accept(s, NULL, NULL)) >= 0;) {
        pthread_t t;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&t, NULL, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
        else
            pthread_detach(t);
    }
    return 1;
}
