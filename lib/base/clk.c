#include "clk.h"
#include "err.h"
#include "fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clk_now_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clk_now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clk_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

const char *clk_boot_id(void)
{
    static char id[CLK_BOOT_SIZE];
    AUTO_FD int fd = *id ? -1 : open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, id, CLK_BOOT_SIZE - 1) != CLK_BOOT_SIZE - 1)
        *id = 0;
    return id;
}

char *clk_rfc3339(int64_t wall_ms, char out[CLK_RFC3339_SIZE])
{
    int64_t ms = wall_ms % 1000 < 0 ? wall_ms % 1000 + 1000 : wall_ms % 1000; /* before 1970, too */
    time_t s = (time_t)((wall_ms - ms) / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(out, CLK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, CLK_RFC3339_SIZE - n, ".%03dZ", (int)ms);
    return out;
}

int clk_parse(const char *text, int64_t *ret_wall_ms)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &tm);
    int64_t ms = 0, offset_s = 0;
    if (!rest)
        return ERR_FORMAT;
    if (*rest == 'T' || *rest == 't' || *rest == ' ') {
        rest = strptime(rest + 1, "%H:%M:%S", &tm);
        if (!rest)
            return ERR_FORMAT;
        if (*rest == '.') {
            int64_t scale = 100;
            for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
                ms += (*rest - '0') * scale;
        }
        int h, m, n = 0;
        if (*rest == 'Z' || *rest == 'z')
            rest++;
        else if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d%n", &h, &m, &n) == 2 && n == 5) {
            offset_s = (*rest == '-' ? -1 : 1) * (h * 3600 + m * 60);
            rest += 6;
        }
    }
    if (*rest)
        return ERR_FORMAT;
    *ret_wall_ms = ((int64_t)timegm(&tm) - offset_s) * 1000 + ms;
    return 0;
}

#define END_OF_9999 INT64_C(253402300799999) /* the last that RFC 3339 can say */

/* direction: -1 before now, 1 behind it. */
static int parse_distance(const char *text, int direction, int64_t *ret_wall_ms)
{
    static const char units[] = "smhd";
    static const int64_t ms[] = {1000, 60000, 3600000, 86400000};
    char *end;
    long long n = strtoll(text, &end, 10);
    const char *unit = *end && !end[1] ? strchr(units, *end) : NULL;
    const int64_t now = clk_wall_ms();
    if (end == text || !unit)
        return clk_parse(text, ret_wall_ms);
    if (n < 0)
        return ERR_FORMAT;
    const int64_t most = direction < 0 ? now : END_OF_9999 - now;
    *ret_wall_ms = now + direction * (n > most / ms[unit - units] ? most : n * ms[unit - units]);
    return 0;
}

int clk_parse_since(const char *text, int64_t *ret_wall_ms)
{
    return parse_distance(text, -1, ret_wall_ms);
}

int clk_parse_until(const char *text, int64_t *ret_wall_ms)
{
    return parse_distance(text, 1, ret_wall_ms);
}

int64_t clk_day(int64_t wall_ms)
{
    return wall_ms / 86400000;
}
