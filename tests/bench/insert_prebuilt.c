/* The server's limit: the documents of a CSV file, built before the clock starts, through the same connections that the
 * loader uses.
 *   insert_prebuilt FILE URL DATABASE COLLECTION     prints {"rows":N,"s":SECONDS} */
#include "base/clk.h"
#include "load/ingest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_refused(void *arg, const struct sink_refusal *why)
{
    (void)arg;
    fprintf(stderr, "refused: %s\n", why->message);
}

static void on_acknowledged(void *arg, int64_t end, int64_t n)
{
    (void)end;
    *(int64_t *)arg += n;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct spec *spec;
    struct record rec;
    struct buf docs = {0};
    struct sink *sink;
    size_t *ends = NULL, n = 0;
    int64_t stored = 0;
    int fd = argc == 5 ? open(argv[1], O_RDONLY) : -1, r;
    if (fd < 0 || spec_parse("{}", 2, &spec, NULL, &e) < 0)
        return fprintf(stderr, "usage: insert_prebuilt FILE URL DATABASE COLLECTION\n"), 2;
    struct src *s = src_new(fd, SRC_PLAIN, -1, NULL, NULL);
    struct reader *rd = reader_new(s, spec);
    while ((r = reader_next(rd, &rec, &e)) > 0) {
        if (reader_row(rd, &rec, &docs) < 0)
            continue;
        ends = realloc(ends, (n + 1) * sizeof *ends);
        ends[n++] = docs.n;
    }
    mongoc_init();
    struct sink_options o = {.url = argv[2],
                             .database = argv[3],
                             .collection = argv[4],
                             .arg = &stored,
                             .on_refused = on_refused,
                             .on_acknowledged = on_acknowledged};
    int64_t start = clk_now_ms();
    if (r < 0 || sink_open(&o, &sink, &e) < 0)
        return fprintf(stderr, "%s\n", e.msg), 1;
    for (size_t i = 0; i < n && r == 0; i++) {
        unsigned char id[SINK_ID_BYTES] = {0};
        size_t from = i ? ends[i - 1] : 0;
        memcpy(id, &i, sizeof i);
        buf_add(sink_begin(sink, id), docs.p + from, ends[i] - from);
        r = sink_row(sink, 0, 0, 0, "", 0, &e);
    }
    if (r == 0)
        r = sink_flush(sink, &e);
    printf("{\"rows\":%lld,\"s\":%.3f}\n", (long long)stored, (double)(clk_now_ms() - start) / 1000);
    if (r < 0)
        fprintf(stderr, "%s\n", e.msg);
    sink_close(sink);
    reader_free(rd);
    src_free(s);
    spec_free(spec);
    free(ends);
    buf_fini(&docs);
    close(fd);
    mongoc_cleanup();
    return r < 0;
}
