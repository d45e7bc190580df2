/* mysimbdp cells: which tenant is in which cell. A directory has the draft that is worked on, the keys, and the map that was signed
 * last. Whoever changes something holds the directory's lock from reading to writing, so of two operators none undoes what the
 * other did. */
#include "cells.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/near.h"
#include "cells/draft.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

enum { DAYS = 30, DAYS_MAX = 3660, LINE_MAX_BYTES = 256 };
#define DAY_MS 86400000LL

static int open_dir(const char *dir, int lock, struct cells_dir *ret, struct err *e)
{
    *ret = (struct cells_dir){-1, -1};
    ret->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ret->dirfd < 0)
        return err_sys(e, -errno, "cannot open %s (`mysimbdp cells init %s` makes it)", dir, dir);
    ret->lock = openat(ret->dirfd, CELLS_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (ret->lock >= 0 && flock(ret->lock, lock) == 0)
        return 0;
    err_sys(e, -errno, "cannot lock %s", dir);
    cells_close(ret);
    return e->code;
}

int cells_open(struct cli *c, const char *dir, int lock, struct cells_dir *ret)
{
    struct err e = {0};
    if (!dir)
        dir = getenv("MYSIMBDP_CELLS");
    if (!dir || !*dir)
        return cli_usage(c, "which directory? --dir DIR, or MYSIMBDP_CELLS");
    return open_dir(dir, lock, ret, &e) < 0 ? cli_fail(c, &e) : 0;
}

void cells_close(struct cells_dir *d)
{
    fd_cleanup(&d->lock);
    fd_cleanup(&d->dirfd);
}

/* ---- making the directory ---- */

static int write_draft(const struct cells_dir *at, const struct cells_draft *d, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    cells_draft_write(d, &b);
    if (b.n > CELLS_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "the map would have more than %d bytes", CELLS_BYTES_MAX);
    return fd_write_file(at->dirfd, CELLS_DRAFT, b.p, b.n, 0644, e);
}

static int init(struct cli *c, const char *dir)
{
    struct err e = {0};
    struct cells_dir at;
    AUTO_CELLS_DRAFT struct cells_draft *d = cells_draft_new();
    int r = fd_mkdirs(AT_FDCWD, dir, 0755);
    if (r < 0)
        return err_sys(&e, r, "cannot make %s", dir), cli_fail(c, &e);
    r = cells_open(c, dir, LOCK_EX, &at);
    if (r)
        return r;
    r = cells_keys_make(at.dirfd, CELLS_SECRET_FILE, CELLS_PUBLIC_FILE, &e);
    if (r == 0)
        r = write_draft(&at, d, &e);
    cells_close(&at);
    if (r < 0)
        return cli_fail(c, &e);
    printf("%s: " CELLS_SECRET_FILE " signs (keep it), " CELLS_PUBLIC_FILE " is for the fronts\n", dir);
    return CLI_DONE;
}

/* ---- changing the draft ---- */

static int assign_file(struct cells_draft *d, const char *file, struct err *e)
{
    char line[LINE_MAX_BYTES], tenant[LINE_MAX_BYTES], cell[LINE_MAX_BYTES], more[LINE_MAX_BYTES], stray[2];
    FILE *f = strcmp(file, "-") ? fopen(file, "re") : stdin;
    int r = f ? 0 : err_sys(e, -errno, "cannot open %s", file);
    for (int n = 1; r == 0 && fgets(line, sizeof line, f); n++) {
        int got = sscanf(line, "%255s %255s %255s %1s", tenant, cell, more, stray);
        if (got < 2 || got > 3 || (got == 3 && strcmp(more, "moving") != 0) || !strchr(line, '\n'))
            r = err_set(e, ERR_FORMAT, "a line is TENANT CELL, or TENANT CELL moving");
        else
            r = cells_draft_assign(d, tenant, cell, got == 3, e);
        if (r < 0)
            err_context(e, "%s:%d", file, n);
    }
    if (r == 0 && ferror(f))
        r = err_sys(e, -EIO, "cannot read %s", file);
    if (f && f != stdin)
        fclose(f);
    return r;
}

