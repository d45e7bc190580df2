/* broker: the tenants' streams of messages. Its start and end; what it does in between is told in broker.h. */
#include "auth.h"
#include "broker.h"
#include "config.h"
#include "control.h"
#include "cut_off.h"
#include "journal.h"
#include "kafka_parts.h"
#include "listing.h"
#include "moving.h"
#include "publish.h"
#include "session.h"
#include "share.h"
#include "spans.h"
#include "turn.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"
#include "loop/daemon.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { MAX_CALLBACKS = 8, LISTING_WAIT_MS = 10000 };

#define STORE "state/broker"
#define MARKS "state/broker.mark" /* not in it: it is not restored along with it */

static void on_death(struct sub *s, const struct dead_letter *d)
{
    journal_dead(sub_tag(s), d);
}

static int start_listening(struct broker *b, struct err *e)
{
    static const struct zmtp_ops ops = {
        .type = "ROUTER",
        .peer_types = " DEALER REQ ROUTER ",
        .may_connect = auth_may_connect,
        .user_of_key = auth_user_of_key,
        .on_open = session_on_open,
        .on_message = session_on_message,
        .on_drain = session_on_drain,
        .on_close = session_on_close,
    };
    b->net = (struct znet){.base = b->base, .home = &b->home, .program = "broker", .ops = &ops, .arg = b};
    int r = znet_start(&b->net, conf_listen(b->conf), b->conf->platform.ports.broker, e);
    if (r == 0)
        config_limit_messages(b);
    return r;
}

static void on_reload(void *arg)
{
    struct err e = {0};
    config_reload(arg, &e);
}

/* Opens what needs rights that are given up afterwards. */
static int prepare(struct broker *b, struct err *e)
{
    if (mkdirat(b->home.dirfd, STORE, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s/" STORE, b->home.path);
    b->store_fd = openat(b->home.dirfd, STORE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->store_fd < 0)
        return err_sys(e, -errno, "cannot open %s/" STORE, b->home.path);
    retention_clock_init(&b->age, b->store_fd, "clock");
    b->marks_fd = openat(b->home.dirfd, MARKS, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (b->marks_fd < 0)
        return err_sys(e, -errno, "cannot open %s/" MARKS, b->home.path);
    int r = keeper_start(b->base, &b->home, "broker", &b->keeper, e);
    if (r == 0)
        r = keeper_conf(b->keeper, &b->conf, e);
    if (r == 0) /* now: who has given up its rights is not told apart from who never had any */
        b->gateway_uid = uid_of_program(&b->home, b->conf->platform.uid_base, UID_GATEWAY);
    return r;
}

static int open_store(struct broker *b, struct err *e)
{
    int r = streams_open(b->store_fd, fd_take(&b->marks_fd), &b->streams, e);
    if (r < 0) {
        err_context(e, "the broker's store %s/" STORE " cannot be used, and nothing was changed", b->home.path);
        return r;
    }
    streams_on_death(b->streams, on_death);
    auth_read_tenants(b);
    r = config_apply(b, b->conf, e);
    if (r < 0)
        return r;
    cut_off_load(b);
    size_t i = 0;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));)
        journal_lost(stream_tag(stream));
    return 0;
}

static void close_store(struct broker *b)
{
    size_t i = 0;
    broker_look_at_clocks(b);
    moving_stop(b);
    journal_interval(b);
    session_end_all(b);
    spans_tick(b);
    share_next_turn(b, publish_parked); /* of peers that are gone: only freed */
    for (struct stream *stream; (stream = streams_next(b->streams, &i));)
        if (stream_tag(stream))
            config_forget(stream_tag(stream));
    streams_close(b->streams);
}

static void stop(struct broker *b)
{
    control_stop(b);
    if (b->streams)
        close_store(b);
    znet_stop(&b->net);
    auth_forget_tenants(b);
    daemon_free(b->daemon);
    kafka_stop(b);
    turn_fini(b);
    buf_fini(&b->answers);
    buf_fini(&b->spans_begun);
    conf_free(b->conf);
    keeper_stop(b->keeper);
    if (b->store_fd >= 0)
        close(b->store_fd);
    if (b->marks_fd >= 0)
        close(b->marks_fd);
}

/* Tenants and, on tcp, anybody talk to this program. From here on it is a user of its own without capabilities, may make only the
 * system calls of an app and, where the kernel has Landlock, may change no file but the store's: whoever takes it over gets no
 * more. As root in a home that is somebody else's it keeps its capabilities, which it needs there. */
