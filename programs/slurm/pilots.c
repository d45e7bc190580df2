#include "pilots.h"
#include "pilot_files.h"
#include "pilot_link.h"
#include "sbatch.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "manager/warden.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum {
    HEARD_MS = 5000,    /* a pilot that is not heard for so long gets no more */
    UNHEARD_MS = 20000, /* and what it did not begin by then does not begin there */
    LOST_MS = 3000,     /* a pilot names what it has; a message that is older than this and of which it knows nothing was lost */
    SETTLED_MS = 15000, /* by then Slurm says that it ended a pilot */
    NODES_MS = 5000,    /* how often it is asked which nodes are to be left */
    SLURM_MS = 30000,   /* deadline of its commands */
    AGAIN_MS = 1000,    /* doubled with each pilot that was of no use */
    MAX_AGAIN_MS = 60000,
    LINK_AGAIN_MS = 5000,
    GIVE_UP = 3, /* after so many, what waits for one does not begin */
};
#define IN_PILOT "\nin-pilot="

struct pilot_pool {
    char *options, *runtime; /* as the warden has them, with the line that says which pilots */
    char profile[64], address[256];
    long long nodes, runs, idle_s, needs_s, time_s, port;
    int64_t again_ms; /* no other before */
    int n_useless;    /* that ended before they were heard, one after the other */
    char *why;        /* why there is none; NULL: it is not known yet */
    char *disk;       /* why none is given a step; NULL: nothing keeps it */
};

struct pilot {
    struct pilots *all;
    struct pilot_pool *pool; /* NULL: of an earlier launcher, and its file is gone */
    char id[ID_SIZE], job[32], node[256];
    unsigned char key[32];
    char *reason;
    struct zmtp_conn *conn;
    size_t n_given, n_told; /* steps that it has: as given, and as it says */
    int64_t asked_ms;       /* when it was submitted, or taken up: a listing of before says nothing of it */
    int64_t seen_ms;        /* the listing that it was last in */
    int64_t heard_ms, idle_since_ms, deadline_ms;
    enum slurm_state state;
    bool busy, listed, over, ending, was_heard, node_leaves;
};

struct pilots {
    struct launcher *l;
    struct map pilots; /* id -> struct pilot */
    struct pilot_pool **pools;
    size_t n_pools;
    struct pilot_link *link;
    int64_t nodes_ms;
    bool asks_nodes;
};

char *pilots_job_name(const struct pilot *p)
{
    AUTO_FREE char *end = xasprintf(PILOT_PREFIX "%s", p->id);
    return job_name(p->all->l, end);
}

static char *path_of(const struct pilots *ps, const char *id, const char *end)
{
    return job_path(&ps->l->home, id, end);
}

/* ---- pilots ---- */

static struct pilot *new_pilot(struct pilots *ps, const char *id, struct pilot_pool *pool)
{
    struct pilot *p = xcalloc(1, sizeof *p);
    *p = (struct pilot){.all = ps, .pool = pool, .asked_ms = clk_now_ms(), .deadline_ms = -1, .state = SLURM_PENDING};
    snprintf(p->id, sizeof p->id, "%s", id);
    map_put(&ps->pilots, p->id, p);
    return p;
}

static void free_pilot(struct pilot *p)
{
    commands_forget(p->all->l->commands, p);
    free(p->reason);
    free(p);
}

/* It is over, and nobody's step is its any more. */
static void remove_pilot(struct pilot *p)
{
    static const char *const ends[] = {"pilot", "pilot.out"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        AUTO_FREE char *path = path_of(p->all, p->id, ends[i]);
        unlink(path);
    }
    map_remove(&p->all->pilots, p->id);
    free_pilot(p);
}

static bool is_usable(const struct pilot *p)
{
    int64_t now = clk_now_ms();
    return p->conn && p->pool && !p->over && !p->ending && !p->node_leaves && now - p->heard_ms < HEARD_MS &&
           (p->deadline_ms < 0 || p->deadline_ms - now >= p->pool->needs_s * 1000);
}

static bool has_room(const struct pilot *p)
{
    size_t n = p->n_given > p->n_told ? p->n_given : p->n_told;
    return is_usable(p) && n < (size_t)p->pool->runs;
}

/* ---- steps ---- */

