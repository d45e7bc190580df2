#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/mem.h"

/* Things that are no errors of the files but will bite at run time. */
static void warn_execs(const struct home *h, const struct conf *c)
{
    for (size_t i = 0; i < c->n_tenants; i++) {
        const struct conf_batch *b = c->tenants[i].batch.v;
        for (size_t k = 0; k < c->tenants[i].batch.n; k++) {
            if (!strncmp(b[k].exec, "builtin:", 8))
                continue;
            AUTO_FREE char *path =
                b[k].exec[0] == '/' ? xstrdup(b[k].exec) : xasprintf("%s/apps/%s/%s", h->path, c->tenants[i].id, b[k].exec);
            struct stat st;
            if (stat(path, &st) < 0)
                printf("%s:%d: warning: %s does not exist yet\n", c->tenants[i].file, b[k].line, path);
            else if (!(st.st_mode & 0111))
                printf("%s:%d: warning: %s is not executable\n", c->tenants[i].file, b[k].line, path);
        }
    }
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
        warn_execs(&h, conf);
        printf("ok: %zu tenants, %zu profiles\n", conf->n_tenants, conf->profiles.n);
    }
    conf_free(conf);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
