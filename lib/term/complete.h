/* Completion of a command line that is being typed, from the usage texts that --help prints, so that both say the same. Their form
 * is that of `mysimbdp help`: alternatives behind " | ", options in [ ] or not, values behind their option, words that are typed as
 * they stand in lower case, others (TENANT, FILE_ID) in upper case, "..." behind what may come again. */
#ifndef SIMBDP_TERM_COMPLETE_H
#define SIMBDP_TERM_COMPLETE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* A verb as its program's table has it. */
struct complete_verb {
    const char *name, *args, *help; /* of the help its first line is shown */
    const char *common;             /* options that it takes although `args` has them not, in the same form */
};

enum { COMPLETE_MAX_WORDS = 64 };

/* What is wanted next: a value in upper case. */
struct complete_place {
    const char *verb;
    const char *option;                    /* whose value it is: "--app"; NULL: none's */
    const char *kind;                      /* as the usage text calls it: "TENANT/APP" */
    const char *word;                      /* what is typed of it; may be empty */
    const char *words[COMPLETE_MAX_WORDS]; /* what was typed behind the verb, without options */
    size_t n_words;
    struct {
        const char *name, *value; /* value NULL: it has none */
    } options[COMPLETE_MAX_WORDS];
    size_t n_options;
};
/* The value of an option that was typed; NULL: it was not. */
const char *complete_option(const struct complete_place *p, const char *name);

/* What is offered, a line each: a word, a tab and what it is (may be empty). The line ":files" means: names of files, too. */
struct complete_offer {
    struct buf lines;
    const char *word; /* only what begins with this is offered */
    int n;
};
/* Offers a word that a shell takes as it is: letters, digits and _./:@%+- ; others are left out. what: NULL, or any text, of which
 * the first line is told. */
void complete_add(struct complete_offer *o, const char *word, const char *what);
void complete_files(struct complete_offer *o);

/* What may stand at a place; calls complete_add. */
typedef void (*complete_values)(void *arg, const struct complete_place *p, struct complete_offer *o);

/* Offers what may follow: words[0..n) are what was typed behind the program's name, the last one as far as it was (maybe "").
 * before: options that may stand before the verb, as `common`. A line of more words than COMPLETE_MAX_WORDS gets no offer. */
void complete_line(const struct complete_verb *verbs, size_t n_verbs, const char *before, char *const *words, size_t n,
                   complete_values values, void *arg, struct complete_offer *o);

#endif
