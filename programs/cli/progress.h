/* One line of a terminal that says how far something is. Nothing is drawn where stderr is no terminal. */
#ifndef SIMBDP_CLI_PROGRESS_H
#define SIMBDP_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *name; /* of what it is about */
    char phase[160];
    int64_t phase_ms, drawn_ms, first; /* when the phase began, when it was drawn, and what was done when it began */
    bool terminal, drawn;
};

void progress_begin(struct progress *p, const char *name);
/* `done` of `total` (negative: not known) in this phase. unit: "B" for bytes, shown as MB, else a word in the plural; NULL: the
 * time is all that is shown. */
void progress_show(struct progress *p, const char *phase, int64_t done, int64_t total, const char *unit);
/* The line is empty again: something else is to be printed. */
void progress_clear(struct progress *p);

/* Its text without the name, for `elapsed_ms` of a phase in which it got from `first` to `done`. Caller frees. */
char *progress_text(const char *phase, int64_t done, int64_t first, int64_t total, const char *unit, int64_t elapsed_ms);

#endif
