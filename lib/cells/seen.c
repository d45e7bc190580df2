#include "seen.h"

#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { HEX_SIZE = 2 * CELLS_HASH_BYTES + 1, LINE_SIZE = 128 };

static int judge(const char *file, const char *line, const struct cells_map *m, const char *hex, struct err *e)
{
    char there[HEX_SIZE] = "", end = 0;
    uint64_t serial = 0, own = cells_map_serial(m);
    if (sscanf(line, "%" SCNu64 " %64[0-9a-f]%c", &serial, there, &end) != 3 || end != '\n' || strlen(there) != HEX_SIZE - 1)
        return err_set(e, ERR_FORMAT, "%s, which says which map was seen last, is damaged", file);
    if (own < serial)
        return err_set(e, ERR_REFUSED, "the map has serial %" PRIu64 ", and %" PRIu64 " was seen: an older one was put back", own,
                       serial);
    if (own == serial && strcmp(there, hex) != 0)
        return err_set(e, ERR_REFUSED, "there are two maps of serial %" PRIu64 ": it was signed in two places", own);
    return own == serial;
}

int cells_seen(int dirfd, const char *file, const struct cells_map *m, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    char hex[HEX_SIZE], line[LINE_SIZE];
    sodium_bin2hex(hex, sizeof hex, cells_map_hash(m), CELLS_HASH_BYTES);
    int r = fd_read_file(dirfd, file, &b, LINE_SIZE, e);
    if (r == 0)
        r = judge(file, b.n ? b.p : "", m, hex, e);
    else if (r == -ENOENT)
        r = 0;
    if (r)
        return r < 0 ? r : 0;
    int n = snprintf(line, sizeof line, "%" PRIu64 " %s\n", cells_map_serial(m), hex);
    return fd_write_file(dirfd, file, line, (size_t)n, 0600, e);
}
