/* Read-only questions about one tenant, answered as text: what the HTTP gateway's keepers do (programs/keeper/gateway.c). Who may
 * ask is checked before; here an id of another tenant's, or of a dataset out of scope, is answered as one that does not exist.
 *
 * Each question is bounded: it is served by an index, looks at SCAN_MAX (page.c) rows for a page, fills QUERY_MAX_BODY bytes, and
 * ends after QUERY_MAX_MS. A page that ends before `limit` for one of these still has a `next`, which goes on behind it.
 *
 * Parameters are a JSON object; absent and null are the same; one that is not listed here, or out of its range, is 400 `parameter`.
 * Bodies are JSON where nothing else is said, times in them RFC 3339 UTC with ms, every key is there, null if unknown.
 *
 * - `files`: dataset, state, since (clk_parse_since), limit (1..1000, 100), cursor (a file_id) ->
 *   {"files":[FILE, newest first],"next":CURSOR|null}; FILE as of `mysimbdp files --json` (records.h)
 * - `file`: file_id -> FILE with two more: "story":[EVENT, in order],"runs":[RUN, oldest first; the last 1000].
 *   EVENT: {"at","event","run_id","app","step","attempt","outcome","reason","detail","until"}; `at` is null where the ledger does
 *   not know when; event is one of
 *   - received, inspected, queued, released (by its app's trigger)
 *   - started, ended: of a run; outcome, reason: the limit, detail: the error
 *   - waiting: reason, detail, until: when it is tried again
 *   - verdict: outcome: the state
 *   - expired: its documents or bytes were deleted
 * - `runs`: app, state, file_id, since, limit, cursor (a run_id) -> {"runs":[RUN, newest first],"next"}; RUN as of
 *   `mysimbdp runs --json`
 * - `run`: run_id -> RUN
 * - `rejects`: file_id, offset (lines, 0), limit (1..10000, 1000), format ("json", "csv") ->
 *   {"rejects":[{"line","byte_offset","column","type","message","raw","repaired"}],"next":OFFSET|null}, or text/csv (RFC 4180) with
 *   these as its header. `next` is also in the head. 410 `not_kept`: deleted by age.
 * - `log`: run_id, and tail (bytes, 1..262144, 65536) or from (the `position` of an earlier answer), most (bytes, 262144) ->
 *   text/plain, as it was printed: the last bytes, or what follows, at most `most`. In the head: "position", "cut" (bytes before
 *   these are left out or gone), "ended" (the run has, and nothing follows these), "more" (there is). 410 `not_kept`.
 * - `events`: from (a position, or "0": the oldest), to (a position: up to there), limit (1..1000, 500) -> text/plain, a line each:
 *   name, blank, the position behind it, blank, a JSON object without control characters. In the head: "position", "more" (there
 * are more now), "ahead" (`from` is not before `to` everywhere; there are no lines then). Without `from` there are no lines, and
 * the position is now's. The line `gap` says that what followed `from` is gone; the oldest that is there follows. Names:
 *   host/tenant_events.h. Who may see some datasets alone sees events of their files and runs alone
 * - `agreement`: -> {"tenant_id","display_name","suspended","concurrency","max_database_bytes","max_streams","limits":LIMITS,
 *   "retention":{},"datasets":[],"streams":[]} (agreement.c); null: no limit. LIMITS of a dataset are those that hold for its files
 * - `apps`: -> {"apps":[{"app","kind":"batch"|"stream",…,"running"}]} (apps.c)
 * - `versions`: app -> {"app","active","since","versions":[VERSION, newest first]}; VERSION as manifest_tell of
 *   lib/appstore/manifest.h
 * - `version`: app, version -> VERSION
 * - `configuration`: -> text/plain: what the tenant configures itself (lib/conf/own.h), "" where it does not. In the head: "etag"
 * - `usage`: -> {"tenant_id","day","until","files_today":USED,"bytes_today":USED,"unfinished_files":USED,
 *   "datasets":[{"dataset", the same}]}; USED: {"used","limit","left"}, null: no limit. `until`: the end of the UTC day
 * - `bill`: month ("2026-01") -> {"tenant_id","month","since","until","complete", the figures of `mysimbdp stats --json` but for
 *   percentiles}; also of a tenant that was purged. complete: the month is over
 * - `ids`: of ("file", "run"), begin (at least 4 characters), end -> {"ids":[at most two that begin and end so]}
 */
#ifndef SIMBDP_QUERY_QUERY_H
#define SIMBDP_QUERY_QUERY_H

#include "base/buf.h"
#include "base/json.h"
#include "conf/conf.h"
#include "host/home.h"

enum { QUERY_MAX_MS = 2000, QUERY_MAX_BILL_MS = 5000, QUERY_MAX_BODY = 4 << 20 };

/* Whose rows are shown. */
struct query_scope {
    const char *tenant;
    char *const *datasets; /* NULL: all; ends with NULL. Files of others do not exist, nor runs that are not of such files */
};

/* status as HTTP's: 200; or, with a code, 400 `parameter`, `query` (there is none of that name), 404 `not_found`, 410 `not_kept`,
 * 503 `busy` (took too long), `unavailable` (the ledger or the configuration cannot be read: `why` is for the provider's log). */
struct query_answer {
    int status;
    const char *code; /* static; NULL: 200 */
    char detail[256]; /* for who asked; "": none */
    char why[256];    /* not for who asked; "": none */
    const char *type; /* of the body */
    struct buf head;  /* more members of the answer's head, as json_… adds them after a '{' */
    struct buf body;
};
void query_answer_fini(struct query_answer *a);

struct queries;

/* Opens nothing yet; h is borrowed. */
struct queries *queries_new(const struct home *h);
void queries_free(struct queries *q); /* NULL is fine */
/* The configuration that holds; borrowed until the next one is set. NULL, as at first: it cannot be read. */
void queries_set_conf(struct queries *q, const struct conf *c);

/* Fills *ret, which is zeroed by the caller; query_answer_fini. Blocks as long as said above. */
void query(struct queries *q, const char *name, const struct query_scope *scope, const bson_t *params, struct query_answer *ret);

#endif
