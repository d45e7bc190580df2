#include "account_change.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

char *account_who(void)
{
    const struct passwd *p = getpwuid(getuid());
    return p ? xstrdup(p->pw_name) : xasprintf("uid %lld", (long long)getuid());
}

int account_change_open(struct cli *c, struct account_change *ch)
{
    struct err e = {0};
    *ch = (struct account_change){.who = account_who()};
    if (cli_home(c, &ch->h)) {
        free(ch->who);
        return CLI_FAILED;
    }
    int r = accounts_open(&ch->h, &ch->a, &e);
    if (r == 0)
        return 0;
    account_change_close(ch);
    return cli_fail(c, &e);
}

void account_change_close(struct account_change *ch)
{
    accounts_close(ch->a);
    home_close(&ch->h);
    free(ch->who);
}

static const char *outcome_of(int r)
{
    return r == 0                               ? "ok"
           : r == -EEXIST                       ? "exists"
           : r == -ENOENT                       ? "not_found"
           : r == ERR_USAGE || r == ERR_REFUSED ? "refused"
                                                : "failed";
}

static int record_it(const struct account_change *ch, const struct audit_record *record, int r, struct err *e)
{
    struct audit_record whole = *record;
    whole.who = ch->who;
    whole.from = "local";
    whole.outcome = outcome_of(r);
    return audit_add(ch->h.dirfd, &whole, e);
}

int account_change_refuse(struct cli *c, struct account_change *ch, const struct audit_record *record, int r, struct err *e)
{
    struct err why = {0};
    if (record_it(ch, record, r, &why) < 0)
        fprintf(stderr, "mysimbdp %s: %s\n", c->verb, why.msg);
    return cli_fail(c, e);
}

/* It is recorded before it is committed: a crash between the two leaves a record of what did not come to hold, never the reverse.
 */
int account_change_end(struct cli *c, struct account_change *ch, const struct audit_record *record, int r, struct err *e)
{
    if (r < 0) {
        accounts_rollback(ch->a);
        return account_change_refuse(c, ch, record, r, e);
    }
    r = record_it(ch, record, 0, e);
    if (r < 0) {
        err_context(e, "nothing was changed, since it cannot be recorded");
        accounts_rollback(ch->a);
        return cli_fail(c, e);
    }
    r = accounts_commit(ch->a, e);
    if (r == 0)
        return CLI_DONE;
    accounts_rollback(ch->a);
    return account_change_refuse(c, ch, record, r, e);
}

int account_forget_tenant(const struct home *h, const struct audit_record *record, bool silent, struct err *e)
{
    AUTO_ACCOUNTS struct accounts *a = NULL;
    struct audit_record whole = *record;
    int n = 0, r = 0;
    const bool has_accounts = fd_exists(h->dirfd, "state/accounts.db");
    if (has_accounts && (r = accounts_open(h, &a, e)) == 0 && (r = accounts_begin(a, e)) == 0)
        r = accounts_tenant_remove(a, record->tenant, &n, e);
    AUTO_FREE char *subject = xasprintf(n == 1 ? "%d user" : "%d users", n);
    whole.from = "local";
    whole.subject = subject;
    if (r == 0 && (n || !silent))
        r = audit_add(h->dirfd, &whole, e);
    if (r == 0 && has_accounts)
        r = accounts_commit(a, e);
    return r;
}
