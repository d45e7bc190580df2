/* mysimbdp tenant move: from this home to another one, while both work.
 *
 *   ahead    what does not change any more is copied while the tenant works
 *   held     it stands still here (programs/batchmgr/moving.h); the rest is copied. From here to `moved` lies the pause
 *   copied   all of it is there, and held there, too
 *   moved    *the step that decides*: from this record on the tenant is the other home's. This one never takes it up again
 *   done     the other home has taken it up
 *
 * The phase is on the disk before its steps begin (lib/host/move_record.h). Each step may be done again, and no home lets the
 * tenant go on by itself: so whoever is killed, at most one home has it, and --resume goes on with the phase that is written. Until
 * `moved`, --undo goes back instead.
 *
 * What is done at the other home is done by this program's own verbs there (tenant_import.c), so that they are the same over ssh.
 */
#include "account_change.h"
#include "cells.h"
#include "tenant_move.h"

#include "accounts/audit.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "term/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_CHILD_ARGS = 16 };

/* ---- the other home ---- */

struct wish {
    const char *to, *arrived, *forget, *cells, *cell;
    bool resume, undo, status, purge, given;
};

struct move {
    struct cli *c;
    const struct home *h;
    struct move_record rec;
    char *program;
    int64_t paused_ms; /* when it was held; 0: it is not */
};

/* `mysimbdp tenant WORDS… --home OTHER`. */
static int ask_other(const struct move *m, const char *const words[], struct err *e)
{
    char *argv[MAX_CHILD_ARGS] = {m->program, "tenant"};
    size_t n = 2;
    for (; *words; words++)
        argv[n++] = (char *)*words;
    argv[n++] = "--home";
    argv[n++] = m->rec.other;
    argv[n] = NULL;
    return tenant_run(argv, e);
}

/* simbdp-move export … | mysimbdp tenant import --home OTHER */
static int copy(const struct move *m, bool ahead, struct err *e)
{
    AUTO_FREE char *exporter = tenant_program("simbdp-move");
    char *from[MAX_CHILD_ARGS] = {exporter, "export", m->h->path, m->rec.tenant, (char *)m->rec.id, NULL};
    char *const to[] = {m->program, "tenant", "import", "--quiet", "--home", m->rec.other, NULL};
    posix_spawn_file_actions_t fa, fb;
    int pair[2], n = 5;
    pid_t a, b;
    if (ahead)
        from[n++] = "--ahead";
    if (!ahead && !m->rec.shared)
        from[n++] = "--documents";
    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_sys(e, -errno, "cannot make a pipe");
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, pair[1], STDOUT_FILENO);
    posix_spawn_file_actions_init(&fb);
    posix_spawn_file_actions_adddup2(&fb, pair[0], STDIN_FILENO);
    int r = spawn_start(from, environ, &fa, 0, &a);
    close(pair[1]);
    int q = r < 0 ? r : spawn_start(to, environ, &fb, 0, &b);
    close(pair[0]);
    if (r < 0 || q < 0)
        err_sys(e, r < 0 ? r : q, "cannot execute %s", r < 0 ? exporter : m->program);
    r = r < 0 ? r : tenant_wait(a, exporter, e);
    q = q < 0 ? q : tenant_wait(b, m->program, e);
    if (r > 0 || q > 0) /* it said why */
        err_set(e, ERR_REFUSED, r > 0 ? "it could not be read here" : "it could not be taken there");
    return r || q ? ERR_REFUSED : 0;
}

/* ---- phases ---- */

static int go_to(struct move *m, enum move_phase phase, struct err *e)
{
    m->rec.phase = phase;
    return move_record_write(m->h, &m->rec, e);
}

static int ahead(struct move *m, struct err *e)
{
    progress_is_quiet() ? (void)0 : (void)fprintf(stderr, "%s: copying ahead to %s\n", m->rec.tenant, m->rec.other);
    int r = copy(m, true, e);
    crash_at(CRASH_move_ahead);
    return r == 0 ? go_to(m, MOVE_held, e) : r;
}

