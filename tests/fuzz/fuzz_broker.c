/* What a peer of the broker asks for, on a store that is kept from one input to the next: requests (a byte: how many frames; each
 * two bytes of length, and so many bytes) as a connection would send them. Whatever was asked, the books add up and nothing stays
 * of the peer. The program's own main is called something else here. */
#define main broker_main
int broker_main(int argc, char **argv);
#include "programs/broker/main.c"
#undef main

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kafka kafka;
static struct broker b = {.kafka = &kafka, .store_fd = -1, .marks_fd = -1};

/* The keeper, which writes the tenants' logs, is another process; here is none. */
int keeper_start(struct event_base *base, const struct home *h, const char *program, struct keeper **ret, struct err *e)
{
    (void)base;
    (void)h;
    (void)program;
    (void)ret;
    return err_set(e, -ENOSYS, "no keeper");
}

void keeper_stop(struct keeper *k)
{
    (void)k;
}

int keeper_conf(struct keeper *k, struct conf **ret, struct err *e)
{
    (void)k;
    (void)ret;
    return err_set(e, -ENOSYS, "no keeper");
}

int keeper_tenants(struct keeper *k, struct tenant_state **ret, size_t *ret_n, struct err *e)
{
    (void)k;
    *ret = NULL;
    *ret_n = 0;
    (void)e;
    return 0;
}

int keeper_run_key(struct keeper *k, const char *key, struct run_key *ret)
{
    (void)k;
    (void)key;
    (void)ret;
    return -ENOENT;
}

int keeper_kafka(struct keeper *k, struct err *e)
{
    (void)k;
    return err_set(e, ERR_CLOSED, "there is no Kafka here");
}

int keeper_streams(struct keeper *k, const char *tenant, struct err *e)
{
    (void)k;
    (void)tenant;
    return err_set(e, ERR_CLOSED, "there is none");
}

int keeper_log(struct keeper *k, const char *tenant, const char *text, size_t n)
{
    (void)k;
    assert(*tenant && n && text[n - 1] == '\n' && memchr(text, '\n', n) == text + n - 1);
    return 0;
}

int keeper_spans(struct keeper *k, const char *tenant, const char *text, size_t n)
{
    (void)k;
    assert(*tenant && n && text[n - 1] == '\n');
    for (const char *p = text, *end; p < text + n; p = end + 1) { /* each line is an object, whatever was sent */
        end = memchr(p, '\n', n - (size_t)(p - text));
        AUTO_BSON bson_t *doc = json_parse(p, (size_t)(end - p), NULL);
        assert(doc && *json_get_str(doc, "own", ""));
    }
    return 0;
}

static void put(int dirfd, const char *name, const char *text)
{
    struct err e = {0};
    assert(fd_write_file(dirfd, name, text, strlen(text), 0600, &e) == 0);
}

static void start_once(void)
{
    char dir[] = "/dev/shm/simbdp-fuzz-XXXXXX";
    struct err e = {0};
    if (b.base)
        return;
    daemon_prepare("broker");
    assert(mkdtemp(dir));
    assert(home_init(dir, &e) == 0);
    AUTO_FD int home = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put(home, "conf/tenants/acme.conf",
        "streams = ( { name = \"events\"; max_stored_bytes = 4000000L; lease_ms = 10; max_deliveries = 3; } );\n"
        "stream_apps = ( { app = \"consume\"; stream = \"events\"; }, { app = \"other\"; stream = \"events\"; } );\n");
    b.base = daemon_loop(MAX_CALLBACKS);
    int r = home_open(&b.home, dir, &e);
    if (r == 0) {
        turn_init(&b);
        r = conf_load(dir, &b.conf, &e);
    }
    if (r == 0 && (fd_mkdirs(home, STORE, 0700) < 0 || (b.store_fd = openat(home, STORE, O_DIRECTORY | O_RDONLY | O_CLOEXEC)) < 0))
        r = -errno;
    if (r == 0)
        r = streams_open(b.store_fd, -1, &b.streams, &e);
    if (r == 0) { /* the peer is the operator */
        streams_on_death(b.streams, on_death);
        r = config_apply(&b, b.conf, &e);
    }
    if (r == 0)
        r = start_listening(&b, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    assert(r == 0);
    fd_remove_tree(AT_FDCWD, dir); /* it is open */
}

static void add_frame(struct buf *out, bool more, const void *p, size_t n)
{
    unsigned char head[9] = {(unsigned char)(more | 2)};
    for (int i = 0; i < 8; i++)
        head[1 + i] = (unsigned char)((uint64_t)n >> (56 - 8 * i));
    buf_add(out, head, sizeof head);
    buf_add(out, p, n);
}

static void turns(int fd, int n)
{
    static char drain[65536];
    while (n-- > 0) {
        event_base_loop(b.base, EVLOOP_NONBLOCK);
        while (recv(fd, drain, sizeof drain, MSG_DONTWAIT) > 0) {
        }
    }
}

static void check_books(void)
{
    size_t i = 0;
    for (struct stream *st; (st = streams_next(b.streams, &i));) {
        struct stream_figures f;
        size_t k = 0;
        stream_figures(st, &f);
        assert(f.first_seq <= f.next_seq && f.bytes >= 0);
        for (struct sub *s; (s = stream_next_sub(st, &k));) {
            struct sub_figures g;
            sub_figures(s, &g);
            assert(!g.leased && !g.n_consumers && g.ready + g.delayed <= f.next_seq - f.first_seq);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char ready[] = "\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER";
    AUTO_BUF struct buf out = {0};
    int pair[2];
    start_once();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return 0;
    zmtp_server_adopt(b.net.ipc, pair[0]);
    buf_add(&out, "\xff\0\0\0\0\0\0\0\0\x7f\3\1NULL", 16);
    for (int i = 0; i < 48; i++)
        buf_add(&out, "", 1);
    buf_add(&out, ready, sizeof ready - 1);
    while (size > 0) {
        int n = data[0] % 9;
        for (data++, size--; n > 0 && size >= 2; n--) {
            size_t l = (size_t)(data[0] | data[1] << 8);
            data += 2;
            size -= 2;
            l = l < size ? l : size;
            add_frame(&out, n > 1 && l < size, data, l);
            data += l;
            size -= l;
        }
    }
    for (size_t at = 0; at < out.n;) {
        ssize_t n = send(pair[1], out.p + at, out.n - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        at += n > 0 ? (size_t)n : 0;
        turns(pair[1], 1);
    }
    turns(pair[1], 3);
    close(pair[1]);
    for (int i = 0; i < 64 && (i < 2 || zmtp_server_connections(b.net.ipc)); i++)
        event_base_loop(b.base, EVLOOP_NONBLOCK);
    assert(!zmtp_server_connections(b.net.ipc) && !b.sessions.n);
    check_books();
    return 0;
}
