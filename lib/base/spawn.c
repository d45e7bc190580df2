#include "spawn.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int spawn_start(char *const argv[], char *const envp[], posix_spawn_file_actions_t *actions, short flags, pid_t *ret_pid)
{
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, (short)(POSIX_SPAWN_SETSIGMASK | flags));
    int r = posix_spawnp(ret_pid, argv[0], actions, &attr, argv, envp);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(actions);
    return -r;
}

int spawn_partner(char *const argv[], int *ret_fd, pid_t *ret_pid, struct err *e)
{
    int pair[2];
    posix_spawn_file_actions_t fa;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, -errno, "cannot make a pair of sockets");
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, pair[1], STDIN_FILENO);
    int r = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETPGROUP, ret_pid);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return err_sys(e, r, "cannot start %s", argv[0]);
    }
    *ret_fd = pair[0];
    return 0;
}

void spawn_part(int fd, pid_t pid)
{
    close(fd);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

char *spawn_find(const char *name)
{
    const char *path = getenv("PATH");
    AUTO_FREE char *copy = xstrdup(path ? path : "");
    for (char *save, *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        AUTO_FREE char *program = xasprintf("%s/%s", dir, name);
        if (access(program, X_OK) == 0)
            return xstrdup(program);
    }
    return NULL;
}

int spawn_output(char *const argv[], char *const envp[], struct buf *out, size_t max, int *ret_status, struct err *e)
{
    int pair[2], status;
    pid_t pid;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_sys(e, -errno, "cannot run %s", argv[0]);
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, pair[1], 1);
    int r = spawn_start(argv, envp, &fa, 0, &pid);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return err_sys(e, r, "cannot run %s", argv[0]);
    }
    buf_add(out, "", 0);
    r = fd_read_all(pair[0], out, max);
    close(pair[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (r < 0)
        return err_sys(e, r, "cannot read what %s prints", argv[0]);
    if (ret_status)
        *ret_status = status;
    else if (!WIFEXITED(status) || WEXITSTATUS(status))
        return err_set(e, ERR_REFUSED, "%s ended with %s %d", argv[0], WIFEXITED(status) ? "exit code" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return 0;
}