/* Whether both homes have one MongoDB is what the other one found when it got the tenant's configuration. */
static int look_at_other(struct move *m, struct err *e)
{
    struct home other;
    AUTO_MOVE struct move_record rec = {0};
    int r = home_open(&other, m->rec.other, e);
    if (r < 0)
        return r;
    r = move_record_read(&other, m->rec.tenant, &rec, e);
    m->rec.shared = rec.shared;
    home_close(&other);
    return r;
}

static int dump(const struct move *m, struct err *e)
{
    AUTO_FREE char *out_dir = xasprintf(MOVES_DIR "/%s.out", m->rec.tenant), *rel = xasprintf("%s/mongo", out_dir),
                   *dir = home_path(m->h, rel);
    char *const argv[] = {m->program, "mongo", "dump", dir, "--tenant", m->rec.tenant, "--home", m->h->path, "--quiet", NULL};
    if (m->rec.shared)
        return 0;
    fd_remove_tree(m->h->dirfd, rel);
    const int made = fd_mkdirs(m->h->dirfd, out_dir, 0700);
    if (made < 0)
        return err_sys(e, made, "cannot make %s/%s", m->h->path, out_dir);
    AUTO_FD int out = open("/dev/null", O_WRONLY | O_CLOEXEC), kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    const int r = tenant_run(argv, e);
    dup2(kept, STDOUT_FILENO);
    return r <= 0 ? r : err_set(e, ERR_REFUSED, "its documents could not be read");
}

static int hold(struct move *m, struct err *e)
{
    m->paused_ms = clk_now_ms();
    int r = tenant_order_batchmgr(m->h, "move_hold", m->rec.tenant, NULL, NULL, NULL, e);
    if (r == 0)
        r = tenant_tell_others(m->h, m->rec.tenant, e);
    if (r == 0)
        r = tenant_streams_hold(m->h, m->rec.tenant, e);
    crash_at(CRASH_move_held);
    return r;
}

/* What the fleet's map says of the tenant, if one follows the move: only now, or never with both homes. */
static int map_says(const struct move *m, const char *cell, bool moving, struct err *e)
{
    const int r = m->rec.cells ? cells_reassign(m->rec.cells, m->rec.tenant, cell, moving, e) : 0;
    crash_at(CRASH_move_map);
    return r;
}

static int pause_and_copy(struct move *m, struct err *e)
{
    int r = map_says(m, m->rec.cell_before, true, e);
    if (r == 0)
        r = hold(m, e);
    if (r == 0)
        r = look_at_other(m, e);
    if (r == 0)
        r = dump(m, e);
    if (r == 0)
        r = tenant_streams_export(m->h, m->rec.tenant, e);
    crash_at(CRASH_move_streams);
    if (r == 0)
        r = copy(m, false, e);
    crash_at(CRASH_move_copied);
    return r == 0 ? go_to(m, MOVE_copied, e) : r;
}

static void add_gone(void *arg, struct buf *b)
{
    const struct move *m = arg;
    json_str(b, "to", m->rec.other);
    json_bool(b, "shared", m->rec.shared);
}

/* broker and streammgr hold it already: that they do not hear at once where it is holds nothing up. */
static int gone(struct move *m, struct err *e)
{
    struct err ignored = {0};
    const int r = tenant_order_batchmgr(m->h, "move_gone", m->rec.tenant, add_gone, m, NULL, e);
    if (r == 0)
        tenant_tell_others(m->h, m->rec.tenant, &ignored);
    return r;
}

static int take_up_there(struct move *m, struct err *e)
{
    const char *const words[] = {"move", m->rec.tenant, "--arrived", m->rec.id, NULL};
    int r = gone(m, e);
    crash_at(CRASH_move_gone);
    if (r == 0)
        r = ask_other(m, words, e);
    if (r > 0)
        r = err_set(e, ERR_REFUSED, "it is %s's now, which has not taken it up", m->rec.other);
    crash_at(CRASH_move_taken_up);
    if (r == 0)
        r = map_says(m, m->rec.cell, false, e);
    return r == 0 ? go_to(m, MOVE_done, e) : r;
}

