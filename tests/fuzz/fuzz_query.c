/* Questions as the gateway's keepers are asked them (lib/query/query.h), over a home with a few files, runs and events. The first
 * byte chooses the question, the second whose it is, the rest are its parameters, as JSON. Whatever they are: a status that is
 * described, a body that is what its type says, nothing of another tenant, and the ledger goes on to be there. */
#include "../unit/query_home.h"

#include "base/fd.h"
#include "base/mem.h"
#include "host/tenant_events.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define THEIRS "of-another-tenant"

static const char *const names[] = {"files", "file",     "runs",    "run",           "rejects", "log", "events", "agreement",
                                    "apps",  "versions", "version", "configuration", "usage",   "ids", "bill"};
enum { N_NAMES = sizeof names / sizeof *names };

static void write_text(const char *dir, const char *name, const char *text)
{
    assert(fd_append_file(home.dirfd, dir, name, text, strlen(text), 0600) == 0);
}

static void forget_home(void)
{
    remove_home(NULL);
}

/* Of files 1 to 20 and runs 21 to 40 every other one is of another tenant. */
static void fill(void)
{
    static const char *const states[] = {"received", "queued", "running", "ingested", "rejected", "quarantined", "duplicate"};
    make_home(NULL);
    atexit(forget_home);
    for (int i = 1; i <= 20; i++) {
        put_file(i, i % 2 ? "acme" : "other", i % 3 ? "a" : "b", states[i % 7], i % 2 ? "x.csv" : THEIRS);
        put_run(20 + i, i, i % 2 ? "acme" : "other", "ingest", i % 4 ? "ended" : "started");
        put_instance(40 + i, i % 2 ? "acme" : "other", "ready");
    }
    for (int theirs = 0; theirs < 2; theirs++) {
        AUTO_FREE char *dir = xasprintf("logs/tenants/%s", theirs ? "other" : "acme"), *text = xstrdup("");
        for (int i = 0; i < 50; i++) {
            AUTO_FREE char *before = text;
            text = xasprintf(
                "%s{\"ts\":\"2026-01-01T00:00:%02d.000Z\",\"event\":\"file_received\",\"file_id\":\"%s\",\"dataset\":\"a\"}\n",
                before, i, theirs ? THEIRS : "f");
        }
        write_text(dir, events_file(EVENTS_OF_batch), text);
        write_text(dir, events_file(EVENTS_OF_stream),
                   "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"event\":\"interval\",\"stream\":\"s\",\"app\":null,\"line\":\"1\","
                   "\"messages\":5}\n");
    }
}

static void check(const struct query_answer *a, const struct query_scope *scope)
{
    assert(a->status == 200 || a->status == 400 || a->status == 404 || a->status == 410 ||
           (a->status == 503 && strcmp(a->code, "busy") == 0) || (a->status == 503 && strstr(a->why, "configuration")));
    assert(a->status == 200 ? !a->code : a->code && !a->body.n);
    assert(a->body.n <= QUERY_MAX_BODY);
    if (a->body.n && strcmp(scope->tenant, "other") != 0)
        assert(!memmem(a->body.p, a->body.n, THEIRS, strlen(THEIRS)));
    if (a->status == 200 && !strcmp(a->type, "application/json")) {
        AUTO_BSON bson_t *body = json_parse(a->body.p, a->body.n, NULL);
        assert(body);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct query_scope *const scopes[] = {&acme, &acme_a, &acme_none, &other, &gone};
    struct query_answer a = {0};
    if (!queries)
        fill();
    AUTO_BSON bson_t *params = size > 2 ? json_parse((const char *)data + 2, size - 2, NULL) : NULL;
    if (!params)
        return 0;
    const struct query_scope *scope = scopes[data[1] % 5];
    query(queries, names[data[0] % N_NAMES], scope, params, &a);
    check(&a, scope);
    query_answer_fini(&a);
    return 0;
}
