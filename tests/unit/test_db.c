/* Checksums of a database's pages: what is written has them, what is damaged is not read, what had none gets them. */
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/simbdp-db-XXXXXX";

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void exec(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    int64_t n = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

static const char fill[] =
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) INSERT INTO t SELECT i, randomblob(300) FROM n;"
    "INSERT INTO t VALUES(0, zeroblob(50000));";

static unsigned char byte_at(const char *path, off_t at, int flip)
{
    unsigned char b = 0;
    AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &b, 1, at), 1);
    unsigned char changed = (unsigned char)(b ^ flip);
    if (flip)
        assert_int_equal(pwrite(fd, &changed, 1, at), 1);
    return b;
}

static void new_one(const char *path, const char *mode)
{
    sqlite3 *db = NULL;
    struct err e = {0};
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db), SQLITE_OK);
    assert_int_equal(db_own(db, &e), 0);
    exec(db, mode);
    exec(db, fill);
    exec(db, "DELETE FROM t WHERE a BETWEEN 100 AND 900"); /* free pages have a checksum, too */
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void every_page_is_looked_at(void **state)
{
    (void)state;
    const char *modes[] = {"PRAGMA journal_mode=WAL", "PRAGMA journal_mode=DELETE"};
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *path = path_of(i ? "delete.db" : "wal.db");
        struct stat st;
        new_one(path, modes[i]);
        assert_int_equal(byte_at(path, 20, 0), 4);
        assert_int_equal(stat(path, &st), 0);
        for (off_t at = 16; at < st.st_size; at += 4096 + 13) {
            struct err e = {0};
            sqlite3 *db = NULL;
            byte_at(path, at, 1 << at % 8);
            assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
            int r = db_check(db, &e);
            if (r != ERR_FORMAT && r != -EIO) /* a header that SQLite knows to be wrong */
                fail_msg("byte %lld: %d", (long long)at, r);
            sqlite3_close(db);
            byte_at(path, at, 1 << at % 8);
        }
    }
}

static void what_is_damaged_is_not_read(void **state)
{
    (void)state;
    AUTO_FREE char *path = path_of("read.db");
    sqlite3 *db = NULL;
    new_one(path, "PRAGMA journal_mode=WAL");
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    assert_int_equal(number(db, "SELECT count(b) FROM t"), 1200);
    sqlite3_close(db);
    byte_at(path, 4096 * 130 + 2000, 1);
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    assert_int_equal(number(db, "SELECT sum(length(hex(b))) FROM t"), -1);
    assert_int_equal(sqlite3_extended_errcode(db), SQLITE_IOERR_DATA);
    sqlite3_close(db);
}

static void one_of_before_gets_them(void **state)
{
    (void)state;
    AUTO_FREE char *path = path_of("old.db");
    sqlite3 *db = NULL, *reader = NULL;
    struct err e = {0};
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    exec(db, "PRAGMA journal_mode=WAL");
    exec(db, fill);
    int64_t is = number(db, "SELECT sum(a*length(b)) FROM t");
    sqlite3_close(db);
    assert_int_equal(byte_at(path, 20, 0), 0);
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &reader), SQLITE_OK); /* of one who owns it not: as it is */
    assert_int_equal(number(reader, "SELECT sum(a*length(b)) FROM t"), is);
    sqlite3_close(reader);
    assert_int_equal(byte_at(path, 20, 0), 0);
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    assert_int_equal(db_own(db, &e), 0);
    exec(db, "PRAGMA journal_mode=WAL");
    assert_int_equal(number(db, "SELECT sum(a*length(b)) FROM t"), is);
    sqlite3_close(db);
    assert_int_equal(byte_at(path, 20, 0), 4);
    byte_at(path, 20, 4); /* the byte that says so flips: it is not taken for an old one */
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    assert_int_equal(db_own(db, &e), ERR_FORMAT);
    sqlite3_close(db);
}

/* The log is brought in by a program that knows nothing of checksums. */
static void a_stranger_may_read(void **state)
{
    (void)state;
    AUTO_FREE char *path = path_of("stranger.db");
    sqlite3 *db = NULL, *stranger = NULL;
    struct err e = {0};
    new_one(path, "PRAGMA journal_mode=WAL");
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    exec(db,
         "PRAGMA wal_autocheckpoint=0; UPDATE t SET b=randomblob(200) WHERE a % 3 = 0; INSERT INTO t VALUES(-1, zeroblob(30000))");
    int64_t is = number(db, "SELECT sum(a*length(hex(b))) FROM t");
    assert_int_equal(sqlite3_open(path, &stranger), SQLITE_OK);
    assert_int_equal(number(stranger, "SELECT sum(a*length(hex(b))) FROM t"), is);
    exec(stranger, "PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_close(stranger);
    assert_int_equal(db_check(db, &e), 0);
    assert_int_equal(number(db, "SELECT sum(a*length(hex(b))) FROM t"), is);
    sqlite3_close(db);
}

/* Two that write and read at once, with checkpoints between: nothing is taken for damage. */
static void readers_beside_a_writer(void **state)
{
    (void)state;
    AUTO_FREE char *path = path_of("busy.db");
    sqlite3 *db = NULL, *other = NULL;
    struct err e = {0};
    new_one(path, "PRAGMA journal_mode=WAL");
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE, &other), SQLITE_OK);
    exec(db, "PRAGMA wal_autocheckpoint=20");
    for (int i = 0; i < 300; i++) {
        exec(db, "UPDATE t SET b=randomblob(310) WHERE a % 300 = abs(random()) % 300");
        assert_int_equal(number(other, "SELECT count(b) FROM t"), 1200);
        if (i % 50 == 0)
            assert_int_equal(db_check(other, &e), 0);
    }
    sqlite3_close(other);
    sqlite3_close(db);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    const char *names[] = {"wal.db", "delete.db", "read.db", "old.db", "stranger.db", "busy.db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        AUTO_FREE char *path = path_of(names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_looked_at), cmocka_unit_test(what_is_damaged_is_not_read),
        cmocka_unit_test(one_of_before_gets_them), cmocka_unit_test(a_stranger_may_read),
        cmocka_unit_test(readers_beside_a_writer),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