static int conduct(struct move *m, struct err *e)
{
    int r = 0;
    if (m->rec.phase == MOVE_ahead)
        r = ahead(m, e);
    if (r == 0 && m->rec.phase == MOVE_held)
        r = pause_and_copy(m, e);
    if (r == 0 && m->rec.phase == MOVE_copied) {
        r = go_to(m, MOVE_moved, e);
        crash_at(CRASH_move_switch);
    }
    return r == 0 && m->rec.phase == MOVE_moved ? take_up_there(m, e) : r;
}

/* ---- orders ---- */

static void record(const struct move *m, const char *outcome)
{
    AUTO_FREE char *who = account_who();
    const struct audit_record a = {.who = who, .from = "local", .what = "tenant_move", .tenant = m->rec.tenant, .outcome = outcome};
    struct err e = {0};
    if (audit_add(m->h->dirfd, &a, &e) < 0)
        fprintf(stderr, "mysimbdp tenant: this cannot be added to the audit log: %s\n", e.msg);
}

static int finish(struct move *m, int r, bool purge, struct err *e)
{
    AUTO_FREE char *who = account_who(), *list = xasprintf(MOVES_DIR "/%s.ahead", m->rec.tenant);
    if (r < 0) {
        fprintf(stderr, "mysimbdp tenant: %s\n", e->msg);
        if (m->rec.phase >= MOVE_moved)
            fprintf(
                stderr,
                "mysimbdp tenant: %s belongs to %s, and the move is not at its end: `mysimbdp tenant move %s --resume --home %s`\n",
                m->rec.tenant, m->rec.other, m->rec.tenant, m->h->path);
        else
            fprintf(stderr,
                    "mysimbdp tenant: %s is still the tenant of %s%s; `mysimbdp tenant move %s --resume --home %s` goes on, --undo "
                    "goes back\n",
                    m->rec.tenant, m->h->path, m->rec.phase == MOVE_ahead ? ", and works" : ", and stands still", m->rec.tenant,
                    m->h->path);
        return CLI_FAILED;
    }
    tenant_tidy(m->h, m->rec.tenant);
    unlinkat(m->h->dirfd, list, 0);
    record(m, "ok");
    const double paused_s = m->paused_ms ? (double)(clk_now_ms() - m->paused_ms) / 1000 : -1;
    if (m->c->json) {
        AUTO_BUF struct buf b = {0};
        json_begin(&b, NULL, '{');
        json_bool(&b, "ok", true);
        json_str(&b, "tenant_id", m->rec.tenant);
        json_str(&b, "to", m->rec.other);
        json_f64(&b, "paused_s", paused_s < 0 ? (double)NAN : paused_s);
        json_end(&b, '}');
        puts(b.p);
    } else {
        printf("tenant %s is %s's", m->rec.tenant, m->rec.other);
        paused_s < 0 ? (void)0 : (void)printf("; it stood still for %.1f s", paused_s);
        printf("\n");
    }
    if (purge)
        return tenant_remove(m->c, m->h, who, m->rec.tenant, true);
    m->c->json ? (void)0
               : (void)printf("what is left of it here stays until `mysimbdp tenant remove %s --purge --home %s`\n", m->rec.tenant,
                              m->h->path);
    return CLI_DONE;
}

/* What can be seen before anything is done. */
static int check_source(const struct move *m, const struct conf *conf, struct err *e)
{
    const char *t = m->rec.tenant;
    const struct conf_tenant *ct = conf_tenant(conf, t);
    if (!ct)
        return err_set(e, ERR_REFUSED, "no tenant %s in %s", t, m->h->path);
    const int r = tenant_streams_check(ct, e);
    if (r < 0)
        return r;
    return cli_is_running(m->h)
               ? 0
               : err_set(e, ERR_REFUSED, "%s does not run; `mysimbdp up --home %s` starts it", m->h->path, m->h->path);
}

static int check_other(struct move *m, const char *to, struct err *e)
{
    struct home other;
    int r = home_open(&other, to, e);
    if (r < 0)
        return r;
    m->rec.other = xstrdup(other.path);
    if (!strcmp(other.path, m->h->path))
        r = err_set(e, ERR_REFUSED, "%s is the home that it is in", to);
    else if (!cli_is_running(&other))
        r = err_set(e, ERR_REFUSED, "%s does not run; `mysimbdp up --home %s` starts it", other.path, other.path);
    home_close(&other);
    return r;
}

