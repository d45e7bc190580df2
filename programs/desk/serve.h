/* One connection to the desk, in a process of its own that does nothing else.
 *
 * A request is one line, a JSON object: {"op",...}; the answer is one line, too, and what follows it until the end is its body:
 *   {"status","code","detail","tenant_id","bytes",...}   status, code and detail as of query_answer; bytes: of the body
 * `tenant_id` of a request may be left out; another tenant's is answered with 404 `tenant`.
 *   op files, file, runs, run, log, rejects, ids, agreement, usage, bill; params: questions of lib/query/query.h
 *   op retry; file_id or none (all of the tenant's): {"n","more"} in the head, as batchmgr's control socket has it; 409 and its
 * code where it refused */
#ifndef SIMBDP_DESK_SERVE_H
#define SIMBDP_DESK_SERVE_H

#include "host/home.h"

#include <stdnoreturn.h>

enum { SERVE_MAX_S = 20, SERVE_MAX_QUIET_S = 5 };

/* Answers the request that comes on fd, and ends the process: after SERVE_MAX_S by force. */
noreturn void serve(const struct home *h, int fd, const char *tenant);

struct desk_status {
    int64_t started_wall_ms, serving, served, refused; /* connections: now, since the start, and sent away as strangers or busy */
};
/* To the provider, whatever he asks: {"ok","pid","started_at","serving","served","refused"}. As serve_refusal. */
void serve_status(int fd, const struct desk_status *s);

/* Answers without having read anything. Does not wait. */
void serve_refusal(int fd, int status, const char *code);

#endif
