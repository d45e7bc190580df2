#include "move_record.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BYTES = 65536 };

const char *move_phase_name(enum move_phase p)
{
    static const char *const names[] = {
#define X(name) #name,
        MOVE_PHASES(X)
#undef X
    };
    return names[p];
}

static char *path_of(const char *tenant)
{
    return xasprintf(MOVES_DIR "/%s.json", tenant);
}

static int phase_of(const char *name)
{
    int p = 0;
    while (p < MOVE_N_PHASES && strcmp(move_phase_name((enum move_phase)p), name) != 0)
        p++;
    return p;
}

int move_record_read(const struct home *h, const char *tenant, struct move_record *ret, struct err *e)
{
    AUTO_FREE char *path = path_of(tenant);
    AUTO_BUF struct buf b = {0};
    struct err why = {0};
    *ret = (struct move_record){0};
    int r = fd_read_file(h->dirfd, path, &b, MAX_BYTES, &why);
    if (r < 0)
        return err_set(e, r, "%s", why.msg);
    AUTO_BSON bson_t *doc = json_parse(b.n ? b.p : "", b.n, NULL);
    const int64_t v = doc ? json_get_i64(doc, "v", 0) : 0;
    const int phase = phase_of(doc ? json_get_str(doc, "phase", "") : "");
    if (v > MOVE_VERSION)
        return err_set(e, ERR_VERSION, "%s/%s is of a newer mysimbdp; use that version", h->path, path);
    if (v < 1 || phase == MOVE_N_PHASES || !home_valid_id(json_get_str(doc, "move", "")))
        return err_set(e, ERR_FORMAT, "%s/%s is damaged", h->path, path);
    snprintf(ret->id, sizeof ret->id, "%s", json_get_str(doc, "move", ""));
    ret->tenant = xstrdup(tenant);
    ret->other = xstrdup(json_get_str(doc, "other", ""));
    ret->source = !strcmp(json_get_str(doc, "side", ""), "source");
    ret->phase = (enum move_phase)phase;
    ret->at_wall_ms = json_get_i64(doc, "at", 0);
    ret->shared = json_get_bool(doc, "shared", false);
    ret->suspended = json_get_bool(doc, "suspended", false);
    ret->cells = xstrdup(json_get_str(doc, "cells", NULL));
    ret->cell = xstrdup(json_get_str(doc, "cell", NULL));
    ret->cell_before = xstrdup(json_get_str(doc, "cell_before", NULL));
    return 0;
}

int move_record_write(const struct home *h, struct move_record *r, struct err *e)
{
    AUTO_FREE char *path = path_of(r->tenant);
    AUTO_BUF struct buf b = {0};
    r->at_wall_ms = clk_wall_ms();
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", MOVE_VERSION);
    json_str(&b, "move", r->id);
    json_str(&b, "tenant", r->tenant);
    json_str(&b, "side", r->source ? "source" : "destination");
    json_str(&b, "phase", move_phase_name(r->phase));
    json_str(&b, "other", r->other);
    json_i64(&b, "at", r->at_wall_ms);
    json_bool(&b, "shared", r->shared);
    json_bool(&b, "suspended", r->suspended);
    json_str(&b, "cells", r->cells);
    json_str(&b, "cell", r->cell);
    json_str(&b, "cell_before", r->cell_before);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    int n = fd_mkdirs(h->dirfd, MOVES_DIR, 0711); /* batchmgr opens the rows that come there */
    if (n < 0)
        return err_sys(e, n, "cannot make %s/" MOVES_DIR, h->path);
    return fd_write_file(h->dirfd, path, b.p, b.n, 0600, e);
}

int move_record_remove(const struct home *h, const char *tenant, struct err *e)
{
    AUTO_FREE char *path = path_of(tenant);
    if (unlinkat(h->dirfd, path, 0) < 0 && errno != ENOENT)
        return err_sys(e, -errno, "cannot remove %s/%s", h->path, path);
    const int r = fd_sync_dir(h->dirfd, MOVES_DIR);
    return r < 0 && r != -ENOENT ? err_sys(e, r, "cannot sync %s/" MOVES_DIR, h->path) : 0;
}

void move_record_fini(struct move_record *r)
{
    free(r->tenant);
    free(r->other);
    free(r->cells);
    free(r->cell);
    free(r->cell_before);
    *r = (struct move_record){0};
}
