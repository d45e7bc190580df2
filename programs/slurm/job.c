#include "job.h"
#include "job_key.h"
#include "pilots.h"
#include "sbatch.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_STARTING = 8, /* sbatch at a time */
    SBATCH_MS = 30000,
    SCANCEL_MS = 15000,
    SACCT_MS = 15000,
    AGAIN_MS = 2000,
    PENDING_SAID_MS = 3000, /* what waits for less is not worth a word */
};

char *job_name(const struct launcher *l, const char *claim)
{
    return xasprintf("simbdp-%s-%s", l->home.tag, claim);
}

/* ---- what it says ---- */

static void say(struct job *j, char what, const char *text)
{
    AUTO_BUF struct buf b = {0};
    buf_add(&b, &what, 1);
    if (text) {
        buf_addf(&b, "%.*s", RUN_SAID_MAX_TEXT, text);
        buf_make_plain(&b, 1);
        buf_adds(&b, "\n");
    }
    if (j->conn >= 0 && send(j->conn, b.p, b.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("say", j->spec.tenant, j->spec.run_id, "the manager does not listen");
}

static void say_that(struct job *j, enum run_said what, const char *text)
{
    if (!strcmp(text, j->said_waits))
        return;
    say(j, (char)what, text);
    xstr_set(&j->said_waits, text);
}

static void say_waits(struct job *j, const char *text)
{
    say_that(j, RUN_SAID_WAITS, text);
}

static void say_runs(struct job *j)
{
    if (!j->said_node || strcmp(j->said_node, j->holder.node) != 0) {
        xstr_set(&j->said_node, j->holder.node);
        say(j, RUN_SAID_NODE, j->holder.node);
    }
    if (!j->said_started)
        say(j, RUN_SAID_STARTED, NULL);
    j->said_started = true;
    if (j->l->why) {
        AUTO_FREE char *text = xasprintf("Slurm does not answer: %s; the run goes on", j->l->why);
        say_waits(j, text);
    } else
        say_waits(j, "");
}

static void say_ended(struct job *j)
{
    say_waits(j, "");
    if (!j->said_ended)
        say(j, RUN_SAID_ENDED, NULL);
    j->said_ended = true;
    pilots_take_back(j, true);
}

/* ---- the end ---- */

/* Something that the disk does not take, which is tried again. */
static void say_disk(struct job *j, const char *what, const char *why)
{
    AUTO_FREE char *text = xasprintf("%s; trying again", why);
    if (strcmp(text, j->said_waits) != 0)
        log_error(what, j->spec.tenant, j->spec.run_id, "%s", text);
    say_waits(j, text);
}

/* One that the platform writes, since no runner did. */
static void end_with(struct job *j, struct run_result *res, const char *error)
{
    struct err e = {0};
    bool listed = j->facts.listed;
    res->run_id = j->spec.run_id;
    res->step = j->spec.step;
    res->exit_code = res->signal = -1;
    res->network_refused = -1;
    res->node = *j->holder.node ? j->holder.node : j->node;
    res->error = (char *)error;
    res->ended_wall_ms = clk_wall_ms();
    job_blame(&j->facts, &j->spec, res);
    log_info("job_ended", j->spec.tenant, j->spec.run_id, "job %s%s: %s", j->id,
             listed ? "" : ", which Slurm does not know any more", error);
    if (job_result_write(&j->spec, res, &e) < 0)
        say_disk(j, "result", e.msg);
    else
        say_ended(j);
}

static const char *word_of(const struct job *j)
{
    if (j->facts.left && !(j->facts.listed && slurm_state_is_over(j->facts.state)))
        return j->facts.fenced ? "the runner ended" : "its pilot does not begin it";
    return j->facts.listed && j->reason ? j->reason : "Slurm knows nothing";
}

static void lose(struct job *j)
{
    struct run_result res = {
        .outcome = j->facts.stop ? RUN_killed : RUN_lost, .waited = RUN_WAITED_UNKNOWN, .stopped = j->facts.stop};
    AUTO_FREE char *error =
        xasprintf("%s of job %s on node %s: it left no result; %s", word_of(j), j->id, *j->holder.node ? j->holder.node : "?",
                  j->facts.gone          ? "its node says that nothing of it is left"
                  : j->facts.node_is_off ? "a person said that the node is off"
                                         : "nothing of the app was started");
    res.not_started = !j->facts.held && !j->facts.node_is_off;
    end_with(j, &res, error);
}

/* Keeps it from beginning. `why` NULL: a stop. */
static void fence(struct job *j, const char *why)
{
    struct run_result res = {.outcome = j->facts.stop ? RUN_killed : RUN_lost,
                             .waited = RUN_WAITED_UNKNOWN,
                             .stopped = j->facts.stop,
                             .not_started = true};
    int r = job_fence(&j->spec);
    if (r == -EEXIST)
        return; /* a runner was first; it is looked at again */
    AUTO_FREE char *error = r < 0 ? xasprintf("cannot make %s: %s", j->spec.dir, err_text(r))
                                  : xasprintf("it did not begin: %s", why ? why : "it was stopped before");
    if (r < 0)
        say_disk(j, "fence", error);
    else
        end_with(j, &res, error);
}

/* With what simbdp-run said, if it came to that. */
static void fence_for(struct job *j)
{
    AUTO_BUF struct buf out = {0};
    AUTO_FREE char *path = job_path(&j->l->home, j->spec.claim, "out");
    fd_read_file(AT_FDCWD, path, &out, 4096, NULL);
    buf_add(&out, "", 0); /* also where there is no such file */
    out.p[strcspn(out.p, "\n")] = 0;
    AUTO_FREE char *why = xasprintf("%s of job %s%s%s", word_of(j), *j->id ? j->id : "?", *out.p ? ": " : "", out.p);
    fence(j, j->facts.stop ? NULL : why);
}

static void finish(struct job *j, struct run_result *res)
{
    struct err e = {0};
    int r = 0;
    if (j->facts.foreign_stop) {
        job_blame(&j->facts, &j->spec, res);
        AUTO_FREE char *error = xasprintf("job %s was ended: %s", j->id, word_of(j));
        xstr_set(&res->error, error);
        r = job_result_write(&j->spec, res, &e);
    }
    if (r < 0)
        say_disk(j, "result", e.msg);
    else
        say_ended(j);
}

void job_refuse(struct job *j, const char *why)
{
    fence(j, why);
}

/* ---- commands ---- */

static void start(struct job *j, struct sbatch *c, int64_t deadline_ms, command_ended_fn ended)
{
    j->busy = true;
    command_start(j->l->commands, c->argv, deadline_ms, ended, j);
    sbatch_end(c);
}

static void on_submitted(void *arg_, int status, bool late, struct buf *out)
{
    struct job *j = arg_;
    struct err e = {0};
    j->busy = j->starting = false;
    j->l->n_starting--;
    j->asked_ms = clk_now_ms();
    j->facts.answered = j->facts.listed = false; /* what was listed meanwhile says nothing of it */
    if (command_succeeded(status, late) && sbatch_take_id(out, j->id)) {
        log_info("job_submitted", j->spec.tenant, j->spec.run_id, "job %s", j->id);
        crash_at(CRASH_job_submitted);
        if (job_id_write(&j->l->home, j->spec.claim, j->id, j->options, &e) < 0)
            log_warn("job", j->spec.tenant, j->spec.run_id, "%s; it is found by its name", e.msg);
        crash_at(CRASH_job_id);
    } else if (late || status < 0 || !slurm_is_refusal(out->p)) { /* it may have been taken all the same */
        xstr_set(&j->l->why, late ? "sbatch did not end in time" : command_first_line(out));
        j->unsure = true;
        j->again_ms = clk_now_ms() + AGAIN_MS;
    } else {
        AUTO_FREE char *why = xasprintf("Slurm does not take the job: %s", command_first_line(out));
        fence(j, why);
    }
    job_step(j);
}

static void begin(struct job *j, struct sbatch *c, const char *name_end, const char *out_end)
{
    AUTO_FREE char *name = job_name(j->l, j->spec.claim), *whole = xasprintf("%s%s", name, name_end);
    AUTO_FREE char *out = job_path(&j->l->home, j->spec.claim, out_end), *comment = xasprintf("%s/%s", j->spec.tenant, j->spec.app);
    sbatch_begin(c, whole, comment, out);
}

static void submit(struct job *j)
{
    struct sbatch c = {0};
    if (j->l->n_starting >= MAX_STARTING || clk_now_ms() < j->again_ms)
        return;
    begin(j, &c, "", "out");
    sbatch_add_options(&c, j->options, true);
    sbatch_add(&c, job_path(&j->l->home, "run", "sh"));
    sbatch_add(&c, home_program(&j->l->home, "simbdp-run"));
    sbatch_add(&c, job_path(&j->l->home, j->spec.claim, "json"));
    j->facts.submitted = j->starting = true;
    j->l->n_starting++;
    start(j, &c, SBATCH_MS, on_submitted);
}

static void on_told(void *arg_, int status, bool late, struct buf *out)
{
    struct job *j = arg_;
    j->busy = false;
    j->again_ms = clk_now_ms() + AGAIN_MS;
    if (!command_succeeded(status, late))
        log_warn("scancel", j->spec.tenant, j->spec.run_id, "job %s: %s; trying again", j->id,
                 late ? "not in time" : command_first_line(out));
}

/* signal: SIGTERM for the runner alone, which ends the run as for a stop anywhere; else the job is cancelled. */
static void tell(struct job *j, bool signal)
{
    struct sbatch c = {0};
    if (clk_now_ms() < j->again_ms || !*j->id)
        return;
    if (signal && j->pool) {
        pilots_stop_run(j);
        j->again_ms = clk_now_ms() + AGAIN_MS;
        return;
    }
    sbatch_add(&c, xstrdup("scancel"));
    if (signal) {
        sbatch_add(&c, xstrdup("--signal=TERM"));
        sbatch_add(&c, xstrdup("--batch"));
    }
    sbatch_add(&c, xstrdup(j->id));
    start(j, &c, SCANCEL_MS, on_told);
}

static void on_probe_submitted(void *arg_, int status, bool late, struct buf *out)
{
    struct job *j = arg_;
    j->busy = false;
    j->probe_ms = clk_now_ms();
    if (command_succeeded(status, late) && sbatch_take_id(out, j->probe_id))
        log_info("job_end", j->spec.tenant, j->spec.run_id, "job %s asks node %s what is left", j->probe_id,
                 *j->holder.node ? j->holder.node : j->node);
    else
        log_warn("job_end", j->spec.tenant, j->spec.run_id, "cannot ask node %s: %s; trying again",
                 *j->holder.node ? j->holder.node : j->node, late ? "sbatch did not end in time" : command_first_line(out));
}

/* A job on the same node that ends what is left. It waits in Slurm's queue until the node is back, and is only submitted anew where
 * none waits. */
static void probe(struct job *j)
{
    struct sbatch c = {0};
    /* A step is given to one pilot alone, so where nobody signed it was that one's runner, if any. */
    const char *node = *j->holder.node ? j->holder.node : j->pool && j->node ? j->node : "";
    AUTO_FREE char *text = xasprintf(
        "%s of job %s on node %s, and no result: it waits until the node says that nothing of it is left, or for `mysimbdp "
        "stop %s --node-is-off`",
        word_of(j), *j->id ? j->id : "?", *node ? node : "?", j->spec.run_id);
    say_that(j, RUN_SAID_UNHEARD, text);
    int64_t now = clk_now_ms();
    if (!*node || *j->probe_id || (j->probe_ms && now - j->probe_ms < AGAIN_MS))
        return;
    begin(j, &c, "-end", "end.out");
    sbatch_add_options(&c, j->options, false);
    sbatch_add(&c, xasprintf("--nodelist=%s", node));
    sbatch_add(&c, xstrdup("--cpus-per-task=1"));
    sbatch_add(&c, xstrdup("--mem=32M"));
    sbatch_add(&c, xstrdup("--time=10"));
    sbatch_add(&c, job_path(&j->l->home, "run", "sh"));
    sbatch_add(&c, home_program(&j->l->home, "simbdp-slurm"));
    sbatch_add(&c, xstrdup("--end"));
    sbatch_add(&c, xstrdup(j->spec.runtime));
    sbatch_add(&c, xstrdup(j->spec.tag));
    sbatch_add(&c, xstrdup(j->spec.claim));
    sbatch_add(&c, job_path(&j->l->home, j->spec.claim, "gone"));
    start(j, &c, SBATCH_MS, on_probe_submitted);
}

/* ---- the manager's orders ---- */

static void on_nobody(void *arg_, int status, bool late, struct buf *out)
{
    struct launcher *l = arg_;
    if (!command_succeeded(status, late))
        log_debug("scancel", NULL, NULL, "%s: %s", l->home.path, late ? "not in time" : command_first_line(out));
}

/* Its end is known elsewhere. What waits in the queue for nothing would find the fence and end; it need not come to that. */
static void tidy(struct job *j)
{
    char *argv[] = {"scancel", NULL, NULL};
    bool over = j->facts.listed && slurm_state_is_over(j->facts.state);
    job_key_forget(&j->l->home, &j->spec);
    job_files_remove(&j->l->home, j->spec.claim);
    /* By number only what was listed by its name: a slurmctld that lost its state gives numbers to others. */
    argv[1] = !j->pool && !j->facts.held && j->facts.listed && !over ? j->id : *j->probe_id ? j->probe_id : NULL;
    if (argv[1])
        command_start(j->l->commands, argv, SCANCEL_MS, on_nobody, j->l);
}

static void on_conn(evutil_socket_t fd, short what, void *arg_)
{
    struct job *j = arg_;
    char order;
    (void)what;
    ssize_t n = recv(fd, &order, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 1 && order == RUN_ORDER_STOP) {
        j->facts.stop = true;
    } else if (n == 1 && order == RUN_ORDER_NODE_IS_OFF) {
        j->facts.node_is_off = true;
    } else { /* acknowledged; or the manager ended, and another asks for it */
        if (n == 1 && order == RUN_ORDER_ACK && j->said_ended)
            tidy(j);
        job_free(j);
        return;
    }
    job_step(j);
}

/* ---- life ---- */

struct job *job_new(struct launcher *l, struct run_spec *spec, const char *options, int conn)
{
    struct job *j = xcalloc(1, sizeof *j);
    *j = (struct job){
        .l = l, .spec = *spec, .conn = conn, .options = xstrdup(options), .said_waits = xstrdup(""), .asked_ms = clk_now_ms()};
    *spec = (struct run_spec){0};
    j->conn_ev = event_new(l->base, conn, EV_READ | EV_PERSIST, on_conn, j);
    event_add(j->conn_ev, NULL);
    j->number = l->n_jobs++;
    j->pool = pilots_pool(l, options, j->spec.runtime);
    j->facts.shared = j->pool;
    map_put(&l->jobs, j->spec.claim, j);
    return j;
}

void job_free(struct job *j)
{
    pilots_take_back(j, false);
    if (j->busy)
        commands_forget(j->l->commands, j);
    if (j->starting) /* stopped meanwhile: its job finds the fence */
        j->l->n_starting--;
    map_remove(&j->l->jobs, j->spec.claim);
    event_free(j->conn_ev);
    close(j->conn);
    run_spec_free(&j->spec);
    free(j->options);
    free(j->reason);
    free(j->node);
    free(j->said_node);
    free(j->said_waits);
    free(j);
}

/* ---- what Slurm says ---- */

static void probe_listed(struct job *j, const struct slurm_line *line)
{
    bool over = slurm_state_is_over(slurm_state_of(line->word));
    if (!over)
        snprintf(j->probe_id, sizeof j->probe_id, "%s", line->id);
    j->seen[1] |= !over;
}

void job_given(struct job *j, const char *id)
{
    snprintf(j->id, sizeof j->id, "%s", id);
    j->asked_ms = clk_now_ms();
    j->facts.submitted = true;
    j->facts.answered = j->facts.listed = false; /* what was listed before says nothing of it */
}

void job_listed(struct job *j, const struct slurm_line *line, int64_t asked_ms)
{
    AUTO_FREE char *name = job_name(j->l, j->spec.claim);
    if (strcmp(line->name, name) != 0) /* it is the one that asks its node */
        probe_listed(j, line);
    else
        job_pilot_listed(j, line, asked_ms);
}

void job_pilot_listed(struct job *j, const struct slurm_line *line, int64_t asked_ms)
{
    if (asked_ms < j->asked_ms || (j->facts.held && strcmp(line->id, j->holder.job) != 0))
        return; /* submitted twice: the one that has the fence counts */
    snprintf(j->id, sizeof j->id, "%s", line->id);
    j->seen[0] = true;
    j->unsure = false;
    j->facts.submitted = j->facts.answered = j->facts.listed = true;
    j->facts.state = slurm_state_of(line->word);
    j->facts.restarts = line->restarts;
    AUTO_FREE char *reason = slurm_state_is_over(j->facts.state) ? xasprintf("Slurm says %s", line->word) : xstrdup(line->reason);
    xstr_set(&j->reason, reason);
    if (*line->node)
        xstr_set(&j->node, line->node);
}

void job_after_listing(struct job *j, int64_t asked_ms)
{
    bool seen = j->seen[0];
    if (!j->seen[1] && (!j->probe_ms || asked_ms > j->probe_ms))
        j->probe_id[0] = 0;
    j->seen[0] = j->seen[1] = false;
    if (seen || asked_ms < j->asked_ms)
        return;
    j->facts.answered = true;
    if (j->unsure)
        j->facts.submitted = j->unsure = false; /* it did not come through: once more */
    if (j->facts.listed && !slurm_state_is_over(j->facts.state))
        j->facts.listed = false; /* what it said last of its end stays */
}

static void on_recalled(void *arg_, int status, bool late, struct buf *out)
{
    struct job *j = arg_;
    AUTO_FREE char *name = j->pilot ? pilots_job_name(j->pilot) : job_name(j->l, j->spec.claim);
    const char *word;
    j->busy = false;
    j->recalled = true;
    if (!command_succeeded(status, late) || !slurm_recall(out->p, name, &j->facts.state, &word)) {
        log_info("sacct", j->spec.tenant, j->spec.run_id, "why job %s ended, Slurm has forgotten", j->id);
        return;
    }
    j->facts.listed = true;
    AUTO_FREE char *reason = xasprintf("Slurm's accounting says %s", word);
    xstr_set(&j->reason, reason);
}

/* Slurm tells of a job for MinJobAge after its end. After that its accounting may know why it ended, where there is one. */
static bool recalls(struct job *j)
{
    struct sbatch c = {0};
    const struct job_facts *f = &j->facts;
    if (!f->answered || f->listed || !f->fenced || (f->result && !f->foreign_stop) || j->recalled || !*j->id)
        return false;
    if (j->busy)
        return true;
    sbatch_add(&c, xstrdup("sacct"));
    sbatch_add(&c, xstrdup("--allocations"));
    sbatch_add(&c, xstrdup("--noheader"));
    sbatch_add(&c, xstrdup("--parsable2"));
    sbatch_add(&c, xstrdup("--format=JobName,State"));
    sbatch_add(&c, xasprintf("--jobs=%s", j->id));
    start(j, &c, SACCT_MS, on_recalled);
    return true;
}

static void wait_in_queue(struct job *j)
{
    AUTO_FREE char *text = NULL;
    if (j->l->why)
        text = xasprintf("Slurm does not answer: %s", j->l->why);
    else if (j->pool && !j->pilot)
        text = clk_now_ms() - j->asked_ms > PENDING_SAID_MS ? pilots_why_waiting(j) : NULL;
    else if (j->facts.listed && j->facts.state == SLURM_PENDING && clk_now_ms() - j->asked_ms > PENDING_SAID_MS)
        text = xasprintf("job %s waits in Slurm's queue: %s", j->id, j->reason ? j->reason : "no reason is given");
    if (text)
        say_waits(j, text);
}

void job_step(struct job *j)
{
    struct run_result res = {0};
    if (j->said_ended)
        return;
    job_look(&j->l->home, &j->spec, &j->facts, &j->holder, &res);
    if (j->facts.held && !*j->id)
        snprintf(j->id, sizeof j->id, "%s", j->holder.job);
    if (recalls(j)) {
        run_result_free(&res);
        return;
    }
    enum job_act act = job_next(&j->facts);
    if (j->busy && act != JOB_FINISH && act != JOB_LOST && act != JOB_FENCE)
        act = j->facts.held ? JOB_RUNS : JOB_NOTHING;
    switch (act) {
    case JOB_SUBMIT:
        wait_in_queue(j);
        if (j->pool)
            pilots_serve(j->l, j->pool);
        else
            submit(j);
        break;
    case JOB_FENCE:
        fence_for(j);
        break;
    case JOB_RUNS:
        say_runs(j);
        break;
    case JOB_SIGNAL:
        tell(j, true);
        break;
    case JOB_CANCEL:
        tell(j, false);
        break;
    case JOB_PROBE:
        probe(j);
        break;
    case JOB_LOST:
        lose(j);
        break;
    case JOB_FINISH:
        finish(j, &res);
        break;
    case JOB_NOTHING:
        wait_in_queue(j);
        break;
    }
    run_result_free(&res);
}
