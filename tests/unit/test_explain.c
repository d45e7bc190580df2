/* Each key that the parser takes is explained, and each example is taken by it: in its file, by all that is checked there. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "check.h"
#include "conf/conf.h"
#include "conf/explain.h"
#include "host/home.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

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

static void put(const char *rel, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/conf/%s", home, rel);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Adds to `wrong` what is wrong with the example. */
static void take(const bson_t *doc, struct buf *wrong)
{
    struct err e = {0};
    struct conf *c = NULL;
    const char *file = json_get_str(doc, "file", ""), *example = json_get_str(doc, "example", "");
    AUTO_FREE char *with_webhook =
        strstr(example, " webhook = ")
            ? xasprintf("platform = { webhooks = ( { name = \"ops\"; url = \"http://a/\"; } ); %s", strchr(example, '{') + 1)
            : NULL;
    put("mysimbdp.conf", with_webhook ? with_webhook
                         : !strcmp(file, "conf/mysimbdp.conf")
                             ? example
                             : "platform = { kafka = { brokers = \"a:1\"; member = \"one\"; }; };");
    put("profiles.conf", !strcmp(file, "conf/profiles.conf") ? example : "profiles = ( { name = \"small\"; } );");
    /* What examples refer to is called so elsewhere in the file. */
    AUTO_FREE char *tenant = xasprintf("%s\n%s%s", strstr(file, "tenants") ? example : "",
                                       strncmp(example, "datasets", 8) ? "datasets = ( { name = \"readings\"; } ); " : "",
                                       strncmp(example, "streams", 7) ? "streams = ( { name = \"events\"; } );" : "");
    put("tenants/acme.conf", tenant);
    if (conf_load(home, &c, &e) < 0)
        buf_addf(wrong, "%s: %s\n", example, e.msg);
    conf_free(c);
}

static void each_example_is_taken(void **state)
{
    AUTO_BUF struct buf all = {0}, wrong = {0};
    struct err e = {0};
    (void)state;
    int n = conf_explain(NULL, &all, &e), seen = 0;
    assert_true(n > 100);
    for (char *line = strtok(all.p, "\n"); line; line = strtok(NULL, "\n"), seen++) {
        AUTO_BSON bson_t *doc = json_parse(line, strlen(line), &e);
        assert_non_null(doc);
        assert_true(*json_get_str(doc, "help", ""));
        /* An example that says what holds anyway shows nothing. */
        const char *key = json_get_str(doc, "key", ""), *dot = strrchr(key, '.');
        AUTO_FREE char *empty = xasprintf("%s = \"\";", dot ? dot + 1 : key);
        if (strstr(json_get_str(doc, "example", ""), empty))
            buf_addf(&wrong, "%s shows nothing\n", empty);
        take(doc, &wrong);
    }
    assert_int_equal(seen, n);
    if (wrong.n)
        fputs(wrong.p, stderr);
    assert_int_equal(wrong.n, 0);
}

static bson_t *one(const char *key)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    assert_int_equal(conf_explain(key, &b, &e), 1);
    bson_t *doc = json_parse(b.p, b.n - 1, &e);
    assert_non_null(doc);
    return doc;
}

static void what_is_said(void **state)
{
    (void)state;
    AUTO_BSON bson_t *rejects = one("limits.max_rejects"), *listen = one("http.listen"), *success = one("on_success");
    assert_string_equal(json_get_str(rejects, "example", ""), "limits = { max_rejects = 100; };");
    assert_string_equal(json_get_str(rejects, "default", ""), "-1");
    assert_string_equal(json_get_str(rejects, "takes_effect", ""), "reload");
    assert_int_equal(json_get_i64(rejects, "min", 0), -1);
    assert_string_equal(json_get_str(listen, "key", ""), "platform.http.listen");
    assert_string_equal(json_get_str(listen, "takes_effect", ""), "start");
    assert_string_equal(json_get_str(success, "example", ""), "retention = { on_success = \"delete\"; };");
}

static void what_is_none(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    (void)state;
    assert_int_equal(conf_explain("max_rejets", &b, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "did you mean 'max_rejects'"));
    assert_int_equal(conf_explain("limits.max_rejets", &b, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "did you mean 'limits.max_rejects'"));
    assert_int_equal(conf_explain("ax_rejects", &b, &e), ERR_USAGE);
    assert_int_equal(b.n, 0);
    assert_int_equal(conf_explain("max_rejects", &b, &e), 2); /* the tenant's, and a dataset's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_example_is_taken, make, drop),
        cmocka_unit_test(what_is_said),
        cmocka_unit_test(what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
