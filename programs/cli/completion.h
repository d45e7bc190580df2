/* Completion of mysimbdp's command lines: what the scripts of `mysimbdp completion` ask. */
#ifndef SIMBDP_CLI_COMPLETION_H
#define SIMBDP_CLI_COMPLETION_H

#include "term/complete.h"

#include <stdbool.h>

/* Whether it is `mysimbdp completion words -- WORD...`, which only these scripts call. */
bool completion_is_asked(int argc, char *const *argv);
/* Answers it, as term/complete.h has it; or executes simbdp-remote with the same question, where a gateway would be asked. It asks
 * no program of the platform and waits for nobody's lock; after two seconds it ends, whatever it reads from. Returns the exit code.
 */
int completion_answer(const struct complete_verb *verbs, size_t n_verbs, int argc, char **argv);

#endif
