/* mysimbdp audit: who changed what. */
#include "cli.h"
#include "ledger.h"
#include "listing.h"

#include "accounts/audit.h"
#include "base/clk.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static const struct col audit_cols[] = {
    {"seq", COL_COUNT, 4}, {"ts", COL_TEXT, 2},        {"who", COL_TEXT, 1},     {"from", COL_TEXT, 2},
    {"what", COL_TEXT, 1}, {"tenant_id", COL_TEXT, 1}, {"subject", COL_LONG, 1}, {"outcome", COL_TEXT, 1},
};
enum { N_COLS = sizeof audit_cols / sizeof *audit_cols, SHOWN = 100, TS_SECONDS = 19 };

struct show {
    bool json;
    const char *tenant;
    int64_t since_ms, limit, n; /* limit 0: none */
    char **lines;               /* of the newest ones that are shown, round and round */
};

static bool is_meant(const struct show *s, const bson_t *record)
{
    const char *tenant = json_get_str(record, "tenant_id", "");
    int64_t ts_ms = 0;
    return (!s->tenant || !strcmp(tenant, s->tenant)) &&
           (!s->since_ms || (clk_parse(json_get_str(record, "ts", ""), &ts_ms) == 0 && ts_ms >= s->since_ms));
}

static int keep(void *arg, const bson_t *record, const char *line, size_t n)
{
    struct show *s = arg;
    if (!is_meant(s, record))
        return 0;
    if (!s->limit) {
        s->lines = xgrow(s->lines, (size_t)s->n, sizeof *s->lines);
        s->lines[s->n] = NULL;
    }
    char **at = &s->lines[s->limit ? s->n % s->limit : s->n];
    free(*at);
    *at = xstrndup(line, n);
    s->n++;
    return 0;
}

static void add_row(struct table *t, const char *line)
{
    struct err e;
    char *cells[N_COLS];
    AUTO_BSON bson_t *record = json_parse(line, strlen(line), &e);
    if (!record)
        return;
    for (size_t i = 1; i < N_COLS; i++)
        cells[i] = xstrdup(json_get_str(record, audit_cols[i].name, NULL));
    cells[0] = xasprintf("%lld", (long long)json_get_i64(record, "seq", 0));
    if (table_get_style() != TABLE_CSV && cells[1] && strlen(cells[1]) > TS_SECONDS)
        cells[1][TS_SECONDS] = 0;
    table_add(t, cells);
}

static void print(const struct show *s, int64_t n_skipped)
{
    struct table *t = s->json ? NULL : table_new(audit_cols, N_COLS);
    int64_t n = s->limit && s->n > s->limit ? s->limit : s->n;
    for (int64_t i = s->n - n; i < s->n; i++) {
        const char *line = s->lines[s->limit ? i % s->limit : i];
        if (t)
            add_row(t, line);
        else
            puts(line);
    }
    if (t)
        table_print(t);
    table_free(t);
    fflush(stdout);
    if (!s->json && !s->n)
        fprintf(stderr, "no records%s\n", s->tenant || s->since_ms ? " like this" : " yet");
    if (!s->json && n < s->n)
        fprintf(stderr, "(the newest %lld; --limit 0 shows all)\n", (long long)n);
    if (n_skipped)
        fprintf(stderr, "(%lld lines are no records; `mysimbdp audit --verify` says whether that is right)\n",
                (long long)n_skipped);
}

static int list(struct cli *c, const struct home *h, struct show *s)
{
    struct err e = {0};
    int64_t n_skipped = 0;
    s->lines = s->limit ? xcalloc((size_t)s->limit, sizeof *s->lines) : NULL;
    int r = audit_each(h->dirfd, keep, s, &n_skipped, &e);
    if (r == 0)
        print(s, n_skipped);
    for (int64_t i = 0; i < (s->limit ? s->limit : s->n); i++)
        free(s->lines[i]);
    free(s->lines);
    return r < 0 ? cli_fail(c, &e) : CLI_DONE;
}

static int fail_json(const struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", false);
    json_str(&b, "code", e->code == ERR_FORMAT ? "damaged" : "unavailable");
    json_str(&b, "error", e->msg);
    json_end(&b, '}');
    puts(b.p);
    return CLI_FAILED;
}

static int verify(struct cli *c, const struct home *h)
{
    struct err e = {0};
    char hash[AUDIT_HASH_SIZE];
    int64_t first = 1, last = 0, seq;
    int r = audit_verify(h->dirfd, &first, &last, &e);
    if (r == 0)
        r = audit_head(h->dirfd, &seq, hash, &e);
    if (r < 0 && c->json)
        return fail_json(&e);
    if (r < 0)
        return cli_fail(c, &e);
    if (c->json)
        printf("{\"ok\":true,\"records\":%lld,\"first\":%lld,\"head\":{\"seq\":%lld,\"hash\":\"%s\"}}\n",
               (long long)(last - first + 1), (long long)first, (long long)seq, hash);
    else
        printf("%lld records, none is missing or was changed; the head: %lld %s\n", (long long)(last - first + 1), (long long)seq,
               hash);
    if (!c->json && first > 1)
        printf("(they begin with record %lld; those before it are in files that are not here)\n", (long long)first);
    return CLI_DONE;
}

int verb_audit(struct cli *c)
{
    struct home h;
    const bool verifies = cli_flag(c, "--verify");
    const char *since = cli_opt(c, "--since"), *limit = cli_opt(c, "--limit");
    struct show s = {.json = c->json, .tenant = cli_opt(c, "--tenant")};
    char *end = NULL;
    int r = cli_args(c, 0, 0);
    if (r)
        return r;
    s.limit = limit ? strtoll(limit, &end, 10) : cli_is_read_by_programs(c) ? 0 : SHOWN;
    if (limit && (!*limit || *end || s.limit < 0 || s.limit > INT32_MAX))
        return cli_usage(c, "--limit %s is no number of records", limit);
    if (verifies && (since || limit || s.tenant))
        return cli_usage(c, "--verify looks at all records");
    if (since && clk_parse_since(since, &s.since_ms) < 0)
        return cli_usage(c, "--since %s is no time", since);
    if (cli_home(c, &h))
        return CLI_FAILED;
    r = verifies ? verify(c, &h) : list(c, &h, &s);
    home_close(&h);
    return r;
}
