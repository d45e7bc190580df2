/* How a verb prints rows: --output table|wide|json|csv, and --json for short. */
#ifndef SIMBDP_TERM_OUTPUT_H
#define SIMBDP_TERM_OUTPUT_H

#include <stdbool.h>

/* Takes both options out of the command line, and sets the style of tables and whether lines are folded (text.h). lists: the verb
 * prints rows, so that it may be CSV. NULL; or what is wrong with them, until the next call. */
const char *output_take(int *argc, char **argv, bool lists, bool *ret_json, bool *ret_csv);

#endif
