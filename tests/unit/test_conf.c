/* Configuration: defaults, every kind of error with its place, and the rules between files. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "conf/conf.h"
#include "conf/syntax.h"
#include "front/public_conf.h"
#include "host/home.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char home[64];

static int make(void **state)
{
    struct err e = {0};
    (void)state;
    strcpy(home, "/tmp/simbdp-unit-XXXXXX");
    return mkdtemp(home) && home_init(home, &e) == 0 ? 0 : -1;
}

static int drop(void **state)
{
    (void)state;
    return fd_remove_tree(AT_FDCWD, home);
}

#define STREAM_APP "streams = ( { name = \"s\"; } ); stream_apps = ( { app = \"a\"; stream = \"s\"; "

static void put(const char *rel, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/conf/%s", home, rel);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void fails(const char *rel, const char *text, const char *expected)
{
    struct err e = {0};
    struct conf *c = NULL;
    put(rel, text);
    assert_int_equal(conf_load(home, &c, &e), ERR_CONFIG);
    assert_null(c);
    if (!strstr(e.msg, expected))
        fail_msg("'%s' is not in '%s'", expected, e.msg);
}

static void defaults(void **state)
{
    struct err e = {0};
    struct conf *c = NULL;
    (void)state;
    put("tenants/acme.conf", "datasets = ( { name = \"d\"; } ); batch = ( { app = \"a\"; exec = \"x\"; } );");
    assert_int_equal(conf_load(home, &c, &e), 0);
    const struct conf_tenant *t = conf_tenant(c, "acme");
    assert_non_null(t);
    assert_string_equal(t->database, "acme");
    assert_int_equal(t->concurrency, 4);
    assert_int_equal(t->limits.max_rows, -1);
    assert_int_equal(t->retention.on_failure, ON_FAILURE_quarantine);
    const struct conf_batch *b = conf_app(t, "a");
    assert_int_equal(b->retry.attempts, 3);
    assert_string_equal(b->profile, "small");
    assert_string_equal(conf_dataset(t, "d")->collection, "d");
    const struct conf_profile *p = conf_profile(c, "small");
    assert_int_equal(p->cgroup.memory_bytes, 536870912);
    assert_int_equal(p->rlimits.core_bytes, 0);
    assert_null(conf_tenant(c, "nobody"));
    conf_free(c);
}

static void mistakes_of_syntax_are_explained(void **state)
{
    (void)state;
    fails("tenants/acme.conf", "weight\nconcurrency = 2;", "acme.conf:1: syntax error: '=' is missing behind weight");
    fails("tenants/acme.conf", "\nweight 3;\n", "acme.conf:2: syntax error: '=' is missing behind weight");
    fails("tenants/acme.conf", "# x\nweight =\n\nconcurrency = 2;", "acme.conf:2: syntax error: a value is missing behind '='");
    fails("tenants/acme.conf", "weight = ;", "acme.conf:1: syntax error: a value is missing behind '='");
    fails("tenants/acme.conf", "display_name = Acme;", "acme.conf:1: syntax error: Acme is no value; a string needs quotes");
    fails("tenants/acme.conf", "display_name = \"Acme;\n\nweight = 1;\n", "acme.conf:1: syntax error: the string that begins here");
    fails("tenants/acme.conf", "datasets = ( { name = \"a\"; }\n  { name = \"b\"; } );",
          "acme.conf:1: syntax error: ',' is missing behind }");
    fails("tenants/acme.conf", "/* x\n */ limits = {\n max_rows = 1;\nweight = 2;\n",
          "acme.conf:2: syntax error: the '{' of this line is not closed");
    fails("tenants/acme.conf", "datasets = ( { name = \"a\";\n);",
          "acme.conf:1: syntax error: '}' is missing before the ')' of line 2");
    fails("tenants/acme.conf", "weight = 1;\n};", "acme.conf:2: syntax error: '}' does not belong here");
    fails("tenants/acme.conf", "weight = 1;\n;", "acme.conf:2: syntax error: ';' does not belong here");
}

