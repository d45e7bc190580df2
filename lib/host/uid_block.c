/* Which home has which block of uids on this host.
 *
 *   HOME/state/uids.json      {"id": ID, "uid_base": N, "n": N}            what this home has; ID is random, made with it
 *   UID_REGISTRY/<uid_base>   {"id": ID, "home": PATH}                     which home has that block; root's, 0700
 *
 * An entry counts while the home at PATH has that id and block. Otherwise that home was removed, moved or made anew, and the block
 * may be given to another home. That is only done when no unused block is left, since files of the old uids may still lie about.
 *
 * Choosing happens under a lock on the registry. The entry is made first, state/uids.json second: a crash between the two leaves an
 * entry that does not count.
 *
 * Where blocks lie: systemd's UIDS-GIDS page assigns 0x70000000 to 0x7fffffff to nobody in particular; sssd and FreeIPA hand out
 * ids below 2000200000. The start is random and not made of the home's path: homes in containers often have the same path, and
 * containers share one kernel while each has its own registry. In a user namespace that maps less, blocks are looked for in what it
 * maps. */
#include "uid_block.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "home.h"
#include "userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TEXT = 1 << 20 };

struct span {
    int64_t lo, n;
};

struct spans {
    struct span *v;
    size_t n;
};

/* Ranges in which blocks are looked for, in this order, and the distance between blocks. */
static const struct {
    int64_t first, end, stride;
} regions[] = {
    {0x78000000, 0x7fff0000, UID_BLOCK_SIZE},
    {2 * UID_BLOCK_SIZE, 0x70000000, UID_BLOCK_SIZE}, /* in a user namespace with many ids */
    {1024, 65536 - UID_PROGRAMS, 64},                 /* in one with the usual 65536 */
};

struct claim {
    char *id, *home;
    struct uid_block block;
};

static void claim_fini(struct claim *c)
{
    free(c->id);
    free(c->home);
    *c = (struct claim){0};
}

#define AUTO_CLAIM __attribute__((cleanup(claim_fini)))

static int read_claim(int dirfd, const char *path, struct claim *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(dirfd, path, &b, MAX_TEXT, NULL);
    if (r < 0)
        return r;
    AUTO_BSON bson_t *doc = json_parse(b.p ? b.p : "", b.n, NULL);
    const char *id = doc ? json_get_str(doc, "id", "") : "";
    int64_t base = doc ? json_get_i64(doc, "uid_base", -1) : -1, n = doc ? json_get_i64(doc, "n", -1) : -1;
    if (!home_valid_id(id) || base < UID_FIRST || base > UINT32_MAX - UID_BLOCK_SIZE || n < 1 || n > UID_PROGRAMS)
        return err_set(e, ERR_FORMAT, "%s is damaged; restore it from a backup", path);
    *ret = (struct claim){xstrdup(id), xstrdup(json_get_str(doc, "home", "")), {base, n}};
    return 0;
}

static int write_claim(int dirfd, const char *path, const struct claim *c, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "id", c->id);
    if (c->home)
        json_str(&b, "home", c->home);
    json_i64(&b, "uid_base", c->block.base);
    json_i64(&b, "n", c->block.n);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(dirfd, path, b.p, b.n, 0600, e);
}

static char *kept_path(const char *home)
{
    return xasprintf("%s/state/uids.json", home);
}

