/* A program's control socket. A request is one line with a JSON object, {"op":...}; the answer is one line, too: "ok":true, or
 * "ok":false, "error" for people, "code" for programs (err_reason) and, where the same may succeed later, "retry_after_s". Requests
 * of a connection are served in the order in which they come, but those whose answer takes a while are overtaken: who wants to
 * know what an answer is to asks one thing at a time.
 *
 * It is for the provider: the socket has mode 0600, and only root and the socket's owner (SO_PEERCRED) are served. A *guest* is
 * another program of the platform with a uid of its own. It may use only the verbs that are listed for it. A mode and one group let
 * a single guest in, so there are three ways:
 *   - one guest's group is the socket's;
 *   - a guest that has the capability opens it all the same;
 *   - any other guest has a socket of its own beside it: PROGRAM.NAME.sock, whose group is the guest's. Whoever comes by that one,
 *     provider or not, has the guest's verbs and no more; so it is the same where the guest has no uid of its own. (Access for
 *     everybody with SO_PEERCRED alone would let every account of the host hold connections; a common group of guests would be a
 *     second identity for each of them.)
 * What a connection may cost is bounded: MAX_UNREAD bytes of answers and MAX_HELD of them still to come before more of its requests
 * are served, and so many connections at once by a guest's own socket. Runs on the loop; nothing blocks. */
#ifndef SIMBDP_LOOP_CTL_H
#define SIMBDP_LOOP_CTL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

struct event_base;
struct ctl;
struct ctl_conn;

enum ctl_way { CTL_BY_GROUP, CTL_BY_CAPABILITY, CTL_BY_SOCKET };

struct ctl_guest {
    const char *name;
    int64_t uid; /* -1: it has none of its own, and is let in by its own socket alone */
    enum ctl_way way;
    const char *const *ops; /* ends with NULL */
};

enum { CTL_GUEST_CONNS = 256 };

struct ctl_ops {
    /* 0: ok is answered; 1: it was answered, or will be; negative: the error is answered. */
    int (*serve)(void *arg, struct ctl_conn *c, const bson_t *request, struct err *e);
    /* The connection ended; may be NULL. */
    void (*gone)(void *arg, struct ctl_conn *c);
    void *arg;
    const struct ctl_guest *guests;
    size_t n_guests;
};

/* Copies ops and guests; names and lists of verbs live as long as the socket. 0 or negative. */
int ctl_new(struct event_base *base, const char *path, const struct ctl_ops *ops, struct ctl **ret, struct err *e);
/* Closes the sockets, removes their paths and closes all connections, without calling `gone`. Connections that are held stay valid
 * until they are released. NULL is fine. */
void ctl_free(struct ctl *ctl);

/* Sends a line, given without its newline; b is emptied. Nothing happens when the other end is gone. */
void ctl_send(struct ctl_conn *c, struct buf *b);
/* A text of many bytes, which is emptied, behind a line {ok,bytes,left_out}: how many they are, and what had no room in them. */
void ctl_send_text(struct ctl_conn *c, struct buf *text, size_t left_out);
/* Many bytes, which are emptied, behind a line of the caller's that says how many they are. */
void ctl_send_bytes(struct ctl_conn *c, struct buf *bytes);
void ctl_answer(struct ctl_conn *c, const struct err *e); /* answers the error, or ok when e is NULL */
/* Holds a connection that is to be answered later: it stays valid, even when its other end goes, until it is released. */
void ctl_hold(struct ctl_conn *c);
void ctl_release(struct ctl_conn *c);
/* Whether that guest asks. */
bool ctl_is_guest(const struct ctl_conn *c, const char *name);
/* The program's own data of a connection; NULL at first. */
void ctl_set_data(struct ctl_conn *c, void *data);
void *ctl_data(const struct ctl_conn *c);
/* Bytes that were sent and that the other end has not read yet. */
size_t ctl_backlog(const struct ctl_conn *c);

#endif
