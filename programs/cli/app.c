/* mysimbdp app: the stream apps, and how many instances of each run. */
#include "base/mem.h"
#include "cli.h"
#include "ledger.h"
#include "listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct col cols[] = {
    {"tenant_id", COL_TEXT, 2},      {"app", COL_TEXT, 1},       {"stream", COL_TEXT, 5},   {"state", COL_TEXT, 1},
    {"instances", COL_COUNT, 1},     {"running", COL_COUNT, 0},  {"ready", COL_COUNT, 3},   {"draining", COL_COUNT, 7},
    {"desired", COL_COUNT, 1},       {"pinned", COL_BOOL, 6},    {"by_hand", COL_COUNT, 0}, {"min_instances", COL_COUNT, 8},
    {"max_instances", COL_COUNT, 8}, {"restarts", COL_COUNT, 4}, {"reason", COL_LONG, 1},   {"run_ids", COL_JSON, 0},
    {"asks", COL_JSON, 0},
};

/* Prints the run id alone on the standard output, for scripts. */
static void print_started(const bson_t *answer)
{
    const char *run_id = json_get_str(answer, "run_id", NULL);
    if (run_id)
        puts(run_id);
    else
        fprintf(stderr, "no instance yet: %s\n", json_get_str(answer, "reason", "?"));
}

static int list(struct cli *c, const char *tenant)
{
    struct home h;
    AUTO_BUF struct buf rq = {0};
    if (cli_home_of_tenant(c, &h, tenant))
        return CLI_FAILED;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", "apps");
    if (tenant)
        json_str(&rq, "tenant_id", tenant);
    json_end(&rq, '}');
    AUTO_FREE char *program = home_program(&h, "streammgr");
    char *offline[] = {program, "--list", (char *)(tenant ? tenant : ""), "--home", h.path, NULL};
    int r = cli_list_program(c, &h, &(struct cli_source){"streammgr.sock", rq.p, "apps", offline, "stream apps"}, cols,
                             sizeof cols / sizeof *cols);
    home_close(&h);
    return r;
}

/* Takes the arguments behind "--" off, or, without one, those behind the first `n`. */
static char **take_arguments(struct cli *c, int n)
{
    int at = 0;
    while (at < c->argc && strcmp(c->argv[at], "--") != 0 && at < n)
        at++;
    char **rest = c->argv + at + (at < c->argc && !strcmp(c->argv[at], "--"));
    c->argc = at;
    return rest;
}

int verb_app(struct cli *c)
{
    const char *tenant = cli_opt(c, "--tenant");
    AUTO_BUF struct buf rq = {0};
    bool start = c->argc && !strcmp(c->argv[0], "start"), scale = c->argc && !strcmp(c->argv[0], "scale");
    char **arguments = start ? take_arguments(c, 2) : NULL;
    int r = cli_args(c, 1, 3);
    if (r)
        return r;
    const char *what = c->argv[0], *name = c->argc > 1 ? c->argv[1] : NULL, *count = c->argc > 2 ? c->argv[2] : NULL;
    if (!strcmp(what, "list") && !name)
        return list(c, tenant);
    const char *slash = name ? strchr(name, '/') : NULL;
    if ((!scale && !start && strcmp(what, "stop")) || !slash || scale != (count != NULL))
        return cli_usage(c, "list, start TENANT/APP, stop TENANT/APP, or scale TENANT/APP COUNT|auto");
    AUTO_FREE char *id = xstrndup(name, (size_t)(slash - name));
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", what);
    json_str(&rq, "tenant_id", id);
    json_str(&rq, "app", slash + 1);
    if (scale && !strcmp(count, "auto")) {
        json_bool(&rq, "pin", false);
    } else if (scale) {
        char *end;
        long long n = strtoll(count, &end, 10);
        if (*end || end == count || n < 0)
            return cli_usage(c, "\"%s\" is no number of instances, nor auto", count);
        json_i64(&rq, "count", n);
        json_bool(&rq, "pin", n > 0); /* with none, a message may start one; `stop` prevents that */
    }
    if (start && *arguments) {
        json_begin(&rq, "args", '[');
        for (; *arguments; arguments++)
            json_str(&rq, NULL, *arguments);
        json_end(&rq, ']');
    }
    json_end(&rq, '}');
    return cli_order(c, "streammgr.sock", rq.p, start ? print_started : NULL);
}
