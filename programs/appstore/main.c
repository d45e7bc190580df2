/* simbdp-appstore: versions of tenants' apps. The gateway's keeper starts it for an account that may deploy, `mysimbdp app` for the
 * provider. It answers with a JSON object on stdout: {"ok":true, …} or {"ok":false,"code","error","retry_after_s"}. */
#include "push.h"

#include "base/crash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static const char usage[] =
    "usage: simbdp-appstore --home HOME push TENANT APP FILE [--version V] [--activate] [--by NAME]\n"
    "       simbdp-appstore --home HOME list|rollback TENANT APP\n"
    "       simbdp-appstore --home HOME activate|remove TENANT APP VERSION\n"
    "FILE may be -, stdin, which has to be a file. --version: refuse the file if it is not this one. --by: who did it.\n"
    "The gateway's keeper and `mysimbdp app` start it. Exit: 0 done, 1 not (the answer says why), 2 usage.\n";

struct job {
    struct home home;
    struct conf *conf;
    const struct conf_tenant *tenant;
    const char *verb, *app, *version, *file, *by;
    bool activate;
};

static void tell_active(const struct job *j, const struct app_active *a, struct buf *out)
{
    json_str(out, "app", j->app);
    json_str(out, "version", *a->version ? a->version : NULL);
    json_str(out, "previous", *a->before ? a->before : NULL);
}

static int do_push(const struct job *j, struct buf *out, struct err *e)
{
    struct push p = {&j->home, j->conf, j->tenant, j->app, j->file, j->version, j->by};
    AUTO_MANIFEST struct manifest m = {0};
    struct app_active a = {0};
    bool again;
    int r = push(&p, &m, &again, e);
    if (r == 0)
        log_info("app_pushed", j->tenant->id, NULL, "version %s of app %s, %lld bytes in %lld files, by %s", m.version, j->app,
                 (long long)m.bytes, (long long)m.files, j->by);
    if (r == 0)
        r = j->activate ? appstore_activate(&j->home, j->tenant, j->app, m.version, &a, e)
                        : app_version_read(&j->home, j->tenant->id, j->app, &a, e);
    if (r < 0)
        return r;
    json_str(out, "app", j->app);
    json_bool(out, "again", again);
    AUTO_BUF struct buf one = {0};
    manifest_tell(&m, a.version, &one);
    json_raw(out, "pushed", one.p);
    return 0;
}

static int do_list(const struct job *j, struct buf *out, struct err *e)
{
    struct manifest *v;
    size_t n;
    struct app_active a = {0};
    int r = app_version_read(&j->home, j->tenant->id, j->app, &a, e);
    if (r == 0)
        r = manifest_list(&j->home, j->tenant->id, j->app, &v, &n, e);
    if (r < 0)
        return r;
    tell_active(j, &a, out);
    json_begin(out, "versions", '[');
    for (size_t i = 0; i < n; i++)
        manifest_tell(&v[i], a.version, out);
    json_end(out, ']');
    manifest_list_free(v, n);
    return 0;
}

static int do_change(const struct job *j, struct buf *out, struct err *e)
{
    struct app_active a = {0};
    int r = !strcmp(j->verb, "activate") ? appstore_activate(&j->home, j->tenant, j->app, j->version, &a, e)
            : !strcmp(j->verb, "remove") ? appstore_remove(&j->home, j->tenant, j->app, j->version, e)
                                         : appstore_rollback(&j->home, j->tenant, j->app, &a, e);
    if (r == 0) {
        log_info("app_version", j->tenant->id, NULL, "app %s: %s %s, by %s", j->app, j->verb, j->version ? j->version : a.version,
                 j->by);
        tell_active(j, &a, out);
    }
    return r;
}

static int answer(int r, struct buf *out, const struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", r >= 0);
    if (r < 0) {
        json_str(&b, "code", r == ERR_REFUSED ? err_reason(e) : "internal");
        json_str(&b, "error", e->msg);
        json_i64(&b, "retry_after_s", e->retry_after_s);
    } else {
        buf_adds(&b, ",");
        buf_add(&b, out->p, out->n);
    }
    json_end(&b, '}');
    return puts(b.p) < 0 || fflush(stdout) < 0 ? 1 : r < 0;
}

static int take_options(struct job *j, int argc, char **argv)
{
    static const struct option options[] = {{"version", required_argument, NULL, 'v'},
                                            {"by", required_argument, NULL, 'b'},
                                            {"activate", no_argument, NULL, 'a'},
                                            {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (o == 'v')
            j->version = optarg;
        else if (o == 'b')
            j->by = optarg;
        else if (o == 'a')
            j->activate = true;
        else
            return -1;
    int n = argc - optind;
    if (n < 3)
        return -1;
    j->verb = argv[optind];
    j->app = argv[optind + 2];
    bool pushes = !strcmp(j->verb, "push"), of_version = !strcmp(j->verb, "activate") || !strcmp(j->verb, "remove"),
         of_app = !strcmp(j->verb, "list") || !strcmp(j->verb, "rollback");
    if (pushes)
        j->file = argv[optind + 3];
    else if (of_version)
        j->version = argv[optind + 3];
    return n == (of_app ? 3 : 4) && (pushes || of_version || of_app) ? 0 : -1;
}

static int run(struct job *j, const char *home, const char *tenant, struct buf *out, struct err *e)
{
    int r = sodium_init() < 0 ? -EIO : home_open(&j->home, home, e);
    if (r == 0)
        r = conf_load(j->home.path, &j->conf, e);
    if (r < 0)
        return r;
    j->tenant = conf_valid_id(tenant) ? conf_tenant(j->conf, tenant) : NULL;
    if (!j->tenant || !conf_valid_id(j->app))
        return err_refuse(e, j->tenant ? "no_app" : "not_found", 0, "there is no %s %s", j->tenant ? "app" : "tenant",
                          j->tenant ? j->app : tenant);
    return !strcmp(j->verb, "push") ? do_push(j, out, e) : !strcmp(j->verb, "list") ? do_list(j, out, e) : do_change(j, out, e);
}

int main(int argc, char **argv)
{
    struct job j = {.by = "local"};
    struct err e = {0};
    AUTO_BUF struct buf out = {0};
    log_init("simbdp-appstore");
    crash_init();
    umask(0022);
    signal(SIGCHLD, SIG_DFL);
    const char *home = home_take_arg(&argc, argv);
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (take_options(&j, argc, argv) < 0)
        return fputs(usage, stderr), 2;
    int r = run(&j, home, argv[optind + 1], &out, &e);
    if (r < 0 && r != ERR_REFUSED)
        log_error("appstore", NULL, NULL, "%s %s: %s", j.verb, j.app, e.msg);
    int code = answer(r, &out, &e);
    conf_free(j.conf);
    home_close(&j.home);
    return code;
}
