/* mysimbdp alerts: what fires, and silences (host/silences.h), which need no program that runs. */
#include "account_change.h"
#include "listing.h"

#include "base/clk.h"
#include "base/mem.h"
#include "host/silences.h"

#include <stdio.h>
#include <string.h>

static const struct col firing_cols[] = {
    {"alert", COL_TEXT, 1}, {"tenant_id", COL_TEXT, 1},      {"app", COL_TEXT, 1},
    {"state", COL_TEXT, 2}, {"silenced_until", COL_TEXT, 2}, {"runbook_url", COL_LONG, 3},
};

static const struct col silence_cols[] = {
    {"until", COL_TEXT, 1}, {"silence_id", COL_TEXT, 1}, {"alert", COL_TEXT, 1},   {"tenant_id", COL_TEXT, 1},
    {"app", COL_TEXT, 1},   {"by", COL_TEXT, 3},         {"made_at", COL_TEXT, 4}, {"why", COL_LONG, 2},
};

/* As the monitor told it; NULL: there is none, or it is one of before it told any. */
static const char *runbook_of(const bson_t *board, const char *alert)
{
    bson_iter_t it;
    bson_t one;
    if (json_get_iter(board, "alerts", &it))
        while (json_next_doc(&it, &one))
            if (!strcmp(json_get_str(&one, "alert", ""), alert))
                return json_get_str(&one, "runbook_url", NULL);
    return NULL;
}

static void add_firing(struct buf *b, const bson_t *board, const bson_t *row, const struct silence *v, size_t n)
{
    const char *tenant = json_get_str(row, "tenant_id", ""), *app = json_get_str(row, "app", "");
    bson_iter_t it;
    if (!json_get_iter(row, "alerts", &it))
        return;
    while (bson_iter_next(&it)) {
        const char *alert = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : "";
        const struct silence *s = silences_find(v, n, tenant, app, alert);
        json_begin(b, NULL, '{');
        json_str(b, "alert", alert);
        json_str(b, "tenant_id", tenant);
        json_str(b, "app", app);
        json_str(b, "state", s ? "silenced" : "firing");
        json_time(b, "silenced_until", s ? s->until_wall_ms : 0);
        json_str(b, "runbook_url", runbook_of(board, alert));
        json_end(b, '}');
    }
}

static int list(struct cli *c, const struct home *h)
{
    AUTO_BSON bson_t *board = NULL;
    AUTO_BUF struct buf b = {0};
    struct silence *v = NULL;
    struct err e = {0};
    bson_iter_t it;
    bson_t row;
    size_t n = 0;
    if (cli_request(h, "monitor.sock", "{\"op\":\"board\"}", &board, &e) < 0 || silences_read(h, clk_wall_ms(), &v, &n, &e) < 0)
        return cli_fail(c, &e);
    json_begin(&b, NULL, '[');
    if (json_get_iter(board, "rows", &it))
        while (json_next_doc(&it, &row))
            add_firing(&b, board, &row, v, n);
    json_end(&b, ']');
    silences_free(v, n);
    return cli_list_array(c, "alerts that fire", b.p, b.n, firing_cols, sizeof firing_cols / sizeof *firing_cols);
}

static void add_or_null(struct buf *b, const char *key, const char *value)
{
    json_str(b, key, *value ? value : NULL);
}

