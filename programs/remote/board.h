/* Lines of a terminal that show how far several things are. Where stderr is no terminal, the last of them is printed now and then.
 * Nothing is, when it is to be quiet (term/progress.h). */
#ifndef SIMBDP_REMOTE_BOARD_H
#define SIMBDP_REMOTE_BOARD_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct board {
    bool terminal, told; /* told: one line at least, where it is none */
    int64_t began_ms;
    int n_drawn; /* lines that are on the screen */
    int64_t drawn_ms;
};

void board_begin(struct board *b);
bool board_is_due(const struct board *b); /* whether it is time to draw again */
/* Draws `text`, whole lines of which each ends with a newline, over what was drawn. Control characters in it are replaced; lines
 * are cut to the terminal's width. */
void board_draw(struct board *b, const struct buf *text);
void board_clear(struct board *b); /* since something else is to be printed */

#endif
