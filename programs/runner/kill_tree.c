#include "kill_tree.h"

#include "base/clk.h"
#include "base/log.h"
#include "run/tree.h"

#include <signal.h>

enum {
    INIT_TICKS = 15, /* first the run's own init kills, since CPU time is counted of what it reaps; not for longer, since its cgroup
                        may be out of CPU time */
    GROUP_TICKS = 5, /* cgroup.kill should be enough by then; after that, processes are looked for in /proc as well */
    SLOW_S = 10,     /* after that, the log says that they do not end */
};

static void signal_tree(struct runner *r, int sig)
{
    if (cgroup_has_tree(r->cg))
        cgroup_signal(r->cg, r->spec->claim, sig);
    else
        tree_signal(sig);
}

void kill_tree_kill(struct runner *r)
{
    if (r->state == RUNNER_killing || r->state == RUNNER_ended)
        return;
    run_relay_stop(&r->relay);
    if (!r->main_ended)
        r->forced = true;
    runner_set_state(r, RUNNER_killing);
    r->kill_ticks = 0;
}

void kill_tree_stop(struct runner *r)
{
    if (r->state != RUNNER_running)
        return;
    signal_tree(r, SIGTERM);
    runner_set_state(r, RUNNER_stopping);
    r->grace_end_ms = clk_now_ms() + r->spec->grace_s * 1000;
}

bool kill_tree_tick(struct runner *r)
{
    bool tree = cgroup_has_tree(r->cg);
    if (r->kill_ticks == 0 && r->main_ended && tree_reap(r->pid, &r->main_ended, &r->evidence.status) &&
        cgroup_is_empty(r->cg, r->spec->claim))
        return true; /* as most runs end: nothing was left behind */
    if (r->status >= 0 && r->kill_ticks < INIT_TICKS && !r->main_ended && kill(r->pid, ISOLATE_END_SIGNAL) == 0) {
        r->kill_ticks++;
        tree_reap(r->pid, &r->main_ended, &r->evidence.status);
        return false;
    }
    if (tree)
        cgroup_kill(r->cg, r->spec->claim);
    if (!tree || r->kill_ticks > GROUP_TICKS) {
        tree_signal(SIGSTOP); /* so that a fork bomb cannot outrun the scan */
        tree_signal(SIGKILL);
    }
    if (r->kill_ticks++ == SLOW_S * 1000 / KILL_TREE_TICK_MS)
        log_warn(
            "kill_slow", r->spec->tenant, r->spec->run_id,
            "its processes have not ended %d s after SIGKILL; the run counts as running until the kernel says that they are gone",
            SLOW_S);
    bool no_child = tree_reap(r->pid, &r->main_ended, &r->evidence.status);
    return no_child && cgroup_is_empty(r->cg, r->spec->claim);
}