/* A map of the fleet is to follow. */
static int check_map(struct move *m, const char *dir, const char *cell, struct err *e)
{
    char before[CELLS_NAME_MAX + 1], path[PATH_MAX];
    int r = realpath(dir, path) ? cells_where(path, m->rec.tenant, cell, before, e) : err_sys(e, -errno, "cannot open %s", dir);
    if (r < 0)
        return r;
    m->rec.cells = xstrdup(path);
    m->rec.cell = xstrdup(cell);
    m->rec.cell_before = xstrdup(before);
    return 0;
}

static int begin(struct move *m, const struct wish *w, struct err *e)
{
    AUTO_MOVE struct move_record old = {0};
    AUTO_FREE char *list = xasprintf(MOVES_DIR "/%s.ahead", m->rec.tenant);
    struct conf *conf = NULL;
    int r = move_record_read(m->h, m->rec.tenant, &old, e);
    if (r == 0 && old.source)
        return old.phase >= MOVE_moved
                   ? err_set(e, ERR_REFUSED, "%s was moved to %s; move it from there", m->rec.tenant, old.other)
                   : err_set(e, ERR_REFUSED, "%s is being moved to %s already; --resume goes on, --undo goes back", m->rec.tenant,
                             old.other);
    if (r == 0 && old.phase == MOVE_arriving)
        return err_set(e, ERR_REFUSED, "%s is still arriving from %s", m->rec.tenant, old.other);
    if (r < 0 && r != -ENOENT)
        return r;
    if (cli_conf(m->c, m->h, &conf))
        return err_set(e, ERR_CONFIG, "the configuration of %s has errors", m->h->path);
    r = check_source(m, conf, e);
    conf_free(conf);
    if (r == 0)
        r = check_other(m, w->to, e);
    if (r == 0 && w->cells)
        r = check_map(m, w->cells, w->cell, e);
    if (r < 0)
        return r;
    unlinkat(m->h->dirfd, list, 0); /* of an earlier move: to another home, perhaps */
    home_new_id(m->rec.id);
    m->rec.source = true;
    r = go_to(m, MOVE_ahead, e);
    crash_at(CRASH_move_begin);
    return r;
}

static int read_own(struct move *m, struct err *e)
{
    AUTO_FREE char *tenant = xstrdup(m->rec.tenant);
    move_record_fini(&m->rec);
    int r = move_record_read(m->h, tenant, &m->rec, e);
    if (!m->rec.tenant)
        m->rec.tenant = xstrdup(tenant);
    if (r == -ENOENT || (r == 0 && !m->rec.source))
        return err_set(e, ERR_REFUSED, "%s is not being moved away from %s%s%s", tenant, m->h->path,
                       r ? "" : "; ask the home that it comes from: ", r ? "" : m->rec.other);
    return r;
}

static int undo(struct move *m, struct err *e)
{
    AUTO_FREE char *list = xasprintf(MOVES_DIR "/%s.ahead", m->rec.tenant);
    int r = read_own(m, e);
    if (r < 0)
        return r;
    if (m->rec.phase >= MOVE_moved)
        return err_set(e, ERR_REFUSED,
                       "%s belongs to %s, which may have taken it up; `mysimbdp tenant move %s --to %s --home %s` brings it back",
                       m->rec.tenant, m->rec.other, m->rec.tenant, m->h->path, m->rec.other);
    const char *const there[] = {"move", m->rec.tenant, "--forget", m->rec.id, NULL};
    /* It is held there, and stays so without an order: this home may go on in any case. */
    const int gone = ask_other(m, there, e);
    if (m->rec.phase != MOVE_ahead)
        r = tenant_order_batchmgr(m->h, "move_take_up", m->rec.tenant, NULL, NULL, NULL, e);
    if (r == 0)
        r = tenant_tell_others(m->h, m->rec.tenant, e);
    if (r == 0 && m->rec.phase != MOVE_ahead)
        r = map_says(m, m->rec.cell_before, false, e);
    tenant_tidy(m->h, m->rec.tenant);
    unlinkat(m->h->dirfd, list, 0);
    if (r == 0)
        r = move_record_remove(m->h, m->rec.tenant, e);
    if (r < 0)
        return r;
    record(m, "undone");
    printf("tenant %s stays in %s, and works\n", m->rec.tenant, m->h->path);
    if (gone)
        fprintf(
            stderr,
            "mysimbdp tenant: what came of it to %s is there still; `mysimbdp tenant move %s --forget %s --home %s` removes it\n",
            m->rec.other, m->rec.tenant, m->rec.id, m->rec.other);
    return 0;
}

