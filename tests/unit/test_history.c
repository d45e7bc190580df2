/* The history of configurations on disk, and the way from one to another: all or nothing wherever it is cut short. */
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "conf/history.h"
#include "conf/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[64];
static int home = -1;
static int steps_left = -1; /* names that this process may still change before it is gone; -1: all */

/* ---- a process that is killed at a step ---- */

int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __real_unlinkat(int fd, const char *path, int flags);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_unlinkat(int fd, const char *path, int flags);

static void step(void)
{
    if (steps_left >= 0 && steps_left-- == 0)
        _exit(0);
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    step();
    return __real_renameat(from_fd, from, to_fd, to);
}

int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    step();
    return __real_linkat(from_fd, from, to_fd, to, flags);
}

int __wrap_unlinkat(int fd, const char *path, int flags)
{
    step();
    return __real_unlinkat(fd, path, flags);
}

/* ---- a home ---- */

static int make(void **state)
{
    (void)state;
    strcpy(base,
           access("/dev/shm", W_OK) == 0 ? "/dev/shm/simbdp-unit-XXXXXX" : "/tmp/simbdp-unit-XXXXXX"); /* syncs cost nothing */
    if (!mkdtemp(base))
        return -1;
    home = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return home < 0 || fd_mkdirs(home, "conf/tenants", 0755) < 0 || fd_mkdirs(home, "state", 0700) < 0 ? -1 : 0;
}

static int drop(void **state)
{
    (void)state;
    close(home);
    return fd_remove_tree(AT_FDCWD, base);
}

