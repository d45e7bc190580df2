/* The privileged helper of a program that tenants reach (broker, monitor, gateway): it keeps the rights which that program gave up,
 * and does the few things that need them. It is started before the program listens, and knows what it may be asked for:
 *
 * - CONF: read the configuration, and tell what of it is for such programs (lib/front/public_conf.h)
 * - TENANTS: which tenant has which uid, and who is suspended (lib/db/tenants.h)
 * - LOG: add lines to the broker's or the monitor's journal of a tenant, or to the monitor's record of decisions
 * - SPANS of the broker's: add lines to the tenant's spans.jsonl
 * - STREAMS of the broker's: the file with which a tenant's streams came from another home (programs/move/move.h)
 * - ROTATE: begin another logs/monitor.log
 * - ALERT: start a command of the configuration, by its alert's place in the list, with a JSON object on stdin, and tell its
 * webhook
 * - ALIVE: note that all is well, for the dead man's switch
 * - LOGIN of the gateway's: who shows these credentials? (programs/keeper/gateway.h)
 * - QUERY of the gateway's: what a tenant may know (lib/query/query.h)
 * - PEM of the gateway's: certificate and key, by the configuration's paths or the home's own
 * - AUDIT of the gateway's: add a record to the audit log (lib/accounts/audit.h)
 * - STORE of the gateway's: versions of apps (programs/keeper/store.h)
 * - FIGURES of the gateway's: all figures for Prometheus; of the monitor's other keeper ("textfile"): writes them into
 *   platform.metrics.textfile
 * - MACHINE of the gateway's: what the provider's page shows of tenants, runs, disks and programs (programs/keeper/machine.h)
 * - EXPORT of the monitor's third keeper ("otlp"): tells a collector of OpenTelemetry's what is new, and what became of it
 *   (programs/keeper/export.h)
 * - RUN_KEY of the broker's and the monitor's: whose CURVE key that is, where it is a run's on a node (host/run_key.h)
 * - KAFKA of the broker's second keeper ("kafka"): starts simbdp-kafka anew, and hands over a socket to it
 *
 * Both end when the other does; a program that is killed so leaves nothing behind. Requests and answers are packets
 * (SOCK_SEQPACKET); what may be long comes in a memfd. Calls block as long as the keeper reads files. */
#ifndef SIMBDP_FRONT_KEEPER_H
#define SIMBDP_FRONT_KEEPER_H

#include "base/err.h"
#include "conf/conf.h"
#include "db/tenants.h"
#include "host/home.h"
#include "host/run_key.h"

#include <event2/event.h>

enum { KEEPER_MAX_TEXT = 128 << 10 };

enum keeper_op {
    KEEPER_CONF,
    KEEPER_TENANTS,
    KEEPER_LOG,
    KEEPER_ROTATE,
    KEEPER_ALERT,
    KEEPER_LOGIN,
    KEEPER_QUERY,
    KEEPER_AUDIT,
    KEEPER_PEM,
    KEEPER_STORE,
    KEEPER_ALIVE,
    KEEPER_FIGURES,
    KEEPER_MACHINE,
    KEEPER_EXPORT,
    KEEPER_SPANS,
    KEEPER_KAFKA,
    KEEPER_RUN_KEY,
    KEEPER_STREAMS
};

/* On the wire; the text of LOG, ALERT, LOGIN, QUERY, AUDIT, FIGURES and MACHINE follows. */
struct keeper_request {
    uint32_t op;
    uint32_t index;      /* ALERT */
    uint64_t generation; /* ALERT: of the configuration that it counts in; the last two are known */
    char tenant[64];     /* LOG, SPANS, STREAMS; RUN_KEY: the key's Z85 */
};

/* To all but LOG, ALERT and ALIVE, with a descriptor when code is 0. */
struct keeper_answer {
    int32_t code;
    char msg[sizeof((struct err *)0)->msg];
};

struct keeper;

/* Starts the keeper of `program`, which takes over the environment: nothing is left of it here. When it ends, the loop is left. */
int keeper_start(struct event_base *base, const struct home *h, const char *program, struct keeper **ret, struct err *e);
/* Waits until it did what it was told. NULL is fine. */
void keeper_stop(struct keeper *k);

/* As conf_load and tenant_states. They wait for the answers to questions under way, too (keeper_ask); who asked those is told by
 * the loop, never from here, so both may be called from any callback. */
int keeper_conf(struct keeper *k, struct conf **ret, struct err *e);
int keeper_tenants(struct keeper *k, struct tenant_state **ret, size_t *ret_n, struct err *e);
/* Which configuration keeper_conf gave last. */
uint64_t keeper_generation(const struct keeper *k);

/* Whose key (Z85) it is; -ENOENT: no run's, or its run is over. Waits, for as long as the keeper takes to open a file. */
int keeper_run_key(struct keeper *k, const char *key, struct run_key *ret);

/* Whole lines for the tenant's journal (host/tenant_events.h: the broker's `stream`, the monitor's `scaling`); tenant NULL: for the
 * monitor's record of decisions. 0 or -errno: it was not told. */
int keeper_log(struct keeper *k, const char *tenant, const char *text, size_t n);
/* Whole lines for the tenant's spans.jsonl. Does not wait: -EAGAIN, and they are told to nobody. */
int keeper_spans(struct keeper *k, const char *tenant, const char *text, size_t n);
/* A descriptor of the tenant's file of streams, to be read; or negative. */
int keeper_streams(struct keeper *k, const char *tenant, struct err *e);
/* A descriptor of the new log, or -errno. */
int keeper_rotate(struct keeper *k);
int keeper_alert(struct keeper *k, uint64_t generation, size_t index, const char *json);
/* All is well now. */
int keeper_alive(struct keeper *k);

/* A socket (SOCK_STREAM) of a simbdp-kafka that was started for this; an earlier one is ended. Or negative. */
int keeper_kafka(struct keeper *k, struct err *e);

/* PEM: both are appended. */
int keeper_pem(struct keeper *k, struct buf *ret_chain, struct buf *ret_key, struct err *e);

/* LOGIN, QUERY, AUDIT, FIGURES, MACHINE and EXPORT: `text` is a JSON object of at most KEEPER_MAX_TEXT bytes. The answer comes on
 * the loop, later, in the order of the questions: a JSON object, and the body that may follow it. It never blocks, and `text` is
 * overwritten once sent. code negative, head NULL: there was none. 0; -EAGAIN: KEEPER_ASKS wait already; -EMSGSIZE. */
enum { KEEPER_ASKS = 4096 };
typedef void keeper_answer_fn(void *arg, int code, const bson_t *head, const char *body, size_t n);
int keeper_ask(struct keeper *k, enum keeper_op op, const char *text, size_t n, keeper_answer_fn *fn, void *arg);
/* Likewise, but the body stays in a file: its bytes from `at` to `end`. Whoever is told it owns fd (-1 where code is negative). */
typedef void keeper_file_fn(void *arg, int code, const bson_t *head, int fd, int64_t at, int64_t end);
int keeper_ask_file(struct keeper *k, enum keeper_op op, const char *text, size_t n, keeper_file_fn *fn, void *arg);

#endif
