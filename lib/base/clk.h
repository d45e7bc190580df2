/* Clocks: monotonic for intervals, calendar for records. */
#ifndef SIMBDP_BASE_CLK_H
#define SIMBDP_BASE_CLK_H

#include <stddef.h>
#include <stdint.h>

int64_t clk_now_ms(void); /* monotonic, since boot */
int64_t clk_now_us(void);
int64_t clk_wall_ms(void); /* since the epoch, UTC */

#define CLK_RFC3339_SIZE 32
/* Writes "2026-01-31T12:00:00.123Z"; returns `out`. */
char *clk_rfc3339(int64_t wall_ms, char out[CLK_RFC3339_SIZE]);

/* Parses a date or a date and time of RFC 3339; 0 or ERR_FORMAT. */
int clk_parse(const char *text, int64_t *ret_wall_ms);
/* The same, or how long ago: "90s", "15m", "2h", "7d"; what would be before the epoch is the epoch. */
int clk_parse_since(const char *text, int64_t *ret_wall_ms);
/* Likewise of what is to come, until the year 9999: "7d" from now. */
int clk_parse_until(const char *text, int64_t *ret_wall_ms);

enum { CLK_BOOT_SIZE = 37 };
/* The id that the kernel gave itself when it started; "" where it says none. Read once: a program that gives up its view of /proc
 * calls it before. Not by several threads at once the first time. */
const char *clk_boot_id(void);

/* The number of the UTC day that wall_ms lies in, counted from the epoch. */
int64_t clk_day(int64_t wall_ms);

#endif
