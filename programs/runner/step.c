#include "step.h"

#include "base/log.h"

#include <assert.h>

void runner_set_state(struct runner *r, enum runner_state next)
{
    static const char *const names[] = {
#define X(name) #name,
        RUNNER_STATES(X)
#undef X
    };
    /* bit n of a row: the move to state n is one the state machine has */
#define TO(name) (1u << RUNNER_##name)
    static const unsigned allowed[RUNNER_N_STATES] = {
        [RUNNER_starting] = TO(running) | TO(killing),
        [RUNNER_running] = TO(stopping) | TO(killing),
        [RUNNER_stopping] = TO(killing),
        [RUNNER_killing] = TO(ended),
    };
#undef TO
    assert(allowed[r->state] & (1u << next));
    log_debug("state", r->spec->tenant, r->spec->run_id, "runner: %s -> %s", names[r->state], names[next]);
    r->state = next;
}
