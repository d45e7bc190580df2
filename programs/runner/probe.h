/* What of `isolation = "full"` this host gives, found out by doing it once. */
#ifndef SIMBDP_RUNNER_PROBE_H
#define SIMBDP_RUNNER_PROBE_H

/* Prints one JSON object: full (bool), why (text; null when full), landlock (ABI, 0: none), user_namespace (bool: this process is
 * not the host's root). Returns the exit code: 0 also when the host gives nothing. */
int probe_main(void);

#endif