static void units_are_told_as_numbers(void **state)
{
    static const struct {
        const char *key, *value, *wanted;
    } all[] = {
        {"x_bytes", "10M", "10485760"},
        {"x_bytes", "2 GiB", "2147483648L"},
        {"x_bytes", "1.5kB", "1536"},
        {"x_bytes", "7", "7"},
        {"wall_s", "2h", "7200"},
        {"rescan_ms", "2 min", "120000"},
        {"logs_days", "2w", "14"},
        {"wall_s", "10M", NULL},
        {"logs_days", "3h", NULL},
        {"x_bytes", "M", NULL},
        {"x_bytes", "10X", NULL},
        {"x", "-3M", NULL},
        {"x_bytes", "99999999999999T", NULL},
        {"x_bytes", "1Mx", NULL},
    };
    char out[32];
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char *got = syntax_number(all[i].key, all[i].value, strlen(all[i].value), out);
        if (!all[i].wanted != !got || (got && strcmp(got, all[i].wanted) != 0))
            fail_msg("%s = %s: %s", all[i].key, all[i].value, got ? got : "nothing");
    }
    fails("tenants/acme.conf", "limits = { max_file_bytes = \"10M\"; };",
          "acme.conf:1: key 'max_file_bytes': expected an integer from -1 (-1: no limit), got the string \"10M\"; write 10485760");
    fails("tenants/acme.conf", "\nlimits = { max_file_bytes = 10G; };",
          "acme.conf:2: key 'max_file_bytes': 10G has a unit; write 10737418240L");
    fails("profiles.conf", "profiles = ( { name = \"small\"; wall_s = 2h; } );",
          "profiles.conf:1: key 'wall_s': 2h has a unit; write 7200");
}

/* Each line of `wanted` begins one of what is told, in that order. */
static void all_of(const char *wanted)
{
    struct err e = {0};
    struct conf *c = NULL;
    AUTO_BUF struct buf all = {0};
    assert_int_equal(conf_load_all(home, &all, &c, &e), ERR_CONFIG);
    const char *at = all.p;
    for (const char *w = wanted; *w; w += strcspn(w, "\n") + 1) {
        AUTO_FREE char *line = xasprintf("%s/conf/%.*s", home, (int)strcspn(w, "\n"), w);
        if (!at || strncmp(at, line, strlen(line)) != 0)
            fail_msg("'%s' is not where it should be in:\n%s", line, all.p);
        at = strchr(at, '\n') + 1;
    }
    assert_string_equal(at, "");
}

static void all_errors_of_all_files_are_told(void **state)
{
    (void)state;
    put("mysimbdp.conf", "platform = { lissten = 1;\n min_free_bytes = \"1G\";\n};");
    put("tenants/acme.conf", "weight = \"x\";\nbatch = (\n{ app = \"a\"; exec = 3; excec = \"x\"; },\n{ app = 1; } );\nlimits = { "
                             "max_rows = 5000000000; };");
    all_of("mysimbdp.conf:1: unknown key 'lissten' (did you mean 'listen'?)\nmysimbdp.conf:2: key 'min_free_bytes': expected\n"
           "tenants/acme.conf:5: the number 5000000000 needs\ntenants/acme.conf:1: key 'weight'\ntenants/acme.conf:3: batch 1: key "
           "'exec'\n"
           "tenants/acme.conf:3: batch 1: unknown key 'excec'\ntenants/acme.conf:4: batch 2: key 'app'\ntenants/acme.conf:4: batch "
           "2: key 'exec' is missing\n"
           "");
    put("mysimbdp.conf", "");
    put("tenants/acme.conf",
        "datasets = ( { name = \"d\"; }, { name = \".x\"; }, { name = \"d\"; } );\nbatch = ( { app = \"A\"; exec = \"x\"; },\n"
        "{ app = \"b\"; exec = \"../x\"; } );\n");
    put("tenants/beta.conf", "database = \"admin\";");
    all_of("tenants/acme.conf:1: key 'datasets.name': \".x\"\ntenants/acme.conf:1: key 'datasets.name': \"d\" stands twice\n"
           "tenants/acme.conf:2: key 'batch.app'\ntenants/acme.conf:3: key 'batch.exec'\ntenants/beta.conf: key 'database'\n");
}

