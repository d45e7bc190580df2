/* A line of a terminal that shows how far something is. Nothing is drawn when stderr is no terminal. */
#ifndef SIMBDP_TERM_PROGRESS_H
#define SIMBDP_TERM_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *name; /* what is named in front */
    char phase[160];
    int64_t phase_ms, drawn_ms, first; /* when the phase began, the last drawing, what was done when it began */
    bool terminal, drawn;
};

void progress_begin(struct progress *p, const char *name);
/* Shows `done` of `total` (negative: not known) in this phase. unit: "B" for bytes, shown as MB, else a word in the plural; NULL:
 * only the time is shown. */
void progress_show(struct progress *p, const char *phase, int64_t done, int64_t total, const char *unit);
/* Clears the line, since something else is to be printed. */
void progress_clear(struct progress *p);

/* The line's text without the name: `elapsed_ms` into a phase that got from `first` to `done`. The caller frees. */
char *progress_text(const char *phase, int64_t done, int64_t first, int64_t total, const char *unit, int64_t elapsed_ms);

#endif
