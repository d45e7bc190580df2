/* CURVE keys of runs on a cluster's nodes, by which broker and monitor know whose they are (docs/cluster.md): of each the public
 * one, beside the jobs, where only root writes.
 *
 *   state/jobs/keys/<64 hexadecimal digits>    "TENANT RUN CLAIM\n"
 *
 * It counts as long as there is state/jobs/<claim>.json: until the end of the claim's job is acknowledged, or for ever refused.
 * Whoever is killed between making and removing one leaves a file that counts nothing. */
#ifndef SIMBDP_HOST_RUN_KEY_H
#define SIMBDP_HOST_RUN_KEY_H

#include "home.h"

enum { RUN_KEY_BYTES = 32 };

/* Blocks on the disk; durable. */
int run_key_add(const struct home *h, const unsigned char key[RUN_KEY_BYTES], const char *tenant, const char *run_id,
                const char *claim, struct err *e);
void run_key_remove(const struct home *h, const unsigned char key[RUN_KEY_BYTES]);
/* Those that count nothing. */
void run_keys_sweep(const struct home *h);

struct run_key {
    char tenant[64], run_id[ID_SIZE];
};
/* 0, or -ENOENT: it is nobody's, or not any more. dirfd: the home's. */
int run_key_find(int dirfd, const unsigned char key[RUN_KEY_BYTES], struct run_key *ret);

#endif
