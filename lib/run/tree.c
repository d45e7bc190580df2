#include "tree.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct proc {
    pid_t pid, parent;
    bool ours;
};

/* Reads /proc/<pid>/stat. -1: there is no such process, or it may not be looked at. */
static int look_at(const char *pid, char *ret_state, int *ret_parent)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return -1;
    text[n] = 0;
    /* "pid (name) state ppid": the name may hold anything, so look for its last parenthesis. */
    char *p = strrchr(text, ')');
    return p && sscanf(p + 1, " %c %d", ret_state, ret_parent) == 2 ? 0 : -1;
}

static pid_t parent_of(const char *pid)
{
    char state;
    int parent;
    return look_at(pid, &state, &parent) < 0 ? -1 : parent;
}

bool tree_is_alive(pid_t pid)
{
    char name[16], state;
    int parent;
    snprintf(name, sizeof name, "%d", pid);
    if (kill(pid, 0) < 0 && errno == ESRCH)
        return false;
    return look_at(name, &state, &parent) < 0 || (state != 'Z' && state != 'X');
}

int tree_signal(int sig)
{
    struct proc *v = NULL;
    size_t n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        if (!isdigit((unsigned char)ent->d_name[0]))
            continue;
        v = xgrow(v, n, sizeof *v);
        v[n++] = (struct proc){(pid_t)atoi(ent->d_name), parent_of(ent->d_name), false};
    }
    if (d)
        closedir(d);
    pid_t self = getpid();
    int found = 0;
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            if (v[i].ours)
                continue;
            bool ours = v[i].parent == self;
            for (size_t k = 0; !ours && k < n; k++)
                ours = v[k].ours && v[k].pid == v[i].parent;
            if (ours) {
                v[i].ours = more = true;
                kill(v[i].pid, sig);
                found++;
            }
        }
    }
    free(v);
    return found;
}

static bool is_marked(const char *pid, const char *mark)
{
    char path[64];
    AUTO_BUF struct buf b = {0};
    snprintf(path, sizeof path, "/proc/%.20s/environ", pid);
    if (fd_read_file(AT_FDCWD, path, &b, 1 << 22, NULL) < 0)
        return false;
    for (size_t i = 0; i < b.n; i += strlen(b.p + i) + 1)
        if (!strcmp(b.p + i, mark))
            return true;
    return false;
}

int tree_signal_marked(const char *name, const char *value, int sig)
{
    AUTO_FREE char *mark = xasprintf("%s=%s", name, value);
    int found = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (isdigit((unsigned char)ent->d_name[0]) && is_marked(ent->d_name, mark)) {
            kill((pid_t)atoi(ent->d_name), sig);
            found++;
        }
    if (d)
        closedir(d);
    return found;
}

bool tree_reap(pid_t main, bool *main_ended, int *status)
{
    for (;;) {
        int s;
        pid_t pid = waitpid(-1, &s, WNOHANG);
        if (pid < 0)
            return errno == ECHILD;
        if (pid == 0)
            return false;
        if (pid == main) {
            *main_ended = true;
            *status = s;
        }
    }
}
