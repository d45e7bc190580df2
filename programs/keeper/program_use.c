/* /proc/PID/stat, Linux Documentation/filesystems/proc.rst. A pid of programs.json counts only if its process is younger than the
 * file says, by its parent: `up`, which is ours, too. Helpers are the children of such a process; what runs below them is a
 * tenant's. */
#include "program_use.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE = 64 << 10, MAX_PROGRAMS = 32, MAX_TABLE = 64 << 10 };

struct stat_line {
    char name[32];
    pid_t parent;
    double cpu_s;
    int64_t memory_bytes;
};

void programs_use_fini(struct programs_use *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->v[i].name);
        free(p->v[i].ended);
    }
    free(p->v);
    *p = (struct programs_use){0};
}

static bool read_proc(pid_t pid, const char *file, struct buf *b)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    buf_add(b, "", 0);
    return fd_read_file(AT_FDCWD, path, b, MAX_FILE, NULL) == 0;
}

/* The name is in parentheses and may hold anything. */
static bool read_stat(pid_t pid, struct stat_line *ret)
{
    AUTO_BUF struct buf b = {0};
    unsigned long user, kernel;
    long pages;
    int parent;
    const char *open = read_proc(pid, "stat", &b) ? strchr(b.p, '(') : NULL, *close = open ? strrchr(b.p, ')') : NULL;
    if (!close || sscanf(close + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
                         &parent, &user, &kernel, &pages) != 4)
        return false;
    snprintf(ret->name, sizeof ret->name, "%.*s", (int)(close - open - 1), open + 1);
    ret->parent = parent;
    ret->cpu_s = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    ret->memory_bytes = (int64_t)pages * sysconf(_SC_PAGESIZE);
    return true;
}

/* Since Linux 6.2 the directory's size is how many there are. */
static int64_t descriptors_of(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    return stat(path, &st) == 0 && st.st_size > 0 ? st.st_size : -1;
}

static int64_t max_descriptors_of(pid_t pid)
{
    static const char key[] = "Max open files";
    AUTO_BUF struct buf b = {0};
    const char *at = read_proc(pid, "limits", &b) ? strstr(b.p, key) : NULL;
    return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}

static void add(struct process_use *to, const struct stat_line *s, pid_t pid)
{
    int64_t n = descriptors_of(pid), most = max_descriptors_of(pid);
    to->cpu_s += s->cpu_s;
    to->memory_bytes += s->memory_bytes;
    to->descriptors = n < 0 || (to->n && to->descriptors < 0) ? -1 : to->descriptors + n;
    to->max_descriptors = !to->n || most < to->max_descriptors ? most : to->max_descriptors;
    to->n++;
}

/* What is less than before is of other processes. */
static double share(const struct process_use *now, const struct process_use *before, int64_t ms_since)
{
    double d = now->cpu_s - before->cpu_s;
    return !before->n || before->n != now->n || ms_since <= 0 || d < 0 ? NAN : d * 1000 / (double)ms_since;
}

static void add_program(const bson_t *doc, pid_t pids[], struct programs_use *ret)
{
    const char *at[] = {json_get_str(doc, "started_at", ""), json_get_str(doc, "ended_at", "")},
               *ended = json_get_str(doc, "ended", NULL);
    ret->v = xgrow(ret->v, ret->n, sizeof *ret->v);
    struct program_use *p = &ret->v[ret->n];
    *p = (struct program_use){.name = xstrdup(json_get_str(doc, "program", "")),
                              .ended = ended ? xstrdup(ended) : NULL,
                              .restarts = json_get_i64(doc, "restarts", 0)};
    clk_parse(at[0], &p->started_wall_ms);
    clk_parse(at[1], &p->ended_wall_ms);
    pids[ret->n++] = (pid_t)json_get_i64(doc, "pid", -1);
}

/* Each process is looked at once. */
static void add_processes(const pid_t pids[], struct programs_use *ret)
{
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        pid_t pid = (pid_t)atoi(e->d_name);
        struct stat_line s;
        if (pid <= 0 || !read_stat(pid, &s))
            continue;
        for (size_t i = 0; i < ret->n; i++) {
            struct program_use *p = &ret->v[i];
            if (pids[i] <= 0 || (pid != pids[i] && s.parent != pids[i]))
                continue;
            struct process_use *u = pid == pids[i] ? &p->own : &p->helpers;
            p->runs |= pid == pids[i];
            add(u, &s, pid);
            snprintf(u->name, sizeof u->name, "%s", pid == pids[i] ? p->name : s.name);
        }
    }
    if (d)
        closedir(d);
}

void programs_use_read(const struct home *h, const struct programs_use *before, int64_t ms_since, struct programs_use *ret)
{
    AUTO_BUF struct buf b = {0};
    pid_t pids[MAX_PROGRAMS];
    bson_iter_t it;
    bson_t one;
    *ret = (struct programs_use){0};
    if (fd_read_file(h->dirfd, "state/programs.json", &b, MAX_TABLE, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    if (!doc || !json_get_iter(doc, "programs", &it))
        return;
    while (ret->n < MAX_PROGRAMS && json_next_doc(&it, &one))
        add_program(&one, pids, ret);
    add_processes(pids, ret);
    for (size_t i = 0; i < ret->n; i++) {
        struct program_use *p = &ret->v[i];
        const struct program_use *q = i < before->n && !strcmp(before->v[i].name, p->name) ? &before->v[i] : NULL;
        p->own.cpu_share = q ? share(&p->own, &q->own, ms_since) : NAN;
        p->helpers.cpu_share = q ? share(&p->helpers, &q->helpers, ms_since) : NAN;
    }
}
