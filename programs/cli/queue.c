/* `queue list` and `dead list|replay|drop`: what the broker says, or, while it is down, what its store holds. */
#include "cli.h"
#include "ledger.h"
#include "listing.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static const struct col queue_cols[] = {
    {"tenant_id", COL_TEXT, 2},      {"stream", COL_TEXT, 1},       {"app", COL_TEXT, 1},
    {"state", COL_TEXT, 1},          {"consumers", COL_COUNT, 4},   {"ready", COL_COUNT, 1},
    {"leased", COL_COUNT, 3},        {"in_per_s", COL_NUMBER, 5},   {"acked_per_s", COL_NUMBER, 5},
    {"oldest_age_s", COL_NUMBER, 4}, {"redelivered", COL_COUNT, 7}, {"dead", COL_COUNT, 3},
    {"acked", COL_COUNT, 0},         {"lost", COL_COUNT, 0},        {"expired", COL_COUNT, 0},
    {"published", COL_COUNT, 0},     {"refused", COL_COUNT, 0},     {"stored_bytes", COL_COUNT, 0},
    {"last_seq", COL_COUNT, 0},      {"store", COL_TEXT, 0},        {"topic", COL_TEXT, 0},
    {"kafka", COL_TEXT, 0},          {"partitions", COL_COUNT, 0},  {"partitions_here", COL_COUNT, 0},
};

static const struct col dead_cols[] = {
    {"tenant_id", COL_TEXT, 2},   {"stream", COL_TEXT, 1},  {"app", COL_TEXT, 1},          {"seq", COL_COUNT, 1},
    {"deliveries", COL_COUNT, 4}, {"reason", COL_LONG, 2},  {"published_at", COL_TEXT, 4}, {"died_at", COL_TEXT, 0},
    {"bytes", COL_COUNT, 5},      {"message", COL_LONG, 3}, {"base64", COL_TEXT, 0},
};

static int list(struct cli *c, const char *what, const char *tenant, const char *stream, const char *app, const struct col *cols,
                size_t n_cols)
{
    struct home h;
    AUTO_BUF struct buf rq = {0};
    if (cli_home_of_tenant(c, &h, tenant))
        return CLI_FAILED;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", what);
    if (tenant)
        json_str(&rq, "tenant_id", tenant);
    if (stream)
        json_str(&rq, "stream", stream);
    if (app)
        json_str(&rq, "app", app);
    json_end(&rq, '}');
    AUTO_FREE char *program = home_program(&h, "broker");
    char *offline[] = {
        program,  "--list", (char *)what, (char *)(tenant ? tenant : ""), (char *)(stream ? stream : ""), (char *)(app ? app : ""),
        "--home", h.path,   NULL};
    const char *shown = !strcmp(what, "dead") ? "dead letters" : "queues";
    int r = cli_list_program(c, &h, &(struct cli_source){"broker.sock", rq.p, what, offline, shown}, cols, n_cols);
    home_close(&h);
    return r;
}

int verb_queue(struct cli *c)
{
    const char *tenant = cli_opt(c, "--tenant");
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    if (strcmp(c->argv[0], "list"))
        return cli_usage(c, "unknown: %s", c->argv[0]);
    return list(c, "queues", tenant, NULL, NULL, queue_cols, sizeof queue_cols / sizeof *queue_cols);
}

static void print_count(const bson_t *answer)
{
    printf("%lld dead letters\n", (long long)json_get_i64(answer, "n", 0));
}

int verb_dead(struct cli *c)
{
    const char *app = cli_opt(c, "--app"), *seq = cli_opt(c, "--seq");
    bool all = cli_flag(c, "--all");
    int r = cli_args(c, 1, 2);
    if (r)
        return r;
    const char *what = c->argv[0], *full = c->argc > 1 ? c->argv[1] : NULL, *slash = full ? strchr(full, '/') : NULL;
    AUTO_FREE char *tenant = full ? xstrndup(full, slash ? (size_t)(slash - full) : strlen(full)) : NULL;
    const char *stream = slash ? slash + 1 : NULL;
    if (!strcmp(what, "list") && !seq && !all)
        return list(c, "dead", tenant, stream, app, dead_cols, sizeof dead_cols / sizeof *dead_cols);
    if (strcmp(what, "replay") && strcmp(what, "drop"))
        return cli_usage(c, "unknown: %s", what);
    char *end = NULL;
    long long number = seq ? strtoll(seq, &end, 10) : 0;
    if (!stream || !seq == !all || (seq && (*end || number <= 0)))
        return cli_usage(c, "%s takes TENANT/STREAM and either --seq N or --all", what);
    AUTO_BUF struct buf rq = {0};
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", what[0] == 'r' ? "dead_replay" : "dead_drop");
    json_str(&rq, "tenant_id", tenant);
    json_str(&rq, "stream", stream);
    if (app)
        json_str(&rq, "app", app);
    if (number)
        json_i64(&rq, "seq", number);
    json_end(&rq, '}');
    return cli_order(c, "broker.sock", rq.p, print_count);
}
