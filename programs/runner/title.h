/* What `ps` says that a process of simbdp-run is: the first argument of the command line, written over. */
#ifndef SIMBDP_RUNNER_TITLE_H
#define SIMBDP_RUNNER_TITLE_H

/* argv[1] of main ("--spawn", or a spec's path), which title_set writes over. */
void title_init(char *slot);

/* One of these words; does nothing where the slot is too short. Async-signal-safe. */
#define TITLE_RUNNER  "--spawn"
#define TITLE_STANDBY "standby"
#define TITLE_INIT    "init"
#define TITLE_RELAY   "relay"
void title_set(const char *word);

#endif