struct given {
    const char *dir, *pin, *from, *key, *days;
    bool moving;
};

static int change(const struct cells_dir *at, const char *const *argv, const struct given *g, struct err *e)
{
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    AUTO_CELLS_DRAFT struct cells_draft *d = NULL;
    const char *what = argv[0];
    int r = cells_map_read(at->dirfd, CELLS_DRAFT, NULL, &m, e);
    if (r < 0)
        return r;
    d = cells_draft_of(m);
    if (!strcmp(what, "add"))
        r = cells_draft_add(d, argv[1], argv[2], g->pin, e);
    else if (!strcmp(what, "change"))
        r = cells_draft_change(d, argv[1], argv[2], g->pin, e);
    else if (!strcmp(what, "remove"))
        r = cells_draft_remove(d, argv[1], e);
    else if (!strcmp(what, "forget"))
        r = cells_draft_forget(d, argv[1], e);
    else if (g->from)
        r = assign_file(d, g->from, e);
    else
        r = cells_draft_assign(d, argv[1], argv[2], g->moving, e);
    return r < 0 ? r : write_draft(at, d, e);
}

static int verb_change(struct cli *c, const struct given *g)
{
    struct err e = {0};
    struct cells_dir at;
    int r = cells_open(c, g->dir, LOCK_EX, &at);
    if (r)
        return r;
    r = change(&at, (const char *const *)c->argv, g, &e);
    cells_close(&at);
    if (r < 0)
        return cli_fail(c, &e);
    puts("changed in the draft; `mysimbdp cells sign` makes it count");
    return CLI_DONE;
}

/* ---- signing ---- */

/* The map that was signed last; *ret NULL: none was. One that cannot be read does not get a successor by guessing. */
static int read_map(const struct cells_dir *at, struct cells_map **ret, struct err *e)
{
    unsigned char key[CELLS_PUBLIC_BYTES];
    *ret = NULL;
    if (fd_is_gone(at->dirfd, CELLS_MAP))
        return 0;
    int r = cells_key_public(at->dirfd, CELLS_PUBLIC_FILE, key, e);
    return r == 0 ? cells_map_read(at->dirfd, CELLS_MAP, key, ret, e) : r;
}

static int write_map(const struct cells_dir *at, const struct cells_draft *d, uint64_t serial, int64_t ms, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    unsigned char secret[CELLS_SECRET_BYTES];
    const int64_t now = clk_wall_ms();
    int r = cells_key_secret(at->dirfd, CELLS_SECRET_FILE, secret, e);
    if (r < 0)
        return r;
    cells_draft_sign(d, serial, now, now + ms, secret, &b);
    sodium_memzero(secret, sizeof secret);
    if (b.n > CELLS_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "the map would have more than %d bytes", CELLS_BYTES_MAX);
    return fd_write_file(at->dirfd, CELLS_MAP, b.p, b.n, 0644, e);
}

static int sign(const struct cells_dir *at, int64_t days, uint64_t *ret_serial, struct err *e)
{
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    AUTO_CELLS_MAP struct cells_map *before = NULL;
    AUTO_CELLS_DRAFT struct cells_draft *d = NULL;
    int r = cells_map_read(at->dirfd, CELLS_DRAFT, NULL, &m, e);
    if (r == 0)
        r = read_map(at, &before, e);
    if (r < 0)
        return r;
    *ret_serial = before ? cells_map_serial(before) + 1 : 1;
    d = cells_draft_of(m);
    return write_map(at, d, *ret_serial, days * DAY_MS, e);
}

