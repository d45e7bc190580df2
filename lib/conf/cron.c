#include "cron.h"
#include "base/mem.h"

#include <ctype.h>
#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define NEVER INT64_MIN
enum { DAY_S = 86400, SEARCH_DAYS = 28 * 366, COARSE_S = DAY_S };

struct field {
    const char *name;
    int lo, hi;
    const char *const *names; /* for lo, lo + 1, ... */
};

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, N_FIELDS };

struct cron {
    uint64_t allowed[N_FIELDS]; /* bit n: value n */
    bool star[N_FIELDS];        /* the field begins with '*' */
    GTimeZone *zone;
};

static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const days[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const struct field fields[N_FIELDS] = {
    {"minute", 0, 59, NULL},  {"hour", 0, 23, NULL},       {"day of month", 1, 31, NULL},
    {"month", 1, 12, months}, {"day of week", 0, 7, days},
};

/* ---- parsing ---- */

static int parse_value(const struct field *f, const char **at, struct err *e)
{
    const char *p = *at;
    if (isdigit((unsigned char)*p)) {
        char *end;
        long v = strtol(p, &end, 10);
        *at = end;
        if (v < f->lo || v > f->hi)
            return err_set(e, ERR_CONFIG, "%s %ld is not in %d to %d", f->name, v, f->lo, f->hi);
        return (int)v;
    }
    for (int i = 0; f->names && f->names[i]; i++)
        if (!strncasecmp(p, f->names[i], 3) && !isalnum((unsigned char)p[3])) {
            *at = p + 3;
            return f->lo + i;
        }
    return err_set(e, ERR_CONFIG, "%s: \"%.20s\" is no %s", f->name, p, f->names ? "number or three-letter name" : "number");
}

/* One element of a list: *, a, a-b, with /step behind * and a-b. */
static int parse_range(const struct field *f, const char **at, uint64_t *allowed, struct err *e)
{
    int from = f->lo, to = f->hi, step = 1;
    bool range = true;
    if (**at == '*') {
        (*at)++;
    } else {
        from = to = parse_value(f, at, e);
        if (from < 0)
            return from;
        range = **at == '-';
        if (range) {
            (*at)++;
            to = parse_value(f, at, e);
        }
        if (to < 0)
            return to;
        if (f->hi == 7 && to == 0 && from > 0)
            to = 7; /* fri-sun */
        if (to < from)
            return err_set(e, ERR_CONFIG, "%s: the range %d-%d runs backwards", f->name, from, to);
    }
    if (**at == '/') {
        char *end;
        long n = strtol(*at + 1, &end, 10);
        if (!range)
            return err_set(e, ERR_CONFIG, "%s: a step needs a range before it, as in %d-%d/%ld", f->name, from, f->hi, n);
        if (end == *at + 1 || n < 1 || n > f->hi)
            return err_set(e, ERR_CONFIG, "%s: the step must be 1 to %d", f->name, f->hi);
        step = (int)n;
        *at = end;
    }
    for (int v = from; v <= to; v += step)
        *allowed |= UINT64_C(1) << v;
    return 0;
}

static int parse_field(struct cron *c, int which, const char **at, struct err *e)
{
    const struct field *f = &fields[which];
    const char *p = *at + strspn(*at, " \t");
    if (!*p)
        return err_set(e, ERR_CONFIG, "five fields are needed: minute hour day-of-month month day-of-week; the %s is missing",
                       f->name);
    c->star[which] = *p == '*';
    for (;;) {
        int r = parse_range(f, &p, &c->allowed[which], e);
        if (r < 0)
            return r;
        if (*p != ',')
            break;
        p++;
    }
    if (*p && !strchr(" \t", *p))
        return err_set(e, ERR_CONFIG, "%s: \"%.20s\" is not expected there", f->name, p);
    *at = p;
    return 0;
}

static const char *nickname(const char *text, struct err *e)
{
    static const char *const table[][2] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
        {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
    };
    size_t n = strcspn(text, " \t");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i][0]) == n && !strncasecmp(text, table[i][0], n) && !text[n + strspn(text + n, " \t")])
            return table[i][1];
    err_set(e, ERR_CONFIG, "\"%.40s\" is none of @yearly @annually @monthly @weekly @daily @midnight @hourly", text);
    return NULL;
}

