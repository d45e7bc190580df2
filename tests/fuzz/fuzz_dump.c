/* A dump of a MongoDB that somebody else made: the first byte says which file the rest is. What is taken can be read again, and of
 * each document there is a fingerprint; names come back from the files that they give. */
#include "programs/mongodump/names.h"
#include "programs/mongodump/source.h"
#include "programs/mongodump/table.h"

#include "base/fd.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char place[] = "/tmp/fuzz-dump-XXXXXX";
static int dirfd_of;
static const char *const files[] = {"mysimbdp.json", "d/c.bson", "d/c.metadata.json", "d/e.bson.gz", "d/e.metadata.json.gz"};
enum { N_FILES = sizeof files / sizeof *files };

static void remove_place(void)
{
    fd_remove_tree(AT_FDCWD, place);
}

static void make_place(void)
{
    assert(mkdtemp(place));
    atexit(remove_place);
    dirfd_of = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(dirfd_of >= 0 && mkdirat(dirfd_of, "d", 0700) == 0);
}

static void put(const char *path, const void *p, size_t n)
{
    AUTO_FD int fd = openat(dirfd_of, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0 && fd_write_all(fd, p, n) == 0);
}

static void read_again(const struct source *s, const struct source_collection *k)
{
    AUTO_BUF struct buf scratch = {0};
    struct reader x;
    struct fingerprint f;
    int64_t offset, n = 0;
    bson_t doc;
    int r = reader_open(&x, s->dirfd, k->bson, k->bson_gz, false, NULL);
    for (; r == 0 && (r = reader_next(&x, &doc, &offset, NULL)) > 0; n++) {
        assert(table_fingerprint(&scratch, &doc, &f));
        r = 0;
    }
    assert(r == 0 && n == k->documents);
    reader_close(&x);
}

static void try_names(const uint8_t *data, size_t size)
{
    AUTO_FREE char *name = xstrndup((const char *)data, size), *file = names_escape(name);
    assert(strlen(file) <= 238 && !strchr(file, '/'));
    AUTO_FREE char *back = names_unescape(file), *other = names_unescape(name);
    assert(!*name || names_is_cut(file) || !utf8_valid(name, strlen(name)) || (back && !strcmp(back, name)));
    assert(!other || (*other && utf8_valid(other, strlen(other))));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source s;
    struct progress p;
    struct err e = {0};
    if (!dirfd_of)
        make_place();
    if (!size)
        return 0;
    const char *path = files[data[0] % N_FILES];
    put(path, data + 1, size - 1);
    if (strcmp(path, "d/c.bson") != 0 && strncmp(path, "d/c", 3) == 0)
        put("d/c.bson", "", 0);
    if (!strcmp(path, "d/e.metadata.json.gz"))
        put("d/e.bson.gz", "", 0);
    progress_set_quiet(true);
    progress_begin(&p, "fuzz");
    if (source_open(&s, &(struct source_order){.dir = place}, &p, &e) < 0)
        assert(*e.msg);
    else
        for (size_t i = 0; i < s.n; i++)
            if (s.v[i].bson)
                read_again(&s, &s.v[i]);
    source_close(&s);
    for (int i = 0; i < N_FILES; i++)
        unlinkat(dirfd_of, files[i], 0);
    try_names(data + 1, size - 1);
    return 0;
}
