/* A run: ledger row `starting` (with the file's `running`) committed -> spec to the spawner, with one end of an order
 * channel -> the runner claims, starts, ends, each said over the channel -> result read -> for an output mode: row with
 * step `load` committed, the app's runner acknowledged, and the same again for the loading step -> verdict and end
 * committed -> runner acknowledged.
 *
 * The spawner, the channel, and what becomes of a step without one: lib/manager/run_handle.h. */
#include "dispatch.h"
#include "fair_queue.h"
#include "files.h"
#include "ledger.h"
#include "pools.h"
#include "run_end.h"
#include "run_plan.h"
#include "runs.h"
#include "state.h"
#include "turn.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"
#include "manager/images.h"
#include "manager/plan.h"
#include "manager/run_handle.h"
#include "manager/spawner.h"
#include "manager/warden.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DISPATCH_PER_TURN = 64, SWEEP_IMAGES_S = 600 };

struct dispatching {
    struct event *sweep_ev; /* of images that nobody uses */
};

static void on_image(void *arg)
{
    struct batchmgr *m = arg;
    fair_queue_unhold(m->fair_queue);
    turn_kick(m);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    images_sweep(m->images);
}

void dispatch_start(struct batchmgr *m)
{
    m->dispatching = xcalloc(1, sizeof *m->dispatching);
    m->images = images_new(m->base, &m->home, &m->isolation, m->spawner, on_image, m);
    m->dispatching->sweep_ev = event_new(m->base, -1, EV_PERSIST, on_sweep, m);
    timer_set(m->dispatching->sweep_ev, SWEEP_IMAGES_S * 1000);
    images_sweep(m->images);
}

void dispatch_stop(struct batchmgr *m)
{
    images_free(m->images);
    spawner_free(m->spawner);
    if (m->dispatching)
        event_free(m->dispatching->sweep_ev);
    free(m->dispatching);
    m->dispatching = NULL;
}

/* ---- a step ---- */

static void on_started(void *arg)
{
    struct run *r = arg;
    if (r->state != RUN_STATE_starting)
        return;
    run_set_state(r, RUN_STATE_running);
    ledger_note_run(r->mgr->ledger, r);
}

static void on_load_step_committed(void *arg);

static void on_step_ended(void *arg, struct run_result *res)
{
    run_end_step(arg, res, on_load_step_committed);
}

static void on_cancelled(void *arg, const char *why, int64_t delay_ms)
{
    run_end_cancel(arg, why, delay_ms);
}

/* Of a run on a cluster. What it waits for is the run's error until it goes on. */
static void on_noted(void *arg, enum run_said what, const char *text)
{
    struct run *r = arg;
    if (r->state == RUN_STATE_ended)
        return;
    xstr_set(what == RUN_SAID_NODE ? &r->node : &r->error, *text ? text : NULL);
    if (what == RUN_SAID_WAITS && *text)
        log_info("run_waits", r->tenant, r->run_id, "%s", text);
    ledger_note_run(r->mgr->ledger, r);
}

static const struct run_handle_ops handle_ops = {on_started, on_step_ended, on_cancelled, on_noted};

/* The handle of the run, at its current step. */
static struct run_handle *step_of(struct run *r)
{
    AUTO_FREE char *claim = run_plan_claim(r), *dir = run_plan_dir(r->mgr, r);
    if (!r->handle)
        r->handle = run_handle_new(r->mgr->spawner, r->tenant, r->run_id, &handle_ops, r);
    run_handle_set_step(r->handle, claim, dir);
    if (r->stop)
        run_handle_stop(r->handle);
    return r->handle;
}

static void spawn_step(struct run *r);

static void on_load_step_committed(void *arg)
{
    struct run *r = arg;
    crash_at(CRASH_load_step_commit);
    run_handle_acknowledge(r->handle); /* the app's runner is done */
    spawn_step(r);
}

/* The image cannot be had: the run ends as one whose executable cannot be executed, without a runner. */
static void fail_for_image(struct run *r)
{
    struct run_result *res = xcalloc(1, sizeof *res);
    *res = (struct run_result){
        .outcome = RUN_exec_error, .exit_code = -1, .signal = -1, .error = xstrdup(r->image_why), .waited = RUN_WAITED_UNKNOWN};
    run_end_step(r, res, on_load_step_committed);
}

/* The directory that the step's own lies in, where a kept output is loaded by a later run; its making is not the fence. */
static int make_parent(const struct run *r, struct err *e)
{
    AUTO_FREE char *dir = xasprintf("runs/%s", r->run_id);
    bool kept = *r->file->output_run && strcmp(r->file->output_run, r->run_id) != 0;
    return kept && mkdirat(r->mgr->home.dirfd, dir, 0711) < 0 && errno != EEXIST ? err_sys(e, -errno, "cannot make %s", dir) : 0;
}