static int verb_sign(struct cli *c, const struct given *g)
{
    struct err e = {0};
    struct cells_dir at;
    uint64_t serial = 0;
    char *end = NULL;
    int64_t days = g->days ? strtoll(g->days, &end, 10) : DAYS;
    if (g->days && (*end || days < 1 || days > DAYS_MAX))
        return cli_usage(c, "--days is 1 to %d", DAYS_MAX);
    int r = cells_open(c, g->dir, LOCK_EX, &at);
    if (r)
        return r;
    r = sign(&at, days, &serial, &e);
    cells_close(&at);
    if (r < 0)
        return cli_fail(c, &e);
    printf("signed: serial %" PRIu64 ", for %lld days\n", serial, (long long)days);
    return CLI_DONE;
}

static int verify(struct cli *c, const struct given *g)
{
    struct err e = {0};
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    unsigned char key[CELLS_PUBLIC_BYTES];
    char until[CLK_RFC3339_SIZE];
    int r = cells_key_public(AT_FDCWD, g->key, key, &e);
    if (r == 0)
        r = cells_map_read(AT_FDCWD, c->argv[1], key, &m, &e);
    if (r == 0)
        r = cells_map_check_time(m, clk_wall_ms(), &e);
    if (r < 0)
        return cli_fail(c, &e);
    printf("serial %" PRIu64 ", valid until %s: %zu tenants in %zu cells\n", cells_map_serial(m),
           clk_rfc3339(cells_map_until_ms(m), until), cells_map_n_tenants(m), cells_map_n_cells(m));
    return CLI_DONE;
}

/* ---- for moves of tenants ---- */

int cells_where(const char *dir, const char *tenant, const char *to, char ret[CELLS_NAME_MAX + 1], struct err *e)
{
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    struct cells_dir at;
    bool moving, known = !to;
    int r = open_dir(dir, LOCK_SH, &at, e);
    if (r < 0)
        return r;
    r = sodium_init() < 0 ? err_set(e, ERR_CLOSED, "no random numbers here") : read_map(&at, &m, e);
    cells_close(&at);
    if (r < 0)
        return r;
    const struct cells_cell *cell = m ? cells_map_find(m, tenant, strlen(tenant), &moving) : NULL;
    for (size_t i = 0; m && !known && i < cells_map_n_cells(m); i++)
        known = !strcmp(cells_map_cell(m, i)->name, to);
    if (!cell)
        return err_set(e, -ENOENT, "the map of %s has no tenant %s; `mysimbdp cells assign` and `sign` put it there", dir, tenant);
    if (!known)
        return err_set(e, -ENOENT, "the map of %s has no cell %s", dir, to);
    snprintf(ret, CELLS_NAME_MAX + 1, "%s", cell->name);
    return 0;
}

static int reassign(const struct cells_dir *at, const char *tenant, const char *cell, bool moving, struct err *e)
{
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    AUTO_CELLS_MAP struct cells_map *draft = NULL;
    AUTO_CELLS_DRAFT struct cells_draft *of_map = NULL;
    AUTO_CELLS_DRAFT struct cells_draft *of_draft = NULL;
    int r = read_map(at, &m, e);
    if (r == 0 && !m)
        r = err_set(e, -ENOENT, "no map was signed yet");
    if (r == 0)
        r = cells_map_read(at->dirfd, CELLS_DRAFT, NULL, &draft, e);
    if (r < 0)
        return r;
    of_map = cells_draft_of(m);
    of_draft = cells_draft_of(draft);
    r = cells_draft_assign(of_map, tenant, cell, moving, e);
    if (r == 0)
        r = cells_draft_assign(of_draft, tenant, cell, moving, e);
    if (r == 0)
        r = write_draft(at, of_draft, e);
    return r == 0 ? write_map(at, of_map, cells_map_serial(m) + 1, cells_map_until_ms(m) - cells_map_from_ms(m), e) : r;
}

int cells_reassign(const char *dir, const char *tenant, const char *cell, bool moving, struct err *e)
{
    struct cells_dir at;
    int r = sodium_init() < 0 ? err_set(e, ERR_CLOSED, "no random numbers here") : open_dir(dir, LOCK_EX, &at, e);
    if (r < 0)
        return r;
    r = reassign(&at, tenant, cell, moving, e);
    cells_close(&at);
    return r;
}

