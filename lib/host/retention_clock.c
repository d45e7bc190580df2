#include "retention_clock.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"

#include <time.h>

enum { KEEP_EVERY_MS = 60000, MAX_FILE_BYTES = 4096 };

int64_t retention_clock_step(struct retention_clock *a, int64_t boot_ms, int64_t wall_ms)
{
    if (!a->at_ms)
        a->at_ms = wall_ms;
    else if (boot_ms > a->boot_ms && a->boot_ms)
        a->at_ms += boot_ms - a->boot_ms;
    a->boot_ms = boot_ms;
    int64_t ahead = wall_ms - a->at_ms;
    if (ahead > RETENTION_CLOCK_LEAP_MS && !a->ahead_ms)
        a->held_boot_ms = boot_ms;
    if (ahead > RETENTION_CLOCK_LEAP_MS && boot_ms - a->held_boot_ms < RETENTION_CLOCK_SETTLED_MS) {
        a->ahead_ms = ahead;
        return a->at_ms;
    }
    a->ahead_ms = 0;
    if (ahead > 0)
        a->at_ms = wall_ms;
    return wall_ms;
}

static int64_t since_boot_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void keep(struct retention_clock *a)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    json_begin(&b, NULL, '{');
    json_time(&b, "time", a->at_ms);
    json_end(&b, '}');
    a->kept_ms = a->at_ms;
    if (fd_write_file(a->dirfd, a->file, b.p, b.n, 0600, &e) < 0)
        log_warn("clock", NULL, NULL, "%s", e.msg);
}

void retention_clock_init(struct retention_clock *a, int dirfd, const char *file)
{
    AUTO_BUF struct buf text = {0};
    *a = (struct retention_clock){.dirfd = dirfd, .file = file};
    if (fd_read_file(dirfd, file, &text, MAX_FILE_BYTES, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(text.p, text.n, NULL);
    if (doc && clk_parse(json_get_str(doc, "time", ""), &a->at_ms) == 0)
        a->kept_ms = a->at_ms;
}

int64_t retention_clock_now(struct retention_clock *a)
{
    char then[CLK_RFC3339_SIZE];
    int64_t before = a->ahead_ms, now = retention_clock_step(a, since_boot_ms(), clk_wall_ms());
    if (a->ahead_ms && !before)
        log_warn(
            "clock_leap", NULL, NULL,
            "the clock is %lld s ahead of the time that has passed here (%s): nothing is removed for its age by it before it has "
            "stayed so for %d hours; `mysimbdp clock trust` if it is right",
            (long long)(a->ahead_ms / 1000), clk_rfc3339(now, then), RETENTION_CLOCK_SETTLED_MS / 3600000);
    else if (before && !a->ahead_ms)
        log_info("clock_settled", NULL, NULL, "retention goes by the clock again");
    if (a->at_ms - a->kept_ms >= KEEP_EVERY_MS || a->at_ms < a->kept_ms)
        keep(a);
    return now;
}

void retention_clock_trust(struct retention_clock *a)
{
    a->at_ms = clk_wall_ms();
    a->boot_ms = since_boot_ms();
    retention_clock_now(a);
    keep(a);
}