/* The launcher may have been changed since the step before. */
static void charge_again(struct run *r, const struct conf_profile *p)
{
    struct demand now = pools_demand(r->mgr, p);
    if (now.pool == r->demand.pool)
        return;
    fair_queue_release(r->mgr->fair_queue, r->tenant, &r->demand, clk_now_ms() - r->charged_at_ms);
    fair_queue_charge(r->mgr->fair_queue, r->tenant, &now);
    r->demand = now;
    r->charged_at_ms = clk_now_ms();
}

/* Starts the current step. */
static void spawn_step(struct run *r)
{
    struct batchmgr *m = r->mgr;
    const struct conf_tenant *t = conf_tenant(m->conf, r->tenant);
    const struct conf_batch *app = t ? conf_app(t, r->app) : NULL;
    struct run_spec spec;
    struct err e = {0};
    if (!app || !conf_dataset(t, r->file->dataset)) {
        run_end_cancel(r, "its app or dataset is gone from the configuration", 1000);
        return;
    }
    if (r->image_why) {
        fail_for_image(r);
        return;
    }
    if (run_end_bytes_are_gone(r)) {
        run_end_without_bytes(r);
        return;
    }
    int made = make_parent(r, &e);
    if (made < 0) {
        run_end_cancel(r, e.msg, 1000);
        return;
    }
    made = r->n_files > 1 && r->step == RUN_STEP_app ? run_plan_link_group(m, r, &e) : 0;
    crash_at(CRASH_group_link);
    if (made == 0)
        made = run_plan_make(m, r, t, app, &spec, &e);
    if (made < 0) {
        for (struct file *f = r->file; f; f = f->mate)
            file_drop_output(f); /* it is gone, so the app has to run again */
        run_end_cancel(r, e.msg, 1000);
        return;
    }
    charge_again(r, conf_profile(m->conf, app->profile));
    run_handle_start(step_of(r), &spec);
    run_spec_free(&spec);
}

/* ---- dispatch ---- */

static void on_dispatch_committed(void *arg)
{
    crash_at(CRASH_dispatch_commit);
    spawn_step(arg);
}

/* What identifies the rows of each file. The built-in loader stores a group's files as if each were alone; other apps make rows
 * of all of them, which carry one prefix. */
static void choose_prefix(struct batchmgr *m, const struct run *r, const struct conf_batch *app)
{
    bool shared = r->n_files > 1 && strcmp(app->exec, BUILTIN_LOAD) != 0;
    char prefix[33];
    if (*r->file->output_run)
        return; /* the kept output was made by the version that gave it its prefix */
    for (struct file *f = r->file; f; f = f->mate) {
        if (!shared || f == r->file)
            run_plan_prefix(m, r, f, shared, app, prefix);
        f->group_n = shared ? r->n_files : 1;
        if (r->n_files > 1)
            f->checkpoint = 0; /* a group's checkpoint belongs to its run */
        if (!strcmp(prefix, f->prefix))
            continue;
        file_add_old_prefix(f, f->prefix);
        memcpy(f->prefix, prefix, sizeof prefix);
        f->checkpoint = 0;
    }
}

/* The files that run with `f`: those that its kept output was made of, or others that wait for the same. */
static int64_t count_files(struct batchmgr *m, struct file *f, const struct conf_batch *app, enum run_step step)
{
    int64_t n = 1;
    if (step == RUN_STEP_app && app->group.max_files > 1 && file_may_be_grouped(f))
        return n + fair_queue_take_mates(m->fair_queue, app->app, f, app->group.max_files - 1);
    for (const struct file *mate = f->mate; mate; mate = mate->mate)
        n++;
    return n;
}

/* False: it is not known yet whether the image that the file's run needs is to be had. */
static bool find_image(struct batchmgr *m, const struct file *f, const char *app_name, struct image *ret)
{
    const struct conf_batch *app = conf_app(conf_tenant(m->conf, f->tenant), app_name);
    *ret = (struct image){0};
    return *f->output_run || !*app->image || images_look(m->images, f->tenant, app->image, ret) != IMAGE_WAITS;
}

static void take_image(struct run *r, const struct image *i)
{
    xstr_set(&r->image, i->root);
    xstr_set(&r->image_digest, i->digest);
    xstr_set(&r->image_why, i->why);
    r->image_identity = i->identity;
}

