/* Preloaded into a program, shifts its calendar by the seconds that the file of SIMBDP_TEST_LEAP holds (8 bytes, which the test
 * writes while the program runs). */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift_s;

__attribute__((constructor)) static void map_shift(void)
{
    const char *path = getenv("SIMBDP_TEST_LEAP");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        shift_s = p;
    if (fd >= 0)
        close(fd);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(id, ts);
    if (r == 0 && id == CLOCK_REALTIME && shift_s)
        ts->tv_sec += *shift_s;
    return r;
}
