/* Runs a fuzz target without libFuzzer: every file of the corpus as it is, then a bounded number of mutations of them
 * with a fixed seed, so that an ordinary test run repeats exactly. `scripts/fuzz` builds the same targets with libFuzzer.
 *   fuzz_x CORPUS_DIR [MUTATIONS] */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_FILES = 1000, MAX_SIZE = 1 << 16 };

static struct {
    uint8_t *p;
    size_t n;
} corpus[MAX_FILES];
static size_t n_corpus;

static void load(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *ent; d && (ent = readdir(d)) && n_corpus < MAX_FILES;) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, ent->d_name);
        FILE *f = ent->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        corpus[n_corpus].p = malloc(MAX_SIZE);
        corpus[n_corpus].n = fread(corpus[n_corpus].p, 1, MAX_SIZE, f);
        n_corpus++;
        fclose(f);
    }
    if (d)
        closedir(d);
}

static size_t mutate(uint8_t *p, size_t n, unsigned *seed)
{
    static const char *const pieces[] = {"\"",   "{",    "}",    "[", "]", ",", "\n", "\r", "\\", "-",    "9999999999999999999",
                                         "\xff", "\xc3", "null", "(", ")", ";", "=",  "#",  "/*", "\"\"", "e1",
                                         "."};
    for (int k = rand_r(seed) % 4; k >= 0; k--) {
        size_t at = n ? (size_t)rand_r(seed) % n : 0, len = n - at ? (size_t)rand_r(seed) % (n - at) % 64 : 0;
        const char *piece = pieces[(size_t)rand_r(seed) % (sizeof pieces / sizeof *pieces)];
        switch (rand_r(seed) % 4) {
        case 0:
            if (n)
                p[at] = (uint8_t)rand_r(seed);
            break;
        case 1:
            memmove(p + at, p + at + len, n - at - len);
            n -= len;
            break;
        case 2:
            if (n + len <= MAX_SIZE) {
                memmove(p + at + len, p + at, n - at);
                n += len;
            }
            break;
        default:
            len = strlen(piece);
            if (n + len <= MAX_SIZE) {
                memmove(p + at + len, p + at, n - at);
                memcpy(p + at, piece, len);
                n += len;
            }
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    long n = argc > 2 ? atol(argv[2]) : 20000;
    unsigned seed = 1;
    if (argc < 2)
        return 2;
    load(argv[1]);
    if (!n_corpus)
        return 1;
    for (size_t i = 0; i < n_corpus; i++)
        LLVMFuzzerTestOneInput(corpus[i].p, corpus[i].n);
    uint8_t *work = malloc(MAX_SIZE);
    for (long i = 0; i < n; i++) {
        size_t pick = (size_t)rand_r(&seed) % n_corpus;
        memcpy(work, corpus[pick].p, corpus[pick].n);
        size_t size = mutate(work, corpus[pick].n, &seed);
        uint8_t *exact = malloc(size ? size : 1); /* so that reading past the end is seen */
        memcpy(exact, work, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    free(work);
    printf("%zu files, %ld mutations\n", n_corpus, n);
    for (size_t i = 0; i < n_corpus; i++)
        free(corpus[i].p);
    return 0;
}
