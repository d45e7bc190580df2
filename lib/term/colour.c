#include "colour.h"

#include "base/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *word;
    enum colour colour;
} words[] = {
    {"ingested", COLOUR_good},  {"ok", COLOUR_good},        {"OK", COLOUR_good},         {"running", COLOUR_busy},
    {"starting", COLOUR_busy},  {"draining", COLOUR_busy},  {"waiting", COLOUR_wait},    {"temp_fail", COLOUR_wait},
    {"WARN", COLOUR_wait},      {"suspended", COLOUR_wait}, {"rejected", COLOUR_bad},    {"quarantined", COLOUR_bad},
    {"data_error", COLOUR_bad}, {"failed", COLOUR_bad},     {"timeout", COLOUR_bad},     {"oom", COLOUR_bad},
    {"killed", COLOUR_bad},     {"limit", COLOUR_bad},      {"exec_error", COLOUR_bad},  {"lost", COLOUR_bad},
    {"parked", COLOUR_bad},     {"STALLED", COLOUR_bad},    {"duplicate", COLOUR_faint}, {"vanished", COLOUR_faint},
    {"stopped", COLOUR_faint},  {"STOPPED", COLOUR_faint},
};

enum colour colour_of_state(const char *word)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i].word, word))
            return words[i].colour;
    return COLOUR_none;
}

bool colour_is_wanted(void)
{
    const char *no = getenv("NO_COLOR");
    return !no || !*no;
}

bool colour_is_on(void)
{
    const char *term = getenv("TERM");
    return colour_is_wanted() && term && *term && strcmp(term, "dumb") != 0 && isatty(STDOUT_FILENO);
}

/* ECMA-48, Select Graphic Rendition; the terminal's own palette, so that light and dark ones both can be read. */
static void begin(enum colour colour)
{
    static const char *const sgr[] = {[COLOUR_none] = "\033[0m",  [COLOUR_good] = "\033[32m", [COLOUR_busy] = "\033[36m",
                                      [COLOUR_wait] = "\033[33m", [COLOUR_bad] = "\033[31m",  [COLOUR_faint] = "\033[2m"};
    fflush(stdout);
    fd_write_all(STDOUT_FILENO, sgr[colour], strlen(sgr[colour]));
}

void colour_print(const char *text, size_t n, size_t from, size_t to, enum colour colour)
{
    to = to < n ? to : n;
    if (colour == COLOUR_none || from >= to || !colour_is_on()) {
        fwrite(text, 1, n, stdout);
        return;
    }
    fwrite(text, 1, from, stdout);
    begin(colour);
    fwrite(text + from, 1, to - from, stdout);
    begin(COLOUR_none);
    fwrite(text + to, 1, n - to, stdout);
}
