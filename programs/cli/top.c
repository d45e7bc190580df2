/* mysimbdp top: what the monitor's board shows, live or once. */
#include "top.h"
#include "cli.h"
#include "ledger.h"

#include <stdio.h>
#include <string.h>

static void print_json(const struct top_board *v)
{
    static const char *const kinds[][2] = {
        {"rows", "app"}, {"batch", "batch"}, {"batch_apps", "batch_app"}, {"refused", "reports"}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        bson_iter_t it;
        bson_t one;
        if (!json_get_iter(v->doc, kinds[k][0], &it))
            continue;
        while (json_next_doc(&it, &one)) {
            AUTO_BUF struct buf b = {0};
            if (v->issues && k == 0 && !top_is_issue(json_get_str(&one, "state", "")))
                continue;
            json_from_bson(&one, &b);
            printf("{\"kind\":\"%s\",%s\n", kinds[k][1], b.p + 1 + strspn(b.p + 1, " "));
        }
    }
}

static int once(struct cli *c, const struct home *h, struct top_board *v, const char *request)
{
    struct err e = {0};
    if (cli_request(h, "monitor.sock", request, &v->doc, &e) < 0)
        return cli_fail(c, &e);
    if (c->json)
        print_json(v);
    else
        top_print(v);
    return CLI_DONE;
}

int verb_top(struct cli *c)
{
    struct home h;
    struct top_board v = {.sort = METRIC_state};
    AUTO_BUF struct buf rq = {0};
    const char *sort = cli_opt(c, "--sort"), *tenant = cli_opt(c, "--tenant");
    bool live = !cli_flag(c, "--once");
    v.issues = cli_flag(c, "--issues");
    int column = sort ? metric_find(sort, strlen(sort)) : METRIC_state, r = cli_args(c, 0, 0);
    if (r)
        return r;
    if (column < 0)
        return cli_usage(c, "no column \"%s\"; `mysimbdp check --keys` lists them", sort);
    v.sort = (enum metric)column;
    if (cli_home_of_tenant(c, &h, tenant))
        return CLI_FAILED;
    top_add_request(&rq, "board", tenant);
    r = live && !c->json ? top_live(c, &h, &v, tenant) : once(c, &h, &v, rq.p);
    top_board_fini(&v);
    home_close(&h);
    return r;
}
