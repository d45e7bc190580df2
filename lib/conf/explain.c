#include "explain.h"
#include "keys.h"

#include "base/mem.h"
#include "base/near.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 6, PATH_ROOM = 128 };

/* Where a key stands: from the top of its file to itself. */
struct place {
    const char *file;
    const struct cfg_key *keys[MAX_DEPTH];
    int n;
};

struct search {
    const char *wanted; /* NULL: all */
    bool by_end;        /* `wanted` is the end of a path */
    struct near near;
    char best[PATH_ROOM]; /* what near.best is */
    int found;
    struct buf *out;
};

/* ---- examples ---- */

/* Values for keys whose default or choices are no example: by name, or by parent and name. As they are written in a file. */
static const struct {
    const char *key, *value;
} values[] = {
    {"account", "\"ingest\""},
    {"alive_s", "60"},
    {"allow", "(\"apps\", \"datasets\")"},
    {"args", "(\"--fast\")"},
    {"as", "\"temperature.celsius\""},
    {"as_bytes", "4294967296L"},
    {"ca_file", "\"/etc/ssl/private-ca.pem\""},
    {"certificate", "\"/etc/ssl/simbdp.pem\""},
    {"checker", "\"check.sh\""},
    {"collection", "\"readings\""},
    {"command", "\"/usr/local/bin/page-somebody --urgent\""},
    {"capacity.cpus", "8"},
    {"constraint", "\"intel&nvme\""},
    {"cpu_pct", "200"},
    {"cpu_s", "300"},
    {"curve_keys", "(\"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\")"},
    {"database", "\"acme_eu\""},
    {"datasets", "(\"readings\")"},
    {"batch.datasets", "(\"readings\")"},
    {"delimiter", "\";\""},
    {"display_name", "\"Acme Sensors\""},
    {"documents_days", "365"},
    {"encoding", "\"latin-1\""},
    {"enum", "(\"north\", \"south\")"},
    {"escape", "\"\\\\\""},
    {"exec", "\"convert.sh\""},
    {"file", "\"api-token\""},
    {"files_days", "30"},
    {"footer_rows", "1"},
    {"for_s", "30"},
    {"fsize_bytes", "1073741824"},
    {"alerts.group", "\"streams\""},
    {"runbook_url", "\"https://wiki.example.com/lag\""},
    {"group_s", "30"},
    {"group.max_wait_ms", "5000"},
    {"hashed", "\"_id\""},
    {"header_rows", "1"},
    {"image", "\"convert-image:latest\""},
    {"key", "(\"station\", \"time\")"},
    {"http.fronts", "(\"10.0.0.7\")"},
    {"http.key", "\"/etc/ssl/simbdp.key\""},
    {"http.listen", "\"0.0.0.0\""},
    {"line_end", "\"lf\""},
    {"listen", "\"127.0.0.1\""},
    {"log_socket", "\"/dev/log\""},
    {"max", "60.0"},
    {"max_age_days", "3650"},
    {"max_average_ingestion_ms", "500"},
    {"max_bytes_per_day", "107374182400L"},
    {"max_bytes_per_s", "10485760"},
    {"max_columns", "64"},
    {"max_decompressed_bytes", "21474836480L"},
    {"max_expansion", "200"},
    {"max_file_bytes", "1073741824"},
    {"max_files_in_staging", "20000"},
    {"max_files_per_day", "100000"},
    {"max_inspect_s", "120"},
    {"max_messages_per_s", "5000"},
    {"max_reject_pct", "2.5"},
    {"max_rejects", "100"},
    {"max_row_bytes", "65536"},
    {"max_rows", "10000000"},
    {"max_rows_per_s", "20000"},
    {"memory_bytes", "8589934592L"},
    {"min", "-90.0"},
    {"min_instances", "1"},
    {"min_processing_rate", "100.0"},
    {"mongo_url", "\"mongodb://db.example.com:27017\""},
    {"mounts", "(\"/tmp/licences\")"},
    {"network", "(\"platform\", \"api.example.com:443\")"},
    {"nproc", "64"},
    {"null", "(\"\", \"NA\")"},
    {"own_profiles", "(\"small\")"},
    {"partition", "\"batch\""},
    {"pids", "64"},
    {"ports.broker", "7001"},
    {"ports.gateway", "8443"},
    {"ports.monitor", "7002"},
    {"priority", "10"},
    {"qos", "\"normal\""},
    {"quote", "\"'\""},
    {"regex", "\"^[A-Z]{3}$\""},
    {"retry_s", "600"},
    {"shard.key", "(\"_id\")"},
    {"secret_file", "\"/etc/mysimbdp/ops.secret\""},
    {"skip_rows", "2"},
    {"stack_bytes", "16777216"},
    {"slurm.cpus", "2"},
    {"slurm.listen", "\"10.0.0.5\""},
    {"slurm.port", "7003"},
    {"shards.count", "16"},
    {"shards.each", "4"},
    {"pilot.cpus", "16"},
    {"pilot.nodes", "4"},
    {"pilot.time_s", "14400"},
    {"slurm.memory_bytes", "8589934592L"},
    {"slurm.time_s", "7200"},
    {"stream", "\"events\""},
    {"stream_pct", "50"},
    {"webhooks.timeout_s", "5"},
    {"textfile", "\"/var/lib/prometheus/node-exporter/mysimbdp.prom\""},
    {"timezone", "\"Europe/Vienna\""},
    {"trigger", "\"cron: */15 * * * *\""},
    {"type", "\"double\""},
    {"uid_base", "60000"},
    {"kafka.brokers", "\"10.0.0.1:9092,10.0.0.2:9092\""},
    {"kafka.member", "\"west-1\""},
    {"kafka.prefix_before", "\"east\""},
    {"kafka.properties_file", "\"/etc/mysimbdp/kafka.properties\""},
    {"headers_file", "\"/etc/mysimbdp/otlp.headers\""},
    {"otlp.url", "\"http://127.0.0.1:4318\""},
    {"webhooks.url", "\"https://hooks.example.com/T0\""},
    {"value", "\"vienna\""},
    {"webhook", "\"ops\""},
    {"when", "\"oldest_age_s > 60\""},
    {"app", "\"convert\""},
    {"dataset", "\"readings\""},
    {"name", "\"readings\""},
    {"alerts.name", "\"lag\""},
    {"columns.name", "\"celsius\""},
    {"env.name", "\"STATION\""},
    {"profiles.name", "\"small\""},
    {"secrets.name", "\"token\""},
    {"streams.name", "\"events\""},
    {"webhooks.name", "\"ops\""},
};

