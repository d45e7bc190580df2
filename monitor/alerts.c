/* Alerts: conditions over the board's columns. One that begins or ends is logged, and its command, if it has one, is told on stdin.
 * Commands are the provider's, run as the provider, without a shell; a few at once, none for long. */
#include "monitor.h"

#include "common/clk.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { AT_ONCE = 4, QUEUE = 256, MAX_ARGS = 32, PATIENCE_MS = 30000 };

extern char **environ;

struct hooks {
    struct {
        pid_t pid; /* 0: free */
        int64_t started_ms;
        char *name;
    } going[AT_ONCE];
    struct {
        char *name, *command, *json;
    } waiting[QUEUE];
    size_t head, n;
};

/* ---- commands ---- */

static int start(const char *command, const char *json, pid_t *ret)
{
    char *argv[MAX_ARGS + 1] = {0}, *save = NULL;
    size_t n = 0;
    AUTO_FREE char *words = xstrdup(command);
    for (char *w = strtok_r(words, " \t", &save); w && n < MAX_ARGS; w = strtok_r(NULL, " \t", &save))
        argv[n++] = w;
    AUTO_FD int in = memfd_create("alert", MFD_CLOEXEC);
    if (in < 0 || fd_write_all(in, json, strlen(json)) < 0 || lseek(in, 0, SEEK_SET) < 0)
        return -errno;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in, STDIN_FILENO);
    return spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP, ret);
}

static void drop_first(struct hooks *h)
{
    free(h->waiting[h->head].name);
    free(h->waiting[h->head].command);
    free(h->waiting[h->head].json);
    h->head = (h->head + 1) % QUEUE;
    h->n--;
}

static void start_waiting(struct hooks *h)
{
    for (size_t i = 0; h->n && i < AT_ONCE; i++) {
        if (h->going[i].pid)
            continue;
        const char *name = h->waiting[h->head].name, *command = h->waiting[h->head].command;
        int r = start(command, h->waiting[h->head].json, &h->going[i].pid);
        if (r < 0)
            log_error("alert_command", NULL, NULL, "alert %s: cannot run %s: %s", name, command, err_text(r));
        h->going[i].pid = r < 0 ? 0 : h->going[i].pid;
        h->going[i].started_ms = clk_now_ms();
        xstr_set(&h->going[i].name, name);
        drop_first(h);
    }
}