static bool same_home(const char *a, const char *b)
{
    AUTO_FREE char *pa = kept_path(a), *pb = kept_path(b);
    struct stat sa, sb;
    return stat(pa, &sa) == 0 && stat(pb, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Whether the home that the entry names still has the block. */
static bool counts(const struct claim *entry)
{
    AUTO_FREE char *path = kept_path(entry->home);
    AUTO_CLAIM struct claim kept = {0};
    return read_claim(AT_FDCWD, path, &kept, NULL) == 0 && !strcmp(kept.id, entry->id) && kept.block.base == entry->block.base;
}

enum { ENTRY_NAME_SIZE = 24 };

static const char *entry_name(int64_t base, char out[ENTRY_NAME_SIZE])
{
    snprintf(out, ENTRY_NAME_SIZE, "%lld", (long long)base);
    return out;
}

static int read_entry(int registry, int64_t base, struct claim *ret)
{
    char name[ENTRY_NAME_SIZE];
    return read_claim(registry, entry_name(base, name), ret, NULL);
}

/* Without reading it: a host may have had thousands of homes. */
static bool has_entry(int registry, int64_t base)
{
    char name[ENTRY_NAME_SIZE];
    return faccessat(registry, entry_name(base, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* ---- ids that others than homes use ---- */

static void add_span(struct spans *s, int64_t lo, int64_t n)
{
    s->v = xrealloc(s->v, (s->n + 1) * sizeof *s->v);
    s->v[s->n++] = (struct span){lo, n};
}

/* Reads lines of numbers. `lo` and `n` are the fields (from 0) with the first id and the count; n -1: one id a line. A missing file
 * counts as empty. */
static void read_spans(const char *path, const char *separator, int lo_at, int n_at, struct spans *s)
{
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(AT_FDCWD, path, &b, 16 * MAX_TEXT, NULL) < 0)
        return;
    for (char *rest = b.p, *line; (line = strsep(&rest, "\n"));) {
        int64_t lo = -1, n = n_at < 0 ? 1 : -1;
        int at = 0;
        for (char *field; (field = strsep(&line, separator));) {
            if (*separator == ' ' && !*field) /* columns, with any number of blanks between */
                continue;
            if (at == lo_at)
                lo = strtoll(field, NULL, 10);
            else if (at == n_at)
                n = strtoll(field, NULL, 10);
            at++;
        }
        if (lo >= 0 && n > 0)
            add_span(s, lo, n);
    }
}

static bool overlaps(const struct spans *s, int64_t lo, int64_t n)
{
    for (size_t i = 0; i < s->n; i++)
        if (lo < s->v[i].lo + s->v[i].n && s->v[i].lo < lo + n)
            return true;
    return false;
}

static bool within(const struct spans *s, int64_t lo, int64_t n)
{
    for (size_t i = 0; i < s->n; i++)
        if (lo >= s->v[i].lo && lo + n <= s->v[i].lo + s->v[i].n)
            return true;
    return false;
}

struct host {
    struct spans uids, gids, taken; /* two maps, then users, groups and subordinate ids */
};

static void host_fini(struct host *h)
{
    free(h->uids.v);
    free(h->gids.v);
    free(h->taken.v);
}

/* In a home's own user namespace ids are not those of the host's users, so these files say nothing about them. */
static void host_init(struct host *h, const char *map, bool own)
{
    read_spans(map ? map : "/proc/self/uid_map", " ", 0, 2, &h->uids);
    read_spans(map ? map : "/proc/self/gid_map", " ", 0, 2, &h->gids);
    if (own)
        return;
    read_spans("/etc/subuid", ":", 1, 2, &h->taken);
    read_spans("/etc/subgid", ":", 1, 2, &h->taken);
    read_spans("/etc/passwd", ":", 2, -1, &h->taken);
    read_spans("/etc/group", ":", 2, -1, &h->taken);
}

static bool is_mapped(const struct host *h, const struct uid_block *block)
{
    int64_t programs = block->n < UID_BLOCK_SIZE - UID_PROGRAMS ? block->n : UID_BLOCK_SIZE - UID_PROGRAMS;
    const struct spans *maps[] = {&h->uids, &h->gids};
    for (size_t i = 0; i < 2; i++)
        if (maps[i]->n && (!within(maps[i], block->base, block->n) || !within(maps[i], block->base + UID_PROGRAMS, programs)))
            return false;
    return true;
}

static bool is_free(const struct host *h, const struct uid_block *block)
{
    int64_t programs = block->n < UID_BLOCK_SIZE - UID_PROGRAMS ? block->n : UID_BLOCK_SIZE - UID_PROGRAMS;
    return is_mapped(h, block) && !overlaps(&h->taken, block->base, block->n) &&
           !overlaps(&h->taken, block->base + UID_PROGRAMS, programs);
}

/* ---- choosing ---- */

/* reuse: a block may be taken whose entry does not count any more. */
static bool choose_in(int registry, const struct host *h, size_t region, bool reuse, struct uid_block *ret)
{
    int64_t stride = regions[region].stride, slots = (regions[region].end - regions[region].first) / stride;
    int64_t start = randombytes_uniform((uint32_t)slots);
    for (int64_t i = 0; i < slots; i++) {
        struct uid_block block = {regions[region].first + (start + i) % slots * stride,
                                  stride == UID_BLOCK_SIZE ? UID_PROGRAMS : stride};
        if (!is_free(h, &block))
            continue;
        AUTO_CLAIM struct claim entry = {0};
        if (!has_entry(registry, block.base) || (reuse && (read_entry(registry, block.base, &entry) < 0 || !counts(&entry)))) {
            *ret = block;
            return true;
        }
    }
    return false;
}

static int enter(int registry, const char *home, const struct claim *kept, struct err *e)
{
    char name[ENTRY_NAME_SIZE];
    struct claim entry = {kept->id, (char *)home, kept->block};
    return write_claim(registry, entry_name(kept->block.base, name), &entry, e);
}

/* Finds the entry of a home that lost state/uids.json: its files belong to these uids. A new home at the same path has no ledger
 * yet, and does not get the uids of the one that was there before. */
static bool find_lost(int registry, const char *home, struct claim *ret)
{
    struct stat st;
    AUTO_FREE char *ledger = xasprintf("%s/state/ledger.db", home);
    if (stat(ledger, &st) < 0 || !st.st_size)
        return false;
    DIR *d = fd_open_dir(registry, ".");
    bool found = false;
    for (struct dirent *ent; d && !found && (ent = readdir(d));) {
        if (ent->d_name[0] == '.' || read_claim(registry, ent->d_name, ret, NULL) < 0)
            continue;
        found = !strcmp(ret->home, home);
        if (!found)
            claim_fini(ret);
    }
    if (d)
        closedir(d);
    return found;
}

static int choose(int registry, const char *home, const struct host *h, struct uid_block *ret, struct err *e)
{
    char id[ID_SIZE];
    AUTO_CLAIM struct claim lost = {0};
    AUTO_FREE char *uids = kept_path(home);
    if (find_lost(registry, home, &lost)) {
        log_warn("uids", NULL, NULL, "%s was gone, and is made again from what this host knows: uids from %lld on", uids,
                 (long long)lost.block.base);
        free(lost.home);
        lost.home = NULL;
        *ret = lost.block;
        return write_claim(AT_FDCWD, uids, &lost, e);
    }
    struct claim own = {.id = id};
    bool found = false;
    AUTO_FREE char *path = kept_path(home);
    home_new_id(id);
    for (size_t i = 0; !found && i < 2 * sizeof regions / sizeof *regions; i++)
        found = choose_in(registry, h, i / 2, i % 2, &own.block);
    if (!found)
        return err_set(e, ERR_CONFIG, "no block of uids is free on this host; set platform.uid_base to the first of %d that are",
                       UID_BLOCK_SIZE);
    int r = enter(registry, home, &own, e);
    if (r == 0)
        r = write_claim(AT_FDCWD, path, &own, e);
    if (r == 0)
        *ret = own.block;
    return r;
}

/* The block that state/uids.json has, unless another home has it by now. */
static int confirm(int registry, const char *home, const struct claim *kept, struct err *e)
{
    AUTO_CLAIM struct claim entry = {0};
    int r = read_entry(registry, kept->block.base, &entry);
    if (r == 0 && counts(&entry)) {
        if (same_home(entry.home, home))
            return 0;
        long long base = kept->block.base;
        if (!strcmp(entry.id, kept->id))
            return err_set(
                e, ERR_CONFIG,
                "%s is a copy of %s, and its tenants have the same uids (from %lld on): remove the original; or make a new "
                "home with `mysimbdp init` and copy conf/, keys/ and apps/ into that; or, to share uids knowingly, set "
                "platform.uid_base = %lld",
                home, entry.home, base, base);
        return err_set(
            e, ERR_CONFIG,
            "the uids of %s (from %lld on) went to %s while this home was not on this host: make a new home with "
            "`mysimbdp init` and copy conf/, keys/ and apps/ into it; or, to share uids knowingly, set platform.uid_base = %lld",
            home, base, entry.home, base);
    }
    return enter(registry, home, kept, e);
}

/* The registry must belong to root (or the user) alone: its entries decide who shares whose files. */
static int open_registry(const char *path, struct err *e)
{
    struct stat st;
    fd_mkdirs(AT_FDCWD, path, 0755);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s", path);
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0022)) {
        close(fd);
        return err_set(e, -EPERM,
                       "%s is not the platform's alone; remove it, or give it to the platform's user and `chmod 0700 %s`", path,
                       path);
    }
    fchmod(fd, 0700);
    if (faccessat(fd, ".", W_OK, AT_EACCESS) < 0) {
        int r = -errno;
        close(fd);
        return err_sys(e, r, "cannot write %s", path);
    }
    while (flock(fd, LOCK_EX) < 0 && errno == EINTR)
        ;
    return fd;
}

static bool is_entered(const char *registry, const char *home, const struct claim *kept)
{
    AUTO_FREE char *path = xasprintf("%s/%lld", registry, (long long)kept->block.base);
    AUTO_CLAIM struct claim entry = {0};
    return read_claim(AT_FDCWD, path, &entry, NULL) == 0 && !strcmp(entry.id, kept->id) && !strcmp(entry.home, home);
}

struct place {
    const char *registry, *other; /* other: the registry where the first cannot be written; NULL: none */
    const char *map;              /* what is mapped; NULL: of this process */
    bool own;                     /* in a user namespace of the home's */
};

static int resolve(const char *home, const struct place *p, struct uid_block *ret, struct err *e)
{
    AUTO_FREE char *path = kept_path(home);
    AUTO_CLAIM struct claim kept = {0};
    struct host host __attribute__((cleanup(host_fini))) = {0};
    int r = read_claim(AT_FDCWD, path, &kept, e);
    if (r < 0 && r != -ENOENT)
        return r == ERR_FORMAT ? r : err_sys(e, r, "cannot read %s", path);
    host_init(&host, p->map, p->own);
    if (r == 0 && !is_mapped(&host, &kept.block))
        return err_set(e, ERR_CONFIG, "the uids of %s (from %lld on) do not exist in this user namespace; set platform.uid_base",
                       home, (long long)kept.block.base);
    if (r == 0 && is_entered(p->registry, home, &kept)) { /* the usual case needs no lock */
        *ret = kept.block;
        return 0;
    }
    AUTO_FD int dir = open_registry(p->registry, p->other ? NULL : e);
    if (dir < 0 && dir != -EPERM && p->other)
        dir = open_registry(p->other, e);
    if (dir < 0)
        return dir;
    if (r < 0) /* another program of this home may have chosen meanwhile */
        r = read_claim(AT_FDCWD, path, &kept, e);
    if (r == -ENOENT)
        return choose(dir, home, &host, ret, e);
    if (r == 0)
        r = confirm(dir, home, &kept, e);
    if (r == 0)
        *ret = kept.block;
    return r;
}

int uid_block_choose(const char *home, const char *registry, const char *map, struct uid_block *ret, struct err *e)
{
    return resolve(home, &(struct place){registry, NULL, map, false}, ret, e);
}

/* The registry of a user's homes. $HOME is not used: it differs between a shell and a service. */
static int resolve_own(const char *home, int64_t uid, struct uid_block *ret, struct err *e)
{
    const struct passwd *pw = getpwuid((uid_t)uid);
    AUTO_FREE char *registry = xasprintf("%s/.local/state/mysimbdp/uids", pw ? pw->pw_dir : "");
    AUTO_FREE char *other = xasprintf("/var/tmp/mysimbdp-%lld/uids", (long long)uid);
    return resolve(home, &(struct place){registry, other, NULL, true}, ret, e);
}

int uid_block_of_home(const char *home, struct uid_block *ret, struct err *e)
{
    char real[PATH_MAX];
    if (!realpath(home, real))
        return err_sys(e, -errno, "home %s", home);
    struct userns_map map;
    if (userns_is_inside(real, &map))
        return resolve_own(real, map.uid, ret, e);
    if (geteuid() == 0)
        return resolve(real, &(struct place){UID_REGISTRY, UID_REGISTRY_ELSE, NULL, false}, ret, e);
    AUTO_FREE char *path = kept_path(real);
    AUTO_CLAIM struct claim kept = {0};
    *ret = read_claim(AT_FDCWD, path, &kept, NULL) == 0 ? kept.block : (struct uid_block){UID_UNUSED, UID_PROGRAMS};
    return 0;
}

int64_t uid_of_program(const struct home *h, int64_t uid_base, enum uid_role role)
{
    return home_is_roots(h) ? uid_in_block(uid_base, role) : -1;
}
