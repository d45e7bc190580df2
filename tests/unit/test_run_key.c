/* Whose CURVE key it is counts as long as there is a job of it, whatever was killed in between. */
#include "check.h"
#include "host/run_key.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID "01m8g8tf0q03ecfdvexc05fdh7"

static const unsigned char key[RUN_KEY_BYTES] = "0123456789abcdef0123456789abcde", other[RUN_KEY_BYTES] = "x";

static void open_home(struct home *h, char path[32])
{
    struct err e = {0};
    strcpy(path, "/tmp/run-key-XXXXXX"); /* lint: of the right size */
    assert_non_null(mkdtemp(path));
    *h = (struct home){.path = path, .dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    assert_true(h->dirfd >= 0);
    assert_int_equal(fd_mkdirs(h->dirfd, "state/jobs", 0700), 0);
    assert_int_equal(run_key_add(h, key, "acme", ID, ID "-load", &e), 0);
}

static void set_job(const struct home *h, bool there)
{
    if (there)
        assert_int_equal(fd_write_file(h->dirfd, "state/jobs/" ID "-load.json", "{}", 2, 0600, NULL), 0);
    else
        assert_int_equal(unlinkat(h->dirfd, "state/jobs/" ID "-load.json", 0), 0);
}

#define FILE_OF_KEY "state/jobs/keys/3031323334353637383961626364656630313233343536373839616263646500"

static void close_home(struct home *h)
{
    assert_int_equal(fd_remove_tree(AT_FDCWD, h->path), 0);
    close(h->dirfd);
}

static void counts_with_its_job(void **state)
{
    char path[32];
    struct home h;
    struct run_key found;
    (void)state;
    open_home(&h, path);
    assert_int_equal(run_key_find(h.dirfd, key, &found), -ENOENT);
    set_job(&h, true);
    assert_int_equal(run_key_find(h.dirfd, key, &found), 0);
    assert_string_equal(found.tenant, "acme");
    assert_string_equal(found.run_id, ID);
    assert_int_equal(run_key_find(h.dirfd, other, &found), -ENOENT);
    run_keys_sweep(&h);
    assert_int_equal(run_key_find(h.dirfd, key, &found), 0);
    run_key_remove(&h, key);
    assert_int_equal(run_key_find(h.dirfd, key, &found), -ENOENT);
    close_home(&h);
}

static void what_is_left_is_swept(void **state)
{
    char path[32];
    struct home h;
    struct run_key found;
    (void)state;
    open_home(&h, path);
    set_job(&h, true);
    set_job(&h, false);
    assert_true(fd_exists(h.dirfd, FILE_OF_KEY));
    assert_int_equal(run_key_find(h.dirfd, key, &found), -ENOENT);
    run_keys_sweep(&h);
    assert_false(fd_exists(h.dirfd, FILE_OF_KEY));
    run_key_remove(&h, key); /* is fine */
    close_home(&h);
}

static void what_is_damaged_is_nobodys(void **state)
{
    static const char *const texts[] = {"",
                                        "acme",
                                        "acme " ID,
                                        "acme x " ID "-load",
                                        "acme " ID " ../../x",
                                        "acme " ID " 01m8g8tf0q03ecfdvexc05fdh8",
                                        "acme " ID " " ID "/x"};
    char path[32];
    struct home h;
    struct run_key found;
    (void)state;
    open_home(&h, path);
    set_job(&h, true);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(fd_write_file(h.dirfd, FILE_OF_KEY, texts[i], strlen(texts[i]), 0600, NULL), 0);
        assert_int_equal(run_key_find(h.dirfd, key, &found), -ENOENT);
    }
    close_home(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_with_its_job), cmocka_unit_test(what_is_left_is_swept),
                                       cmocka_unit_test(what_is_damaged_is_nobodys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
