/* What differs between two configurations. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "conf/diff.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char base[64];
static int dir = -1;

static int make(void **state)
{
    (void)state;
    strcpy(base, "/tmp/simbdp-unit-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 || fd_mkdirs(dir, "state", 0700) < 0 ? -1 : 0;
}

static int drop(void **state)
{
    (void)state;
    close(dir);
    return fd_remove_tree(AT_FDCWD, base);
}

/* Of texts; acme and best NULL: there is no such tenant. */
static struct conf *conf_of(const char *platform, const char *profiles, const char *acme, const char *best)
{
    const char *const files[][2] = {
        {"c/mysimbdp.conf", platform}, {"c/profiles.conf", profiles}, {"c/tenants/acme.conf", acme}, {"c/tenants/best.conf", best}};
    AUTO_BUF struct buf all = {0};
    struct conf *c = NULL;
    struct err e = {0};
    assert_int_equal(fd_mkdirs(dir, "c/tenants", 0700), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i][1])
            assert_int_equal(fd_write_file(dir, files[i][0], files[i][1], strlen(files[i][1]), 0600, &e), 0);
    AUTO_FREE char *path = xasprintf("%s/c", base);
    if (conf_load_dir(base, path, &all, &c, &e) < 0)
        fail_msg("%s %s", all.p ? all.p : "", e.msg);
    assert_int_equal(fd_remove_tree(dir, "c"), 0);
    return c;
}

static void note(void *arg, const struct conf_change *ch)
{
    static const char marks[] = {'=', '+', '-'};
    assert_true(ch->file && ch->help && ch->effect && (ch->kind == CONF_CHANGED) == (ch->old_value && ch->new_value));
    buf_addf(arg, "%c %s %s", marks[ch->kind], ch->tenant ? ch->tenant : strchr(ch->file, '/') + 1, ch->key);
    if (ch->kind == CONF_CHANGED)
        buf_addf(arg, ": %s > %s", ch->old_value, ch->new_value);
    buf_addf(arg, "%s\n", ch->on_reload ? "" : " (start)");
}

#define SMALL "profiles = ( { name = \"small\"; } );"
#define UIDS  "uid_base = 1000000; "

static void same_or(struct conf *a, struct conf *b, const char *expected)
{
    AUTO_BUF struct buf told = {0};
    buf_adds(&told, "");
    size_t n = conf_diff(a, b, note, &told), lines = 0;
    for (const char *p = told.p; (p = strchr(p, '\n')); p++)
        lines++;
    assert_string_equal(told.p, expected);
    assert_int_equal(n, lines);
    conf_free(a);
    conf_free(b);
}

static void keys(void **state)
{
    (void)state;
    same_or(conf_of("platform = { " UIDS "};", SMALL, "weight = 1;", NULL),
            conf_of("# a comment\nplatform = { " UIDS "rescan_ms = 30000; };", SMALL, "", NULL), "");
    same_or(conf_of("platform = { " UIDS "};", SMALL, "weight = 2; retention = { files_days = 3; };", NULL),
            conf_of("platform = { " UIDS "listen = \"127.0.0.1\"; http = { requests_per_s = 5; }; capacity = { cpus = 2.5; }; };",
                    "profiles = ( { name = \"small\"; scratch = \"memory\"; network = (\"none\"); } );",
                    "display_name = \"A \\\"B\\\"\"; retention = { files_days = 3; };", NULL),
            "= mysimbdp.conf platform.capacity.cpus: -1 > 2.5\n"
            "= mysimbdp.conf platform.listen: \"\" > \"127.0.0.1\" (start)\n"
            "= mysimbdp.conf platform.http.requests_per_s: 200 > 5\n"
            "= profiles.conf profiles small.scratch: \"disk\" > \"memory\"\n"
            "= profiles.conf profiles small.network: (\"platform\") > (\"none\")\n"
            "= acme display_name: \"acme\" > \"A \\\"B\\\"\"\n"
            "= acme weight: 2 > 1\n");
}

