/* Streams of a tenant that somebody else made (programs/broker/store/moves.h), loaded into a broker's store. The first byte says
 * how many checks are made right, so that what lies behind a checksum is reached; then the file. What is refused leaves nothing;
 * what is taken can be settled, read and given back, and written as a file again. */
#include "programs/broker/store/moves_parts.h"

#include "base/fd.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char place[] = "/tmp/fuzz-moves-XXXXXX";
static struct streams *all;

static void remove_place(void)
{
    streams_abandon(all);
    fd_remove_tree(AT_FDCWD, place);
}

static void make_place(void)
{
    struct err e = {0};
    assert(mkdtemp(place));
    int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(fd >= 0 && streams_open(fd, -1, &all, &e) == 0);
    atexit(remove_place);
}

static void repair(unsigned char *p, size_t n, unsigned records)
{
    size_t at = 8;
    for (uint64_t record = 0; record < records && at + MOVES_HEADER <= n; record++) {
        const uint32_t size = le_u32(p + at);
        if (size < MOVES_HEADER || size > n - at)
            return;
        memset(p + at + 9, 0, 7);
        le_set_u32(p + at + 4, moves_check_of(p + at, size, record));
        at += size;
    }
}

static uint32_t no_note(const struct stream *st)
{
    (void)st;
    return 0;
}

static void on_message(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n)
{
    (void)arg;
    (void)deliveries;
    (void)wall_ms;
    assert(seq && (n == 0 || p));
}

static void use(struct stream *st)
{
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(st, &i));) {
        struct sub_figures f;
        struct consumer *c = sub_attach(s, NULL);
        consumer_set_window(c, 100, 1 << 20);
        consumer_lease(c, 100, 1 << 20, 1000, on_message, NULL);
        sub_figures(s, &f);
        assert(f.n_consumers == 1);
        consumer_detach(c, true, 1000);
    }
    stream_apply_retention(st, 0, 0, 0);
}

static void settle(void)
{
    struct export_at at = {0};
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    size_t i = 0;
    int r = arrivals_settle(all, "acme", &e);
    assert(r >= 0 && (size_t)r == all->streams.n);
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        use(st);
    while (!at.end)
        assert(export_part(all, "acme", &at, 4096, no_note, &out, &e) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct import *m;
    struct err e = {0};
    int r;
    if (!all)
        make_place();
    if (size < 1)
        return 0;
    AUTO_FREE unsigned char *p = xmalloc(size);
    memcpy(p, data + 1, size - 1);
    repair(p, size - 1, data[0]);
    int fd = memfd_create("streams", MFD_CLOEXEC);
    assert(fd >= 0 && fd_write_all(fd, p, size - 1) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    assert(import_new(all, "acme", fd, &m, &e) == 0);
    while ((r = import_step(m, 1024, &e)) > 0)
        streams_commit(all, false);
    import_free(m);
    assert(r == 0 || !all->arriving.n);
    if (r == 0)
        settle();
    size_t i = 0;
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        streams_drop(all, st);
    streams_commit(all, false);
    streams_tidy(all);
    return 0;
}
