/* batchmgr: from a dropped file to a true verdict. The way of a file, a module for each step:
 *
 *   staging, candidates, walk, uploads     names are seen
 *   spool, hand_in                         files that the gateway has
 *   claim                                  the file is the platform's, and nobody can change it any more
 *   inspect                                what it holds
 *   admit                                  constraints, its app, duplicates
 *   release, sched                         when its app's trigger lets it go, and whose turn it is
 *   dispatch, run_plan, runs, run_end      the app's run
 *   verdict                                what that means for the file
 *   filing                                 done/ or quarantine/, and the report
 *
 * Each goes on with the next; what one needs of a module further up, it is given here. */
/* batchmgr: from a dropped file to a true verdict. The loop here wires the modules of this folder together. */
#include "admit.h"
#include "claim.h"
#include "control.h"
#include "cross_device.h"
#include "databases.h"
#include "deletions.h"
#include "dispatch.h"
#include "duplicates.h"
#include "fair_queue.h"
#include "files.h"
#include "filing.h"
#include "hand_in.h"
#include "inspect.h"
#include "intake.h"
#include "journal.h"
#include "ledger.h"
#include "moving.h"
#include "parking.h"
#include "purge.h"
#include "recover.h"
#include "release.h"
#include "reload.h"
#include "retention.h"
#include "stream_sums.h"
#include "run_end.h"
#include "run_plan.h"
#include "runs.h"
#include "spool.h"
#include "state.h"
#include "turn.h"
#include "uploads.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/mongo_users.h"
#include "loop/daemon.h"
#include "manager/enter.h"
#include "manager/spawner.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <event2/thread.h>
#include <fcntl.h>
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

/* ---- what modules need of others further up the way ---- */

static void on_drained(struct batchmgr *m)
{
    control_drained();
    purge_put_off(m);
}

static const struct turn_ops turn_ops = {dispatch_turn, runs_n, on_drained};

static void on_databases(struct batchmgr *m)
{
    run_end_on_health(m);
    turn_kick(m);
}

/* A file that was refused is looked at from the start: it may not even be a regular file. One that was read goes on to its app. */
static void on_retry(struct batchmgr *m, struct file *f)
{
    if (f->state == FILE_received)
        claim_check_again(m, f);
    else
        duplicates_check(m, f);
}

static const struct filing_ops filing_ops = {
    .filed = duplicates_settle, .retry = on_retry, .queue = admit_queue, .end_committed = runs_acknowledge};

static void on_reload(void *arg)
{
    struct err e = {0};
    reload(arg, &e);
}

static void on_spawner_ready(void *arg)
{
    turn_kick(arg);
}

/* ---- life ---- */

/* What needs the rights that are given up with enter_room. */
static int start_with_rights(struct batchmgr *m, const struct conf *c, struct err *e)
{
    char secret[MONGO_USERS_SECRET_SIZE];
    cgroup_probe(&m->cgroups, m->home.tag);
    isolation_probe(&m->isolation, &m->home);
    int r = mongo_users_secret(&m->home, "mongo", "*", secret, e); /* makes the key where there is none */
    if (r == 0)
        r = spawner_new(m->base, &m->home, "batchmgr", on_spawner_ready, m, &m->spawner, e);
    if (r == 0)
        r = enter_room(&m->home, c, UID_BATCHMGR, &m->outside, e);
    return r;
}