static void passwords(void **state)
{
    (void)state;
    same_or(
        conf_of("platform = { " UIDS "mongo_url = \"mongodb://me:one@h:1/?x=y\"; };", SMALL, "", NULL),
        conf_of("platform = { " UIDS "mongo_url = \"mongodb://me:two@h:1/?x=y\"; };", SMALL, "", NULL),
        "= mysimbdp.conf platform.mongo_url: \"mongodb://me:***@h:1/?x=y\" > \"mongodb://me:***@h:1/?x=y\" (another password)\n");
}

static void elements(void **state)
{
    (void)state;
    const char *from =
        "datasets = ( { name = \"a\"; columns = ( { name = \"x\"; min = 1.0; }, { name = \"y\"; } ); }, { name = \"b\"; } );"
        "batch = ( { app = \"one\"; exec = \"e\"; }, { app = \"two\"; exec = \"e\"; } );"
        "streams = ( { name = \"s\"; } ); stream_apps = ( { app = \"z\"; stream = \"s\"; exec = \"e\"; } );";
    const char *to = "datasets = ( { name = \"c\"; }, { name = \"a\"; columns = ( { name = \"x\"; }, { name = \"w\"; } ); } );"
                     "batch = ( { app = \"two\"; exec = \"e\"; }, { app = \"one\"; exec = \"f\"; } );";
    same_or(conf_of("platform = { " UIDS "};", SMALL, from, NULL), conf_of("platform = { " UIDS "};", SMALL, to, NULL),
            "= acme datasets a.columns x.min: 1 > none\n"
            "- acme datasets a.columns y\n"
            "+ acme datasets a.columns w\n"
            "- acme datasets b\n"
            "+ acme datasets c\n"
            "= acme batch one.exec: \"e\" > \"f\"\n"
            "= acme batch: one, two > two, one\n"
            "- acme streams s\n"
            "- acme stream_apps z\n");
}

static void tenants(void **state)
{
    (void)state;
    same_or(conf_of("platform = { " UIDS "};", SMALL, "weight = 3;", NULL), conf_of("platform = { " UIDS "};", SMALL, NULL, ""),
            "- acme \n+ best \n");
    same_or(conf_of("platform = { " UIDS "};", SMALL, NULL, NULL), conf_of("platform = { " UIDS "};", SMALL, "", ""),
            "+ acme \n+ best \n");
}

static const char *effect;

static void take_effect(void *arg, const struct conf_change *ch)
{
    if (!strcmp(ch->key, arg))
        effect = ch->effect;
}

/* Of each list it is said what happens to what is there. */
static void effects(void **state)
{
    (void)state;
    const char *from =
        "datasets = ( { name = \"d\"; } ); batch = ( { app = \"b\"; exec = \"e\"; } ); streams = ( { name = \"s\"; } );"
        "stream_apps = ( { app = \"z\"; stream = \"s\"; exec = \"e\"; } );";
    static const char *const all[][2] = {{"", "suspended"},
                                         {"datasets d", "staging"},
                                         {"batch b", "no_app"},
                                         {"streams s", "publishing to it is refused"},
                                         {"stream_apps z", "finish what they hold"}};
    struct conf *a = conf_of("platform = { " UIDS "};", SMALL, from, ""), *b = conf_of("platform = { " UIDS "};", SMALL, "", NULL);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        effect = "";
        conf_diff(a, b, take_effect, (void *)all[i][0]);
        assert_non_null(strstr(effect, all[i][1]));
        conf_diff(b, a, take_effect, (void *)all[i][0]);
        assert_true(*effect && !strstr(effect, all[i][1]) == (i != 1 /* "its staging directory is made" */));
    }
    conf_free(a);
    conf_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys), cmocka_unit_test(passwords), cmocka_unit_test(elements),
                                       cmocka_unit_test(tenants), cmocka_unit_test(effects)};
    return cmocka_run_group_tests(tests, make, drop);
}
