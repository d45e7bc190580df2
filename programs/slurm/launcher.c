/* One thread, one loop; commands of Slurm's are child processes with a deadline. Disk is looked at four times a second for the jobs
 * that may end by themselves; Slurm is asked once a second for all of them at once, one squeue at a time. While it does not answer
 * nothing is concluded: what runs goes on, and what is to begin waits, with the reason told. */
#include "launcher.h"
#include "job.h"
#include "job_key.h"
#include "pilots.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/run_key.h"
#include "loop/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK_MS = 250, ASK_MS = 1000, SQUEUE_MS = 20000, MAX_OPTIONS = 8192 };

struct service {
    struct launcher l;
    int fd;
    struct event *ev, *timer;
    bool asking;
    int64_t asked_ms; /* when squeue was started last */
};

/* ---- the listing ---- */

/* The claim in a job's name; NULL: it is none of ours. */
static const char *claim_in(const struct launcher *l, const char *name, char ret[ID_SIZE + 16])
{
    AUTO_FREE char *prefix = job_name(l, "");
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0 || strlen(name + n) >= ID_SIZE + 16)
        return NULL;
    snprintf(ret, ID_SIZE + 16, "%s", name + n);
    size_t len = strlen(ret);
    if (len > 4 && !strcmp(ret + len - 4, "-end"))
        ret[len - 4] = 0;
    return ret;
}

static void take_listing(struct service *s, char *text)
{
    struct launcher *l = &s->l;
    struct slurm_line line;
    char claim[ID_SIZE + 16];
    for (char *save, *at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save)) {
        if (!slurm_line_parse(at, &line) || !claim_in(l, line.name, claim))
            continue;
        struct job *j = map_get(&l->jobs, claim);
        if (j)
            job_listed(j, &line, s->asked_ms);
        else
            pilots_listed(l, claim, &line, s->asked_ms);
    }
    pilots_after_listing(l, s->asked_ms);
    size_t i = 0;
    for (struct job *j; (j = map_next(&l->jobs, &i));)
        job_after_listing(j, s->asked_ms);
}

static void on_listed(void *arg, int status, bool late, struct buf *out)
{
    struct service *s = arg;
    bool good = !late && status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    s->asking = false;
    if (good) {
        if (s->l.why)
            log_info("slurm", NULL, NULL, "Slurm answers again");
        xstr_set(&s->l.why, NULL);
        take_listing(s, out->p);
        return;
    }
    out->p[strcspn(out->p, "\n")] = 0;
    const char *why = late ? "squeue did not end in time" : *out->p ? out->p : "squeue failed";
    if (!s->l.why)
        log_warn("slurm", NULL, NULL, "Slurm does not answer: %s; what runs goes on, what is to begin waits", why);
    xstr_set(&s->l.why, why);
}

static void ask(struct service *s)
{
    char *argv[] = {"squeue", "--noheader", "--me", "--states=all", "-O", SLURM_FIELDS, NULL};
    if (s->asking || (!s->l.jobs.n && !pilots_n(&s->l)) || clk_now_ms() - s->asked_ms < ASK_MS)
        return;
    s->asking = true;
    s->asked_ms = clk_now_ms();
    command_start(s->l.commands, argv, SQUEUE_MS, on_listed, s);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct service *s = arg;
    size_t i = 0;
    (void)fd;
    (void)what;
    for (struct job *j; (j = map_next(&s->l.jobs, &i));)
        job_step(j);
    pilots_tick(&s->l);
    ask(s);
}

/* ---- requests ---- */

static int prepare(struct service *s, struct run_spec *spec, struct err *e)
{
    int r = job_key_make(spec, e);
    if (r == 0)
        r = job_spec_write(&s->l.home, spec, e);
    if (r == 0 && (r = job_key_publish(&s->l.home, spec, e)) < 0)
        job_files_remove(&s->l.home, spec->claim);
    return r;
}

