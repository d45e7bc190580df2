/* batchmgr stores it and is told first, since it may refuse; the broker and streammgr read the ledger again. Killed between them,
 * it holds for files and not yet for streams: the same order again makes it whole, and so does each start of theirs. */
#include "tenant_suspend.h"

#include "accounts/audit.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static int carry_out(const struct home *h, const struct tenant_order *o, struct err *e)
{
    AUTO_BSON bson_t *doc = NULL;
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "op", o->verb);
    json_str(&b, "tenant_id", o->tenant);
    json_end(&b, '}');
    int r = cli_request(h, "batchmgr.sock", b.p, &doc, e);
    if (r == 0)
        r = cli_tell(h, "broker.sock", strcmp(o->verb, "resume") ? "tenants" : "resume", o->tenant, e);
    return r == 0 ? cli_tell(h, "streammgr.sock", "tenants", o->tenant, e) : r;
}

/* It holds also where it cannot be recorded: a tenant is suspended when something is wrong. */
static void record(struct cli *c, const struct home *h, const struct tenant_order *o, const char *outcome)
{
    struct err e = {0};
    AUTO_FREE char *what = xasprintf("tenant_%s", o->verb);
    const struct audit_record r = {.who = o->who, .from = o->from, .what = what, .tenant = o->tenant, .outcome = outcome};
    if (audit_add(h->dirfd, &r, &e) < 0)
        fprintf(stderr, "mysimbdp %s: this cannot be added to the audit log: %s\n", c->verb, e.msg);
}

int tenant_suspend(struct cli *c, const struct home *h, const struct tenant_order *o)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    int r = carry_out(h, o, &e);
    const char *code = r == ERR_REFUSED ? err_reason(&e) : "unavailable";
    record(c, h, o, r == 0 ? "ok" : code);
    if (!c->json)
        return r < 0 ? cli_fail(c, &e) : CLI_DONE;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", r == 0);
    json_str(&b, r == 0 ? "tenant_id" : "code", r == 0 ? o->tenant : code);
    json_str(&b, r == 0 ? "state" : "error", r < 0 ? e.msg : strcmp(o->verb, "resume") ? "suspended" : "active");
    json_end(&b, '}');
    puts(b.p);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
