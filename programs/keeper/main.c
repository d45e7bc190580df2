/* simbdp-keeper: what broker, monitor and gateway may not do themselves (lib/front/keeper.h). The program that it serves may have
 * been taken over: of a request it takes a verb, a place in a list, a tenant's name that must be one, and text. The broker's keeper
 * starts nothing and changes journals only, so it keeps the capability that opens files, and no other. */
#include "alert_calls.h"
#include "export.h"
#include "figures.h"
#include "gateway.h"
#include "kafka.h"
#include "store.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/tenants.h"
#include "front/keeper.h"
#include "front/public_conf.h"
#include "host/home.h"
#include "host/move_record.h"
#include "host/tenant_events.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <zmq.h> /* Z85 */

enum { TICK_MS = 1000, ROTATE_BYTES = 16 << 20 };

#define DECISIONS "decisions.jsonl"

struct keep {
    struct home home;
    bool is_broker, confined;
    uint64_t generation;
    struct conf *confs[2];          /* of the last two generations, by their lowest bit */
    struct alert_calls *hooks;      /* NULL: not of the monitor */
    struct gateway_keeper *gateway; /* NULL: not of the gateway */
    struct store_keeper *store;     /* NULL: not of the gateway, for versions of apps */
    struct export *export;          /* NULL: not of the monitor, for a collector of OpenTelemetry's */
    struct kafka_keeper *kafka;     /* NULL: not of the broker's, for Kafka */
    struct figures *figures;        /* NULL: not of the monitor, for the file of figures */
};

static void answer(int code, const struct err *e, int fd)
{
    struct keeper_answer a = {.code = code};
    snprintf(a.msg, sizeof a.msg, "%s", e ? e->msg : "");
    if (fd_send(STDIN_FILENO, &a, sizeof a, &fd, fd >= 0) < 0)
        log_debug("keeper", NULL, NULL, "the program took no answer: it is ending");
}

/* r: of writing it. */
static void answer_file(int r, int fd)
{
    struct err e = {0};
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r < 0)
        err_sys(&e, r, "cannot hand over the answer");
    answer(r, &e, r < 0 ? -1 : fd);
}

static void answer_doc(const struct buf *doc)
{
    AUTO_FD int fd = memfd_create("answer", MFD_CLOEXEC);
    answer_file(fd < 0 ? -errno : fd_write_all(fd, doc->p, doc->n), fd);
}

/* Once the configuration was read for the first time: uids may have had to be chosen for it. Who writes the file of figures may
 * write where it is from then on. */
