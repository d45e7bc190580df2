/* One request from its first byte to its answer. libmicrohttpd calls with what it received; a request goes through
 *   framing and route (routes.h) -> login (login.h) -> the route's `begin` -> its `body` for each piece -> its `end` -> an answer,
 * and each step may answer, go on, or wait (request_wait) until something else (a keeper, another program, a thread that syncs)
 * calls request_go_on. While it waits, the connection is suspended: nothing more is read from it, and it takes no time of the loop.
 *
 * Everything happens on the loop, in one thread. A request that waits is never freed: a client that vanished is noticed afterwards.
 * So whoever was asked may keep a pointer to it until he answers. */
#ifndef SIMBDP_GATEWAY_REQUEST_H
#define SIMBDP_GATEWAY_REQUEST_H

#include "uri.h"

#include "accounts/accounts.h"
#include "base/buf.h"
#include "base/json.h"
#include "host/home.h"

#include <microhttpd.h>

struct gateway;
struct request;

struct route {
    const char *method, *pattern; /* "/v1/tenants/{tenant}/files/{file_id}:retry" */
    enum verb verb;               /* what the account has to be allowed */
    unsigned flags;
    const char *const *fields;         /* of the query; ends with NULL */
    void (*begin)(struct request *rq); /* the header is there, and who it is */
    void (*body)(struct request *rq, const char *p, size_t n);
    void (*end)(struct request *rq); /* all of the body is there; NULL: `begin` answered, or will */
};
enum {
    ROUTE_OPEN = 1,       /* needs no login */
    ROUTE_OF_DATASET = 4, /* is about a dataset that the path does not name: the route looks whether the account may */
    ROUTE_KEEPS = 2,      /* its body is collected in rq->body, up to REQUEST_BODY_MAX, before `end` */
};
/* DRAIN: of a body that is refused before its first byte, DISCARD: after it, so much is read for the client to see the answer. */
enum { REQUEST_BODY_MAX = 1 << 20, REQUEST_DRAIN_MAX = 8 << 20, REQUEST_DISCARD_MAX = 64 << 20 };

enum { LENGTH_UNKNOWN = -1 }; /* chunked */

struct request {
    struct gateway *g;
    struct MHD_Connection *connection;
    char id[ID_SIZE];
    const char *method;
    char *target; /* as it came */
    struct uri uri;
    const struct route *route;
    /* Of the path; NULL where the route has none. */
    const char *tenant, *dataset, *name, *file_id, *run_id, *app, *stream, *upload_id, *month, *version, *instance_id;
    char address[64]; /* the peer's, or by http.fronts the client's behind it */
    int64_t length;   /* of the body as the header says; LENGTH_UNKNOWN */
    bool has_length;  /* the header says how the body ends; else there is none */
    int64_t received; /* of it */
    struct buf body;
    /* Who it is (login.h); who.name NULL: nobody. */
    struct account who;
    char *ticket;
    /* The route's. */
    void *data;
    void (*free_data)(struct request *rq);
    /* The answer. */
    bool may_be_kept; /* by who asks again whether it is still so: what is the same for all */
    unsigned status;
    int64_t answer_bytes; /* negative: as many as there will be */
    struct MHD_Response *response;
    int64_t began_us;
    bool counted; /* in figures.h already */
    /* request.c's */
    enum { STEP_HEADER, STEP_LOGIN, STEP_BEGUN, STEP_BODY, STEP_ENDED } step;
    bool waits, suspended, answered;
    bool sent; /* server.c's: all of the answer is on its way to the client; only when the request ends */
};

/* ---- for steps ---- */

/* Nothing more happens with it until request_go_on. */
void request_wait(struct request *rq);
void request_go_on(struct request *rq);

/* The answer. Each takes the text (with its NUL cut off) and empties `body`; content type NULL: application/json. Once only. */
void request_answer(struct request *rq, unsigned status, const char *content_type, struct buf *body);
/* 200 with the bytes of a file from `at` to `end`, which the kernel hands on where there is no TLS. Takes fd over. */
void request_answer_file(struct request *rq, const char *content_type, int fd, int64_t at, int64_t end);
/* 200 with what `read` gives, as libmicrohttpd's MHD_ContentReaderCallback: 0 after request_flow(rq, false). */
void request_answer_stream(struct request *rq, const char *content_type, MHD_ContentReaderCallback read, void *arg);
/* Whether such an answer goes on, or waits for more. */
void request_flow(struct request *rq, bool goes_on);
void request_refuse(struct request *rq, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Likewise, with Retry-After. */
void request_refuse_for(struct request *rq, const char *code, int64_t retry_after_s, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* To be called between the answer and its sending. */
void request_add_header(struct request *rq, const char *name, const char *value);
/* A field of the header; NULL when it is not there. */
const char *request_header(const struct request *rq, const char *name);
/* traceparent and tracestate, as they are kept (base/trace_context.h); NULL: it has none, or none that can be read. The caller
 * frees. */
char *request_trace(const struct request *rq);

/* Idempotency-Key, a client's name for what it asks for: 1 to 255 bytes of UTF-8 without control characters; or NULL. False: it is
 * something else, and that was answered. */
bool request_key(struct request *rq, const char **ret);

/* ---- for server.c ---- */

struct request *request_new(struct gateway *g, struct MHD_Connection *c, const char *target);
void request_free(struct request *rq);
enum MHD_Result request_step(struct request *rq, const char *method, const char *version, const char *p, size_t *n);

#endif
