/* Colours of states, on terminals alone: a help for the eye, never the only sign. They are written past text_guard, which lets no
 * escape sequence through, so that none but ours comes to the terminal. https://no-color.org/ */
#ifndef SIMBDP_TERM_COLOUR_H
#define SIMBDP_TERM_COLOUR_H

#include <stdbool.h>
#include <stddef.h>

enum colour { COLOUR_none, COLOUR_good, COLOUR_busy, COLOUR_wait, COLOUR_bad, COLOUR_faint };

/* Of a word that a state or an outcome can be; COLOUR_none for any other. */
enum colour colour_of_state(const char *word);
/* Whether stdout is coloured: it is a terminal that is not dumb, and NO_COLOR is not set or empty. */
bool colour_is_on(void);
/* The same of a terminal that a program draws on by itself. */
bool colour_is_wanted(void);
/* Prints text[0..n), a part of it from..to in that colour if stdout is coloured. */
void colour_print(const char *text, size_t n, size_t from, size_t to, enum colour colour);

#endif
