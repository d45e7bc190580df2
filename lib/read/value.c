#include "value.h"
#include "base/err.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NUMBER_MAX = 400, EXACT_DIGITS = 15, FAST_EXPONENT = 22 };

static const char *const names[] = {
#define X(name) #name,
    VALUE_TYPES(X)
#undef X
};

const char *value_type_name(enum value_type t)
{
    return names[t];
}

int value_type_parse(const char *name)
{
    for (int i = 0; i < VALUE_N_TYPES; i++)
        if (!strcmp(names[i], name))
            return i;
    return ERR_FORMAT;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* The library lives in programs that may have set a locale with another decimal point. */
static double to_double(const char *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char text[NUMBER_MAX + 1];
    pthread_once(&once, make_locale);
    memcpy(text, p, n);
    text[n] = 0;
    return strtod_l(text, NULL, c_locale);
}

static const double powers[FAST_EXPONENT + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* [sign] digits [. digits] [e [sign] digits], correctly rounded. A mantissa of at most 15 digits and a small power of ten
 * are both exact doubles, and one operation on exact operands rounds once (Clinger, How to Read Floating Point Numbers
 * Accurately, 1990); the rest is strtod's. */
static bool parse_double(const char *p, size_t n, double *ret)
{
    size_t i = n && (p[0] == '-' || p[0] == '+'), digits = 0, decimals = 0;
    uint64_t mantissa = 0;
    int exponent = 0;
    if (n > NUMBER_MAX)
        return false;
    for (; i < n && is_digit(p[i]); i++, digits++)
        mantissa = mantissa * 10 + (uint64_t)(p[i] - '0');
    if (i < n && p[i] == '.')
        for (i++; i < n && is_digit(p[i]); i++, digits++, decimals++)
            mantissa = mantissa * 10 + (uint64_t)(p[i] - '0');
    if (!digits)
        return false;
    if (i < n && (p[i] == 'e' || p[i] == 'E')) {
        size_t first;
        bool minus = ++i < n && p[i] == '-';
        i += i < n && (p[i] == '-' || p[i] == '+');
        for (first = i; i < n && is_digit(p[i]); i++)
            exponent = exponent > 100000 ? exponent : exponent * 10 + (p[i] - '0');
        if (i == first)
            return false;
        exponent = minus ? -exponent : exponent;
    }
    if (i != n)
        return false;
    exponent -= (int)decimals;
    if (digits > EXACT_DIGITS || exponent < -FAST_EXPONENT || exponent > FAST_EXPONENT) {
        *ret = to_double(p, n);
        return isfinite(*ret);
    }
    double d = (double)mantissa;
    d = exponent < 0 ? d / powers[-exponent] : d * powers[exponent];
    *ret = p[0] == '-' ? -d : d;
    return true;
}

static bool parse_integer(const char *p, size_t n, int64_t *ret)
{
    bool minus = n && p[0] == '-';
    size_t i = n && (p[0] == '-' || p[0] == '+');
    uint64_t v = 0;
    if (i == n)
        return false;
    for (; i < n; i++) {
        if (!is_digit(p[i]) || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(p[i] - '0'), &v))
            return false;
    }
    if (v > (uint64_t)INT64_MAX + minus)
        return false;
    *ret = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static bool digits_at(const char *p, size_t n, size_t at, size_t count, int *ret)
{
    int v = 0;
    if (at + count > n)
        return false;
    for (size_t i = at; i < at + count; i++) {
        if (!is_digit(p[i]))
            return false;
        v = v * 10 + (p[i] - '0');
    }
    *ret = v;
    return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar (Howard Hinnant, chrono-Compatible Low-Level Date Algorithms). */
static int64_t days_from_civil(int y, int m, int d)
{
    y -= m <= 2;
    int era = y / 400, yoe = y - era * 400;
    int doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return (int64_t)era * 146097 + doe - 719468;
}

/* A date at the start of the text; its length in *ret_n. */
static bool parse_date(const char *p, size_t n, int64_t *ret_days, size_t *ret_n)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;
    if (n >= 10 && (p[4] == '-' || p[4] == '/') && p[7] == p[4]) {
        if (!digits_at(p, n, 0, 4, &y) || !digits_at(p, n, 5, 2, &m) || !digits_at(p, n, 8, 2, &d))
            return false;
        *ret_n = 10;
    } else if (n >= 10 && p[2] == '.' && p[5] == '.') {
        if (!digits_at(p, n, 6, 4, &y) || !digits_at(p, n, 3, 2, &m) || !digits_at(p, n, 0, 2, &d))
            return false;
        *ret_n = 10;
    } else {
        if (!digits_at(p, n, 0, 4, &y) || !digits_at(p, n, 4, 2, &m) || !digits_at(p, n, 6, 2, &d))
            return false;
        *ret_n = 8;
    }
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (y < 1 || m < 1 || m > 12 || d < 1 || d > lengths[m - 1] + (m == 2 && leap))
        return false;
    *ret_days = days_from_civil(y, m, d);
    return true;
}

/* HH:MM[:SS[.fraction]][zone] from p on, to the end. */
static bool parse_clock(const char *p, size_t n, int64_t *ret_ms)
{
    int h, m, s = 0, ms = 0, zh = 0, zm = 0;
    size_t i = 5;
    if (!digits_at(p, n, 0, 2, &h) || n < 5 || p[2] != ':' || !digits_at(p, n, 3, 2, &m) || h > 23 || m > 59)
        return false;
    if (i < n && p[i] == ':') {
        if (!digits_at(p, n, 6, 2, &s) || s > 59)
            return false;
        i = 8;
        if (i < n && (p[i] == '.' || p[i] == ',')) {
            size_t first = ++i;
            for (int unit = 100; i < n && is_digit(p[i]); i++, unit /= 10)
                ms += (p[i] - '0') * unit;
            if (i == first)
                return false;
        }
    }
    if (i < n && p[i] == ' ')
        i++;
    int sign = i < n && p[i] == '-' ? -1 : 1;
    if (i < n && (p[i] == 'Z' || p[i] == 'z')) {
        i++;
    } else if (i < n && (p[i] == '+' || p[i] == '-')) {
        if (!digits_at(p, n, i + 1, 2, &zh) || zh > 15)
            return false;
        i += 3;
        if (i < n && p[i] == ':')
            i++;
        if (i < n) {
            if (!digits_at(p, n, i, 2, &zm) || zm > 59)
                return false;
            i += 2;
        }
    }
    if (i != n)
        return false;
    *ret_ms = ((int64_t)(h * 60 + m) * 60 + s) * 1000 + ms - sign * (int64_t)(zh * 60 + zm) * 60000;
    return true;
}

static bool parse_datetime(const char *p, size_t n, bool clock_allowed, int64_t *ret)
{
    int64_t days, ms = 0, epoch;
    size_t len;
    if (clock_allowed && (n == 10 || n == 13) && parse_integer(p, n, &epoch) && is_digit(p[0])) {
        *ret = n == 10 ? epoch * 1000 : epoch;
        return true;
    }
    if (!parse_date(p, n, &days, &len))
        return false;
    if (len < n) {
        if (!clock_allowed || (p[len] != 'T' && p[len] != 't' && p[len] != ' ') || !parse_clock(p + len + 1, n - len - 1, &ms))
            return false;
    }
    *ret = days * 86400000 + ms;
    return true;
}

static bool parse_bool(const char *p, size_t n, bool *ret)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = {{"true", true}, {"false", false}, {"1", true},   {"0", false}, {"t", true},
                 {"f", false},   {"yes", true},    {"no", false}, {"y", true},  {"n", false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].text) == n && !strncasecmp(words[i].text, p, n)) {
            *ret = words[i].value;
            return true;
        }
    return false;
}

