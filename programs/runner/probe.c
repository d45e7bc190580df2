#include "probe.h"
#include "isolate.h"
#include "sandbox/confine.h"
#include "sandbox/seccomp_install.h"
#include "view.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* All that a run's first process does, except that no app is started. */
static int try_all(const struct run_spec *s, struct child_failure *f)
{
    struct view_sources from;
    f->stage = CHILD_VIEW;
    int r = view_open(&from, s, -1, f->what, sizeof f->what);
    if (r == 0)
        r = view_prepare(s->home, f->what, sizeof f->what);
    if (r == 0)
        r = view_finish(&from, s, f->what, sizeof f->what);
    view_close(&from);
    AUTO_FD int null = r < 0 ? -1 : open("/dev/null", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && null < 0) {
        snprintf(f->what, sizeof f->what, "/dev/null");
        r = -errno;
    }
    if (r < 0)
        return r;
    f->stage = CHILD_CONFINE;
    const char *writable[] = {"/tmp"};
    r = confine_keyring();
    if (r == 0)
        r = confine_capabilities();
    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = -errno;
    if (r == 0)
        r = confine_files(writable, 1);
    return r < 0 ? r : seccomp_install();
}

static char *try_in_child(void)
{
    struct run_spec s = {.home = xstrdup("/tmp/home"), .image = xstrdup(""), .tmp_bytes = 1 << 20, .tmp_inodes = 100};
    struct clone_args args = {.flags = isolate_clone_flags(false), .exit_signal = SIGCHLD};
    struct child_failure f = {.stage = -1, .err_no = EIO};
    int pair[2];
    if (geteuid() != 0) {
        run_spec_free(&s);
        return xstrdup("not root: tenants have no uids of their own");
    }
    if (pipe(pair) < 0) {
        run_spec_free(&s);
        return xasprintf("pipe: %s", strerror(errno));
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        int r = try_all(&s, &f);
        f.err_no = -r;
        ssize_t n = write(pair[1], &f, sizeof f);
        _exit(n < 0);
    }
    int clone_errno = errno;
    close(pair[1]);
    ssize_t n = pid < 0 ? 0 : read(pair[0], &f, sizeof f);
    close(pair[0]);
    run_spec_free(&s);
    if (pid < 0)
        return xasprintf("namespaces cannot be made: %s", strerror(clone_errno));
    waitpid(pid, NULL, 0);
    if (n == (ssize_t)sizeof f && f.err_no == 0)
        return NULL;
    return xasprintf("%s failed: %s%s%s", child_stage_name(f.stage), f.what, *f.what ? ": " : "", strerror(f.err_no));
}

static bool is_user_namespace(void)
{
    AUTO_BUF struct buf b = {0};
    unsigned inside, outside, n;
    return fd_read_file(AT_FDCWD, "/proc/self/uid_map", &b, 4096, NULL) == 0 &&
           (sscanf(b.p, "%u %u %u", &inside, &outside, &n) != 3 || n != 4294967295u);
}

int probe_main(void)
{
    AUTO_FREE char *why = try_in_child();
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "full", !why);
    json_str(&b, "why", why);
    json_i64(&b, "landlock", abi < 0 ? 0 : abi);
    json_bool(&b, "user_namespace", is_user_namespace());
    json_end(&b, '}');
    return puts(b.p) < 0;
}