static void errors(void **state)
{
    (void)state;
    fails("tenants/acme.conf", "weight = 1;\nlimits = { max_rows = 3; max_rows = 4; };", "acme.conf:2: duplicate");
    fails("tenants/acme.conf", "# 10000000000 in a comment\nweight = 10000000000;", "acme.conf:2: the number 10000000000 needs");
    fails("tenants/acme.conf", "display_name = \"10000000000\"; weight = 99999999999999999999L;", "over 64 bits");
    fails("tenants/acme.conf", "display_name = 3;", "expected a string, got an integer");
    fails("tenants/acme.conf", "limits = 3;", "expected a group { }, got an integer");
    fails("tenants/acme.conf", "datasets = ( 3 );", "expected a list of groups");
    fails("tenants/acme.conf", "datasets = ( { name = \"a/b\"; } );", "datasets.name");
    fails("tenants/acme.conf", "datasets = ( { name = \"a\"; }, { name = \"a\"; } );", "stands twice");
    fails("tenants/acme.conf", "database = \"admin\";", "not a database");
    fails("tenants/acme.conf", "limits = { formats = (\"xml\"); };", "one of csv|json, got \"xml\"");
    fails("tenants/acme.conf", "batch = ( { app = \"a\"; exec = \"builtin:load\"; output = \"stdout\"; } );",
          "builtin:load loads by itself");
    fails("tenants/acme.conf", "streams = ( { name = \"X\"; } );", "must match");
    fails("tenants/acme.conf", "streams = ( { name = \"x\"; }, { name = \"x\"; } );", "stands twice");
    fails("tenants/acme.conf", "streams = ( { name = \"x\"; max_message_bytes = 16777217; } );", "from 1 to 16777216");
    fails("tenants/acme.conf", "streams = ( { name = \"x\"; on_breach = \"cry\"; } );", "one of refuse|suspend");
    fails("tenants/acme.conf", "stream_apps = ( { app = \"a\"; stream = \"x\"; } );", "no stream");
    fails("tenants/acme.conf", "curve_keys = (\"short\");", "is no CURVE public key");
    fails("tenants/acme.conf", "batch = ( { app = \"a\"; exec = \"builtin:pipe\"; } );", "must be builtin:load, a path below");
    fails("tenants/acme.conf", STREAM_APP "exec = \"builtin:pip\"; } );", "must be builtin:load, builtin:pipe, a path below");
    fails("tenants/acme.conf", STREAM_APP "exec = \"builtin:pipe\"; args = (\"--\"); } );", "builtin:pipe needs a command");
    fails("tenants/acme.conf", STREAM_APP "exec = \"builtin:pipe\"; output = \"stdout\"; args = (\"--\", \"cat\"); } );",
          "builtin:pipe stores nothing");
    fails("tenants/acme.conf", STREAM_APP "exec = \"builtin:pipe\"; image = \"i\"; args = (\"--\", \"cat\"); } );",
          "host's libraries");
    fails("tenants/acme.conf",
          "stream_apps = ( { app = \"a\"; stream = \"\"; exec = \"builtin:pipe\"; args = (\"--\", \"cat\"); } );",
          "only an app with an exec of its own");
    put("mysimbdp.conf", "platform = {};");
    fails("tenants/acme.conf", "batch = ( { app = \"a\"; exec = \"builtin:load\"; env = ( { name = \"A\"; value = \"b\"; } ); } );",
          "builtin:load has no use for it");
    put("tenants/acme.conf", "");
    fails("tenants/Bad.conf", "", "the file's name is the tenant's id");
}

static void unused_later_keys_are_accepted(void **state)
{
    struct err e = {0};
    struct conf *c = NULL;
    (void)state;
    put("tenants/acme.conf",
        "streams = (); batch = ( { app = \"a\"; exec = \"x\"; trigger = \"arrival\"; timezone = \"UTC\"; checker = \"\"; "
        "secrets = (); group = { max_files = 1; max_wait_ms = 0; }; } ); retention = { documents_days = -1; };");
    assert_int_equal(conf_load(home, &c, &e), 0);
    conf_free(c);
}