static int list_silences(struct cli *c, const struct home *h)
{
    AUTO_BUF struct buf b = {0};
    struct silence *v = NULL;
    struct err e = {0};
    size_t n = 0;
    if (silences_read(h, clk_wall_ms(), &v, &n, &e) < 0)
        return cli_fail(c, &e);
    json_begin(&b, NULL, '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&b, NULL, '{');
        json_time(&b, "until", v[i].until_wall_ms);
        json_str(&b, "silence_id", v[i].id);
        add_or_null(&b, "alert", v[i].alert);
        add_or_null(&b, "tenant_id", v[i].tenant);
        add_or_null(&b, "app", v[i].app);
        json_str(&b, "by", v[i].by);
        json_time(&b, "made_at", v[i].made_wall_ms);
        add_or_null(&b, "why", v[i].why);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    silences_free(v, n);
    return cli_list_array(c, "silences", b.p, b.n, silence_cols, sizeof silence_cols / sizeof *silence_cols);
}

static bool has_alert(const struct conf *conf, const char *name)
{
    const struct conf_alert *v = conf->platform.alerts.v;
    bool has = !strcmp(name, CONF_ALERT_SILENCE);
    for (size_t i = 0; i < conf->platform.alerts.n; i++)
        has |= !strcmp(v[i].name, name);
    return has;
}

/* What WHAT and --alert mean; *room keeps the tenant's name. 0, or CLI_USAGE after a complaint. */
static int understand(struct cli *c, const struct conf *conf, const char *what, const char *alert, char **room, struct silence *s)
{
    char *slash = strchr(*room = xstrdup(what), '/');
    s->tenant = s->app = s->alert = (char *)"";
    if (alert)
        s->alert = (char *)alert;
    if (alert && !has_alert(conf, alert))
        return cli_usage(c, "there is no alert \"%s\" (platform.alerts)", alert);
    if (slash)
        *slash = 0;
    const struct conf_tenant *t = conf_tenant(conf, *room);
    bool is_alert = !slash && !alert && has_alert(conf, what);
    if (is_alert && t)
        return cli_usage(c, "\"%s\" is an alert and a tenant: say \"%s/APP\", or \"TENANT --alert %s\"", what, what, what);
    if (is_alert) {
        s->alert = (char *)what;
        return 0;
    }
    s->tenant = *room;
    if (!t)
        return cli_usage(c, slash ? "there is no tenant \"%s\"" : "there is no alert and no tenant \"%s\"", *room);
    if (slash && !conf_stream_app(t, slash + 1))
        return cli_usage(c, "tenant %s has no stream app \"%s\"", *room, slash + 1);
    s->app = slash ? slash + 1 : s->app;
    return 0;
}

struct given {
    const char *alert, *time, *why;
    char *who;
};

static int silence(struct cli *c, const struct home *h, const struct given *g)
{
    AUTO_FREE char *room = NULL;
    struct silence s = {.by = g->who, .why = (char *)(g->why ? g->why : "")};
    struct conf *conf = NULL;
    struct err e = {0};
    char until[CLK_RFC3339_SIZE];
    s.made_wall_ms = clk_wall_ms();
    if (!g->time || clk_parse_until(g->time, &s.until_wall_ms) < 0 || s.until_wall_ms <= s.made_wall_ms)
        return cli_usage(c, "--for says how long: 30m, 2h, 7d, or until when: 2026-01-31T12:00:00Z");
    if (strlen(s.why) > 1000)
        return cli_usage(c, "--why has at most 1000 bytes");
    int r = cli_conf(c, h, &conf);
    if (r == 0)
        r = understand(c, conf, c->argv[1], g->alert, &room, &s);
    if (r == 0 && silences_add(h, s.made_wall_ms, &s, &e) < 0)
        r = cli_fail(c, &e);
    if (r == 0)
        printf("silence %s: nobody is told until %s\n", s.id, clk_rfc3339(s.until_wall_ms, until));
    free(s.id);
    conf_free(conf);
    return r;
}

int verb_alerts(struct cli *c)
{
    AUTO_FREE char *who = account_who();
    struct given g = {cli_opt(c, "--alert"), cli_opt(c, "--for"), cli_opt(c, "--why"), who};
    struct home h;
    struct err e = {0};
    int r = cli_args(c, 0, 2);
    if (r)
        return r;
    const char *what = c->argc ? c->argv[0] : "list";
    bool one = !strcmp(what, "silence") || !strcmp(what, "unsilence");
    if (!one && strcmp(what, "list") != 0 && strcmp(what, "silences") != 0)
        return cli_usage(c, "unknown: %s", what);
    if (one != (c->argc == 2))
        return cli_usage(c, one ? "%s what?" : "%s takes no argument", what);
    if ((g.alert || g.time || g.why) && strcmp(what, "silence") != 0)
        return cli_usage(c, "--alert, --for and --why are for `alerts silence`");
    if (cli_home(c, &h))
        return CLI_FAILED;
    if (!strcmp(what, "list"))
        r = list(c, &h);
    else if (!strcmp(what, "silences"))
        r = list_silences(c, &h);
    else if (!strcmp(what, "silence"))
        r = silence(c, &h, &g);
    else if (silences_remove(&h, clk_wall_ms(), c->argv[1], &e) < 0)
        r = cli_fail(c, &e);
    home_close(&h);
    return r;
}
