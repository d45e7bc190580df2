/* A line of a terminal that shows how far something is. Where stderr is no terminal, a phase that lasts is told once, on a line of
 * its own. */
#ifndef SIMBDP_TERM_PROGRESS_H
#define SIMBDP_TERM_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_LASTS_MS = 2000 /* what takes no longer is not told in logs */ };

struct progress {
    const char *name; /* what is named in front */
    char phase[160];
    int64_t phase_ms, drawn_ms, first; /* when the phase began, the last drawing, what was done when it began */
    bool terminal, drawn, told;        /* told: that this phase lasts */
};

/* From here on nothing is drawn or told: somebody wants it quiet, or reads what is printed by a program. */
void progress_set_quiet(bool quiet);
bool progress_is_quiet(void);

void progress_begin(struct progress *p, const char *name);
/* Shows `done` of `total` (0 or less: not known) in this phase. unit: "B" for bytes, shown as MB, else a word in the plural; NULL:
 * only the time is shown. The line is as wide as the terminal at most, and is cleared when a signal ends the process. */
void progress_show(struct progress *p, const char *phase, int64_t done, int64_t total, const char *unit);
/* Clears the line, since something else is to be printed. */
void progress_clear(struct progress *p);

/* The line's text without the name: `elapsed_ms` into a phase that got from `first` to `done`. The caller frees. */
char *progress_text(const char *phase, int64_t done, int64_t first, int64_t total, const char *unit, int64_t elapsed_ms);

#endif
