/* The seccomp filter of isolated runs: what it lets through stands in seccomp_list.c. */
#ifndef SIMBDP_SANDBOX_SECCOMP_INSTALL_H
#define SIMBDP_SANDBOX_SECCOMP_INSTALL_H

/* For this process and all that come of it, for good. Needs no_new_privs or CAP_SYS_ADMIN. 0 or -errno. Async-signal-safe. */
int seccomp_install(void);

#endif
