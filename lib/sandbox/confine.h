/* What a process gives away for good: before it becomes a tenant's app (async-signal-safe calls only: between fork and exec), or,
 * as a program of the platform's, once it has what it needs. */
#ifndef SIMBDP_SANDBOX_CONFINE_H
#define SIMBDP_SANDBOX_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No capability can ever come back, not even by an executable that has some. Needs CAP_SETPCAP: before the uid changes. 0 or
 * -errno. */
int confine_capabilities(void);

/* This process, which never executes another program, keeps one capability (negative: none) and no other. 0 or -errno. */
int confine_keep(int capability);

/* A session keyring of its own: keys of whoever started the platform are not there. 0 or -errno; 0 where the kernel has no
 * keyrings. */
int confine_keyring(void);

/* Landlock (Linux Documentation/userspace-api/landlock.rst) on top of the mounts: only what lies below `writable` can be changed,
 * whatever else is found writable. Needs no_new_privs or
 * CAP_SYS_ADMIN. 0 where the kernel has no Landlock, else 0 or -errno. */
int confine_files(const char *const *writable, size_t n);

/* As root, for a program that starts runs: it and its descendants keep only the capabilities that starting and ending runs may
 * need, and no executable gives them more. 0 or -errno. Before there are threads. */
int confine_manager(void);

struct confinement {
    bool drop;                   /* all capabilities; not in a home where it needs root's to reach its files */
    int64_t uid;                 /* it becomes this user; -1: stays who it is */
    int capability;              /* of one that stays root: the one that it keeps; -1: none */
    const char *const *writable; /* paths, read before the uid changes */
    size_t n_writable;
};

/* All of the above, no new privilege, and the filter of runs (seccomp_install.h), for a program of the platform's that has what it
 * needs. One thread only; those that it makes later have no more. 0 or -errno (the process is to end then). */
int confine_program(const struct confinement *c);

#endif
