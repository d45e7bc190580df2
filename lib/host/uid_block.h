/* The uids (and gids) of the platform's own programs and of tenants, when it runs as root of the host or of a user namespace. A
 * home has a block of UID_BLOCK_SIZE ids from its `platform.uid_base` on: the first is the inspectors', tenants' follow
 * (given by programs/batchmgr/tenant_uid.c), and those of programs are at the end.
 *
 * A block is chosen once per home (uid_block.c). state/uids.json keeps which, and a registry of this host keeps which home has
 * which block. So two homes never share one, and a copied home is told from its original. */
#ifndef SIMBDP_HOST_UID_BLOCK_H
#define SIMBDP_HOST_UID_BLOCK_H

#include "base/err.h"

#include <stdint.h>

enum { UID_FIRST = 1000, UID_BLOCK_SIZE = 65536, UID_PROGRAMS = 61440 };

/* The base of a home that never ran as root: numbers for the ledger that nobody is given. When root starts it, it gets real ones.
 */
#define UID_UNUSED INT64_C(0xf0000000)

enum uid_role {
    UID_BROKER,
    UID_MONITOR,
    UID_MONGO,
    UID_RELAY,
    UID_GATEWAY,
    UID_BUILDER,
    UID_HELPER,
    UID_IMAGE,
    UID_BATCHMGR,
    UID_STREAMMGR,
    UID_WEBHOOK,
    UID_KAFKA,
};

static inline int64_t uid_of_inspector(int64_t uid_base)
{
    return uid_base;
}

/* The first id that a tenant may get, and the one behind the last of a whole block. */
static inline int64_t uid_tenant_begin(int64_t uid_base)
{
    return uid_base + 1;
}
static inline int64_t uid_tenant_end(int64_t uid_base)
{
    return uid_base + UID_PROGRAMS;
}

static inline int64_t uid_in_block(int64_t uid_base, enum uid_role role)
{
    return uid_base + UID_PROGRAMS + role;
}

/* A home's block. n: how many ids from `base` on are for inspectors and tenants: UID_PROGRAMS, or less in a user namespace that has
 * no room for whole blocks. Programs' ids are from base + UID_PROGRAMS on. */
struct uid_block {
    int64_t base, n;
};

/* The uid of one of the home's programs, whose block begins at uid_base. -1: it runs as whoever starts it (home_is_roots is false).
 */
struct home;
int64_t uid_of_program(const struct home *h, int64_t uid_base, enum uid_role role);

/* Of root; a user's is ~/.local/state/mysimbdp/uids, else /var/tmp/mysimbdp-UID/uids. */
#define UID_REGISTRY      "/var/lib/mysimbdp/uids"
#define UID_REGISTRY_ELSE "/run/mysimbdp/uids" /* used where /var/lib cannot be written */

/* The block of the home at `home` (any path to it). Chosen, kept and entered into the host's registry when it has none. Without
 * root: what is kept, else UID_UNUSED. Fails, with the remedy, when another home has the block (this one is a copy), when the block
 * is not mapped here, and when none is free. Blocks for the registry's lock (briefly). */
int uid_block_of_home(const char *home, struct uid_block *ret, struct err *e);

/* The same with another registry and another list of what is mapped (the format of /proc/self/uid_map); for tests. */
int uid_block_choose(const char *home, const char *registry, const char *map, struct uid_block *ret, struct err *e);

#endif
