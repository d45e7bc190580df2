/* What libconfig calls "syntax error", in words, and at the line of its cause, which is often the one before. */
#ifndef SIMBDP_CONF_SYNTAX_H
#define SIMBDP_CONF_SYNTAX_H

#include <stddef.h>

enum { SYNTAX_HINT_SIZE = 200 };

/* The line of the first mistake in `text`, with what it is in `out`; 0: none was found. */
int syntax_explain(const char *text, char out[SYNTAX_HINT_SIZE]);

/* A number as it stands there, or what begins like one; a sign is left out. */
struct syntax_literal {
    int line;
    char key[64]; /* that it stands behind; "" */
    const char *p;
    size_t n;
};
/* One call each, until one is negative, which is returned. */
int syntax_each_literal(const char *text, int (*found)(void *arg, const struct syntax_literal *l), void *arg);

/* What to write for `value` (as "10M", "2h"; n bytes) of a key whose name ends with its unit (_bytes, _s, _ms, _days); NULL: it is
 * no number, or of another unit. */
const char *syntax_number(const char *key, const char *value, size_t n, char out[32]);

#endif
