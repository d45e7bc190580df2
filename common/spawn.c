#include "spawn.h"

#include <signal.h>

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