/* What has to stand beside a key in its group. */
static const struct {
    const char *key, *text;
} beside[] = {
    {"streams.shared", "store = \"kafka\"; "},
    {"certificate", "key = \"/etc/ssl/simbdp.key\"; "},
    {"http.key", "certificate = \"/etc/ssl/simbdp.pem\"; "},
    {"stream_apps.checker", "output = \"stdout\"; dataset = \"readings\"; "},
    {"stream_apps.output", "dataset = \"readings\"; "},
    {"hashed", "key = (\"_id\"); "},
    {"on_key_conflict", "key = (\"station\", \"time\"); "},
};

/* Keys without which an element of that list makes no sense, although it may be without any one of them. */
static const struct {
    const char *list, *key;
} wanted[] = {{"stream_apps", "stream"}, {"stream_apps", "exec"}};

/* What of the table fits best: with the parent before without. */
static const char *value_of_table(const struct place *p)
{
    const char *plain = NULL, *name = p->keys[p->n - 1]->name;
    AUTO_FREE char *full = p->n > 1 ? xasprintf("%s.%s", p->keys[p->n - 2]->name, name) : NULL;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (full && !strcmp(values[i].key, full))
            return values[i].value;
        if (!strcmp(values[i].key, name))
            plain = values[i].value;
    }
    return plain;
}

