#include "pilot_files.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 65536 };

void pilot_file_free(struct pilot_file *f)
{
    free(f->runtime);
    free(f->tag);
    free(f->options);
    *f = (struct pilot_file){0};
}

int pilot_file_write(const char *path, const struct pilot_file *f, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s\n%s\n%lld %lld %lld\n%s\n%s\n%s", f->secret_key, f->public_key, (long long)f->runs, (long long)f->time_s,
             (long long)f->idle_s, f->runtime, f->tag, f->options);
    return fd_write_file(AT_FDCWD, path, b.p, b.n, 0600, e);
}

/* The next line of *at, which is cut; NULL: there is none. */
static char *next_line(char **at)
{
    char *line = *at, *end = line ? strchr(line, '\n') : NULL;
    if (!end)
        return NULL;
    *end = 0;
    *at = end + 1;
    return line;
}

static bool take_key(const char *line, char ret[Z85_KEY])
{
    if (!line || strlen(line) != Z85_KEY - 1)
        return false;
    memcpy(ret, line, Z85_KEY);
    return true;
}

int pilot_file_read(const char *path, struct pilot_file *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct pilot_file f = {0};
    long long runs, time_s, idle_s;
    int r = fd_read_file(AT_FDCWD, path, &b, MAX_FILE, e);
    if (r < 0)
        return r;
    buf_add(&b, "", 0);
    char *at = b.p;
    bool good = take_key(next_line(&at), f.secret_key) && take_key(next_line(&at), f.public_key);
    const char *numbers = next_line(&at), *runtime = next_line(&at), *tag = next_line(&at);
    good = good && tag && *runtime == '/' && *tag && sscanf(numbers, "%lld %lld %lld", &runs, &time_s, &idle_s) == 3 && runs > 0;
    if (!good)
        return err_set(e, ERR_FORMAT, "%s is no pilot's file", path);
    f.runs = runs;
    f.time_s = time_s;
    f.idle_s = idle_s;
    f.runtime = xstrdup(runtime);
    f.tag = xstrdup(tag);
    f.options = xstrdup(at);
    *ret = f;
    return 0;
}

int launcher_address_write(const char *path, const struct launcher_address *a, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s\n%s\n", a->endpoint, a->public_key);
    return fd_write_file(AT_FDCWD, path, b.p, b.n, 0600, e);
}

int launcher_address_read(const char *path, struct launcher_address *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct launcher_address a = {0};
    int r = fd_read_file(AT_FDCWD, path, &b, MAX_FILE, e);
    if (r < 0)
        return r;
    buf_add(&b, "", 0);
    char *at = b.p;
    const char *endpoint = next_line(&at);
    if (!endpoint || strlen(endpoint) >= sizeof a.endpoint || !take_key(next_line(&at), a.public_key))
        return err_set(e, ERR_FORMAT, "%s says no launcher's address", path);
    memcpy(a.endpoint, endpoint, strlen(endpoint) + 1);
    *ret = a;
    return 0;
}
