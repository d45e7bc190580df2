/* Blocks of uids: disjoint, kept, told from copies, and found in user namespaces. */
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "host/home.h"
#include "host/uid_block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_HOMES = 16 };

static char base[64], *registry;
static const char everything[] = "         0          0 4294967295\n", container[] = "0 100000 65536\n",
                  large[] = "0 100000 1000000\n";

static int make(void **state)
{
    (void)state;
    strcpy(base, "/tmp/simbdp-unit-XXXXXX");
    registry = mkdtemp(base) ? xasprintf("%s/var/registry", base) : NULL;
    return registry ? 0 : -1;
}

static int drop(void **state)
{
    (void)state;
    free(registry);
    return fd_remove_tree(AT_FDCWD, base);
}

static char *new_home(const char *name)
{
    struct err e = {0};
    char *path = xasprintf("%s/%s", base, name);
    assert_int_equal(home_init(path, &e), 0);
    return path;
}

static char *map_file(const char *text)
{
    char *path = xasprintf("%s/map", base);
    assert_int_equal(fd_write_file(AT_FDCWD, path, text, strlen(text), 0600, NULL), 0);
    return path;
}

static struct uid_block get(const char *home, const char *map)
{
    struct err e = {0};
    struct uid_block block = {0};
    if (uid_block_choose(home, registry, map, &block, &e) < 0)
        fail_msg("%s", e.msg);
    return block;
}

static bool disjoint(const struct uid_block *a, const struct uid_block *b)
{
    int64_t d = a->base < b->base ? b->base - a->base : a->base - b->base;
    return d >= UID_BLOCK_SIZE || (d >= a->n && d >= b->n && d < UID_PROGRAMS - a->n);
}

static void kept(void **state)
{
    (void)state;
    AUTO_FREE char *home = new_home("h"), *map = map_file(everything);
    struct uid_block first = get(home, map), again = get(home, map);
    assert_int_equal(first.base, again.base);
    assert_int_equal(first.n, UID_PROGRAMS);
    assert_true(first.base >= 0x78000000 && first.base + UID_BLOCK_SIZE <= 0x80000000LL && first.base % UID_BLOCK_SIZE == 0);
    struct stat st;
    assert_true(stat(registry, &st) == 0 && (st.st_mode & 07777) == 0700);
}

/* All at once, each home twice, as its programs do at a first start; in the narrowest namespace, where they would meet. */
static void several_at_once(void **state)
{
    (void)state;
    AUTO_FREE char *map = map_file(container);
    char *homes[N_HOMES];
    struct uid_block v[N_HOMES];
    for (int i = 0; i < N_HOMES; i++) {
        char name[8];
        snprintf(name, sizeof name, "h%d", i);
        homes[i] = new_home(name);
    }
    for (int i = 0; i < 2 * N_HOMES; i++)
        if (fork() == 0)
            _exit(uid_block_choose(homes[i / 2], registry, map, &v[0], NULL) < 0);
    int status;
    for (int i = 0; i < 2 * N_HOMES; i++)
        assert_true(wait(&status) > 0 && status == 0);
    for (int i = 0; i < N_HOMES; i++) {
        v[i] = get(homes[i], map);
        for (int k = 0; k < i; k++)
            assert_true(disjoint(&v[i], &v[k]));
        assert_true(v[i].base >= 1024 && v[i].base + UID_PROGRAMS + UID_IMAGE < 65536);
        free(homes[i]);
    }
}

static void copies_and_moves(void **state)
{
    (void)state;
    struct err e = {0};
    struct uid_block block;
    AUTO_FREE char *home = new_home("h"), *map = map_file(everything), *copy = new_home("copy"), *moved = xasprintf("%s/m", base);
    AUTO_FREE char *from = xasprintf("%s/state/uids.json", home), *to = xasprintf("%s/state/uids.json", copy);
    AUTO_BUF struct buf b = {0};
    struct uid_block first = get(home, map);
    assert_int_equal(fd_read_file(AT_FDCWD, from, &b, 4096, NULL), 0);
    assert_int_equal(fd_write_file(AT_FDCWD, to, b.p, b.n, 0600, NULL), 0);
    assert_int_equal(uid_block_choose(copy, registry, map, &block, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "is a copy of"));
    assert_int_equal(get(home, map).base, first.base);

    assert_int_equal(fd_remove_tree(AT_FDCWD, copy), 0);
    assert_int_equal(rename(home, moved), 0);
    assert_int_equal(get(moved, map).base, first.base);
}

/* A home that comes back when its block went to another: only where nothing else was left. */
static void given_away(void **state)
{
    (void)state;
    struct err e = {0};
    struct uid_block block;
    AUTO_FREE char *map = map_file(container), *home = new_home("h"), *away = xasprintf("%s/away", base);
    struct uid_block first = get(home, map);
    assert_int_equal(rename(home, away), 0);
    bool met = false;
    int r = 0;
    for (int i = 0; r == 0; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%d", i);
        AUTO_FREE char *other = new_home(name);
        r = uid_block_choose(other, registry, map, &block, &e);
        assert_false(r == 0 && met); /* the block of the home that is away goes last */
        met |= r == 0 && block.base == first.base;
    }
    assert_int_equal(r, ERR_CONFIG); /* all are given */
    assert_true(met);
    assert_int_equal(uid_block_choose(away, registry, map, &block, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "platform.uid_base"));
}

static void namespaces(void **state)
{
    (void)state;
    struct err e = {0};
    struct uid_block block;
    AUTO_FREE char *home = new_home("h"), *map = map_file(large);
    struct uid_block found = get(home, map);
    assert_true(found.base >= UID_BLOCK_SIZE && found.base + UID_BLOCK_SIZE <= 1000000 && found.n == UID_PROGRAMS);
    free(map);
    map = map_file(container);
    assert_int_equal(uid_block_choose(home, registry, map, &block, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "user namespace"));
}

static void registry_of_others(void **state)
{
    (void)state;
    struct err e = {0};
    struct uid_block block;
    AUTO_FREE char *home = new_home("h"), *map = map_file(everything);
    assert_int_equal(fd_mkdirs(AT_FDCWD, registry, 0755), 0);
    assert_int_equal(chmod(registry, 0777), 0);
    assert_int_equal(uid_block_choose(home, registry, map, &block, &e), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kept, make, drop),
        cmocka_unit_test_setup_teardown(several_at_once, make, drop),
        cmocka_unit_test_setup_teardown(copies_and_moves, make, drop),
        cmocka_unit_test_setup_teardown(given_away, make, drop),
        cmocka_unit_test_setup_teardown(namespaces, make, drop),
        cmocka_unit_test_setup_teardown(registry_of_others, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