static void two_tenants_one_database(void **state)
{
    (void)state;
    put("tenants/acme.conf", "");
    fails("tenants/other.conf", "database = \"acme\";", "already the database of tenant acme");
}

static void a_profile_over_the_capacity(void **state)
{
    (void)state;
    put("mysimbdp.conf", "platform = { capacity = { cpus = 1.5; }; };");
    fails("profiles.conf", "profiles = ( { name = \"big\"; requests = { cpus = 2; }; } );", "requests more than");
}

/* What of the cluster is whose has to be said where a home has runs at both. */
static void launchers_of_profiles(void **state)
{
    static const char profiles[] =
        "profiles = ( { name = \"a\"; launcher = \"slurm\"; }, { name = \"b\"; requests = { cpus = 3; }; } );";
    struct err e = {0};
    struct conf *c = NULL;
    (void)state;
    fails("profiles.conf", profiles, "runs of \"a\" are jobs, those of \"b\" are on this host: platform.slurm.capacity");
    put("mysimbdp.conf",
        "platform = { capacity = { cpus = 4; }; slurm = { capacity = { cpus = 2; memory_bytes = 1000000000L; }; }; };");
    assert_int_equal(conf_load(home, &c, &e), 0);
    assert_int_equal(conf_launcher_of(c, conf_profile(c, "a")), LAUNCHER_slurm);
    assert_int_equal(conf_launcher_of(c, conf_profile(c, "b")), LAUNCHER_local);
    assert_int_equal((int)conf_slurm_capacity(c).cpus, 2);
    conf_free(c);
    put("mysimbdp.conf", "platform = { launcher = \"slurm\"; capacity = { cpus = 400; }; };"); /* as it has always been written */
    put("profiles.conf", "profiles = ( { name = \"b\"; requests = { cpus = 300; }; } );");
    assert_int_equal(conf_load(home, &c, &e), 0);
    assert_int_equal((int)conf_slurm_capacity(c).cpus, 400);
    conf_free(c);
    put("mysimbdp.conf",
        "platform = { capacity = { cpus = 4; }; slurm = { capacity = { cpus = 2; memory_bytes = 1000000000L; }; }; };");
    fails("profiles.conf", "profiles = ( { name = \"a\"; launcher = \"slurm\"; requests = { cpus = 3; }; } );",
          "more than platform.slurm.capacity");
}

static void routing_and_limits(void **state)
{
    struct err e = {0};
    struct conf *c = NULL;
    (void)state;
    put("tenants/acme.conf",
        "limits = { max_rows = 10; max_columns = 5; };\n"
        "datasets = ( { name = \"a\"; limits = { max_rows = 20; max_columns = 3; }; }, { name = \"b\"; format = \"json\"; } );\n"
        "batch = ( { app = \"one\"; exec = \"x\"; datasets = (\"a\"); pattern = \"x*\"; }, { app = \"rest\"; exec = \"x\"; } );");
    assert_int_equal(conf_load(home, &c, &e), 0);
    const struct conf_tenant *t = conf_tenant(c, "acme");
    struct conf_limits l = conf_effective_limits(t, conf_dataset(t, "a"));
    assert_int_equal(l.max_rows, 10);
    assert_int_equal(l.max_columns, 3);
    assert_int_equal(l.max_row_bytes, -1);
    assert_string_equal(conf_route(t, NULL, "a", "x1.csv")->app, "one");
    assert_string_equal(conf_route(t, NULL, "a", "y.csv")->app, "rest");
    assert_string_equal(conf_route(t, NULL, "b", "x1.json")->app, "rest");
    assert_string_equal(conf_route(t, "one", "a", "y.csv")->app, "one");
    assert_null(conf_route(t, "one", "b", "y.json"));
    assert_null(conf_format_refusal(c, t, conf_dataset(t, "a"), "csv"));
    assert_string_equal(conf_format_refusal(c, t, conf_dataset(t, "a"), "json"), "format");
    assert_string_equal(conf_format_refusal(c, t, conf_dataset(t, "a"), "txt"), "format");
    conf_free(c);
}