/* The last choice that is not the default. */
static void add_choice(const struct cfg_key *k, struct buf *out)
{
    AUTO_FREE char *best = NULL;
    int n = 1;
    for (const char *p = k->one_of; (p = strchr(p, '|')); p++)
        n++;
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *one = cfg_choice(k->one_of, i);
        if (!best || strcmp(one, k->def ? k->def : "") != 0)
            xstr_set(&best, one);
    }
    buf_addf(out, k->type == CFG_STRS ? "(\"%s\")" : "\"%s\"", best);
}

static void add_value(const struct place *p, struct buf *out)
{
    const struct cfg_key *k = p->keys[p->n - 1];
    const char *value = value_of_table(p);
    if (value && (k->type != CFG_STRS || *value == '('))
        buf_adds(out, value);
    else if (k->type == CFG_BOOL)
        buf_adds(out, !strcmp(k->def, "true") ? "false" : "true");
    else if (k->one_of)
        add_choice(k, out);
    else if (k->type == CFG_INT || k->type == CFG_F64)
        buf_addf(out, "%s%s", k->def, k->type == CFG_INT && strtoll(k->def, NULL, 10) > INT_MAX ? "L" : "");
    else
        buf_addf(out, "\"%s\"", k->def ? k->def : "");
}

/* `key` is the last part of the path, or the last two with a dot. */
static bool is_called(const struct place *p, const char *key)
{
    const char *name = p->keys[p->n - 1]->name;
    AUTO_FREE char *full = p->n > 1 ? xasprintf("%s.%s", p->keys[p->n - 2]->name, name) : NULL;
    return !strcmp(key, name) || (full && !strcmp(key, full));
}

static void add_assignment(const struct place *p, struct buf *out)
{
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        if (is_called(p, beside[i].key))
            buf_adds(out, beside[i].text);
    buf_addf(out, "%s = ", p->keys[p->n - 1]->name);
    add_value(p, out);
    buf_adds(out, "; ");
}

static bool is_required(const struct cfg_key *list, const struct cfg_key *k)
{
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strcmp(wanted[i].list, list->name) && !strcmp(wanted[i].key, k->name))
            return true;
    return !k->def && k->type != CFG_GROUP && k->type != CFG_LIST;
}

/* Those which have to be there beside `shown`, of the list that the place is. */
static void add_required(const struct place *list, const struct cfg_key *shown, struct buf *out)
{
    struct place one = *list;
    one.n++;
    for (const struct cfg_key *k = list->keys[list->n - 1]->keys; k->name; k++) {
        one.keys[one.n - 1] = k;
        if (k != shown && is_required(list->keys[list->n - 1], k))
            add_assignment(&one, out);
    }
}

static void add_example(const struct place *whole, int depth, struct buf *out)
{
    struct place p = *whole;
    const struct cfg_key *k = p.keys[depth], *next = depth + 1 < whole->n ? p.keys[depth + 1] : NULL;
    p.n = depth + 1;
    if (k->type != CFG_GROUP && k->type != CFG_LIST) {
        add_assignment(&p, out);
        return;
    }
    buf_addf(out, k->type == CFG_LIST ? "%s = ( { " : "%s = { ", k->name);
    if (k->type == CFG_LIST)
        add_required(&p, next, out);
    if (next) {
        add_example(whole, depth + 1, out);
    } else if (k->type == CFG_GROUP) {
        struct place first = p;
        first.keys[first.n++] = k->keys;
        add_example(&first, depth + 1, out);
    }
    buf_adds(out, k->type == CFG_LIST ? "} ); " : "}; ");
}

/* ---- one key ---- */

static const char *type_of(const struct cfg_key *k)
{
    switch (k->type) {
    case CFG_INT:
        return "integer";
    case CFG_F64:
        return "number";
    case CFG_BOOL:
        return "boolean";
    case CFG_STRS:
        return "strings";
    case CFG_GROUP:
        return "group";
    case CFG_LIST:
        return "list";
    case CFG_STR:
    case CFG_ENUM:
    case CFG_LATER:
        break;
    }
    return "string";
}

