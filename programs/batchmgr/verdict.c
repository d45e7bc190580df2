#include "verdict.h"

enum { FREE_LOSSES = 3, DATABASE_DELAY_MS = 1000, TEMP_DELAY_MAX_SHIFT = 20 };

/* Doubling from backoff_ms up to max_backoff_ms, of which the upper half is jittered, so that failures of one cause do
 * not return together. */
static int64_t backoff(const struct verdict_input *in, int64_t tries)
{
    int64_t shift = tries < 1 ? 0 : tries - 1 > TEMP_DELAY_MAX_SHIFT ? TEMP_DELAY_MAX_SHIFT : tries - 1;
    int64_t ms = in->backoff_ms << shift;
    if (ms > in->max_backoff_ms)
        ms = in->max_backoff_ms;
    int64_t half = ms / 2;
    return half + (int64_t)((double)(ms - half) * in->jitter);
}

/* How often it was tried is not counted; the time that passed gives the same doubling. */
static int64_t tries_since(const struct verdict_input *in, int64_t first_wall_ms)
{
    int64_t tries = 1, since_ms = in->now_wall_ms - first_wall_ms;
    for (int64_t ms = in->backoff_ms; ms < since_ms && tries < TEMP_DELAY_MAX_SHIFT && ms < in->max_backoff_ms; ms *= 2)
        tries += ms > 0 ? 1 : TEMP_DELAY_MAX_SHIFT;
    return tries;
}

static struct verdict failed(const struct verdict_input *in, struct verdict v, const char *reason)
{
    v.attempts = in->attempts + 1;
    v.first_temp_wall_ms = 0;
    v.reason = reason;
    v.state = v.attempts >= in->max_attempts ? FILE_quarantined : FILE_waiting;
    v.delay_ms = backoff(in, v.attempts);
    return v;
}

struct verdict verdict_of(const struct verdict_input *in)
{
    struct verdict v = {
        .state = FILE_waiting, .attempts = in->attempts, .losses = in->losses, .first_temp_wall_ms = in->first_temp_wall_ms};
    if (in->outcome == RUN_ok && !in->contradicts) {
        v.state = FILE_ingested;
        v.attempts++;
        return v;
    }
    if (in->stop == RUN_STOP_drain) { /* as if it had not run */
        v.state = FILE_queued;
        return v;
    }
    if (in->stop == RUN_STOP_person) {
        v.state = FILE_quarantined;
        v.attempts++;
        v.reason = "stopped";
        return v;
    }
    if (in->outcome == RUN_ok)
        return failed(in, v, "result_contradicts");
    if (in->outcome == RUN_data_error && in->group) { /* one of them is bad; alone each shows whether it is */
        v.reason = "group";
        return v;
    }
    if (in->outcome == RUN_data_error) {
        v.state = FILE_quarantined;
        v.attempts++;
        v.reason = in->reason ? in->reason : "data_error";
        return v;
    }
    if (in->outcome == RUN_exec_error) {
        v.reason = "exec_error";
        v.park = true;
        return v;
    }
    if (in->cause || in->not_started) { /* nobody's fault that is charged; the longer it lasts, the rarer it is tried */
        v.reason = in->cause ? run_cause_name(in->cause) : "not_started";
        if (!v.first_temp_wall_ms)
            v.first_temp_wall_ms = in->now_wall_ms;
        v.delay_ms = backoff(in, tries_since(in, v.first_temp_wall_ms));
        return v;
    }
    if (in->database_down) {
        v.reason = "database_down";
        v.delay_ms = DATABASE_DELAY_MS;
        return v;
    }
    if (in->outcome == RUN_temp_fail) {
        v.reason = "temp_fail";
        if (!v.first_temp_wall_ms)
            v.first_temp_wall_ms = in->now_wall_ms;
        v.delay_ms = backoff(in, tries_since(in, v.first_temp_wall_ms));
        if (in->now_wall_ms - v.first_temp_wall_ms >= in->give_up_s * 1000) {
            v.state = FILE_quarantined;
            v.reason = "give_up_s";
        }
        return v;
    }
    if (in->outcome == RUN_lost && in->losses < FREE_LOSSES) {
        v.losses++;
        v.reason = "lost";
        v.delay_ms = backoff(in, v.losses);
        return v;
    }
    return failed(in, v, run_outcome_name(in->outcome));
}