/* Which pilot has it. Without that on disk it is given to none, since the launcher after this one might give it to another. */
static bool note_in_pilot(struct job *j, const struct pilot *p)
{
    struct err e = {0};
    AUTO_FREE char *options = xasprintf("%s%s%s\n", j->options, IN_PILOT + 1, p->id);
    int r = job_id_write(&j->l->home, j->spec.claim, p->job, options, &e);
    if (r < 0 && !p->pool->disk)
        log_error("job", j->spec.tenant, j->spec.run_id, "%s; trying again", e.msg);
    xstr_set(&p->pool->disk, r < 0 ? e.msg : NULL);
    return r == 0;
}

static bool give(struct job *j, struct pilot *p)
{
    if (!note_in_pilot(j, p))
        return false;
    crash_at(CRASH_pilot_given);
    j->pilot = p;
    p->n_given++;
    p->idle_since_ms = 0;
    j->told_ms = clk_now_ms();
    job_given(j, p->job);
    pilot_link_say(p->conn, "run", j->spec.claim); /* else it is told when it says what it has */
    return true;
}

/* It waits for a pilot. */
static bool waits(const struct job *j, const struct pilot_pool *pool)
{
    return j->pool == pool && !j->pilot && !j->facts.submitted && !j->facts.fenced && !j->facts.stop && !j->said_ended;
}

static struct job *first_of(struct launcher *l, const struct pilot_pool *pool)
{
    struct job *first = NULL;
    size_t i = 0;
    for (struct job *j; (j = map_next(&l->jobs, &i));)
        if (waits(j, pool) && (!first || j->number < first->number))
            first = j;
    return first;
}

void pilots_serve(struct launcher *l, struct pilot_pool *pool)
{
    size_t i = 0;
    for (struct pilot *p; (p = map_next(&l->pilots->pilots, &i));)
        for (struct job *j; p->pool == pool && has_room(p) && (j = first_of(l, pool));)
            if (!give(j, p))
                return;
}

void pilots_take_back(struct job *j, bool ended)
{
    struct pilot *p = j->pilot;
    if (!p)
        return;
    j->pilot = NULL;
    p->n_given--;
    if (ended && p->n_told)
        p->n_told--;
    if (ended && p->pool)
        pilots_serve(j->l, p->pool);
}

void pilots_stop_run(struct job *j)
{
    if (j->pilot)
        pilot_link_say(j->pilot->conn, "stop", j->spec.claim);
}

char *pilots_why_waiting(const struct job *j)
{
    struct pilots *ps = j->l->pilots;
    size_t i = 0;
    if (j->pool->disk)
        return xstrdup(j->pool->disk);
    if (j->pool->why)
        return xasprintf("no pilot: %s", j->pool->why);
    for (const struct pilot *p; (p = map_next(&ps->pilots, &i));)
        if (p->pool == j->pool && p->listed && p->state == SLURM_PENDING)
            return xasprintf("its pilot, job %s, waits in Slurm's queue: %s", p->job, p->reason ? p->reason : "no reason is given");
    return xstrdup("it waits for a pilot");
}

bool pilots_take_up(struct job *j, const char *id)
{
    const char *at = strstr(j->options, IN_PILOT);
    char pilot[ID_SIZE];
    if (!at || !strcmp(id, PILOT_NONE))
        return false;
    snprintf(pilot, sizeof pilot, "%s", at + strlen(IN_PILOT));
    *strstr(j->options, IN_PILOT + 1) = 0; /* it may be given to another */
    struct pilot *p = map_get(&j->l->pilots->pilots, pilot);
    if (!p)
        p = new_pilot(j->l->pilots, pilot, NULL);
    snprintf(p->job, sizeof p->job, "%s", id);
    j->pilot = p;
    p->n_given++;
    return true;
}

static struct job *job_of_claim(struct pilots *ps, const char *claim, const struct pilot *p)
{
    struct job *j = claim ? map_get(&ps->l->jobs, claim) : NULL;
    return j && j->pilot == p ? j : NULL;
}

/* ---- what pilots say ---- */

static const char *pilot_of_key(void *arg, const unsigned char key[32])
{
    struct pilots *ps = arg;
    size_t i = 0;
    for (struct pilot *p; (p = map_next(&ps->pilots, &i));)
        if (!p->over && p->pool && !memcmp(p->key, key, 32))
            return p->id;
    return NULL;
}

static bool names(char *const *v, size_t n, const char *claim)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(v[i], claim))
            return true;
    return false;
}