static int status(struct move *m, struct err *e)
{
    AUTO_FREE char *tenant = xstrdup(m->rec.tenant);
    AUTO_MOVE struct move_record r = {0};
    char at[CLK_RFC3339_SIZE];
    int n = move_record_read(m->h, tenant, &r, e);
    if (n == -ENOENT)
        return err_set(e, ERR_REFUSED, "%s has not been moved from or to %s", tenant, m->h->path);
    if (n < 0)
        return n;
    clk_rfc3339(r.at_wall_ms, at);
    if (!m->c->json)
        return printf("%s: %s since %s, %s %s (move %s)\n", tenant, move_phase_name(r.phase), at, r.source ? "to" : "from", r.other,
                      r.id),
               0;
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "tenant_id", tenant);
    json_str(&b, "move", r.id);
    json_str(&b, "phase", move_phase_name(r.phase));
    json_str(&b, r.source ? "to" : "from", r.other);
    json_str(&b, "since", at);
    json_end(&b, '}');
    puts(b.p);
    return 0;
}

/* The step that decides, said by a person who saw that the other home has it. */
static int give(struct move *m, struct err *e)
{
    int r = read_own(m, e);
    if (r == 0 && m->rec.phase != MOVE_held && m->rec.phase != MOVE_copied && m->rec.phase != MOVE_moved)
        return err_set(e, ERR_REFUSED, "%s is not held: it was not exported", m->rec.tenant);
    if (r == 0)
        r = go_to(m, MOVE_moved, e);
    if (r == 0)
        r = gone(m, e);
    if (r == 0)
        r = go_to(m, MOVE_done, e);
    if (r < 0)
        return r;
    tenant_tidy(m->h, m->rec.tenant);
    record(m, "ok");
    printf("tenant %s is %s's\n", m->rec.tenant, m->rec.other);
    return 0;
}

static int move(struct cli *c, const struct home *h, const char *tenant, const struct wish *w)
{
    struct move m = {.c = c, .h = h, .rec = {.tenant = xstrdup(tenant)}, .program = tenant_program("mysimbdp")};
    AUTO_FREE char *lock_name = xasprintf("move-%s", tenant);
    struct err e = {0};
    int code = CLI_FAILED;
    AUTO_FD int lock = w->status ? -1 : home_lock(h, lock_name, 0, &e);
    int r = w->status   ? status(&m, &e)
            : lock < 0  ? lock
            : w->undo   ? undo(&m, &e)
            : w->given  ? give(&m, &e)
            : w->resume ? read_own(&m, &e)
                        : begin(&m, w, &e);
    if (lock == -EWOULDBLOCK)
        err_set(&e, ERR_REFUSED, "another command moves %s at this moment", tenant);
    if (r < 0)
        cli_fail(c, &e);
    else if (w->status || w->undo || w->given)
        code = CLI_DONE;
    else
        code = finish(&m, conduct(&m, &e), w->purge, &e);
    move_record_fini(&m.rec);
    free(m.program);
    return code;
}

/* ---- by hand, to another machine ---- */

