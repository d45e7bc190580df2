/* Which database passes for the one that the home had. Kills and copies are played by files; another boot by its id in the mark. */
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "db/continuity.h"
#include "db/db.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct opened {
    struct continuity c;
    sqlite3 *db;
};

static struct home home;

static int make_home(void **state)
{
    char dir[] = "/tmp/simbdp-continuity-XXXXXX";
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    home.path = xstrdup(dir);
    home.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return mkdirat(home.dirfd, "state", 0700);
}

static int remove_home(void **state)
{
    (void)state;
    fd_remove_tree(AT_FDCWD, home.path);
    close(home.dirfd);
    free(home.path);
    return 0;
}

static int open_book(struct opened *o, struct err *e)
{
    AUTO_FREE char *path = home_path(&home, "state/streams.db");
    *o = (struct opened){.c.fd = -1};
    int r = continuity_look(&continuity_book, &home, e);
    if (r == 0) {
        assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &o->db), SQLITE_OK);
        assert_int_equal(
            sqlite3_exec(o->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" CONTINUITY_TABLE, NULL, NULL, NULL),
            SQLITE_OK);
        r = continuity_init(&o->c, &continuity_book, &home, o->db, e);
    }
    return r;
}

static void commit(struct opened *o, int n)
{
    for (; n > 0; n--) {
        assert_int_equal(continuity_count(&o->c), SQLITE_OK);
        continuity_committed(&o->c);
    }
}

static void close_book(struct opened *o)
{
    continuity_fini(&o->c);
    sqlite3_close(o->db);
}

static void copy(const char *from, const char *to)
{
    AUTO_BUF struct buf b = {0};
    unlinkat(home.dirfd, to, 0);
    assert_int_equal(fd_read_file(home.dirfd, from, &b, 1 << 20, NULL), 0);
    assert_int_equal(fd_write_file(home.dirfd, to, b.p, b.n, 0600, NULL), 0);
}

static void in_another_boot(void)
{
    AUTO_FD int fd = openat(home.dirfd, "state/streams.mark", O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "00000000-0000", 13, 48), 13);
}

/* As it was left by a power cut: the log is gone, the mark is not. */
static void a_power_cut_takes_what_was_not_synced_and_no_more(void **state)
{
    struct opened o;
    struct err e = {0};
    (void)state;
    assert_int_equal(open_book(&o, &e), 0);
    commit(&o, 3);
    close_book(&o);
    assert_int_equal(open_book(&o, &e), 0);
    copy("state/streams.db", "synced");
    commit(&o, 4);
    copy("state/streams.mark", "mark");
    close_book(&o);
    copy("synced", "state/streams.db");
    copy("mark", "state/streams.mark");
    assert_int_equal(open_book(&o, &e), ERR_REFUSED);
    assert_non_null(strstr(e.msg, "4 of 7 commits are missing"));
    close_book(&o);
    in_another_boot();
    assert_int_equal(open_book(&o, &e), 0);
    assert_int_equal(o.c.commits, 3);
    close_book(&o);
    copy("state/streams.db", "older");
    assert_int_equal(open_book(&o, &e), 0);
    commit(&o, 2);
    close_book(&o);
    copy("older", "state/streams.db");
    in_another_boot();
    assert_int_equal(open_book(&o, &e), ERR_REFUSED); /* it was closed: all was synced */
    assert_non_null(strstr(e.msg, "2 of 5 commits are missing"));
    close_book(&o);
    assert_int_equal(continuity_forget(&continuity_book, &home, &e), 0);
    assert_int_equal(open_book(&o, &e), 0);
    close_book(&o);
}

static void who_looks_sees_it_and_changes_nothing(void **state)
{
    struct opened o, looks;
    struct err e = {0};
    AUTO_FREE char *path = home_path(&home, "state/streams.db");
    (void)state;
    assert_int_equal(open_book(&o, &e), 0);
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &looks.db), SQLITE_OK);
    for (int i = 0; i < 5; i++) {
        commit(&o, 1);
        assert_int_equal(continuity_check(&continuity_book, &home, looks.db, &e), 0);
    }
    sqlite3_close(looks.db);
    close_book(&o);
    unlink(path);
    assert_int_equal(continuity_check(&continuity_book, &home, NULL, &e), ERR_REFUSED);
    assert_int_equal(open_book(&o, &e), ERR_REFUSED);
    close_book(&o);
    assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_power_cut_takes_what_was_not_synced_and_no_more, make_home, remove_home),
        cmocka_unit_test_setup_teardown(who_looks_sees_it_and_changes_nothing, make_home, remove_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