void alerts_reap(struct monitor *m)
{
    struct hooks *h = m->hooks;
    for (size_t i = 0; h && i < AT_ONCE; i++) {
        int status;
        if (!h->going[i].pid)
            continue;
        if (clk_now_ms() - h->going[i].started_ms > PATIENCE_MS)
            kill(-h->going[i].pid, SIGKILL); /* our child, not reaped: the group is its own */
        if (waitpid(h->going[i].pid, &status, WNOHANG) != h->going[i].pid)
            continue;
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            log_warn("alert_command", NULL, NULL, "the command of alert %s ended with %s %d", h->going[i].name,
                     WIFEXITED(status) ? "exit code" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        h->going[i].pid = 0;
    }
    if (h)
        start_waiting(h);
}

static void run_command(struct monitor *m, const struct alert *al, const char *json)
{
    struct hooks *h = m->hooks;
    if (!*al->command)
        return;
    if (h->n == QUEUE) {
        log_error("alert_command", NULL, NULL, "alert %s: %d commands wait already; this one is not run", al->name, QUEUE);
        return;
    }
    size_t at = (h->head + h->n++) % QUEUE;
    h->waiting[at].name = xstrdup(al->name);
    h->waiting[at].command = xstrdup(al->command);
    h->waiting[at].json = xstrdup(json);
    start_waiting(h);
}

/* ---- conditions ---- */

/* over: why it is; NULL: it begins. */
static void tell(struct monitor *m, const struct alert *al, const struct app *a, const char *over, int64_t since_ms)
{
    AUTO_BUF struct buf b = {0};
    bool firing = !over;
    log_line(firing ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, firing ? "alert" : "alert_over", a->tenant, NULL, "app %s: %s: %s%s%s",
             a->name, al->name, al->when, firing ? "" : " ", firing ? "" : over);
    json_begin(&b, NULL, '{');
    json_str(&b, "alert", al->name);
    json_str(&b, "state", firing ? "firing" : "over");
    json_time(&b, "at", m->wall_ms);
    json_time(&b, "since", m->wall_ms - (m->now_ms - since_ms));
    json_str(&b, "when", al->when);
    json_str(&b, "tenant_id", a->tenant);
    json_str(&b, "app", a->name);
    json_begin(&b, "rows", '[');
    board_add(m, a, &b);
    json_end(&b, ']');
    json_end(&b, '}');
    buf_adds(&b, "\n");
    run_command(m, al, b.p);
}

void alerts_look(struct monitor *m, struct app *a, const struct metric_row *row)
{
    for (size_t i = 0; i < m->n_alerts; i++) {
        struct alarm *s = &a->alarms[i];
        bool holds = expr_holds(m->alerts[i].x, row);
        int64_t since = s->since_ms;
        s->since_ms = !holds ? 0 : since ? since : m->now_ms;
        bool firing = holds && m->now_ms - s->since_ms >= m->alerts[i].for_ms;
        if (firing == s->firing)
            continue;
        s->firing = firing;
        a->n_firing += firing ? 1 : (size_t)-1;
        tell(m, &m->alerts[i], a, firing ? NULL : "no longer holds", firing ? s->since_ms : since);
    }
}

static bool is_same(const struct alert *a, const struct alert *b)
{
    return !strcmp(a->name, b->name) && !strcmp(a->when, b->when);
}

/* Those that fire and are not among `next`: who was told of them is told that they are over. */
static void end(struct monitor *m, struct app *a, const struct alert *next, size_t n, const char *why)
{
    for (size_t k = 0; a->alarms && k < m->n_alerts; k++) {
        bool stays = !a->alarms[k].firing;
        for (size_t i = 0; i < n && !stays; i++)
            stays = is_same(&next[i], &m->alerts[k]);
        if (!stays)
            tell(m, &m->alerts[k], a, why, a->alarms[k].since_ms);
    }
}

void alerts_app_gone(struct monitor *m, struct app *a)
{
    end(m, a, NULL, 0, "is over: the app is gone");
}

static void release(struct alert *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(v[i].name);
        free(v[i].when);
        free(v[i].command);
        expr_free(v[i].x);
    }
    free(v);
}

static int add(struct alert *al, const char *name, const char *when, int64_t for_s, const char *command, struct err *e)
{
    *al = (struct alert){xstrdup(name), xstrdup(when), xstrdup(command), for_s * 1000, NULL};
    return expr_parse(when, &al->x, e);
}

/* Where each app's alarms stand goes over to the alert of the same name and condition. */
static void carry_over(struct monitor *m, const struct alert *next, size_t n)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        struct alarm *alarms = xcalloc(n, sizeof *alarms);
        end(m, a, next, n, "is over: it is not configured any more");
        a->n_firing = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; a->alarms && k < m->n_alerts; k++)
                if (is_same(&next[i], &m->alerts[k]))
                    alarms[i] = a->alarms[k];
        for (size_t i = 0; i < n; i++)
            a->n_firing += alarms[i].firing;
        free(a->alarms);
        a->alarms = alarms;
    }
}

int alerts_set(struct monitor *m, struct err *e)
{
    static const char silence[] = "silence"; /* always there, unless somebody says otherwise under this name */
    const struct conf_alert *c = m->conf->platform.alerts.v;
    size_t n = m->conf->platform.alerts.n, k = 0;
    struct alert *v = xcalloc(n + 1, sizeof *v);
    bool has_silence = false;
    int r = 0;
    for (; r == 0 && k < n; k++) {
        has_silence |= !strcmp(c[k].name, silence);
        r = add(&v[k], c[k].name, c[k].when, c[k].for_s, c[k].command, e);
    }
    if (r == 0 && !has_silence)
        r = add(&v[k++], silence, "silent > 0", 0, "", e);
    if (r < 0) {
        release(v, k);
        return r;
    }
    if (!m->hooks)
        m->hooks = xcalloc(1, sizeof *m->hooks);
    carry_over(m, v, k);
    release(m->alerts, m->n_alerts);
    m->alerts = v;
    m->n_alerts = k;
    return 0;
}

void alerts_free(struct monitor *m)
{
    struct hooks *h = m->hooks;
    release(m->alerts, m->n_alerts);
    while (h && h->n)
        drop_first(h);
    for (size_t i = 0; h && i < AT_ONCE; i++) {
        if (h->going[i].pid)
            kill(-h->going[i].pid, SIGKILL);
        free(h->going[i].name);
    }
    free(h);
}