/* Of a step that it should have and does not name: it was never told, or does not have it any more. */
static void is_missed(struct job *j, struct pilot *p)
{
    int64_t now = clk_now_ms();
    if (now - j->told_ms < LOST_MS || j->facts.left)
        return;
    if (!j->facts.fenced && !j->facts.stop) {
        j->told_ms = now;
        pilot_link_say(p->conn, "run", j->spec.claim);
    } else {
        j->facts.left = true;
        j->left_ms = now;
    }
}

/* It names what it has. */
static void compare(struct pilot *p, char *const *v, size_t n)
{
    struct launcher *l = p->all->l;
    size_t i = 0;
    for (struct job *j; (j = map_next(&l->jobs, &i));)
        if (j->pilot == p && !names(v, n, j->spec.claim))
            is_missed(j, p);
        else if (j->pilot == p)
            j->facts.left = false; /* a hello may be older than what was said of it */
}

static void on_hello(struct pilot *p, char *text)
{
    AUTO_FREE char **v = NULL;
    size_t n = 0, room = 0;
    char *save, *line = strtok_r(text, "\n", &save);
    int64_t now = clk_now_ms();
    p->heard_ms = now;
    p->was_heard = true;
    p->deadline_ms = now + strtoll(line ? line : "0", NULL, 10) * 1000;
    p->pool->n_useless = 0;
    xstr_set(&p->pool->why, NULL);
    while ((line = strtok_r(NULL, "\n", &save))) {
        if (n == room)
            v = xrealloc(v, (room = room ? 2 * room : 64) * sizeof *v);
        v[n++] = line;
    }
    p->n_told = n;
    compare(p, v, n);
    pilot_link_say(p->conn, "ok", NULL);
    if (p->ending)
        pilot_link_say(p->conn, "end", NULL);
    pilots_serve(p->all->l, p->pool);
}

static void on_said(void *arg, const char *id, struct zmtp_conn *c, char *text)
{
    struct pilots *ps = arg;
    struct pilot *p = map_get(&ps->pilots, id);
    char *rest = strchr(text, ' ');
    if (!p || !p->pool)
        return;
    p->conn = c;
    if (rest)
        *rest++ = 0;
    if (!strcmp(text, "hello") && rest) {
        on_hello(p, rest);
        return;
    }
    if (!strcmp(text, "bye"))
        p->ending = true;
    struct job *j = job_of_claim(ps, rest, p);
    if (!j)
        return;
    if (!strcmp(text, "ended") || !strcmp(text, "refused")) {
        j->facts.left = true;
        j->left_ms = clk_now_ms();
    }
    job_step(j);
}

static void on_closed(void *arg, const char *id, struct zmtp_conn *c)
{
    struct pilots *ps = arg;
    struct pilot *p = map_get(&ps->pilots, id);
    if (p && p->conn == c)
        p->conn = NULL;
}

/* ---- pools ---- */

static void start_link(struct pilots *ps, struct pilot_pool *pool)
{
    struct pilot_link_ops ops = {pilot_of_key, on_said, on_closed, ps};
    AUTO_FREE char *path = xasprintf("%s/" WARDEN_JOBS "/launcher", ps->l->home.path);
    struct err e = {0};
    if (ps->link || clk_now_ms() < pool->again_ms)
        return;
    if (pilot_link_new(ps->l->base, pool->address, (int)pool->port, path, &ops, &ps->link, &e) < 0) {
        log_error("pilots", NULL, NULL, "%s; trying again", e.msg);
        xstr_set(&pool->why, e.msg);
        pool->again_ms = clk_now_ms() + LINK_AGAIN_MS;
    }
}

static bool parse_terms(struct pilot_pool *pool, const char *line)
{
    return sscanf(line, "%63s %lld %lld %lld %lld %lld %255s %lld", pool->profile, &pool->nodes, &pool->runs, &pool->idle_s,
                  &pool->needs_s, &pool->time_s, pool->address, &pool->port) == 8 &&
           pool->nodes > 0 && pool->runs > 0;
}