static int parse(struct cron *c, const char *text, struct err *e)
{
    const char *p = text + strspn(text, " \t");
    if (*p == '@' && !(p = nickname(p, e)))
        return ERR_CONFIG;
    for (int i = 0; i < N_FIELDS; i++) {
        int r = parse_field(c, i, &p, e);
        if (r < 0)
            return r;
    }
    p += strspn(p, " \t");
    if (*p)
        return err_set(e, ERR_CONFIG, "there is something behind the five fields: \"%.20s\"", p);
    if (c->allowed[WEEKDAY] & (1u << 7))
        c->allowed[WEEKDAY] |= 1;
    return 0;
}

int cron_new(const char *text, const char *zone, struct cron **ret, struct err *e)
{
    struct cron *c = xcalloc(1, sizeof *c);
    int r = parse(c, text, e);
    if (r == 0) {
        c->zone = g_time_zone_new_identifier(zone);
        if (!c->zone)
            r = err_set(e, ERR_CONFIG, "there is no time zone \"%s\" (names are those below /usr/share/zoneinfo)", zone);
    }
    if (r == 0 && cron_next(c, 0) < 0)
        r = err_set(e, ERR_CONFIG, "no day ever matches it");
    if (r < 0) {
        cron_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void cron_free(struct cron *c)
{
    if (!c)
        return;
    if (c->zone)
        g_time_zone_unref(c->zone);
    free(c);
}

/* ---- the calendar without zones: seconds as if wall clocks showed UTC ---- */

static bool has(const struct cron *c, int which, int value)
{
    return c->allowed[which] >> value & 1;
}

static bool day_matches(const struct cron *c, const struct tm *t)
{
    bool day = has(c, DAY, t->tm_mday), weekday = has(c, WEEKDAY, t->tm_wday);
    if (!has(c, MONTH, t->tm_mon + 1))
        return false;
    return c->star[DAY] || c->star[WEEKDAY] ? day && weekday : day || weekday;
}

/* The first matching minute at or after `from`, which west of Greenwich may be before the epoch. NEVER: there is none. */
static int64_t calendar_next(const struct cron *c, int64_t from)
{
    int64_t minute = (from + 59) / 60;
    for (int i = 0; i < SEARCH_DAYS; i++) {
        time_t at = (time_t)(minute * 60);
        struct tm t;
        gmtime_r(&at, &t);
        int64_t day = minute - (minute % 1440 + 1440) % 1440;
        if (day_matches(c, &t))
            for (int m = (int)(minute - day); m < 1440; m++) {
                if (!has(c, HOUR, m / 60))
                    m += 59 - m % 60;
                else if (has(c, MINUTE, m % 60))
                    return (day + m) * 60;
            }
        minute = day + 1440;
    }
    return NEVER;
}

/* ---- the zone ---- */

static int64_t offset_at(const struct cron *c, int64_t at)
{
    int i = g_time_zone_find_interval(c->zone, G_TIME_TYPE_UNIVERSAL, at);
    return g_time_zone_get_offset(c->zone, i);
}

/* The first second in (from, to] whose offset differs from the one at `from`; -1: none. */
static int64_t next_change(const struct cron *c, int64_t from, int64_t to)
{
    int64_t offset = offset_at(c, from), low = from;
    for (int64_t high = from; high < to;) {
        high = high + COARSE_S < to ? high + COARSE_S : to;
        if (offset_at(c, high) == offset) {
            low = high;
            continue;
        }
        while (high - low > 1) {
            int64_t mid = low + (high - low) / 2;
            if (offset_at(c, mid) == offset)
                low = mid;
            else
                high = mid;
        }
        return high;
    }
    return -1;
}

int64_t cron_next(const struct cron *c, int64_t wall_ms)
{
    int64_t at = (wall_ms / 60000 + 1) * 60;
    bool once = !c->star[HOUR];
    for (;;) {
        int64_t offset = offset_at(c, at), from = at + offset;
        int64_t back = once ? next_change(c, at - DAY_S, at) : -1;
        if (back >= 0 && back + offset_at(c, back - 1) > from && offset_at(c, back - 1) > offset)
            from = back + offset_at(c, back - 1); /* times that the clock shows for the second time */
        int64_t found = calendar_next(c, from);
        if (found == NEVER)
            return -1;
        int64_t change = next_change(c, at, found - offset);
        if (change < 0)
            return (found - offset) * 1000;
        if (once && found < change + offset_at(c, change))
            return change * 1000; /* a time that the clock leaves out */
        at = change;
    }
}