/* ---- the verb ---- */

static const struct {
    const char *name;
    int min, max; /* arguments with the name */
    bool pin, from, moving, days, key;
} known[] = {
    {"init", 2, 2, 0, 0, 0, 0, 0},   {"add", 3, 3, 1, 0, 0, 0, 0},    {"change", 3, 3, 1, 0, 0, 0, 0},
    {"remove", 2, 2, 0, 0, 0, 0, 0}, {"assign", 1, 3, 0, 1, 1, 0, 0}, {"forget", 2, 2, 0, 0, 0, 0, 0},
    {"sign", 1, 1, 0, 0, 0, 1, 0},   {"show", 1, 2, 0, 0, 0, 0, 0},   {"verify", 2, 2, 0, 0, 0, 0, 1},
};

/* 0, or CLI_USAGE after a complaint. */
static int check(struct cli *c, const struct given *g)
{
    struct near near = {.word = c->argv[0]};
    char meant[NEAR_TEXT_SIZE];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        near_try(&near, known[i].name);
        if (strcmp(known[i].name, c->argv[0]) != 0)
            continue;
        if (c->argc < known[i].min || c->argc > known[i].max)
            return cli_usage(c, "%s: wrong number of arguments", c->argv[0]);
        if ((g->pin && !known[i].pin) || (g->from && !known[i].from) || (g->moving && !known[i].moving) ||
            (g->days && !known[i].days) || (g->key != NULL) != known[i].key)
            return cli_usage(c, known[i].key && !g->key ? "%s takes --key FILE" : "%s does not take one of these options",
                             c->argv[0]);
        if (!strcmp(c->argv[0], "assign") && c->argc != (g->from ? 1 : 3))
            return cli_usage(c, "assign is TENANT CELL, or --from FILE");
        return 0;
    }
    return cli_usage(c, "unknown: %s%s", c->argv[0], near_text(&near, meant));
}

static bool is_asking(const char *what)
{
    return !strcmp(what, "stats") || !strcmp(what, "files") || !strcmp(what, "page");
}

/* stats, files, page */
static int verb_ask(struct cli *c)
{
    const char *dir = cli_opt(c, "--dir"), *of_environment = getenv("MYSIMBDP_CELLS");
    struct cells_ask q = {.files = !strcmp(c->argv[0], "files"), .dir = dir ? dir : of_environment};
    bool page = !strcmp(c->argv[0], "page");
    q.out = page ? cli_opt(c, "--out") : NULL;
    int r = cells_ask_options(c, &q);
    if (r == 0)
        r = cli_args(c, 1, 1);
    if (r == 0 && page && !q.out)
        r = cli_usage(c, "page takes --out FILE, where it is written");
    if (r)
        return r;
    if (!q.dir || !*q.dir || !q.tokens)
        return cli_usage(c, q.tokens ? "which directory? --dir DIR, or MYSIMBDP_CELLS" : "%s takes --tokens DIR", c->argv[0]);
    return sodium_init() < 0 ? CLI_FAILED : cells_ask(c, &q);
}

int verb_cells(struct cli *c)
{
    if (c->argc && is_asking(c->argv[0]))
        return verb_ask(c);
    const struct given g = {cli_opt(c, "--dir"), cli_opt(c, "--pin"),  cli_opt(c, "--from"),
                            cli_opt(c, "--key"), cli_opt(c, "--days"), cli_flag(c, "--moving")};
    int r = cli_args(c, 1, 3);
    if (r == 0)
        r = check(c, &g);
    if (r)
        return r;
    if (sodium_init() < 0)
        return CLI_FAILED;
    const char *what = c->argv[0];
    if (!strcmp(what, "init"))
        return init(c, c->argv[1]);
    if (!strcmp(what, "sign"))
        return verb_sign(c, &g);
    if (!strcmp(what, "verify"))
        return verify(c, &g);
    return !strcmp(what, "show") ? cells_show(c, g.dir, c->argv[1]) : verb_change(c, &g);
}
