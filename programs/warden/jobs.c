#include "jobs.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/spawn.h"

#include "manager/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEP_BACK = 10 /* how much nicer a job becomes that is to step back */ };

void jobs_refuse(int leash, int code)
{
    if (send(leash, &code, sizeof code, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("job", NULL, NULL, "nobody waits for it");
    close(leash);
}

void jobs_start(struct jobs *j, char *const argv[], char *const envp[], int fd, int as, int leash)
{
    posix_spawn_file_actions_t fa;
    pid_t pid;
    if (j->n == JOBS_MAX) {
        jobs_refuse(leash, -EAGAIN);
        return;
    }
    posix_spawn_file_actions_init(&fa);
    if (as != STDIN_FILENO)
        posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (fd >= 0)
        posix_spawn_file_actions_adddup2(&fa, fd, as);
    int r = spawn_start(argv, envp, &fa, POSIX_SPAWN_SETSIGDEF, &pid);
    if (r < 0) {
        log_error("job", NULL, NULL, "cannot start %s: %s", argv[0], err_text(r));
        jobs_refuse(leash, r);
        return;
    }
    j->v[j->n].pid = pid;
    j->v[j->n++].leash = leash;
}

void jobs_poll(const struct jobs *j, struct pollfd *p)
{
    for (size_t i = 0; i < j->n; i++)
        p[i] = (struct pollfd){j->v[i].leash, POLLIN, 0};
}

void jobs_serve(struct jobs *j, const struct pollfd *p)
{
    char order;
    for (size_t i = 0; i < j->n; i++) {
        ssize_t n = p[i].revents ? recv(j->v[i].leash, &order, 1, MSG_DONTWAIT) : 1;
        if (!p[i].revents || (n < 0 && (errno == EAGAIN || errno == EINTR)))
            continue;
        if (n <= 0) {
            kill(j->v[i].pid, SIGKILL); /* our child, not reaped yet: the pid is its own */
            close(fd_take(&j->v[i].leash));
        } else if (order == WARDEN_STEP_BACK || order == WARDEN_GO_ON) {
            setpriority(PRIO_PROCESS, (id_t)j->v[i].pid,
                        getpriority(PRIO_PROCESS, 0) + (order == WARDEN_STEP_BACK ? STEP_BACK : 0));
        }
    }
}

bool jobs_ended(struct jobs *j, pid_t pid, int status)
{
    for (size_t i = 0; i < j->n; i++)
        if (j->v[i].pid == pid) {
            if (j->v[i].leash >= 0)
                jobs_refuse(j->v[i].leash, status);
            j->v[i] = j->v[--j->n];
            return true;
        }
    return false;
}

void jobs_kill(struct jobs *j)
{
    for (size_t i = 0; i < j->n; i++)
        kill(j->v[i].pid, SIGKILL);
    while (j->n) {
        int status;
        pid_t pid = waitpid(j->v[j->n - 1].pid, &status, 0);
        if (pid < 0 && errno != EINTR)
            j->n--;
        else if (pid > 0)
            jobs_ended(j, pid, status);
    }
}
