/* Ways into directories that others write to: the same answers with openat2(2), and on kernels and in containers that have none. */
#include "base/beneath.h"
#include "base/fd.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_RACED = 3000 };

static char base[64];
static int top;

/* base/top is where it starts from; base/out is what nothing must lead to. */
static int make(void **state)
{
    (void)state;
    strcpy(base, "/tmp/simbdp-unit-XXXXXX");
    if (!mkdtemp(base) || chdir(base) < 0)
        return -1;
    bool ok = mkdir("top", 0755) == 0 && mkdir("top/a", 0755) == 0 && mkdir("top/a/b", 0755) == 0 && mkdir("out", 0755) == 0;
    for (const char *const *p = (const char *const[]){"top/a/b/file", "top/a/plain", "out/file", NULL}; *p; p++)
        close(open(*p, O_WRONLY | O_CREAT, 0644));
    ok = ok && symlink("a", "top/inside") == 0 && symlink("../out", "top/outside") == 0 && symlink("b/file", "top/a/link") == 0 &&
         symlink("/etc", "top/a/away") == 0 && symlink("self", "top/self") == 0 && mkfifo("top/a/fifo", 0644) == 0;
    top = open("top", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return ok && top >= 0 ? 0 : -1;
}

static int drop(void **state)
{
    (void)state;
    close(top);
    return fd_remove_tree(AT_FDCWD, base);
}

static const struct {
    const char *path;
    int flags, refusal; /* 0: it opens */
} cases[] = {
    {"a/b/file", O_RDONLY, 0},
    {"./a//b/file", O_RDONLY, 0},
    {"a/b", O_RDONLY | O_DIRECTORY, 0},
    {".", O_RDONLY | O_DIRECTORY, 0},
    {"a/b/new", O_WRONLY | O_CREAT | O_EXCL, 0},
    {"a/fifo", O_RDONLY | O_NONBLOCK, 0},
    {"a/fifo", O_WRONLY | O_NONBLOCK, -ENXIO},
    {"a/none", O_RDONLY, -ENOENT},
    {"none/file", O_RDONLY, -ENOENT},
    {"a/plain/file", O_RDONLY, -ENOTDIR},
    {"inside/plain", O_RDONLY, -ELOOP},
    {"outside/file", O_RDONLY, -ELOOP},
    {"outside/new", O_WRONLY | O_CREAT, -ELOOP},
    {"a/away/passwd", O_RDONLY, -ELOOP},
    {"a/link", O_RDONLY, -ELOOP},
    {"a/link", O_WRONLY | O_CREAT, -ELOOP},
    {"self", O_RDONLY, -ELOOP},
    {"..", O_RDONLY | O_DIRECTORY, -EXDEV},
    {"../out/file", O_RDONLY, -EXDEV},
    {"a/../../out/file", O_RDONLY, -EXDEV},
    {"/etc/passwd", O_RDONLY, -EXDEV},
};

/* What a walk by steps calls a link on the way, too, is a file on the way. */
static bool is_expected(int got, int refusal)
{
    return refusal ? got == refusal || (refusal == -ENOTDIR && got == -ELOOP) : got >= 0;
}

static int try_all(void)
{
    int bad = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = beneath_open(top, cases[i].path, cases[i].flags, 0600);
        if (!is_expected(fd, cases[i].refusal)) {
            fprintf(stderr, "%s: %d (%s)\n", cases[i].path, fd, fd < 0 ? strerror(-fd) : "opened");
            bad++;
        }
        if (fd >= 0 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            bad++;
        if (fd >= 0)
            close(fd);
    }
    unlinkat(top, "a/b/new", 0);
    return bad + (faccessat(AT_FDCWD, "out/new", F_OK, 0) == 0);
}

static atomic_bool racing;

/* What a tenant's process does while root walks: a directory is a link to elsewhere every other moment. */
static void *exchange(void *arg)
{
    (void)arg;
    while (racing)
        syscall(SYS_renameat2, top, "a", top, "outside", RENAME_EXCHANGE);
    return NULL;
}

static int try_raced(void)
{
    struct stat out, st;
    pthread_t t;
    int bad = 0, opened = 0, refused = 0;
    if (mkdirat(top, "a/file", 0755) < 0 || stat("out/file", &out) < 0)
        return 1;
    racing = true;
    if (pthread_create(&t, NULL, exchange, NULL))
        return 1;
    for (int i = 0; i < N_RACED || !opened || !refused; i++) { /* both come about, however busy the machine is */
        int fd = beneath_open(top, "a/file", O_RDONLY, 0);
        bad += fd >= 0 && (fstat(fd, &st) < 0 || st.st_ino == out.st_ino);
        bad += fd >= 0 && beneath_own_dir(top, "a/file", -1, -1, 0755) == -EPERM;
        opened += fd >= 0;
        refused += fd == -ELOOP;
        if (fd >= 0)
            close(fd);
    }
    racing = false;
    pthread_join(t, NULL);
    if (faccessat(top, "outside/b", F_OK, 0) == 0)
        syscall(SYS_renameat2, top, "a", top, "outside", RENAME_EXCHANGE);
    unlinkat(top, "a/file", AT_REMOVEDIR);
    stat("out/file", &st);
    return bad + (st.st_mode != out.st_mode);
}

static void test_with_openat2(void **state)
{
    (void)state;
    assert_int_equal(try_all(), 0);
    assert_int_equal(try_raced(), 0);
}

/* The kernel's refusal, by a filter in a process of its own. */
static void without_openat2(int error)
{
    struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog prog = {sizeof f / sizeof *f, f};
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ||
            syscall(SYS_openat2, top, ".", NULL, 0) != -1 || errno != error)
            _exit(100);
        _exit(try_all() + try_raced());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_an_old_kernel(void **state)
{
    (void)state;
    without_openat2(ENOSYS);
}

static void test_a_container_that_does_not_know_it(void **state)
{
    (void)state;
    without_openat2(EPERM);
}

static void test_only_regular_files_are_opened(void **state)
{
    (void)state;
    struct stat st;
    AUTO_FD int fd = fd_open_regular("top/a/link", &st);
    assert_true(fd >= 0 && S_ISREG(st.st_mode));
    assert_int_equal(fd_open_regular("top/a/fifo", &st), -EINVAL);
    assert_int_equal(fd_open_regular("top/a", &st), -EINVAL);
    assert_int_equal(fd_open_regular("/dev/null", &st), -EINVAL);
    assert_int_equal(fd_open_regular("top/none", &st), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_with_openat2), cmocka_unit_test(test_an_old_kernel),
                                       cmocka_unit_test(test_a_container_that_does_not_know_it),
                                       cmocka_unit_test(test_only_regular_files_are_opened)};
    return cmocka_run_group_tests(tests, make, drop);
}
