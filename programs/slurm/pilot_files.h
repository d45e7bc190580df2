/* A pilot on disk, state/jobs/<pilot>.pilot, of mode 0600: lines with its CURVE keys (secret, public, Z85), how many runs it takes
 * at once, for how long it is there, and for how long without runs, runtime and tag as specs for nodes have them; then the options
 * that it is submitted with. And state/jobs/launcher, where pilots find the launcher that is there now: endpoint and public key. */
#ifndef SIMBDP_SLURM_PILOT_FILES_H
#define SIMBDP_SLURM_PILOT_FILES_H

#include "base/err.h"

#include <stdint.h>

enum { Z85_KEY = 41 };

struct pilot_file {
    char secret_key[Z85_KEY], public_key[Z85_KEY];
    int64_t runs, time_s, idle_s;
    char *runtime, *tag, *options;
};
void pilot_file_free(struct pilot_file *f); /* fields only */
int pilot_file_write(const char *path, const struct pilot_file *f, struct err *e);
int pilot_file_read(const char *path, struct pilot_file *ret, struct err *e);

struct launcher_address {
    char endpoint[300], public_key[Z85_KEY];
};
int launcher_address_write(const char *path, const struct launcher_address *a, struct err *e);
int launcher_address_read(const char *path, struct launcher_address *ret, struct err *e);

#endif
