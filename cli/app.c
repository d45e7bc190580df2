/* mysimbdp app: the stream apps, and how many instances of each run. */
#include "cli.h"
#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct col cols[] = {
    {"tenant_id", COL_TEXT, true},      {"app", COL_TEXT, true},
    {"stream", COL_TEXT, true},         {"state", COL_TEXT, true},
    {"instances", COL_COUNT, true},     {"running", COL_COUNT, false},
    {"ready", COL_COUNT, true},         {"draining", COL_COUNT, true},
    {"desired", COL_COUNT, true},       {"min_instances", COL_COUNT, true},
    {"max_instances", COL_COUNT, true}, {"restarts", COL_COUNT, true},
    {"reason", COL_TEXT, true},         {"run_ids", COL_JSON, false},
};

static int list(struct cli *c, const char *tenant)
{
    struct home h;
    struct err e = {0};
    AUTO_BUF struct buf rq = {0}, array = {0};
    AUTO_BSON bson_t *doc = NULL;
    if (cli_home(c, &h))
        return CLI_FAILED;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", "apps");
    if (tenant)
        json_str(&rq, "tenant", tenant);
    json_end(&rq, '}');
    int fd = cli_connect(&h, "streammgr.sock", NULL), r;
    if (fd < 0) {
        AUTO_FREE char *program = home_program(&h, "streammgr");
        char *argv[] = {program, "--list", (char *)(tenant ? tenant : ""), "--home", h.path, NULL};
        r = cli_output_of(argv, &array, &e);
    } else {
        r = cli_exchange(fd, rq.p, &doc, &e);
        close(fd);
    }
    home_close(&h);
    if (r < 0)
        return cli_fail(c, &e);
    return doc ? cli_list_answer(c, doc, "apps", cols, sizeof cols / sizeof *cols)
               : cli_list_array(c, array.p, array.n, cols, sizeof cols / sizeof *cols);
}

/* Cuts off what follows a "--", or else what follows `n` arguments. */
static char **take_arguments(struct cli *c, int n)
{
    int at = 0;
    while (at < c->argc && strcmp(c->argv[at], "--") != 0 && at < n)
        at++;
    char **rest = c->argv + at + (at < c->argc && !strcmp(c->argv[at], "--"));
    if (at < c->argc)
        c->argv[at] = NULL;
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
    const char *what = c->argv[0], *name = c->argv[1], *count = name ? c->argv[2] : NULL;
    if (!strcmp(what, "list") && !name)
        return list(c, tenant);
    const char *slash = name ? strchr(name, '/') : NULL;
    if ((!scale && !start && strcmp(what, "stop")) || !slash || scale != (count != NULL))
        return cli_usage(c, "list, start TENANT/APP, stop TENANT/APP, or scale TENANT/APP COUNT");
    AUTO_FREE char *id = xstrndup(name, (size_t)(slash - name));
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", what);
    json_str(&rq, "tenant", id);
    json_str(&rq, "app", slash + 1);
    if (scale) {
        char *end;
        long long n = strtoll(count, &end, 10);
        if (*end || end == count || n < 0)
            return cli_usage(c, "\"%s\" is no number of instances", count);
        json_i64(&rq, "count", n);
    }
    if (start && *arguments) {
        json_begin(&rq, "args", '[');
        for (; *arguments; arguments++)
            json_str(&rq, NULL, *arguments);
        json_end(&rq, ']');
    }
    json_end(&rq, '}');
    return cli_order(c, "streammgr.sock", rq.p, NULL);
}