struct pilot_pool *pilots_pool(struct launcher *l, const char *options, const char *runtime)
{
    struct pilots *ps = l->pilots;
    const char *terms = strstr(options, "\n" WARDEN_PILOT), *in = strstr(options, IN_PILOT);
    if (!terms)
        return NULL;
    AUTO_FREE char *own = xstrndup(options, in ? (size_t)(in + 1 - options) : strlen(options));
    for (size_t i = 0; i < ps->n_pools; i++)
        if (!strcmp(ps->pools[i]->options, own))
            return ps->pools[i];
    struct pilot_pool *pool = xcalloc(1, sizeof *pool);
    if (!parse_terms(pool, terms + 1 + strlen(WARDEN_PILOT))) {
        log_error("pilots", NULL, NULL, "the warden sent terms of pilots that are none");
        free(pool);
        return NULL;
    }
    pool->options = xstrdup(own);
    pool->runtime = xstrdup(runtime);
    ps->pools = xrealloc(ps->pools, (ps->n_pools + 1) * sizeof *ps->pools);
    ps->pools[ps->n_pools++] = pool;
    start_link(ps, pool);
    return pool;
}

/* ---- submitting ---- */

static void was_useless(struct pilot *p, const char *why)
{
    struct pilot_pool *pool = p->pool;
    int64_t ms = (int64_t)AGAIN_MS << (pool->n_useless < 6 ? pool->n_useless : 6);
    pool->n_useless++;
    pool->again_ms = clk_now_ms() + (ms < MAX_AGAIN_MS ? ms : MAX_AGAIN_MS);
    xstr_set(&pool->why, why);
    log_warn("pilot", NULL, NULL, "pilot %s of profile %s, job %s: %s", p->id, pool->profile, *p->job ? p->job : "?", why);
}

static void refuse_all(struct pilots *ps, const struct pilot_pool *pool, const char *why)
{
    size_t i = 0;
    for (struct job *j; (j = map_next(&ps->l->jobs, &i));)
        if (waits(j, pool))
            job_refuse(j, why);
}

static void on_submitted(void *arg, int status, bool late, struct buf *out)
{
    struct pilot *p = arg;
    struct pilots *ps = p->all;
    p->busy = false;
    p->asked_ms = clk_now_ms();
    if (command_succeeded(status, late) && sbatch_take_id(out, p->job)) {
        log_info("pilot_submitted", NULL, NULL, "pilot %s of profile %s is job %s", p->id, p->pool->profile, p->job);
        return;
    }
    const char *said = late ? "sbatch did not end in time" : command_first_line(out);
    if (late || status < 0 || !slurm_is_refusal(out->p)) { /* it may have been taken all the same: the listing says */
        xstr_set(&ps->l->why, said);
        p->pool->again_ms = clk_now_ms() + AGAIN_MS;
        return;
    }
    AUTO_FREE char *why = xasprintf("Slurm does not take the job: %s", said);
    was_useless(p, why);
    refuse_all(ps, p->pool, why);
    remove_pilot(p);
}

static bool write_keys(struct pilot *p)
{
    struct pilot_pool *pool = p->pool;
    struct pilot_file f = {.runs = pool->runs,
                           .time_s = pool->time_s,
                           .idle_s = pool->idle_s,
                           .runtime = pool->runtime,
                           .tag = p->all->l->home.tag,
                           .options = pool->options};
    AUTO_FREE char *path = path_of(p->all, p->id, "pilot");
    struct err e = {0};
    bool made = zmq_curve_keypair(f.public_key, f.secret_key) == 0 && zmq_z85_decode(p->key, f.public_key);
    int r = made ? pilot_file_write(path, &f, &e) : err_sys(&e, -errno, "cannot make CURVE keys");
    if (r < 0) {
        log_error("pilot", NULL, NULL, "%s; trying again", e.msg);
        xstr_set(&pool->why, e.msg);
    }
    explicit_bzero(f.secret_key, sizeof f.secret_key);
    return r == 0;
}

static void submit(struct pilots *ps, struct pilot_pool *pool)
{
    char id[ID_SIZE];
    struct sbatch call = {0};
    home_new_id(id);
    struct pilot *p = new_pilot(ps, id, pool);
    if (!write_keys(p)) {
        pool->again_ms = clk_now_ms() + AGAIN_MS;
        remove_pilot(p);
        return;
    }
    crash_at(CRASH_pilot_file);
    AUTO_FREE char *name = pilots_job_name(p), *out = path_of(ps, id, "pilot.out"), *comment = xasprintf("pilot/%s", pool->profile);
    sbatch_begin(&call, name, comment, out);
    sbatch_add_options(&call, pool->options, true);
    sbatch_add(&call, job_path(&ps->l->home, "run", "sh"));
    sbatch_add(&call, home_program(&ps->l->home, "simbdp-slurm"));
    sbatch_add(&call, xstrdup("--pilot"));
    sbatch_add(&call, path_of(ps, id, "pilot"));
    sbatch_add(&call, xstrdup("--home"));
    sbatch_add(&call, xstrdup(ps->l->home.path));
    p->busy = true;
    command_start(ps->l->commands, call.argv, SLURM_MS, on_submitted, p);
    sbatch_end(&call);
}

