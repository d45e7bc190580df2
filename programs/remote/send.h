/* One file to the gateway: a small one in a request, a large one by tus, in pieces. */
#ifndef SIMBDP_REMOTE_SEND_H
#define SIMBDP_REMOTE_SEND_H

#include "http.h"
#include "items.h"

enum { SEND_WHOLE_BYTES = 8 << 20 /* larger files go by tus */ };

/* Where to, and how. */
struct send_order {
    const char *url, *tenant, *dataset, *app; /* app NULL: whichever takes it */
    bool force;
    int64_t patience_ms; /* how long it is tried without getting on */
};

/* Sends it; h is this thread's. 0: it was taken, and i->file_id is filled. Else negative with what it was; what tus has of it is
 * remembered for another start, where that makes sense. Counts in i->sent. Blocks. */
int send_file(struct http *h, const struct send_order *o, struct item *i, struct err *e);

/* For this folder: the same by tus, of an open file. */
int send_by_tus(struct http *h, const struct send_order *o, struct item *i, int fd, struct err *e);

/* The last part of a path, where it is an id; else "". */
void send_id_of(const char *location, char ret[ID_SIZE]);
/* `n` bytes' SHA-256 as base64. */
enum { SEND_DIGEST_SIZE = 64 };
void send_digest(const void *p, size_t n, char ret[SEND_DIGEST_SIZE]);

#endif
