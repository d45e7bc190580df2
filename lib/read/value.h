/* Text to typed values. */
#ifndef SIMBDP_READ_VALUE_H
#define SIMBDP_READ_VALUE_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VALUE_TYPES(X) X(auto) X(string) X(int) X(long) X(double) X(decimal) X(bool) X(date) X(datetime) X(json) X(null)
enum value_type {
#define X(name) VALUE_##name,
    VALUE_TYPES(X)
#undef X
        VALUE_N_TYPES
};
const char *value_type_name(enum value_type t);
int value_type_parse(const char *name); /* or ERR_FORMAT */

struct value {
    enum value_type type;
    const char *p; /* the text it came from */
    size_t n;
    union {
        int64_t i; /* int, long; date and datetime: milliseconds since the epoch */
        double f;
        bool b;
        bson_decimal128_t decimal;
    };
};

/* The text as `want` (not auto, json or null). False: it is none. Blanks around it do not matter, except to a string.
 *   int      32 bits: decimal digits, an optional sign        long      64 bits
 *   double   digits with a point and an exponent, finite      decimal   IEEE 754-2008 decimal128, exact or not at all
 *   bool     true false t f yes no y n 1 0, in any case
 *   date     2024-02-29, 2024/02/29, 20240229, 29.02.2024; midnight UTC
 *   datetime a date, then T or a blank, HH:MM[:SS[.fraction]], then Z, +HH, +HHMM, +HH:MM or nothing (UTC); or seconds (10
 *            digits) or milliseconds (13) since 1970. A fraction finer than milliseconds is cut: BSON holds no more. */
bool value_parse(enum value_type want, const char *p, size_t n, struct value *ret);

/* The narrowest type that gives the text back digit by digit: null when empty, int, long, double, bool (true, false), else
 * string: 007, +49, 1e5 and 2024-01-01 stay what they are. */
void value_infer(const char *p, size_t n, struct value *ret);

/* The value as a number, for rules and figures; false when it is none. */
bool value_number(const struct value *v, double *ret);

#endif
