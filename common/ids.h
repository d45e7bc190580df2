/* The uids (and gids) of the platform's own programs when it runs as root. A home has a block of IDS_BLOCK ids from its
 * `platform.uid_base` on: the first is the inspectors', tenants' follow (the ledger keeps which), the programs' are at the end. */
#ifndef SIMBDP_IDS_H
#define SIMBDP_IDS_H

#include <stdint.h>

enum { IDS_BLOCK = 65536, IDS_PROGRAMS = 61440 };

enum ids_role {
    IDS_BROKER,
    IDS_MONITOR,
    IDS_MONGO,
    IDS_RELAY,
    IDS_GATEWAY,
    IDS_BUILDER,
};

static inline int64_t ids_inspector(int64_t uid_base)
{
    return uid_base;
}

/* The first id that a tenant may get, and the one behind the last. */
static inline int64_t ids_tenant_begin(int64_t uid_base)
{
    return uid_base + 1;
}
static inline int64_t ids_tenant_end(int64_t uid_base)
{
    return uid_base + IDS_PROGRAMS;
}

static inline int64_t ids_program(int64_t uid_base, enum ids_role role)
{
    return uid_base + IDS_PROGRAMS + role;
}

#endif
