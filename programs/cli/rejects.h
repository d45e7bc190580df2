/* How a row that was not stored, or that was repaired, is shown to people. */
#ifndef SIMBDP_CLI_REJECTS_H
#define SIMBDP_CLI_REJECTS_H

/* A line of rejects.jsonl; nothing is printed when it is no JSON. */
void rejects_print(const char *line);

#endif