/* The stream alone, of a tenant that is held from here on. `to` is a name for people. */
static int export_held(struct move *m, const char *to, bool documents, struct err *e)
{
    AUTO_FREE char *exporter = tenant_program("simbdp-move");
    AUTO_MOVE struct move_record old = {0};
    struct conf *conf = NULL;
    if (isatty(STDOUT_FILENO))
        return err_set(e, ERR_USAGE, "the stream goes to stdout, which is a terminal");
    int r = move_record_read(m->h, m->rec.tenant, &old, e);
    if (r == 0 && !(old.source && old.phase == MOVE_held) && old.phase != MOVE_here)
        return err_set(e, ERR_REFUSED, "%s is being moved, or was; `mysimbdp tenant move %s --status`", m->rec.tenant,
                       m->rec.tenant);
    if (r < 0 && r != -ENOENT)
        return r;
    if (cli_conf(m->c, m->h, &conf))
        return err_set(e, ERR_CONFIG, "the configuration of %s has errors", m->h->path);
    const int known = check_source(m, conf, e);
    conf_free(conf);
    if (known < 0)
        return known;
    r == 0 && old.source ? (void)memcpy(m->rec.id, old.id, sizeof old.id) : home_new_id(m->rec.id);
    m->rec.source = true;
    m->rec.other = xstrdup(to);
    m->rec.shared = !documents;
    r = go_to(m, MOVE_held, e);
    if (r == 0)
        r = hold(m, e);
    if (r == 0)
        r = dump(m, e);
    if (r == 0)
        r = tenant_streams_export(m->h, m->rec.tenant, e);
    char *const argv[] = {exporter, "export", m->h->path, m->rec.tenant, m->rec.id, documents ? "--documents" : NULL, NULL};
    if (r == 0)
        r = tenant_run(argv, e);
    return r <= 0 ? r : err_set(e, ERR_REFUSED, "it could not be read");
}

static int export(struct cli *c, const struct home *h, const char *tenant, const char *to, bool documents)
{
    struct move m = {.c = c, .h = h, .rec = {.tenant = xstrdup(tenant)}, .program = tenant_program("mysimbdp")};
    struct err e = {0};
    int r = export_held(&m, to, documents, &e);
    if (r == 0)
        fprintf(
            stderr,
            "%s is held. When `mysimbdp tenant import` has taken it there: `mysimbdp tenant move %s --given --home %s` here, then "
            "`mysimbdp tenant move %s --arrived %s` there. `--undo` here instead goes back\n",
            tenant, tenant, h->path, tenant, m.rec.id);
    move_record_fini(&m.rec);
    free(m.program);
    return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

bool tenant_move_is_meant(const char *what)
{
    return !strcmp(what, "move") || !strcmp(what, "export") || !strcmp(what, "import");
}

int tenant_move(struct cli *c)
{
    struct home h;
    const struct wish w = {cli_opt(c, "--to"),     cli_opt(c, "--arrived"), cli_opt(c, "--forget"), cli_opt(c, "--cells"),
                           cli_opt(c, "--cell"),   cli_flag(c, "--resume"), cli_flag(c, "--undo"),  cli_flag(c, "--status"),
                           cli_flag(c, "--purge"), cli_flag(c, "--given")};
    const bool documents = !cli_flag(c, "--no-documents");
    int r = cli_args(c, 1, 2);
    if (r)
        return r;
    const char *what = c->argv[0], *tenant = c->argc > 1 ? c->argv[1] : NULL;
    const int n = (w.to != NULL) + (w.arrived != NULL) + (w.forget != NULL) + w.resume + w.undo + w.status + w.given;
    if (!strcmp(what, "import") ? tenant || n : !tenant || !conf_valid_id(tenant))
        return cli_usage(c, "%s: wrong arguments", what);
    if (!strcmp(what, "export") && (n != 1 || !w.to))
        return cli_usage(c, "export T --to NAME: who gets it");
    if (!strcmp(what, "move") && n != 1)
        return cli_usage(c, "one of --to HOME, --resume, --undo, --status");
    if (!w.cells != !w.cell || (w.cells && (strcmp(what, "move") != 0 || !w.to)))
        return cli_usage(c, "--cells DIR and --cell NAME go together, and with move --to HOME");
    if (cli_home(c, &h))
        return CLI_FAILED;
    r = !strcmp(what, "import")   ? tenant_import(c, &h)
        : !strcmp(what, "export") ? export(c, &h, tenant, w.to, documents)
        : w.arrived               ? tenant_arrived(c, &h, tenant, w.arrived)
        : w.forget                ? tenant_forget(c, &h, tenant, w.forget)
                                  : move(c, &h, tenant, &w);
    home_close(&h);
    return r;
}
