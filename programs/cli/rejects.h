/* How a row that was not stored, or that was repaired, is shown to people. */
#ifndef SIMBDP_CLI_REJECTS_H
#define SIMBDP_CLI_REJECTS_H

#include <stdbool.h>

/* A line of rejects.jsonl; nothing is printed when it is no JSON. csv: as a line of CSV, whose header comes first. */
void rejects_print(const char *line, bool csv);
void rejects_print_header(void);

#endif
