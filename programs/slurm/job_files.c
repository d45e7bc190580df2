#include "job_files.h"

#include "base/fd.h"
#include "base/mem.h"
#include "manager/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* sbatch wants a script. Program and spec are its arguments, so that no path is ever part of a shell's text. */
static const char script[] = "#!/bin/sh\nexec \"$@\"\n";

enum { MAX_SMALL = 65536 };

char *job_path(const struct home *h, const char *claim, const char *end)
{
    return xasprintf("%s/" WARDEN_JOBS "/%s.%s", h->path, claim, end);
}

int job_files_begin(const struct home *h, struct err *e)
{
    int r = fd_mkdirs(h->dirfd, WARDEN_JOBS, 0700);
    if (r < 0)
        return err_sys(e, r, "cannot make %s/" WARDEN_JOBS, h->path);
    return fd_write_file(h->dirfd, WARDEN_JOBS "/run.sh", script, strlen(script), 0700, e);
}

static int write_file(const struct home *h, const char *claim, const char *end, const void *p, size_t n, struct err *e)
{
    AUTO_FREE char *path = job_path(h, claim, end);
    return fd_write_file(AT_FDCWD, path, p, n, 0600, e);
}

int job_spec_write(const struct home *h, const struct run_spec *s, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    run_spec_write(s, &b);
    return write_file(h, s->claim, "json", b.p, b.n, e);
}

int job_spec_read(const struct home *h, const char *claim, struct run_spec *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = job_path(h, claim, "json");
    int r = fd_read_file(AT_FDCWD, path, &b, RUN_MAX_SPEC_BYTES, e);
    return r < 0 ? r : run_spec_parse(b.p ? b.p : "", b.n, ret, e);
}

int job_id_write(const struct home *h, const char *claim, const char *id, const char *options, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s\n%s", id, options);
    return write_file(h, claim, "job", b.p, b.n, e);
}

bool job_id_read(const struct home *h, const char *claim, char ret_id[32], char **ret_options)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = job_path(h, claim, "job");
    if (fd_read_file(AT_FDCWD, path, &b, MAX_SMALL, NULL) < 0 || !b.n)
        return false;
    buf_add(&b, "", 0);
    char *end = strchr(b.p, '\n');
    if (!end || end == b.p || end - b.p > 30 || strspn(b.p, "0123456789") != (size_t)(end - b.p))
        return false;
    snprintf(ret_id, 32, "%.*s", (int)(end - b.p), b.p);
    xstr_set(ret_options, end + 1);
    return true;
}

void job_files_remove(const struct home *h, const char *claim)
{
    static const char *const ends[] = {"job", "out", "gone", "end.out", "json"}; /* the spec last: by it the others are found */
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        AUTO_FREE char *path = job_path(h, claim, ends[i]);
        unlink(path);
    }
}

/* The manager may write below runs/, so a link there is not followed. (runs/ itself may be a link, made by the provider.) */
static int open_parent(const struct run_spec *s)
{
    AUTO_FREE char *parent = xstrdup(s->dir);
    *strrchr(parent, '/') = 0; /* an absolute path */
    int fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC | (s->step == RUN_STEP_load ? O_NOFOLLOW : 0));
    return fd < 0 ? -errno : fd;
}

static const char *base_of(const struct run_spec *s)
{
    return strrchr(s->dir, '/') + 1;
}

static int open_step(const struct run_spec *s)
{
    AUTO_FD int at = open_parent(s);
    int fd = at < 0 ? at : openat(at, base_of(s), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return at < 0 ? at : fd < 0 ? -errno : fd;
}

static bool read_result(int dir, struct run_result *ret)
{
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(dir, "result.json", &b, RUN_MAX_RESULT_BYTES, NULL) < 0)
        return false;
    if (run_result_parse(b.p ? b.p : "", b.n, ret, NULL) < 0)
        *ret = (struct run_result){.waited = RUN_WAITED_UNKNOWN}; /* the manager says what it is */
    return true;
}

static void read_holder(int dir, struct job_facts *f, struct holder *ret)
{
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(dir, RUN_HOLDER, &b, 1024, NULL) < 0 || !b.n)
        return;
    buf_add(&b, "", 0);
    f->held = holder_parse(b.p, ret);
    f->holder_restarts = ret->restarts;
}

void job_look(const struct home *h, const struct run_spec *s, struct job_facts *f, struct holder *ret_holder,
              struct run_result *ret_result)
{
    AUTO_FREE char *gone = job_path(h, s->claim, "gone");
    AUTO_FD int dir = open_step(s);
    f->fenced = f->fenced || (dir != -ENOENT && dir != -ESTALE);
    if (dir < 0)
        return;
    if (!f->held)
        read_holder(dir, f, ret_holder);
    f->gone = f->gone || fd_exists(AT_FDCWD, gone);
    f->result = read_result(dir, ret_result);
    f->foreign_stop = f->result && ret_result->stopped && !ret_result->cause && !f->stop;
}

int job_fence(const struct run_spec *s)
{
    AUTO_FREE char *parent = xstrdup(s->dir);
    *strrchr(parent, '/') = 0;
    if (s->step == RUN_STEP_load && mkdir(parent, 0711) < 0 && errno != EEXIST) /* of a run that loads an earlier one's output */
        return -errno;
    AUTO_FD int at = open_parent(s);
    return at < 0 ? at : mkdirat(at, base_of(s), 0711) < 0 ? -errno : 0;
}

int job_result_write(const struct run_spec *s, const struct run_result *res, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FD int dir = open_step(s);
    if (dir < 0)
        return err_sys(e, dir, "cannot open %s", s->dir);
    run_result_write(res, &b);
    return fd_write_file(dir, "result.json", b.p, b.n, 0600, e);
}
