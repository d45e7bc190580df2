/* What verbs share that change accounts: each change is in the audit log, with who asked for it and what came of it. */
#ifndef SIMBDP_CLI_ACCOUNT_CHANGE_H
#define SIMBDP_CLI_ACCOUNT_CHANGE_H

#include "cli.h"

#include "accounts/accounts.h"
#include "accounts/audit.h"

struct account_change {
    struct home h;
    struct accounts *a;
    char *who; /* the unix user */
};

/* The name of the unix user who runs this process. The caller frees. To be called before the home is opened: in a user namespace
 * every user is root. */
char *account_who(void);

/* Opens home and accounts. 0, or CLI_FAILED after a complaint; then there is nothing to be closed. */
int account_change_open(struct cli *c, struct account_change *ch);
void account_change_close(struct account_change *ch);

/* Ends what accounts_begin began: records it, and makes it hold when r is 0 and it was recorded. r: what the change gave, with its
 * text in e. CLI_DONE; or CLI_FAILED after a complaint. */
int account_change_end(struct cli *c, struct account_change *ch, const struct audit_record *record, int r, struct err *e);
/* Records what failed before it began, and complains. CLI_FAILED. */
int account_change_refuse(struct cli *c, struct account_change *ch, const struct audit_record *record, int r, struct err *e);

/* A password: from `file`; or, when that is NULL, from the terminal that stdin is, asked for twice without echo; else from stdin.
 * One end of line is taken off. The caller frees with account_password_free. NULL: e says why. */
char *account_password_ask(const char *user, const char *file, struct err *e);
void account_password_free(char *password);

/* Removes the users of a tenant that is gone, if there are any, and adds the record, whose subject becomes how many they were.
 * silent: there is no record when there were none. 0 or negative. */
int account_forget_tenant(const struct home *h, const struct audit_record *record, bool silent, struct err *e);

#endif
