/* A program's control socket. A request is one line with a JSON object, {"op":...}; the answer is one line, too: "ok":true, or
 * "ok":false and "error".
 *
 * It is for the provider: the socket has mode 0600, and only root and the socket's owner (SO_PEERCRED) are served. A *guest* is
 * another program of the platform with a uid of its own. It is in the socket's group and may use only the verbs that are listed for
 * it. Runs on the loop; nothing blocks. */
#ifndef SIMBDP_LOOP_CTL_H
#define SIMBDP_LOOP_CTL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

struct event_base;
struct ctl;
struct ctl_conn;

struct ctl_ops {
    /* 0: ok is answered; 1: it was answered, or will be; negative: the error is answered. */
    int (*serve)(void *arg, struct ctl_conn *c, const bson_t *request, struct err *e);
    /* The connection ended; may be NULL. */
    void (*gone)(void *arg, struct ctl_conn *c);
    void *arg;
    int64_t guest;                /* its uid; -1, or guest_ops NULL: none */
    const char *const *guest_ops; /* ends with NULL */
    int64_t other;                /* another guest, which opens the socket by a capability; only with other_ops */
    const char *const *other_ops;
};

int ctl_new(struct event_base *base, const char *path, const struct ctl_ops *ops, struct ctl **ret, struct err *e);
/* Closes the socket, removes its path and closes all connections, without calling `gone`. Connections that are held stay valid
 * until they are released. NULL is fine. */
void ctl_free(struct ctl *ctl);

/* Sends a line, given without its newline; b is emptied. Nothing happens when the other end is gone. */
void ctl_send(struct ctl_conn *c, struct buf *b);
void ctl_answer(struct ctl_conn *c, const struct err *e); /* answers the error, or ok when e is NULL */
/* Holds a connection that is to be answered later: it stays valid, even when its other end goes, until it is released. */
void ctl_hold(struct ctl_conn *c);
void ctl_release(struct ctl_conn *c);
bool ctl_is_guest(const struct ctl_conn *c);
/* The program's own data of a connection; NULL at first. */
void ctl_set_data(struct ctl_conn *c, void *data);
void *ctl_data(const struct ctl_conn *c);
/* Bytes that were sent and that the other end has not read yet. */
size_t ctl_backlog(const struct ctl_conn *c);

#endif