static bool parse_decimal(const char *p, size_t n, bson_decimal128_t *ret)
{
    size_t i = n && (p[0] == '-' || p[0] == '+');
    if (i == n || n > NUMBER_MAX || !(is_digit(p[i]) || p[i] == '.')) /* neither NaN nor Infinity */
        return false;
    return bson_decimal128_from_string_w_len(p, (int)n, ret);
}

bool value_parse(enum value_type want, const char *p, size_t n, struct value *ret)
{
    *ret = (struct value){.type = want, .p = p, .n = n};
    if (want == VALUE_string)
        return true;
    for (; n && is_blank(p[0]); p++)
        n--;
    while (n && is_blank(p[n - 1]))
        n--;
    switch (want) {
    case VALUE_int:
        return parse_integer(p, n, &ret->i) && ret->i >= INT32_MIN && ret->i <= INT32_MAX;
    case VALUE_long:
        return parse_integer(p, n, &ret->i);
    case VALUE_double:
        return parse_double(p, n, &ret->f);
    case VALUE_decimal:
        return parse_decimal(p, n, &ret->decimal);
    case VALUE_bool:
        return parse_bool(p, n, &ret->b);
    case VALUE_date:
    case VALUE_datetime:
        return parse_datetime(p, n, want == VALUE_datetime, &ret->i);
    default:
        return false;
    }
}

