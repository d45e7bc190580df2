#include "kinds.h"

#include <assert.h>
#include <stdio.h> /* `stdout` is a macro there; it has to be named as it is in kinds.h */
#include <string.h>

#define X(name) #name,
static const char *const step_names[] = {RUN_STEPS(X)};
static const char *const output_names[] = {RUN_OUTPUTS(X)};
static const char *const outcome_names[] = {RUN_OUTCOMES(X)};
static const char *const limit_names[] = {NULL, RUN_LIMITS(X)};
static const char *const cause_names[] = {NULL, RUN_CAUSES(X)};
#undef X

/* The number of `text` among the names, or ERR_FORMAT. */
static int find(const char *const *names, int n, const char *text)
{
    for (int i = 0; text && i < n; i++)
        if (names[i] && !strcmp(names[i], text))
            return i;
    return ERR_FORMAT;
}

const char *run_step_name(enum run_step s)
{
    assert(s < RUN_N_STEPS);
    return step_names[s];
}

int run_step_of(const char *text, enum run_step *ret)
{
    int i = find(step_names, RUN_N_STEPS, text);
    if (i < 0)
        return i;
    *ret = (enum run_step)i;
    return 0;
}

const char *run_output_name(enum run_output o)
{
    assert(o < RUN_N_OUTPUTS);
    return output_names[o];
}

int run_output_of(const char *text, enum run_output *ret)
{
    int i = find(output_names, RUN_N_OUTPUTS, text);
    if (i < 0)
        return i;
    *ret = (enum run_output)i;
    return 0;
}

const char *run_outcome_name(enum run_outcome o)
{
    assert(o < RUN_N_OUTCOMES);
    return outcome_names[o];
}

int run_outcome_of(const char *text, enum run_outcome *ret)
{
    int i = find(outcome_names, RUN_N_OUTCOMES, text);
    if (i < 0)
        return i;
    *ret = (enum run_outcome)i;
    return 0;
}

const char *run_limit_name(enum run_limit l)
{
    assert(l < RUN_N_LIMITS);
    return limit_names[l];
}

int run_limit_of(const char *text, enum run_limit *ret)
{
    int i = text ? find(limit_names, RUN_N_LIMITS, text) : RUN_LIMIT_none;
    if (i < 0)
        return i;
    *ret = (enum run_limit)i;
    return 0;
}

const char *run_cause_name(enum run_cause c)
{
    assert(c < RUN_N_CAUSES);
    return cause_names[c];
}

int run_cause_of(const char *text, enum run_cause *ret)
{
    int i = text ? find(cause_names, RUN_N_CAUSES, text) : RUN_CAUSE_none;
    if (i < 0)
        return i;
    *ret = (enum run_cause)i;
    return 0;
}