static int give_up_rights(struct broker *b, struct err *e)
{
    AUTO_FREE char *store = home_path(&b->home, STORE);
    const char *const writable[] = {store /* may be a link to another disk */, b->home.runtime, "/dev/null"};
    const int64_t uid = uid_of_program(&b->home, b->conf->platform.uid_base, UID_BROKER);
    int r = uid >= 0 ? beneath_give(b->store_fd, uid) : 0;
    if (r < 0)
        return err_sys(e, r, "cannot make %s/" STORE " the broker's", b->home.path);
    r = confine_program(&(struct confinement){home_is_roots(&b->home), uid, -1, writable, sizeof writable / sizeof *writable});
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

/* The store is opened last, when rights are given up, so that its thread has no others. Peers that connect meanwhile wait. */
static int start(struct broker *b, bool supervised, struct err *e)
{
    turn_init(b);
    turn_start(b);
    b->daemon = daemon_new(b->base, supervised, &(struct daemon_ops){NULL, on_reload, NULL, b});
    int r = prepare(b, e);
    if (r == 0)
        r = kafka_prepare(b, e);
    if (r == 0)
        r = start_listening(b, e);
    if (r == 0)
        r = control_start(b, e);
    if (r == 0)
        r = give_up_rights(b, e);
    return r < 0 ? r : open_store(b, e);
}

/* --list: what the store holds, while no broker runs. */
static int list(struct broker *b, int argc, char **argv, struct err *e)
{
    char last[DEAD_ID_SIZE];
    AUTO_BUF struct buf out = {0};
    turn_init(b);
    int r = prepare(b, e);
    if (r == 0)
        r = give_up_rights(b, e);
    if (r == 0)
        r = open_store(b, e);
    if (r < 0)
        return r;
    json_begin(&out, NULL, '[');
    if (!strcmp(argv[0], "queues"))
        listing_streams(b, &out, argc > 1 && *argv[1] ? argv[1] : NULL);
    else
        listing_dead(b, &out,
                     &(struct dead_asked){.tenant = argc > 1 && *argv[1] ? argv[1] : NULL,
                                          .stream = argc > 2 && *argv[2] ? argv[2] : NULL,
                                          .app = argc > 3 && *argv[3] ? argv[3] : NULL,
                                          .limit = LISTING_MAX_DEAD},
                     last);
    json_end(&out, ']');
    puts(out.p);
    return 0;
}

static const char usage[] =
    "usage: broker [--supervised] --home HOME\n"
    "       broker --list queues|dead [TENANT [STREAM [APP]]] --home HOME   what the store of a stopped broker holds, as JSON\n"
    "Keeps the tenants' streams of messages. `mysimbdp up` starts it.\n"
    "--supervised: also end when stdin closes. SIGTERM: end. SIGHUP: read the configuration again.\n"
    "Exit: 0 stopped, 1 could not start (the log says why), 2 usage, 75 (--list) another process works on the store now.\n";

int main(int argc, char **argv)
{
    struct kafka kafka = {0};
    struct broker b = {.kafka = &kafka, .store_fd = -1, .marks_fd = -1, .gateway_uid = -1};
    struct err e = {0};
    daemon_prepare("broker");
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    bool listing = argc >= 3 && argc <= 6 && !strcmp(argv[1], "--list") && (!strcmp(argv[2], "queues") || !strcmp(argv[2], "dead"));
    if (!listing && argc != 1)
        return fputs(usage, stderr), 2;
    b.started_wall_ms = clk_wall_ms();
    b.journal_ms = clk_now_ms();
    b.base = daemon_loop(MAX_CALLBACKS); /* or turns that follow one another would keep it from reading */
    int r = home_enter(&b.home, home, &e);
    /* A broker that starts waits for a listing to end. A listing does not wait for a broker: that one can be asked itself. */
    int lock = r < 0 ? r : home_lock(&b.home, "broker", listing ? 0 : LISTING_WAIT_MS, &e);
    if (listing && lock == -EWOULDBLOCK)
        return home_close(&b.home), event_base_free(b.base), EX_TEMPFAIL;
    r = lock < 0 ? lock : listing ? list(&b, argc - 2, argv + 2, &e) : start(&b, supervised, &e);
    if (r == 0 && !listing) {
        log_info("ready", NULL, NULL, "home %s, %s%s%s", b.home.path, b.net.ipc_endpoint, b.net.tcp_endpoint ? ", " : "",
                 b.net.tcp_endpoint ? b.net.tcp_endpoint : "");
        event_base_dispatch(b.base);
    }
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    stop(&b);
    event_base_free(b.base);
    home_close(&b.home);
    return r < 0;
}
