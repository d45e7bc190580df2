/* A program's control socket: requests of one JSON object a line, {"op":...}, answered with one line each: "ok":true, or "ok":false
 * and "error". The provider's own: the socket has mode 0600, and only root and who made the socket (SO_PEERCRED) are served,
 * besides a guest: another program of the platform's, with a uid of its own, which is in the socket's group then and has the verbs
 * that it needs. On the loop; nothing blocks. */
#ifndef SIMBDP_LOOP_CTL_H
#define SIMBDP_LOOP_CTL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

struct event_base;
struct ctl;
struct ctl_conn;

struct ctl_ops {
    /* 0: answer ok; 1: was answered, or will be; negative: answer the error. */
    int (*serve)(void *arg, struct ctl_conn *c, const bson_t *request, struct err *e);
    /* The connection ended; may be NULL. */
    void (*gone)(void *arg, struct ctl_conn *c);
    void *arg;
    int64_t guest;                /* its uid; -1, or guest_ops NULL: none */
    const char *const *guest_ops; /* ends with NULL */
    int64_t other;                /* likewise one that opens the socket by a capability of its own; only with other_ops */
    const char *const *other_ops;
};

int ctl_new(struct event_base *base, const char *path, const struct ctl_ops *ops, struct ctl **ret, struct err *e);
/* Closes the socket, removes its path, and closes all connections, without `gone`; those that are held stay valid until they are
 * released. NULL is fine. */
void ctl_free(struct ctl *ctl);

/* A line of one's own, without its newline; b is used up. Nothing happens when the connection is gone. */
void ctl_send(struct ctl_conn *c, struct buf *b);
void ctl_answer(struct ctl_conn *c, const struct err *e); /* NULL: ok */
/* A connection that is to be answered later is held: it stays valid, also when its other end goes, until it is released. */
void ctl_hold(struct ctl_conn *c);
void ctl_release(struct ctl_conn *c);
bool ctl_is_guest(const struct ctl_conn *c);
/* Something of the program's own, NULL at first. */
void ctl_set_data(struct ctl_conn *c, void *data);
void *ctl_data(const struct ctl_conn *c);
/* Bytes that were sent and not taken yet. */
size_t ctl_backlog(const struct ctl_conn *c);

#endif
