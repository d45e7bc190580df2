#include "trace_ids.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>

/* Hex digits of n bytes that depend on what they are for alone, and are not all zero. */
static void id_of(const char *kind, const char *of, size_t n, char *ret)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    AUTO_FREE char *text = xasprintf("%s:%s", kind, of);
    crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
    hash[0] |= 1;
    sodium_bin2hex(ret, 2 * n + 1, hash, n);
}

void trace_of(const char *kept, const char *id, struct trace_context *ret)
{
    struct trace_context parent;
    AUTO_FREE char *text = kept ? xstrndup(kept, strcspn(kept, " ")) : NULL;
    bool has_parent = trace_parent_read(text, &parent) == 0;
    ret->sampled = !has_parent || parent.sampled;
    if (has_parent)
        memcpy(ret->trace, parent.trace, sizeof ret->trace);
    else
        id_of("trace", id, sizeof ret->trace / 2, ret->trace);
    id_of("file", id, sizeof ret->span / 2, ret->span);
}

void trace_of_step(const char *kept, const char *id, const char *name, const char *step_id, struct trace_context *ret)
{
    AUTO_FREE char *kind = xasprintf("%s:%s", name, step_id);
    trace_of(kept, id, ret);
    id_of(kind, id, sizeof ret->span / 2, ret->span);
}