static void dispatch(struct batchmgr *m, struct file *first, const char *app_name, const struct demand *demand,
                     const struct image *image)
{
    const struct conf_tenant *t = conf_tenant(m->conf, first->tenant);
    const struct conf_batch *app = conf_app(t, app_name);
    struct run *r = run_new();
    home_new_id(r->run_id);
    memcpy(r->file_id, first->file_id, ID_SIZE);
    r->tenant = xstrdup(first->tenant);
    r->app = xstrdup(app_name);
    r->dataset = xstrdup(first->dataset);
    r->step = *first->output_run ? RUN_STEP_load : *app->checker && !first->checked ? RUN_STEP_check : RUN_STEP_app;
    r->output = r->step == RUN_STEP_check ? RUN_OUTPUT_none : app->output;
    r->attempt = first->attempts + 1;
    r->started_wall_ms = clk_wall_ms();
    r->file = first;
    r->n_files = count_files(m, first, app, r->step);
    r->trace = r->n_files > 1 ? NULL : xstrdup(first->trace);
    r->mgr = m;
    r->demand = *demand;
    r->charged_at_ms = clk_now_ms();
    take_image(r, image);
    if (r->step != RUN_STEP_check && !r->image_why)
        choose_prefix(m, r, app);
    runs_add(m, r);
    ledger_put_run(m->ledger, r);
    for (struct file *f = first; f; f = f->mate) {
        memcpy(f->run_id, r->run_id, ID_SIZE);
        f->n_run_files = r->n_files;
        if (!f->started_wall_ms)
            f->started_wall_ms = r->started_wall_ms;
        file_set_state(f, FILE_running);
        ledger_put_file(m->ledger, f);
    }
    ledger_then(m->ledger, on_dispatch_committed, r, NULL);
}

void dispatch_turn(struct batchmgr *m)
{
    struct image image;
    const char *app;
    struct demand demand;
    if (m->draining || m->disk_low || !spawner_is_ready(m->spawner) || ledger_stalled(m->ledger, NULL, 0))
        return;
    for (int i = 0; i < DISPATCH_PER_TURN; i++) {
        struct file *f = fair_queue_pick(m->fair_queue, &app, &demand);
        if (!f)
            return;
        if (!find_image(m, f, app, &image)) {
            fair_queue_hold(m->fair_queue, app, f, &demand);
            continue;
        }
        dispatch(m, f, app, &demand, &image);
    }
    turn_kick(m);
}

/* What was started goes on where it was, whatever the configuration says now. */
static void place_where_it_is(struct run *r)
{
    struct batchmgr *m = r->mgr;
    AUTO_FREE char *claim = run_plan_claim(r), *job = xasprintf(WARDEN_JOBS "/%s.json", claim);
    bool is_job = fd_exists(m->home.dirfd, job);
    if (is_job && r->demand.pool == FAIR_QUEUE_LOCAL)
        r->demand.pool = fair_queue_pool(m->fair_queue, POOL_SLURM);
    else if (!is_job && r->state == RUN_STATE_running)
        r->demand.pool = FAIR_QUEUE_LOCAL;
}

void dispatch_recover(struct batchmgr *m, struct file *f)
{
    struct run *r = runs_find(m, f->run_id);
    const struct conf_tenant *t = conf_tenant(m->conf, f->tenant);
    if (r) {
        file_add_mate(r->file, f);
        f->n_run_files = r->n_files;
        return;
    }
    if (ledger_get_run(m->ledger, f->run_id, &r, NULL) < 0 || r->state == RUN_STATE_ended) {
        run_free(r);
        run_end_put_back(m, f, FILE_waiting, 0);
        return;
    }
    const struct conf_batch *app = t ? conf_app(t, r->app) : NULL;
    const struct conf_profile *p = app ? conf_profile(m->conf, app->profile) : NULL;
    r->file = f;
    f->n_run_files = r->n_files;
    r->dataset = xstrdup(f->dataset);
    r->trace = r->n_files > 1 ? NULL : xstrdup(f->trace);
    r->mgr = m;
    r->output = app && r->step != RUN_STEP_check ? app->output : RUN_OUTPUT_none;
    r->demand = p ? pools_demand(m, p) : (struct demand){FAIR_QUEUE_LOCAL, 1, 0};
    place_where_it_is(r);
    r->charged_at_ms = clk_now_ms();
    runs_add(m, r);
    fair_queue_charge(m->fair_queue, r->tenant, &r->demand);
}

void dispatch_resolve(struct batchmgr *m)
{
    size_t i = 0;
    for (struct run *r; (r = runs_next(m, &i));)
        run_handle_resolve(step_of(r));
}

/* A claim is the run's id, and for a step after the app's something more (run_plan_claim). */
static bool is_ended(void *arg, const char *claim)
{
    struct batchmgr *m = arg;
    char id[ID_SIZE];
    snprintf(id, sizeof id, "%s", claim);
    struct run *r = runs_find(m, id);
    if (r) { /* its steps before this one are */
        AUTO_FREE char *now = run_plan_claim(r);
        return strcmp(now, claim) != 0;
    }
    bool ended = ledger_get_run(m->ledger, id, &r, NULL) == 0 && r->state == RUN_STATE_ended;
    run_free(r);
    return ended;
}

void dispatch_dismiss_ended(struct batchmgr *m)
{
    run_handle_dismiss_ended(&m->home, is_ended, m);
    run_handle_dismiss_ended_jobs(m->spawner, is_ended, m);
}

void dispatch_clean_groups(struct batchmgr *m)
{
    DIR *d = fd_open_dir(m->home.dirfd, "work");
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (!strncmp(ent->d_name, "group-", 6) && !runs_find(m, ent->d_name + 6))
            fd_remove_tree(dirfd(d), ent->d_name);
    if (d)
        closedir(d);
}
