#include "cli.h"
#include "common/mem.h"
#include "common/spawn.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void warn_image(const struct home *h, const struct conf_tenant *t, int line, const char *image)
{
    const char *tag;
    AUTO_FREE char *path = home_image(h, t->id, image, &tag), *umoci = spawn_find("umoci");
    struct stat st;
    if (stat(path, &st) < 0)
        printf("%s:%d: warning: %s does not exist yet\n", t->file, line, path);
    else if (!umoci)
        printf("%s:%d: warning: umoci is not there, which unpacks images: apt-get install umoci\n", t->file, line);
}

static void warn_exec(const struct home *h, const struct conf_tenant *t, int line, const char *exec, const char *image)
{
    if (*image)
        warn_image(h, t, line, image);
    if (!*exec || !strncmp(exec, "builtin:", 8) || (*image && exec[0] == '/'))
        return;
    AUTO_FREE char *path = home_exec(h, t->id, exec);
    struct stat st;
    if (stat(path, &st) < 0)
        printf("%s:%d: warning: %s does not exist yet\n", t->file, line, path);
    else if (!(st.st_mode & 0111))
        printf("%s:%d: warning: %s is not executable\n", t->file, line, path);
}

/* Things that are no errors of the files but will bite at run time. */
static void warn(const struct home *h, const struct conf_tenant *t)
{
    const struct conf_batch *b = t->batch.v;
    const struct conf_stream_app *a = t->stream_apps.v;
    for (size_t k = 0; k < t->batch.n; k++)
        warn_exec(h, t, b[k].line, b[k].exec, b[k].image);
    for (size_t k = 0; k < t->stream_apps.n; k++)
        warn_exec(h, t, a[k].line, a[k].exec, a[k].image);
}

int verb_check(struct cli *c)
{
    struct home h;
    struct err e = {0};
    struct conf *conf = NULL;
    bool keys = cli_flag(c, "--keys");
    int r = cli_args(c, 0, 0);
    if (r)
        return r;
    if (keys) {
        AUTO_BUF struct buf b = {0};
        conf_help(&b);
        fputs(b.p, stdout);
        return CLI_DONE;
    }
    if (cli_home(c, &h))
        return CLI_FAILED;
    r = conf_load(h.path, &conf, &e);
    if (r < 0) {
        fprintf(stderr, "%s\n", e.msg);
    } else {
        for (size_t i = 0; i < conf->n_tenants; i++)
            warn(&h, &conf->tenants[i]);
        printf("ok: %zu tenants, %zu profiles\n", conf->n_tenants, conf->profiles.n);
    }
    conf_free(conf);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
