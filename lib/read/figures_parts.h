/* The inside of figures, for figures.c (gathering, showing) and figures_kept.c (keeping, adding up). */
#ifndef SIMBDP_READ_FIGURES_PARTS_H
#define SIMBDP_READ_FIGURES_PARTS_H

#include "bins.h"
#include "figures.h"

/* MAX_RULES: different ones; MAX_RULE: bytes of a name, with its NUL. */
enum { FIGURES_BITS = 12, REGISTERS = 1 << FIGURES_BITS, TEXT_KEPT = 40, MAX_RULES = 24, MAX_RULE = 32 };

struct column {
    char *name;
    int64_t counts[VALUE_N_TYPES], rejects;
    int64_t int_min, int_max; /* of int, long */
    double min, max;          /* of double, decimal */
    int64_t ms_min, ms_max;   /* of date, datetime */
    char text_min[TEXT_KEPT + 1], text_max[TEXT_KEPT + 1];
    size_t n_text_min, n_text_max;
    enum value_type first;
    int64_t changed_at_line;
    struct bins bins;   /* of numbers, and of dates in ms */
    unsigned char bits; /* of a hash that choose a register; fewer once figures were added that have fewer */
    unsigned char registers[REGISTERS];
};

struct rule_counts {
    struct {
        char rule[MAX_RULE];
        int64_t n;
    } rules[MAX_RULES];
    size_t n;
};

struct figures {
    struct column **columns;
    size_t n_columns;
    struct rule_counts rejects, repaired;
    size_t max_name, last; /* last: which column was found last */
    int64_t place;         /* instead of lines; 0: lines */
};

void figures_count_rule(struct rule_counts *c, const char *rule, int64_t n);
int figures_compare(const char *a, size_t n, const char *b, size_t m);
/* Numbers are one kind, whatever their width; dates are one. */
enum value_type figures_kind(enum value_type t);

#endif
