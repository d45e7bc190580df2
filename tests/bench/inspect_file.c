/* What the inspector does with a file, without its process around it.
 *   inspect_file FILE structure|full [hash]     prints {"rows":N,"bytes":N,"s":SECONDS} */
#include "base/clk.h"
#include "read/reader.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void hash_raw(void *arg, const void *p, size_t n)
{
    crypto_generichash_update(arg, p, n);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct spec *spec;
    struct record rec;
    struct buf row = {0};
    crypto_generichash_state hash;
    unsigned char digest[32];
    int fd = argc >= 3 ? open(argv[1], O_RDONLY) : -1, n;
    bool full = argc >= 3 && !strcmp(argv[2], "full"), hashing = argc == 4;
    if (fd < 0 || spec_parse("{}", 2, &spec, NULL, &e) < 0)
        return fprintf(stderr, "usage: inspect_file FILE structure|full [hash]\n"), 2;
    int64_t start = clk_now_ms(), rows = 0, longest = 0, rejects = 0;
    crypto_generichash_init(&hash, NULL, 0, sizeof digest);
    struct src *s = src_new(fd, SRC_PLAIN, -1, hashing ? hash_raw : NULL, &hash);
    struct reader *r = reader_new(s, spec);
    struct figures *f = figures_new();
    if (full)
        reader_set_figures(r, f);
    while ((n = reader_next(r, &rec, &e)) > 0) {
        rows++;
        row.n = 0;
        if (full)
            reader_row(r, &rec, &row);
        rejects += rec.reject != NULL;
        longest = (int64_t)rec.n > longest ? (int64_t)rec.n : longest;
    }
    crypto_generichash_final(&hash, digest, sizeof digest);
    printf("{\"rows\":%lld,\"rejects\":%lld,\"longest\":%lld,\"bytes\":%lld,\"s\":%.3f}\n", (long long)rows, (long long)rejects,
           (long long)longest, (long long)reader_offset(r), (double)(clk_now_ms() - start) / 1000);
    figures_free(f);
    reader_free(r);
    src_free(s);
    spec_free(spec);
    buf_fini(&row);
    return n < 0;
}
