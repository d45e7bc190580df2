/* Connections, and how long each has been doing what it does: who takes too long over a header, or sends a body in drops, holds a
 * place that others may want. libmicrohttpd's own time limit starts anew with each byte. */
#ifndef SIMBDP_GATEWAY_SLOW_H
#define SIMBDP_GATEWAY_SLOW_H

#include <microhttpd.h>
#include <stdint.h>

struct slow;
struct slow_connection;

/* idle_ms: for a header, from the connection or the answer before it on. min_bytes_per_s: of a body, or of an answer, on
 * average over its time, once it took longer than idle_ms; 0: any. */
struct slow *slow_new(int64_t idle_ms, int64_t min_bytes_per_s);
void slow_free(struct slow *s); /* NULL is fine */

/* The result is the connection's context in libmicrohttpd. */
struct slow_connection *slow_add(struct slow *s, struct MHD_Connection *c, int64_t now_ms);
void slow_remove(struct slow_connection *c);

/* The request's first line is there; a piece of its body (n 0: something else happened); so many bytes are on their way to the
 * client (negative: as many as there will be); it has them. */
void slow_header(struct MHD_Connection *c, int64_t now_ms);
void slow_progress(struct MHD_Connection *c, int64_t now_ms, size_t n);
void slow_answer(struct MHD_Connection *c, int64_t now_ms, int64_t bytes);
void slow_idle(struct MHD_Connection *c, int64_t now_ms);
/* The request waits for the platform, or does not any more. */
void slow_suspended(struct MHD_Connection *c, int64_t now_ms, int suspended);

/* Shuts down those that are too slow. */
void slow_sweep(struct slow *s, int64_t now_ms);
/* Before the server stops: libmicrohttpd wants no connection suspended then. */
void slow_resume_all(struct slow *s);

#endif