/* Modules, before the configuration comes into force. */
static int start_modules(struct batchmgr *m, struct err *e)
{
    struct sysinfo si = {0};
    sysinfo(&si);
    m->fair_queue = fair_queue_new(get_nprocs(), (int64_t)si.totalram * si.mem_unit);
    spawner_begin(m->spawner);
    m->runs_fd = openat(m->home.dirfd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* lint: ours */
    int r = ledger_open(&m->home, m->base, &m->ledger, e);
    if (r < 0)
        return r;
    journal_start(m);
    m->databases = databases_new(m, on_databases);
    filing_start(m, &filing_ops);
    duplicates_start(m);
    release_start(m);
    runs_start(m);
    run_plan_start(m);
    uploads_start(m);
    hand_in_start(m);
    deletions_start(m);
    purge_start(m);
    moving_start(m);
    retention_start(m);
    stream_sums_start(m);
    return intake_start(m, e);
}

static int start(struct batchmgr *m, struct err *e)
{
    struct conf *c = NULL;
    int r = conf_load(m->home.path, &c, e);
    if (r == 0)
        r = start_with_rights(m, c, e);
    if (r == 0)
        r = start_modules(m, e);
    if (r < 0) {
        conf_free(c);
        return r;
    }
    r = reload_apply(m, c, e);
    if (r < 0)
        return r;
    spool_start(m);
    intake_begin(m);
    inspect_start(m, admit_inspected);
    dispatch_start(m);
    r = recover_run(m, e);
    if (r < 0)
        return r;
    uploads_clean(m);
    purge_resume(m);
    return control_start(m, e);
}

static void stop(struct batchmgr *m)
{
    control_stop();
    intake_stop(m);
    inspect_stop(m);
    release_stop(m);
    deletions_stop(m);
    purge_stop(m);
    moving_stop(m);
    stream_sums_stop(m);
    retention_stop(m);
    runs_stop(m);
    dispatch_stop(m);
    databases_free(m->databases);
    ledger_close(m->ledger); /* the files that callbacks are about are there still */
    journal_stop(m);
    uploads_stop(m);
    hand_in_stop(m);
    spool_stop(m);
    duplicates_stop(m);
    run_plan_stop(m);
    parking_free(m->parking);
    size_t i = 0;
    for (struct file *f; (f = map_next(&m->files, &i));)
        cross_device_forget(f);
    filing_stop(m);
    files_free(m);
    tenants_free(m);
    turn_stop(m);
    fair_queue_free(m->fair_queue);
    conf_free(m->conf);
    outside_free(m->outside);
    if (m->runs_fd >= 0)
        close(m->runs_fd);
}

static int run(struct batchmgr *m, const char *home_arg, bool supervised, struct err *e)
{
    int r = home_enter(&m->home, home_arg, e);
    if (r < 0)
        return r;
    r = confine_manager();
    if (r < 0)
        return err_sys(e, r, "cannot give up rights");
    int lock = home_lock(&m->home, "batchmgr", 0, e);
    if (lock < 0)
        return lock;
    home_narrow(&m->home);
    turn_start(m, &turn_ops);
    m->parking = parking_new(m);
    struct daemon *d = daemon_new(m->base, supervised, &(struct daemon_ops){"runs are left alone", on_reload, NULL, m});
    m->supervised = supervised;
    r = start(m, e);
    if (r == 0) {
        log_info("ready", NULL, NULL, "home %s, %zu tenants", m->home.path, m->conf->n_tenants);
        event_base_dispatch(m->base);
    }
    stop(m);
    daemon_free(d);
    close(lock);
    return r;
}

static const char usage[] =
    "usage: batchmgr [--supervised] --home HOME\n"
    "Takes files in, runs the tenants' batch apps, keeps the ledger. `mysimbdp up` starts it.\n"
    "--supervised: also end when stdin closes. SIGTERM: end, leave runs alone. SIGHUP: read the configuration again.\n"
    "Exit: 0 stopped, 1 could not start (the log says why), 2 usage.\n";

int main(int argc, char **argv)
{
    struct batchmgr m = {.runs_fd = -1};
    struct err e = {0};
    daemon_prepare("batchmgr"); /* with a descriptor a run, and a few a file that is looked at */
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    if (argc != 1)
        return fputs(usage, stderr), 2;
    m.started_wall_ms = clk_wall_ms();
    m.started_ms = clk_now_ms();
    setenv("MONGOC_DISABLE_SHM", "1", 1); /* its counters, in a file of /dev/shm that stays after a kill */
    mongoc_init();
    mongoc_log_set_handler(NULL, NULL);
    evthread_use_pthreads();
    m.base = daemon_loop(0);
    int r = run(&m, home, supervised, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    event_base_free(m.base);
    home_close(&m.home);
    mongoc_cleanup();
    return r < 0;
}
