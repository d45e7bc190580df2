/* Explains what libconfig only calls "syntax error", with the line of the cause, which often is the one before. */
#ifndef SIMBDP_CONF_SYNTAX_H
#define SIMBDP_CONF_SYNTAX_H

#include <stddef.h>

enum { SYNTAX_HINT_SIZE = 200 };

/* Finds the first mistake in `text`: returns its line, with an explanation in `out`. 0: none was found. */
int syntax_explain(const char *text, char out[SYNTAX_HINT_SIZE]);

/* A number, or what begins like one, as it stands in the text without its sign. */
struct syntax_literal {
    int line;
    char key[64]; /* the name that it is the value of; "": none */
    const char *p;
    size_t n;
};
/* Calls the function for each number until it returns a negative value, which is returned. */
int syntax_each_literal(const char *text, int (*found)(void *arg, const struct syntax_literal *l), void *arg);

/* What to write for `value` (such as "10M" or "2h"; n bytes) of a key whose name ends with its unit (_bytes, _s, _ms, _days). NULL:
 * it is no number, or of another unit. */
const char *syntax_number(const char *key, const char *value, size_t n, char out[32]);

#endif
