/* Cron schedules: which instant comes next. Pure, except for the time zone database, which GLib reads.
 *
 * Syntax: that of Vixie cron's crontab(5). Five fields, `minute hour day-of-month month day-of-week`, each a list of numbers,
 * ranges `a-b`, steps after a range or `*` (`0-30/10`, `*` with `/15`), names of months and days (`jan`, `MON`; ranges of names
 * too), Sunday as 0 or 7; or one of @yearly @annually @monthly @weekly @daily @midnight @hourly. When both day fields are
 * restricted (neither begins with `*`), a day that matches either of them matches.
 *
 * Where clocks change, two kinds of schedule differ. One whose hour field begins with `*` follows the clock on the wall: an hour
 * that is left out has no times, an hour that comes twice has its times twice. Any other schedule names hours that are meant once a
 * day: a time that is left out comes when the clock has just moved on; of a time that comes twice only the first counts. */
#ifndef SIMBDP_CONF_CRON_H
#define SIMBDP_CONF_CRON_H

#include "base/err.h"

#include <stdint.h>

struct cron;

/* Parses a schedule. zone: a name of the time zone database ("Europe/Vienna", "UTC"). ERR_CONFIG: the text is no schedule, never
 * matches, or there is no such zone; the message says which part. */
int cron_new(const char *text, const char *zone, struct cron **ret, struct err *e);
void cron_free(struct cron *c); /* accepts NULL */

/* The first instant of the schedule after wall_ms (milliseconds since the epoch); -1: there is none within 28 years. */
int64_t cron_next(const struct cron *c, int64_t wall_ms);

#endif
