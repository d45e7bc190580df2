/* Where the objects of a JSON file lie: the elements of one array, or objects behind one another, on a line each or over several
 * (https://jsonlines.org, RFC 8259 for the text). What is in an object is its reader's to judge.
 *
 * An array is one text: where it is broken (a comma, a bracket, its end, something behind it) the file is refused as a whole. Of
 * objects behind one another a damaged line costs that line, as long as lines tell where the next object begins; where they do not,
 * and where the file ends within an object, it is refused, too. */
#ifndef SIMBDP_READ_JSON_SPLIT_H
#define SIMBDP_READ_JSON_SPLIT_H

#include "window.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_scan { /* of one value, as far as it was looked at */
    char first;
    size_t i;
    uint64_t arrays; /* bit d: what is open at depth d + 1 is an array */
    int depth;
    bool string, escaped, whole;
    char last;       /* of what is no blank and not within a string */
    size_t first_lf; /* behind the first line end within it; 0: there is none */
    bool next_line;  /* nothing but blanks since first_lf */
    size_t members;  /* top-level ones */
};

struct json_split { /* all zero at first */
    bool started, array, closed;
    bool spans_lines;                                                /* objects over several lines were seen */
    enum { JSON_FIRST, JSON_BEHIND_VALUE, JSON_BEHIND_COMMA } place; /* in the array */
    bool scanning, discards, by_line;                                /* by_line: the record ends where its line does */
    const char *damage;
    size_t spot;
    struct json_scan scan;
};

struct json_row {
    size_t n, next; /* bytes of it, and to what follows */
    size_t members;
    const char *damage; /* static; NULL: none that is seen from here */
    size_t spot;
    bool skipped; /* the rest of what was discarded */
};

enum { JSON_END, JSON_ROW, JSON_MORE };

/* JSON_ROW: the next record begins at the window's start, which the caller advances; JSON_MORE: more must be read; ERR_FORMAT the
 * file is refused. Passes over what is between records. */
int json_split(struct json_split *j, struct window *w, struct json_row *ret, struct err *e);

/* What the window has of the record is too much to hold: passes over it; its end comes as a row that is skipped. */
void json_discard(struct json_split *j, struct window *w);

#endif