static void add_bound(struct buf *out, const char *key, const struct cfg_key *k, double bound)
{
    if ((k->type != CFG_INT && k->type != CFG_F64) || isinf(bound) || bound > 9e18)
        json_null(out, key);
    else if (bound == floor(bound))
        json_i64(out, key, (int64_t)bound);
    else
        json_f64(out, key, bound);
}

static void add_choices(struct buf *out, const struct cfg_key *k)
{
    if (!k->one_of) {
        json_null(out, "choices");
        return;
    }
    json_begin(out, "choices", '[');
    for (const char *p = k->one_of; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        json_strn(out, NULL, p, strcspn(p, "|"));
    json_end(out, ']');
}

static void tell(const struct place *p, const char *path, struct buf *out)
{
    const struct cfg_key *k = p->keys[p->n - 1];
    const bool holds_keys = k->type == CFG_GROUP || k->type == CFG_LIST;
    AUTO_BUF struct buf example = {0};
    add_example(p, 0, &example);
    json_begin(out, NULL, '{');
    json_str(out, "key", path);
    json_str(out, "file", p->file);
    json_str(out, "type", type_of(k));
    json_str(out, "default", holds_keys || !k->def || !strcmp(k->def, "nan") ? NULL : k->def);
    add_bound(out, "min", k, k->min);
    add_bound(out, "max", k, k->max);
    add_choices(out, k);
    json_bool(out, "required", !k->def && !holds_keys);
    json_str(out, "takes_effect", k->reloadable ? "reload" : "start");
    json_str(out, "help", k->help);
    json_strn(out, "example", example.p, example.n - 1);
    json_end(out, '}');
    buf_adds(out, "\n");
}

/* ---- all ---- */

static bool is_wanted(const struct search *s, const char *path)
{
    if (!s->wanted)
        return true;
    size_t n = strlen(path), n_wanted = strlen(s->wanted);
    if (!s->by_end)
        return !strcmp(path, s->wanted);
    return n > n_wanted && path[n - n_wanted - 1] == '.' && !strcmp(path + n - n_wanted, s->wanted);
}

static void offer(struct search *s, const char *path, const char *name)
{
    const char *before = s->near.best;
    near_try(&s->near, strchr(s->near.word, '.') ? path : name);
    if (s->near.best != before) {
        snprintf(s->best, sizeof s->best, "%s", s->near.best);
        s->near.best = s->best;
    }
}

static void walk(struct search *s, const char *file, const struct cfg_key *keys, const struct place *above, const char *prefix)
{
    for (const struct cfg_key *k = keys; k->name; k++) {
        struct place p = *above;
        char path[PATH_ROOM];
        if (k->type == CFG_LATER)
            continue;
        p.file = file;
        p.keys[p.n++] = k;
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", k->name);
        if (s->wanted)
            offer(s, path, k->name);
        if (is_wanted(s, path)) {
            tell(&p, path, s->out);
            s->found++;
        }
        if (k->keys && p.n < MAX_DEPTH)
            walk(s, file, k->keys, &p, path);
    }
}

static void walk_all(struct search *s)
{
    const struct place top = {0};
    walk(s, "conf/mysimbdp.conf", conf_platform_keys, &top, "");
    walk(s, "conf/profiles.conf", conf_profiles_keys, &top, "");
    walk(s, "conf/tenants/<tenant>.conf", conf_tenant_keys, &top, "");
}

int conf_explain(const char *key, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf found = {0};
    struct search s = {.wanted = key && *key ? key : NULL, .near = {.word = key}, .out = &found};
    char meant[NEAR_TEXT_SIZE];
    walk_all(&s);
    if (!s.found) {
        s.by_end = true;
        walk_all(&s);
    }
    if (!s.found)
        return err_set(e, ERR_USAGE, "there is no key '%s'%s; without a key, all are listed", key, near_text(&s.near, meant));
    buf_add(out, found.p, found.n);
    return s.found;
}
