/* spawn N PROGRAM FIFO: starts PROGRAM FIFO N times, one after the other, each when the last one was reaped: what starting a
 * process costs and nothing else. Prints JSON: `us`, from before posix_spawn until the program's main, sorted; `per_s`. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    int n = argc == 4 ? atoi(argv[1]) : 0;
    int fifo = n > 0 ? open(argv[3], O_RDWR) : -1;
    if (fifo < 0)
        return fputs("usage: spawn N PROGRAM FIFO\n", stderr), 2;
    double *us = calloc((size_t)n, sizeof *us);
    long long from = now_ns(), began;
    for (int i = 0; us && i < n; i++) {
        char *args[] = {argv[2], argv[3], NULL}, *env[] = {NULL}, line[64];
        pid_t pid;
        began = now_ns();
        if (posix_spawn(&pid, argv[2], NULL, NULL, args, env) || waitpid(pid, NULL, 0) < 0 || read(fifo, line, sizeof line) <= 0)
            return 1;
        us[i] = (double)(strtoll(line, NULL, 10) - began) / 1e3;
    }
    double per_s = n / ((double)(now_ns() - from) / 1e9);
    qsort(us, (size_t)n, sizeof *us, by_value);
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f,\"per_s\":%.1f}\n", us[n / 2], us[n * 99 / 100], per_s);
    free(us);
    return 0;
}
