/* How records become documents: for the columns of one file, what each cell is to be, and where in the document it goes. */
#ifndef SIMBDP_READ_PLAN_H
#define SIMBDP_READ_PLAN_H

#include "reader.h"

struct plan;

/* For a CSV file with these columns. ERR_CONFIG when the spec contradicts them. */
int plan_new_csv(const struct spec *s, const struct dialect *d, char *const *columns, size_t n, struct plan **ret, struct err *e);
/* For a JSON file. */
struct plan *plan_new_json(const struct spec *s);
void plan_free(struct plan *p); /* accepts NULL */
AUTO_DEFINE(plan, plan_free)
#define AUTO_PLAN __attribute__((cleanup(plan_free_auto)))

/* The figures may be those of other files, or messages, with other columns. */
void plan_set_figures(struct plan *p, struct figures *f);
/* Where the figures have column `column` (1-based, as a record has it); -1: nowhere. p may be NULL. */
int plan_slot(const struct plan *p, int column);

/* Both as reader_row; the text of a refusal lies in the plan. */
int plan_row(struct plan *p, struct record *rec, const struct cell *cells, size_t n_cells, struct buf *out);
int plan_json(struct plan *p, struct record *rec, struct buf *out);

#endif