/* 15 significant digits survive in a double (DBL_DIG). With more, it is printed and compared. */
static bool prints_back(const char *p, size_t n, double d, size_t decimals)
{
    char back[NUMBER_MAX + 8];
    if (n >= 64)
        return false;
    int len = snprintf(back, sizeof back, "%.*f", (int)decimals, d);
    for (char *c = back; *c; c++)
        if (*c == ',')
            *c = '.'; /* the program's locale */
    return len == (int)n && !memcmp(back, p, n);
}

void value_infer(const char *p, size_t n, struct value *ret)
{
    ret->type = VALUE_string;
    ret->p = p;
    ret->n = n;
    if (!n) {
        ret->type = VALUE_null;
        return;
    }
    size_t i = p[0] == '-', first = i, decimals = 0;
    if (i == n)
        return;
    if (!is_digit(p[i])) {
        if ((n == 4 && !memcmp(p, "true", 4)) || (n == 5 && !memcmp(p, "false", 5))) {
            ret->type = VALUE_bool;
            ret->b = p[0] == 't';
        }
        return;
    }
    uint64_t mantissa = 0;
    for (; i < n && is_digit(p[i]); i++)
        mantissa = mantissa * 10 + (uint64_t)(p[i] - '0');
    size_t digits = i - first;
    if (p[first] == '0' && digits > 1)
        return;
    if (i == n) {
        if (digits > 18 || (first && mantissa == 0))
            return;
        ret->i = first ? -(int64_t)mantissa : (int64_t)mantissa;
        ret->type = ret->i >= INT32_MIN && ret->i <= INT32_MAX ? VALUE_int : VALUE_long;
        return;
    }
    if (p[i] != '.')
        return;
    for (i++; i < n && is_digit(p[i]); i++, decimals++)
        mantissa = mantissa * 10 + (uint64_t)(p[i] - '0');
    if (i != n || !decimals)
        return;
    if (digits + decimals <= EXACT_DIGITS) {
        double d = (double)mantissa / powers[decimals];
        ret->f = first ? -d : d;
        ret->type = VALUE_double;
    } else if (n < 64) {
        double d = to_double(p, n);
        if (prints_back(p, n, d, decimals)) {
            ret->f = d;
            ret->type = VALUE_double;
        }
    }
}

bool value_number(const struct value *v, double *ret)
{
    char text[BSON_DECIMAL128_STRING];
    switch (v->type) {
    case VALUE_int:
    case VALUE_long:
        *ret = (double)v->i;
        return true;
    case VALUE_double:
        *ret = v->f;
        return true;
    case VALUE_decimal:
        bson_decimal128_to_string(&v->decimal, text);
        *ret = to_double(text, strlen(text));
        return true;
    default:
        return false;
    }
}
