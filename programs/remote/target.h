/* Where the gateway is, and as whom it is asked. */
#ifndef SIMBDP_REMOTE_TARGET_H
#define SIMBDP_REMOTE_TARGET_H

#include "base/err.h"

struct target {
    char *url;        /* https://HOST[:PORT][/PATH], without a slash at the end */
    char *token;      /* NULL: nobody */
    char *token_file; /* where it is from */
    char *ca;         /* PEM file; NULL: what the system trusts */
    char *tenant;     /* NULL: that of the token */
};

/* What the command line says; NULL where it does not. */
struct target_options {
    const char *url, *profile, *token_file, *ca, *tenant;
};

/* From options, else from MYSIMBDP_PROFILE, MYSIMBDP_URL (with MYSIMBDP_TOKEN_FILE, MYSIMBDP_CA), else from the profile that is
 * in use. ERR_USAGE: no URL, or one that makes no sense; else negative: a file cannot be read, or is open to others. *ret is
 * filled in any case; target_fini. */
int target_find(const struct target_options *o, struct target *ret, struct err *e);
void target_fini(struct target *t);

/* 0, or ERR_USAGE with what is wrong with it: http:// is for this host alone, since the token would cross the network in the
 * open. */
int target_check_url(const char *url, struct err *e);
/* A token out of its file, which nobody else may read. *ret: caller frees. */
int target_read_token(const char *path, char **ret, struct err *e);

#endif