/* ---- what Slurm says ---- */

void pilots_listed(struct launcher *l, const char *name, const struct slurm_line *line, int64_t asked_ms)
{
    struct pilot *p =
        !strncmp(name, PILOT_PREFIX, strlen(PILOT_PREFIX)) ? map_get(&l->pilots->pilots, name + strlen(PILOT_PREFIX)) : NULL;
    size_t i = 0;
    if (!p || asked_ms < p->asked_ms)
        return;
    snprintf(p->job, sizeof p->job, "%s", line->id);
    snprintf(p->node, sizeof p->node, "%s", line->node);
    p->listed = true;
    p->state = slurm_state_of(line->word);
    p->over = slurm_state_is_over(p->state);
    AUTO_FREE char *reason = p->over ? xasprintf("Slurm says %s", line->word) : xstrdup(line->reason);
    xstr_set(&p->reason, reason);
    p->seen_ms = asked_ms;
    for (struct job *j; (j = map_next(&l->jobs, &i));)
        if (j->pilot == p)
            job_pilot_listed(j, line, asked_ms);
}

void pilots_after_listing(struct launcher *l, int64_t asked_ms)
{
    size_t i = 0;
    for (struct pilot *p; (p = map_next(&l->pilots->pilots, &i));)
        if (!p->busy && asked_ms >= p->asked_ms && p->seen_ms != asked_ms)
            p->over = true;
}

/* ---- which nodes are to be left ---- */