static int confine(struct keep *k, const struct conf *c, struct err *e)
{
    AUTO_FREE char *logs = home_path(&k->home, "logs"), *state = home_path(&k->home, "state");
    AUTO_FREE char *textfile = xstrdup(c->platform.metrics.textfile);
    char *slash = k->figures ? strrchr(textfile, '/') : NULL;
    if (slash)
        slash[slash == textfile] = 0; /* its directory */
    const char *const writable[] = {logs, state /* SQLite's */, "/dev/null", textfile};
    if (k->hooks || k->export || k->store || k->kafka || k->confined) /* they start programs */
        return 0;
    int r = confine_program(&(struct confinement){home_is_roots(&k->home), -1, CAP_DAC_OVERRIDE, writable, slash ? 4 : 3});
    k->confined = r == 0;
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

static void tell_conf(struct keep *k)
{
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    struct conf *c = NULL;
    int r = conf_load(k->home.path, &c, &e);
    if (r == 0)
        r = confine(k, c, &e);
    if (r < 0) {
        conf_free(c);
        answer(r, &e, -1);
        return;
    }
    struct conf **at = &k->confs[++k->generation % 2];
    conf_free(*at);
    *at = c;
    if (k->gateway)
        gateway_keeper_set_conf(k->gateway, c);
    if (k->store)
        store_keeper_set_conf(k->store, c);
    if (k->hooks)
        alert_calls_set_conf(k->hooks, c);
    if (k->export)
        export_set_conf(k->export, c);
    json_begin(&out, NULL, '{');
    json_i64(&out, "generation", (int64_t)k->generation);
    conf_tell(c, &out);
    json_end(&out, '}');
    answer_doc(&out);
}

static void tell_tenants(struct keep *k)
{
    AUTO_BUF struct buf out = {0};
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    int r = tenant_states(&k->home, &v, &n, &e);
    if (r < 0) {
        answer(r, &e, -1);
        return;
    }
    json_begin(&out, NULL, '{');
    json_begin(&out, "tenants", '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&out, NULL, '{');
        json_str(&out, "id", v[i].id);
        json_i64(&out, "uid", v[i].uid);
        json_bool(&out, "suspended", v[i].suspended);
        json_bool(&out, "removed", v[i].removed);
        json_bool(&out, "held", v[i].held);
        json_bool(&out, "moved", v[i].moved);
        json_end(&out, '}');
    }
    json_end(&out, ']');
    json_end(&out, '}');
    tenant_states_free(v, n);
    answer_doc(&out);
}

/* From anybody who connects, so it is one file that is opened. */
static void tell_run_key(const struct keep *k, const struct keeper_request *rq)
{
    AUTO_BUF struct buf out = {0};
    unsigned char key[RUN_KEY_BYTES];
    struct run_key who;
    bool is_key = strlen(rq->tenant) == 40 && zmq_z85_decode(key, rq->tenant);
    if (!is_key || run_key_find(k->home.dirfd, key, &who) < 0) {
        answer(-ENOENT, NULL, -1);
        return;
    }
    json_begin(&out, NULL, '{');
    json_str(&out, "tenant_id", who.tenant);
    json_str(&out, "run_id", who.run_id);
    json_end(&out, '}');
    answer_doc(&out);
}

static void add_to_log(struct keep *k, const struct keeper_request *rq, const char *text, size_t n)
{
    bool of_tenant = k->is_broker || *rq->tenant;
    enum events_journal j = k->is_broker ? EVENTS_OF_stream : EVENTS_OF_scaling;
    if (of_tenant && !conf_valid_id(rq->tenant))
        return;
    if (!of_tenant)
        fd_rotate(k->home.dirfd, "logs/" DECISIONS, ROTATE_BYTES);
    int r = of_tenant ? tenant_events_add(k->home.dirfd, rq->tenant, j, text, n)
                      : fd_append_file(k->home.dirfd, "logs", DECISIONS, text, n, 0640);
    if (r < 0)
        log_warn("journal", of_tenant ? rq->tenant : NULL, NULL, "cannot write %s: %s", of_tenant ? events_file(j) : DECISIONS,
                 err_text(r));
}

/* Nobody waits for spans, nor for what keeps them from being written: that is told when a journal cannot be. */
static void add_spans(const struct keep *k, const struct keeper_request *rq, const char *text, size_t n)
{
    int r = conf_valid_id(rq->tenant) ? tenant_spans_add(k->home.dirfd, rq->tenant, text, n) : 0;
    if (r < 0)
        log_debug("spans", rq->tenant, NULL, "cannot write " TENANT_SPANS ": %s", err_text(r));
}

static void tell_streams(const struct keep *k, const struct keeper_request *rq)
{
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.streams", conf_valid_id(rq->tenant) ? rq->tenant : "");
    struct err e = {0};
    struct stat st;
    AUTO_FD int fd = openat(k->home.dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int r = fd < 0 || fstat(fd, &st) < 0 ? err_sys(&e, -errno, "cannot open %s/%s", k->home.path, path)
            : !S_ISREG(st.st_mode)       ? err_set(&e, ERR_FORMAT, "%s/%s is no file", k->home.path, path)
                                         : 0;
    answer(r, &e, r < 0 ? -1 : fd);
}

static void rotate(struct keep *k)
{
    struct err e = {0};
    fd_rotate(k->home.dirfd, "logs/monitor.log", ROTATE_BYTES);
    AUTO_FD int fd = openat(k->home.dirfd, "logs/monitor.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    int r = fd < 0 ? err_sys(&e, -errno, "cannot open logs/monitor.log") : 0;
    if (r == 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        alert_calls_set_log(k->hooks, fd);
    }
    answer(r, &e, fd);
}

static void run_alert(struct keep *k, const struct keeper_request *rq, const char *json)
{
    const struct conf *c =
        rq->generation == k->generation || rq->generation + 1 == k->generation ? k->confs[rq->generation % 2] : NULL;
    const struct conf_alert *v = c ? c->platform.alerts.v : NULL;
    if (v && rq->index < c->platform.alerts.n)
        alert_calls_tell(k->hooks, &v[rq->index], json);
}

/* The gateway shows this to whoever connects, and has to have the key for that. */
static void tell_pem(struct keep *k)
{
    enum { MAX_PEM = 1 << 20 };
    const struct conf *c = k->confs[k->generation % 2];
    const char *files[] = {c ? c->platform.http.certificate : "", c ? c->platform.http.key : ""};
    static const char *const own[] = {"keys/gateway.crt", "keys/gateway.key"}, *const names[] = {"chain", "key"};
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    int r = 0;
    json_begin(&out, NULL, '{');
    for (int i = 0; r == 0 && i < 2; i++) {
        AUTO_BUF struct buf pem = {0};
        r = fd_read_file(k->home.dirfd, *files[i] ? files[i] : own[i], &pem, MAX_PEM, &e);
        json_strn(&out, names[i], pem.p ? pem.p : "", pem.n);
    }
    json_end(&out, '}');
    if (r < 0)
        answer(r, &e, -1);
    else
        answer_doc(&out);
}

/* False: this is no question for it. */
static bool tell_figures(struct keep *k, const char *text, size_t n)
{
    AUTO_FD int fd = memfd_create("answer", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : gateway_keeper_figures(k->gateway, text, n, fd);
    if (r == ERR_FORMAT)
        return false;
    answer_file(r, fd);
    return true;
}

static bool tell_gateway(struct keep *k, const struct keeper_request *rq, const char *text, size_t n)
{
    AUTO_BUF struct buf out = {0};
    if (rq->op == KEEPER_FIGURES)
        return tell_figures(k, text, n);
    if (!gateway_keeper_answer(k->gateway, (enum keeper_op)rq->op, text, n, &out))
        return false;
    answer_doc(&out);
    return true;
}

static bool tell_store(struct keep *k, const struct keeper_request *rq, const char *text, size_t n)
{
    AUTO_BUF struct buf out = {0};
    if (rq->op != KEEPER_STORE || !store_keeper_answer(k->store, text, n, &out))
        return false;
    answer_doc(&out);
    return true;
}

static void write_figures(struct keep *k)
{
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    const struct conf *c = k->confs[k->generation % 2];
    int r = c ? figures_write_file(k->figures, c, &e) : 0;
    json_begin(&out, NULL, '{');
    json_bool(&out, "written", r == 0);
    json_str(&out, "error", r == 0 ? NULL : e.msg);
    json_end(&out, '}');
    answer_doc(&out);
}

static void start_kafka(struct keep *k)
{
    struct err e = {0};
    AUTO_FD int fd = kafka_keeper_start(k->kafka, &e);
    answer(fd < 0 ? fd : 0, &e, fd);
}

static void do_export(struct keep *k)
{
    AUTO_BUF struct buf out = {0};
    const struct conf *c = k->confs[k->generation % 2];
    if (c)
        export_tick(k->export, c);
    export_tell(k->export, &out);
    answer_doc(&out);
}

struct packet {
    struct keeper_request rq;
    char text[KEEPER_MAX_TEXT + 1];
};

/* False: this is no request for it. */
static bool do_request(struct keep *k, const struct packet *in, size_t n)
{
    if (in->rq.op == KEEPER_CONF)
        tell_conf(k);
    else if (in->rq.op == KEEPER_TENANTS)
        tell_tenants(k);
    else if (in->rq.op == KEEPER_PEM && k->gateway)
        tell_pem(k);
    else if (k->kafka && in->rq.op == KEEPER_KAFKA)
        start_kafka(k);
    else if (k->figures && in->rq.op == KEEPER_FIGURES)
        write_figures(k);
    else if (k->export && in->rq.op == KEEPER_EXPORT)
        do_export(k);
    else if (k->figures || k->export || k->kafka)
        return false;
    else if (k->gateway)
        return tell_gateway(k, &in->rq, in->text, n);
    else if (k->store)
        return tell_store(k, &in->rq, in->text, n);
    else if (in->rq.op == KEEPER_RUN_KEY)
        tell_run_key(k, &in->rq);
    else if (in->rq.op == KEEPER_LOG)
        add_to_log(k, &in->rq, in->text, n);
    else if (in->rq.op == KEEPER_SPANS && k->is_broker)
        add_spans(k, &in->rq, in->text, (size_t)n);
    else if (in->rq.op == KEEPER_STREAMS && k->is_broker)
        tell_streams(k, &in->rq);
    else if (in->rq.op == KEEPER_ROTATE && k->hooks)
        rotate(k);
    else if (in->rq.op == KEEPER_ALERT && k->hooks)
        run_alert(k, &in->rq, in->text);
    else if (in->rq.op == KEEPER_ALIVE && k->hooks)
        alert_calls_alive(k->hooks);
    else
        return false;
    return true;
}

/* False: the program is gone, or is not what it was. */
static bool serve(struct keep *k)
{
    static struct packet in;
    ssize_t n = recv(STDIN_FILENO, &in, sizeof in - 1, MSG_TRUNC);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < (ssize_t)sizeof in.rq || n >= (ssize_t)sizeof in || in.rq.tenant[sizeof in.rq.tenant - 1])
        return false;
    n -= (ssize_t)sizeof in.rq;
    in.text[n] = 0;
    bool known = do_request(k, &in, (size_t)n);
    explicit_bzero(in.text, (size_t)n); /* may be a password */
    return known;
}

static void keep(struct keep *k)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    AUTO_FD int ended = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    for (bool goes_on = true; goes_on;) {
        struct signalfd_siginfo si;
        struct pollfd p[] = {{STDIN_FILENO, POLLIN, 0}, {ended, POLLIN, 0}};
        poll(p, 2, k->hooks && alert_calls_need_tick(k->hooks) ? TICK_MS : -1);
        while (read(ended, &si, sizeof si) == (ssize_t)sizeof si) {
        }
        if (k->hooks)
            alert_calls_tick(k->hooks);
        if (k->store)
            store_keeper_reap(k->store);
        if (p[0].revents)
            goes_on = serve(k);
    }
}

static const char usage[] = "usage: simbdp-keeper broker|kafka|monitor|textfile|otlp|gateway|store --home HOME\n"
                            "stdin: the program's socket, with which it ends. They start it.\n";

static bool is_kind(const char *word)
{
    static const char *const kinds[] = {"broker", "kafka", "monitor", "textfile", "otlp", "gateway", "store"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(word, kinds[i]))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    struct keep k = {0};
    struct err e = {0};
    const char *home = home_take_arg(&argc, argv);
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc != 2 || !is_kind(argv[1]))
        return fputs(usage, stderr), 2;
    log_init(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    k.is_broker = !strcmp(argv[1], "broker");
    if (home_open(&k.home, home, &e) < 0) {
        log_error("start", NULL, NULL, "%s", e.msg);
        return 1;
    }
    if (!strcmp(argv[1], "monitor"))
        k.hooks = alert_calls_new(&k.home);
    if (!strcmp(argv[1], "kafka"))
        k.kafka = kafka_keeper_new(&k.home);
    if (!strcmp(argv[1], "textfile"))
        k.figures = figures_new(&k.home);
    if (!strcmp(argv[1], "otlp"))
        k.export = export_new(&k.home);
    int r = !strcmp(argv[1], "gateway") ? gateway_keeper_new(&k.home, &k.gateway, &e)
            : !strcmp(argv[1], "store") ? store_keeper_new(&k.home, &k.store, &e)
                                        : 0;
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    else
        keep(&k);
    gateway_keeper_free(k.gateway);
    store_keeper_free(k.store);
    alert_calls_free(k.hooks);
    export_free(k.export);
    kafka_keeper_free(k.kafka);
    figures_free(k.figures);
    conf_free(k.confs[0]);
    conf_free(k.confs[1]);
    home_close(&k.home);
    return r < 0;
}