/* Not durably, which takes its time. */
static void overwrite(const char *path, const char *p, size_t n)
{
    AUTO_FD int fd = openat(home, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    assert_true(fd >= 0 && fd_write_all(fd, p, n) == 0);
}

static void put(const char *path, const char *text)
{
    overwrite(path, text, strlen(text));
}

static struct conf_texts present(void)
{
    struct conf_texts t = {0};
    struct err e = {0};
    if (conf_texts_read(home, &t, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

static void configure(const char *platform, const char *acme, const char *best)
{
    put("conf/mysimbdp.conf", platform);
    put("conf/profiles.conf", "# none\n");
    put("conf/tenants/acme.conf", acme);
    unlinkat(home, "conf/tenants/best.conf", 0);
    if (best)
        put("conf/tenants/best.conf", best);
}

static int64_t add(const char *what)
{
    struct conf_texts t = present();
    struct err e = {0};
    int64_t number = 0;
    const struct conf_entry entry = {.at_wall_ms = 1700000000000, .who = "me", .what = (char *)what, .texts = t};
    if (history_add(home, &entry, &number, &e) < 0)
        fail_msg("%s", e.msg);
    conf_texts_fini(&t);
    return number;
}

/* ---- the history ---- */

static void entries(void **state)
{
    (void)state;
    struct conf_entry entry = {0};
    struct err e = {0};
    int64_t *v;
    assert_int_equal(history_read(home, 0, &entry, &e), -ENOENT);
    assert_int_equal(history_numbers(home, &v, &e), 0);
    configure("one", "a\xff\n", NULL); /* bytes, not characters */
    put("conf/tenants/.hidden.conf", "x");
    put("conf/tenants/acme.conf.removed", "x");
    put("conf/tenants/NoId.conf", "x");
    assert_int_equal(add("first"), 1);
    assert_int_equal(add("the same"), 1);
    configure("", "a", "b");
    assert_int_equal(add("second"), 2);
    configure("one", "a\xff\n", NULL);
    assert_int_equal(add("third, as the first"), 3);
    assert_int_equal(history_read(home, 1, &entry, &e), 0);
    struct conf_texts now = present();
    assert_true(conf_texts_equal(&entry.texts, &now));
    assert_int_equal(entry.texts.n, 3);
    assert_string_equal(entry.what, "first");
    assert_string_equal(entry.who, "me");
    assert_int_equal(entry.at_wall_ms, 1700000000000);
    conf_entry_fini(&entry);
    assert_int_equal(history_read(home, 0, &entry, &e), 0);
    assert_int_equal(entry.number, 3);
    conf_entry_fini(&entry);
    assert_int_equal(history_read(home, 2, &entry, &e), 0);
    assert_false(conf_texts_equal(&entry.texts, &now));
    conf_entry_fini(&entry);
    conf_texts_fini(&now);
    assert_int_equal(history_read(home, 7, &entry, &e), -ENOENT);
    struct stat st;
    assert_int_equal(fstatat(home, HISTORY_DIR "/00000001", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* Whatever is changed in one, it is not taken for a configuration. */
static void damage(void **state)
{
    (void)state;
    AUTO_BUF struct buf good = {0};
    struct conf_entry entry = {0};
    struct err e = {0};
    configure("p = 1;\n", "a", "b");
    int64_t number = add("whole");
    AUTO_FREE char *path = xasprintf(HISTORY_DIR "/%08lld", (long long)number);
    assert_int_equal(fd_read_file(home, path, &good, 1 << 20, &e), 0);
    for (size_t i = 0; i < good.n; i++) {
        good.p[i] ^= 1;
        overwrite(path, good.p, good.n);
        assert_int_equal(history_read(home, number, &entry, &e), ERR_FORMAT);
        good.p[i] ^= 1;
    }
    for (size_t n = 0; n < good.n; n++) {
        overwrite(path, good.p, n);
        assert_int_equal(history_read(home, number, &entry, &e), ERR_FORMAT);
    }
    assert_int_equal(add("after it"), number + 1); /* although the files are the same: that cannot be known */
    assert_int_equal(history_read(home, number + 1, &entry, &e), 0);
    conf_entry_fini(&entry);
}

static void bounded(void **state)
{
    (void)state;
    struct err e = {0};
    for (int i = 0; i < HISTORY_MAX + 5; i++) {
        AUTO_FREE char *text = xasprintf("# %d\n", i);
        configure(text, "a", NULL);
        add("many");
    }
    AUTO_FREE int64_t *v = NULL;
    assert_int_equal(history_numbers(home, &v, &e), HISTORY_MAX);
    assert_int_equal(v[HISTORY_MAX - 1] - v[0], HISTORY_MAX - 1);
    for (int i = 0; i < 20; i++) { /* 4 MiB each */
        AUTO_FREE char *text = xcalloc(1, 4 << 20);
        memset(text, '#', (4 << 20) - 1);
        text[0] = (char)('a' + i);
        configure(text, "a", NULL);
        add("large");
    }
    AUTO_FREE int64_t *large = NULL;
    const int64_t n = history_numbers(home, &large, &e);
    assert_in_range(n, 14, 16);
}

static void forgotten(void **state)
{
    (void)state;
    struct conf_entry entry = {0};
    struct err e = {0};
    configure("x", "a", NULL);
    add("first");
    configure("x", "a", "secret of best");
    int64_t number = add("with both");
    put(HISTORY_DIR "/00000001", "damaged, and may be of anybody");
    assert_int_equal(history_forget(home, "best", &e), 0);
    assert_int_equal(history_read(home, number, &entry, &e), 0);
    assert_null(conf_texts_find(&entry.texts, "conf/tenants/best.conf"));
    assert_non_null(conf_texts_find(&entry.texts, "conf/tenants/acme.conf"));
    conf_entry_fini(&entry);
    assert_int_equal(history_read(home, 1, &entry, &e), -ENOENT);
}

/* ---- from one to another ---- */

static struct conf_texts texts_of(const char *platform, const char *acme, const char *best)
{
    configure(platform, acme, best);
    return present();
}

static void names_are_gone(void)
{
    static const char *const files[] = {"conf/mysimbdp.conf", "conf/tenants/acme.conf", "conf/tenants/best.conf",
                                        "conf/tenants/new.conf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        AUTO_FREE char *before = xasprintf("%s.before", files[i]), *next = xasprintf("%s.next", files[i]);
        assert_false(fd_exists(home, before));
        assert_false(fd_exists(home, next));
    }
    assert_false(fd_exists(home, SWAP_JOURNAL));
    assert_false(fd_exists(home, SWAP_DONE));
}

/* In a process that is gone after `steps` changes of names. True: it came to its end. */
static bool swap_in_a_process(const struct conf_texts *from, const struct conf_texts *to, int steps, bool ends)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct err e;
        steps_left = steps;
        int r = conf_swap_begin(home, from, to, &e);
        if (r == 0)
            r = ends ? conf_swap_end(home, &e) : conf_swap_undo(home, &e);
        _exit(r == 0 ? 42 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    return WEXITSTATUS(status) == 42;
}

static void swapped(bool ends)
{
    struct conf_texts to = texts_of("new", "a2", NULL), from = {0}, is = {0};
    struct err e = {0};
    bool ended = false, was_new = false;
    put("conf/tenants/new.conf", "n");
    conf_texts_fini(&to);
    to = present();
    for (int steps = 0; !ended; steps++) {
        assert_true(steps < 100);
        unlinkat(home, "conf/tenants/new.conf", 0);
        unlinkat(home, "conf/tenants/best.conf.removed", 0);
        from = texts_of("old", "a1", "b");
        ended = swap_in_a_process(&from, &to, steps, ends);
        if (conf_swap_recover(home, &e) < 0)
            fail_msg("%d: %s", steps, e.msg);
        is = present();
        const bool now_new = conf_texts_equal(&is, &to);
        assert_true(now_new || conf_texts_equal(&is, &from));
        assert_true(now_new || !was_new || !ends); /* once it counts as done it stays so */
        assert_int_equal(fd_exists(home, "conf/tenants/best.conf.removed"), now_new);
        was_new = now_new;
        if (ended || now_new)
            names_are_gone();
        conf_texts_fini(&from);
        conf_texts_fini(&is);
    }
    assert_int_equal(was_new, ends);
    assert_int_equal(conf_swap_recover(home, &e), SWAP_none);
    unlinkat(home, "conf/tenants/new.conf", 0);
    conf_texts_fini(&to);
}

static void swaps(void **state)
{
    (void)state;
    swapped(true);
    swapped(false);
}

static void links_stay(void **state)
{
    (void)state;
    struct err e = {0};
    struct conf_texts to = texts_of("new", "a2", NULL), from = texts_of("old", "a1", NULL);
    assert_int_equal(renameat(home, "conf/tenants/acme.conf", home, "conf/kept"), 0);
    assert_int_equal(symlinkat("../kept", home, "conf/tenants/acme.conf"), 0);
    assert_int_equal(conf_swap_begin(home, &from, &to, &e), ERR_REFUSED);
    struct conf_texts is = present();
    assert_true(conf_texts_equal(&is, &from));
    names_are_gone();
    unlinkat(home, "conf/tenants/acme.conf", 0);
    conf_texts_fini(&to);
    conf_texts_fini(&from);
    conf_texts_fini(&is);
}

static void journals_are_not_trusted(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "{}",
                                      "[]",
                                      "{\"v\":1,\"files\":[{\"path\":\"/etc/passwd\",\"kind\":\"add\"}]}",
                                      "{\"v\":1,\"files\":[{\"path\":\"conf/../state/x\",\"kind\":\"add\"}]}",
                                      "{\"v\":1,\"files\":[{\"path\":\"conf/x\",\"kind\":\"y\"}]}",
                                      "{\"v\":1,\"files\":[7]}"};
    struct err e = {0};
    assert_int_equal(fd_mkdirs(home, HISTORY_DIR, 0700), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(SWAP_JOURNAL, bad[i]);
        assert_int_equal(conf_swap_recover(home, &e), ERR_FORMAT);
    }
    unlinkat(home, SWAP_JOURNAL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries, make, drop),
        cmocka_unit_test_setup_teardown(damage, make, drop),
        cmocka_unit_test_setup_teardown(bounded, make, drop),
        cmocka_unit_test_setup_teardown(forgotten, make, drop),
        cmocka_unit_test_setup_teardown(swaps, make, drop),
        cmocka_unit_test_setup_teardown(links_stay, make, drop),
        cmocka_unit_test_setup_teardown(journals_are_not_trusted, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
