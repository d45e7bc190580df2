#include "unknown_key.h"

#include "base/near.h"

void unknown_key_text(const char *name, const struct cfg_key *keys, struct buf *text)
{
    AUTO_BUF struct buf known = {0};
    struct near near = {.word = name};
    char meant[NEAR_TEXT_SIZE];
    for (const struct cfg_key *k = keys; k->name; k++) {
        buf_addf(&known, "%s%s", k == keys ? "" : " ", k->name);
        near_try(&near, k->name);
    }
    buf_addf(text, "unknown key '%s'%s; allowed here: %s", name, near_text(&near, meant), known.p);
}