static void run(struct service *s, const char *options, int spec_fd, int conn)
{
    AUTO_BUF struct buf text = {0};
    struct run_spec spec = {0};
    struct err e = {0};
    lseek(spec_fd, 0, SEEK_SET);
    int r = fd_read_all(spec_fd, &text, RUN_MAX_SPEC_BYTES);
    r = r < 0 ? err_sys(&e, r, "the spec cannot be read") : run_spec_parse(text.p ? text.p : "", text.n, &spec, &e);
    if (r == 0 && !map_get(&s->l.jobs, spec.claim))
        r = prepare(s, &spec, &e);
    if (r < 0 || map_get(&s->l.jobs, spec.claim)) {
        log_error("request", spec.tenant, spec.run_id, "%s", r < 0 ? e.msg : "the step is here already");
        AUTO_FREE char *said =
            xasprintf("%c%.*s\n", RUN_SAID_CANNOT, RUN_SAID_MAX_TEXT, r < 0 ? e.msg : "the step is here already");
        if (send(conn, said, strlen(said), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            log_debug("say", NULL, NULL, "the manager does not listen");
        run_spec_free(&spec);
        close(conn);
        return;
    }
    crash_at(CRASH_job_spec);
    struct job *j = job_new(&s->l, &spec, options, conn);
    if (j->pool && job_id_write(&s->l.home, j->spec.claim, PILOT_NONE, options, &e) <
                       0) /* so that who comes after us knows for what it waits */
        log_warn("job", j->spec.tenant, j->spec.run_id, "%s", e.msg);
    job_step(j);
}

/* Where there is no such job any more the channel is closed, and the manager looks for a runner of its own. */
static void attach(struct service *s, const char *claim, int conn)
{
    struct run_spec spec = {0};
    struct err e = {0};
    AUTO_FREE char *options = xstrdup("");
    char id[32] = "";
    struct job *known = map_get(&s->l.jobs, claim);
    if (known) /* of a manager that ended, which is not noticed yet */
        job_free(known);
    if (job_spec_read(&s->l.home, claim, &spec, &e) < 0) {
        log_error("attach", NULL, claim, "%s", e.msg);
        close(conn);
        return;
    }
    job_id_read(&s->l.home, claim, id, &options);
    struct job *j = job_new(&s->l, &spec, options, conn);
    j->facts.submitted = !j->pool || pilots_take_up(j, id);
    if (strcmp(id, PILOT_NONE) != 0)
        memcpy(j->id, id, sizeof id);
    job_step(j);
}

static void on_request(evutil_socket_t fd, short what, void *arg)
{
    struct service *s = arg;
    char text[MAX_OPTIONS + 1];
    int fds[2] = {-1, -1};
    size_t n_fds = 0;
    (void)what;
    ssize_t n = fd_recv(fd, text, sizeof text - 1, fds, 2, &n_fds);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n <= 0) { /* the warden ended */
        event_base_loopbreak(s->l.base);
        return;
    }
    text[n] = 0;
    if (text[0] == 'r' && n_fds == 2) {
        run(s, text + 1, fds[0], fd_take(&fds[1]));
    } else if (text[0] == 'a' && n_fds == 1) {
        attach(s, text + 1, fd_take(&fds[0]));
    } else {
        log_error("request", NULL, NULL, "a request came with %zu descriptors, or is none", n_fds);
    }
    for (size_t i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* ---- life ---- */

int launcher_main(int fd, const struct home *h, struct err *e)
{
    struct service s = {.l = {.home = *h}, .fd = fd};
    int r = job_files_begin(h, e);
    if (r < 0)
        return r;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal's ^C is for `mysimbdp up` to act on */
    signal(SIGHUP, SIG_IGN);
    fd_raise_limit();
    run_keys_sweep(h);
    s.l.base = event_base_new();
    s.l.commands = commands_new(s.l.base);
    s.l.pilots = pilots_new(&s.l);
    s.ev = event_new(s.l.base, fd, EV_READ | EV_PERSIST, on_request, &s);
    s.timer = event_new(s.l.base, -1, EV_PERSIST, on_tick, &s);
    event_add(s.ev, NULL);
    timer_set(s.timer, LOOK_MS);
    event_base_dispatch(s.l.base);
    size_t i = 0;
    for (struct job *j; (j = map_next(&s.l.jobs, &i));)
        job_free(j);
    map_fini(&s.l.jobs);
    pilots_free(s.l.pilots);
    commands_free(s.l.commands);
    event_free(s.ev);
    event_free(s.timer);
    event_base_free(s.l.base);
    free(s.l.why);
    return 0;
}
