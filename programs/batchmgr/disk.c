#include "disk.h"
#include "state.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/space.h"

/* Says which place it is, unless it was said already. */
static bool is_low(struct batchmgr *m, const char *place)
{
    const int64_t min_bytes = m->conf->platform.min_free_bytes, min_inodes = m->conf->platform.min_free_inodes;
    AUTO_FREE char *path = home_path(&m->home, place);
    struct space s;
    if (space_of(path, &s) < 0 || !space_is_low(&s, min_bytes, min_inodes))
        return false;
    AUTO_FREE char *text = m->disk_low ? NULL : space_text(&s, min_bytes, min_inodes);
    if (text)
        log_error("disk_low", NULL, NULL, "%s: %s: intake and dispatch pause until there is space", path, text);
    return true;
}

bool disk_look(struct batchmgr *m)
{
    static const char *const places[] = {"staging", "state", "logs", "runs", "work"};
    bool low = false;
    for (size_t i = 0; i < sizeof places / sizeof *places && !low; i++)
        low = is_low(m, places[i]);
    bool again = m->disk_low && !low;
    m->disk_low = low;
    if (again)
        log_info("disk_ok", NULL, NULL, "there is disk space again: intake goes on");
    return again;
}
