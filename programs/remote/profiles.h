/* ~/.config/mysimbdp/config (XDG_CONFIG_HOME is followed), in libconfig's grammar:
 *     use = "acme";
 *     profiles = { acme = { url = "https://…"; token_file = "/…"; ca = "/…"; tenant = "acme"; }; };
 * It says where tokens are sent: one that others may write to is refused. */
#ifndef SIMBDP_REMOTE_PROFILES_H
#define SIMBDP_REMOTE_PROFILES_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct profile {
    char *name, *url, *token_file, *ca, *tenant; /* the last three NULL where it has none */
};
struct profiles {
    char *path, *use; /* use NULL: none is in use */
    struct profile *v;
    size_t n;
};

/* None where there is no file. ERR_CONFIG: it is malformed, or open to others. profiles_fini in any case. */
int profiles_read(struct profiles *p, struct err *e);
int profiles_write(const struct profiles *p, struct err *e); /* durable, and for its owner alone */
void profiles_fini(struct profiles *p);

const struct profile *profiles_find(const struct profiles *p, const char *name); /* NULL: there is none */
/* Adds it, or replaces the one of that name. Texts are copied. */
void profiles_set(struct profiles *p, const struct profile *one);
bool profiles_remove(struct profiles *p, const char *name);
bool profile_is_name(const char *name); /* a letter, then letters, digits, - and _ */

#endif