/* What comes over is as it was, odd characters and numbers included, and what is not told is not there. */
static void what_is_told(void **state)
{
    struct err e = {0};
    struct conf *c = NULL, *told = NULL;
    AUTO_BUF struct buf text = {0};
    (void)state;
    put("mysimbdp.conf",
        "platform = { mongo_url = \"mongodb://hidden\"; listen = \"127.0.0.1\"; ports = { broker = 7; }; alerts = ( { "
        "name = \"a\"; when = \"app == \\\"a\\\\\\\"\"; for_s = 3; command = \"/hidden\"; runbook_url = \"https://w/a\"; } ); };");
    put("tenants/acme.conf",
        "mongo_url = \"mongodb://hidden\"; concurrency = 7; datasets = ( { name = \"hidden\"; } ); "
        "batch = ( { app = \"b\"; exec = \"hidden\"; } ); streams = ( { name = \"s\"; max_stored_bytes = 5000000000L; } ); "
        "stream_apps = ( { app = \"w\"; stream = \"s\"; exec = \"run\"; args = (\"hidden\"); max_instances = 3; "
        "scale = { utilisation = 0.7; min_processing_rate = 1e-3; }; } );");
    put("tenants/empty.conf", "");
    assert_int_equal(conf_load(home, &c, &e), 0);
    json_begin(&text, NULL, '{');
    conf_tell(c, &text);
    json_end(&text, '}');
    assert_null(strstr(text.p, "hidden"));
    AUTO_BSON bson_t *doc = json_parse(text.p, text.n, &e);
    assert_non_null(doc);
    assert_int_equal(conf_told(doc, &told, &e), 0);
    assert_string_equal(told->platform.listen, "127.0.0.1");
    assert_int_equal(told->platform.ports.broker, 7);
    assert_int_equal(told->platform.uid_base, c->platform.uid_base);
    const struct conf_alert *a = told->platform.alerts.v;
    assert_int_equal(told->platform.alerts.n, 1);
    assert_string_equal(a->when, "app == \"a\\\"");
    assert_int_equal(a->for_s, 3);
    assert_string_equal(a->command, "");
    assert_string_equal(conf_runbook_url(told, "a"), "https://w/a");
    assert_null(conf_runbook_url(told, "b"));
    assert_string_equal(conf_runbook_url(told, CONF_ALERT_SILENCE), "file:///usr/share/doc/mysimbdp/runbook.md#silence");
    assert_int_equal(told->n_tenants, 2);
    const struct conf_tenant *t = conf_tenant(told, "acme");
    assert_int_equal(t->concurrency, 7);
    assert_string_equal(t->mongo_url, "");
    assert_string_equal(conf_app(t, "b")->app, "b");
    assert_int_equal(conf_stream(t, "s")->max_stored_bytes, 5000000000);
    assert_int_equal(conf_stream(t, "s")->lease_ms, conf_stream(conf_tenant(c, "acme"), "s")->lease_ms);
    const struct conf_stream_app *w = conf_stream_app(t, "w");
    assert_string_equal(w->exec, "run");
    assert_int_equal(w->args.n, 0);
    assert_int_equal(w->max_instances, 3);
    assert_true(w->on_demand && w->scale.utilisation == 0.7 && w->scale.min_processing_rate == 1e-3); /* to the last bit */
    assert_int_equal(conf_tenant(told, "empty")->streams.n, 0);
    conf_free(told);
    conf_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults, make, drop),
        cmocka_unit_test_setup_teardown(errors, make, drop),
        cmocka_unit_test_setup_teardown(mistakes_of_syntax_are_explained, make, drop),
        cmocka_unit_test_setup_teardown(units_are_told_as_numbers, make, drop),
        cmocka_unit_test_setup_teardown(all_errors_of_all_files_are_told, make, drop),
        cmocka_unit_test_setup_teardown(unused_later_keys_are_accepted, make, drop),
        cmocka_unit_test_setup_teardown(two_tenants_one_database, make, drop),
        cmocka_unit_test_setup_teardown(a_profile_over_the_capacity, make, drop),
        cmocka_unit_test_setup_teardown(launchers_of_profiles, make, drop),
        cmocka_unit_test_setup_teardown(routing_and_limits, make, drop),
        cmocka_unit_test_setup_teardown(what_is_told, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