static void on_nodes(void *arg, int status, bool late, struct buf *out)
{
    struct pilots *ps = arg;
    ps->asks_nodes = false;
    if (!command_succeeded(status, late))
        return;
    for (char *save, *line = strtok_r(out->p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *word = strchr(line, ' ');
        size_t i = 0;
        if (!word)
            continue;
        *word++ = 0;
        bool leaves = strstr(word, "drain") || strstr(word, "drng") || strstr(word, "fail");
        for (struct pilot *p; (p = map_next(&ps->pilots, &i));)
            if (!strcmp(p->node, line))
                p->node_leaves = leaves;
    }
}

static void ask_nodes(struct pilots *ps)
{
    char *argv[] = {"sinfo", "--noheader", "--Node", "--format=%N %T", NULL};
    int64_t now = clk_now_ms();
    if (!ps->pilots.n || ps->asks_nodes || now - ps->nodes_ms < NODES_MS)
        return;
    ps->asks_nodes = true;
    ps->nodes_ms = now;
    command_start(ps->l->commands, argv, SLURM_MS, on_nodes, ps);
}

/* ---- as many as runs wait for ---- */

static void scale(struct pilots *ps, struct pilot_pool *pool)
{
    long long n = 0, room = 0, waiting = 0;
    bool busy = false;
    size_t i = 0, k = 0;
    for (const struct pilot *p; (p = map_next(&ps->pilots, &i));) {
        bool comes = p->pool == pool && !p->over && !p->was_heard;
        n += p->pool == pool && !p->over;
        busy |= p->pool == pool && p->busy;
        room += comes ? pool->runs : has_room(p) && p->pool == pool ? pool->runs - (long long)p->n_given : 0;
    }
    for (const struct job *j; (j = map_next(&ps->l->jobs, &k));)
        waiting += waits(j, pool);
    if (waiting > room && n < pool->nodes && !busy && ps->link && clk_now_ms() >= pool->again_ms)
        submit(ps, pool);
}

static void look_at_idle(struct pilot *p)
{
    int64_t now = clk_now_ms();
    bool has_runs = p->n_given || p->n_told;
    if (has_runs || !p->conn)
        p->idle_since_ms = 0;
    else if (!p->idle_since_ms)
        p->idle_since_ms = now;
    bool idle = p->idle_since_ms && now - p->idle_since_ms >= p->pool->idle_s * 1000;
    bool late = p->was_heard && p->deadline_ms - now < p->pool->needs_s * 1000;
    if (!p->ending && p->conn && (idle || late || p->node_leaves)) {
        p->ending = true;
        log_info("pilot_ends", NULL, NULL, "pilot %s, job %s on %s: %s", p->id, p->job, p->node,
                 idle   ? "it has nothing to do"
                 : late ? "its time does not suffice for another run"
                        : "its node takes no more jobs");
        pilot_link_say(p->conn, "end", NULL);
    }
}

/* What an unheard pilot did not begin does not begin there; when Slurm would have told that it ended one, that is known. */
static void look_at_job(struct job *j)
{
    int64_t now = clk_now_ms();
    const struct pilot *p = j->pilot;
    j->facts.settled = j->facts.left && now - j->left_ms > SETTLED_MS;
    if (p && !j->facts.fenced && !j->facts.left && now - j->asked_ms > UNHEARD_MS && now - p->heard_ms > UNHEARD_MS) {
        j->facts.left = true;
        j->left_ms = now;
    }
}

static void bury(struct pilot *p)
{
    AUTO_BUF struct buf out = {0};
    AUTO_FREE char *path = path_of(p->all, p->id, "pilot.out");
    if (!p->over || p->n_given || p->busy)
        return;
    if (p->pool && !p->was_heard && fd_read_file(AT_FDCWD, path, &out, 4096, NULL) == 0 && out.n) {
        buf_add(&out, "", 0);
        out.p[strcspn(out.p, "\n")] = 0;
    }
    AUTO_FREE char *why =
        xasprintf("%s%s%s", p->reason ? p->reason : "Slurm knows nothing of it", out.n ? ": " : "", out.n ? out.p : "");
    if (p->pool && !p->was_heard)
        was_useless(p, why);
    if (p->pool && p->pool->n_useless >= GIVE_UP)
        refuse_all(p->all, p->pool, why);
    remove_pilot(p);
}

void pilots_tick(struct launcher *l)
{
    struct pilots *ps = l->pilots;
    size_t i = 0, k = 0;
    for (struct job *j; (j = map_next(&l->jobs, &k));)
        look_at_job(j);
    for (struct pilot *p; (p = map_next(&ps->pilots, &i));) {
        if (p->pool)
            look_at_idle(p);
        bury(p);
    }
    for (size_t n = 0; n < ps->n_pools; n++) {
        start_link(ps, ps->pools[n]);
        pilots_serve(l, ps->pools[n]);
        if (!l->why)
            scale(ps, ps->pools[n]);
    }
    ask_nodes(ps);
}

/* ---- life ---- */

/* Those of an earlier launcher. */
static void take_up(struct pilots *ps)
{
    DIR *d = fd_open_dir(ps->l->home.dirfd, WARDEN_JOBS);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char id[ID_SIZE];
        struct pilot_file f;
        struct err e = {0};
        snprintf(id, sizeof id, "%s", ent->d_name);
        if (!home_valid_id(id) || strcmp(ent->d_name + strlen(id), ".pilot") != 0)
            continue;
        AUTO_FREE char *path = path_of(ps, id, "pilot");
        if (pilot_file_read(path, &f, &e) < 0) {
            log_warn("pilot", NULL, NULL, "%s", e.msg);
            continue;
        }
        struct pilot_pool *pool = pilots_pool(ps->l, f.options, f.runtime);
        struct pilot *p = pool ? new_pilot(ps, id, pool) : NULL;
        if (p && !zmq_z85_decode(p->key, f.public_key))
            log_warn("pilot", NULL, NULL, "%s holds no key", path);
        explicit_bzero(f.secret_key, sizeof f.secret_key);
        pilot_file_free(&f);
    }
    if (d)
        closedir(d);
}

struct pilots *pilots_new(struct launcher *l)
{
    struct pilots *ps = xcalloc(1, sizeof *ps);
    ps->l = l;
    l->pilots = ps;
    take_up(ps);
    return ps;
}

size_t pilots_n(const struct launcher *l)
{
    return l->pilots->pilots.n;
}

void pilots_free(struct pilots *ps)
{
    size_t i = 0;
    if (!ps)
        return;
    pilot_link_free(ps->link);
    for (struct pilot *p; (p = map_next(&ps->pilots, &i));)
        free_pilot(p);
    map_fini(&ps->pilots);
    for (size_t n = 0; n < ps->n_pools; n++) {
        free(ps->pools[n]->options);
        free(ps->pools[n]->runtime);
        free(ps->pools[n]->why);
        free(ps->pools[n]->disk);
        free(ps->pools[n]);
    }
    free(ps->pools);
    free(ps);
}
