/* What a file's name, which is a tenant's, becomes for people and for work/. */
#ifndef SIMBDP_BATCHMGR_NAMES_H
#define SIMBDP_BATCHMGR_NAMES_H

/* Why a file was refused, in the directory that holds it. No tenant's file has this name there (names_safe). */
#define NAMES_REASON "reason.json"

/* As UTF-8: other bytes as \xNN. Caller frees. */
char *names_shown(const char *raw);
/* Bare ASCII of at most 100 bytes, which keeps its ending; no dotfile, and none of the platform's own names. Caller frees. */
char *names_safe(const char *raw);

#endif
