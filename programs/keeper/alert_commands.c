#include "alert_commands.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { AT_ONCE = 4, QUEUE = 256, MAX_ARGS = 32, PATIENCE_MS = 30000 };

extern char **environ;

struct alert_commands {
    struct {
        pid_t pid; /* 0: free */
        int64_t started_ms;
        char *name;
    } going[AT_ONCE];
    struct {
        char *name, *command, *json;
    } waiting[QUEUE];
    size_t head, n;
};

static int start(const char *command, const char *json, pid_t *ret)
{
    char *argv[MAX_ARGS + 1] = {0}, *save = NULL;
    size_t n = 0;
    AUTO_FREE char *words = xstrdup(command);
    for (char *w = strtok_r(words, " \t", &save); w && n < MAX_ARGS; w = strtok_r(NULL, " \t", &save))
        argv[n++] = w;
    AUTO_FD int in = memfd_create("alert", MFD_CLOEXEC);
    if (in < 0 || fd_write_all(in, json, strlen(json)) < 0 || lseek(in, 0, SEEK_SET) < 0)
        return -errno;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in, STDIN_FILENO);
    return spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP, ret);
}

static void drop_first(struct alert_commands *h)
{
    free(h->waiting[h->head].name);
    free(h->waiting[h->head].command);
    free(h->waiting[h->head].json);
    h->head = (h->head + 1) % QUEUE;
    h->n--;
}

static void start_waiting(struct alert_commands *h)
{
    for (size_t i = 0; h->n && i < AT_ONCE; i++) {
        if (h->going[i].pid)
            continue;
        const char *name = h->waiting[h->head].name, *command = h->waiting[h->head].command;
        int r = start(command, h->waiting[h->head].json, &h->going[i].pid);
        if (r < 0)
            log_error("alert_command", NULL, NULL, "alert %s: cannot run %s: %s", name, command, err_text(r));
        h->going[i].pid = r < 0 ? 0 : h->going[i].pid;
        h->going[i].started_ms = clk_now_ms();
        xstr_set(&h->going[i].name, name);
        drop_first(h);
    }
}

void alert_commands_reap(struct alert_commands *h)
{
    for (size_t i = 0; i < AT_ONCE; i++) {
        int status;
        if (!h->going[i].pid)
            continue;
        if (clk_now_ms() - h->going[i].started_ms > PATIENCE_MS)
            kill(-h->going[i].pid, SIGKILL); /* our child, not reaped: the group is its own */
        if (waitpid(h->going[i].pid, &status, WNOHANG) != h->going[i].pid)
            continue;
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            log_warn("alert_command", NULL, NULL, "the command of alert %s ended with %s %d", h->going[i].name,
                     WIFEXITED(status) ? "exit code" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        h->going[i].pid = 0;
    }
    start_waiting(h);
}

bool alert_commands_are_going(const struct alert_commands *h)
{
    bool going = false;
    for (size_t i = 0; i < AT_ONCE; i++)
        going |= h->going[i].pid != 0;
    return going;
}

void alert_commands_run(struct alert_commands *h, const char *alert, const char *command, const char *json)
{
    if (h->n == QUEUE) {
        log_error("alert_command", NULL, NULL, "alert %s: %d commands wait already; this one is not run", alert, QUEUE);
        return;
    }
    size_t at = (h->head + h->n++) % QUEUE;
    h->waiting[at].name = xstrdup(alert);
    h->waiting[at].command = xstrdup(command);
    h->waiting[at].json = xstrdup(json);
    start_waiting(h);
}

struct alert_commands *alert_commands_new(void)
{
    return xcalloc(1, sizeof(struct alert_commands));
}

void alert_commands_free(struct alert_commands *h)
{
    while (h && h->n)
        drop_first(h);
    for (size_t i = 0; h && i < AT_ONCE; i++) {
        if (h->going[i].pid)
            kill(-h->going[i].pid, SIGKILL);
        free(h->going[i].name);
    }
    free(h);
}
