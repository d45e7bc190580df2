#include "base/fd.h"
#include "base/mem.h"
#include "host/app_version.h"
#include "base/spawn.h"
#include "conf_changes.h"
#include "cli.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
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

static void warn_exec(const struct home *h, const struct conf_tenant *t, const char *app, int line, const char *exec,
                      const char *image)
{
    if (*image)
        warn_image(h, t, line, image);
    if (!*exec || !strncmp(exec, "builtin:", 8) || (*image && exec[0] == '/'))
        return;
    AUTO_FREE char *path = app_version_active_exec(h, t->id, app, exec);
    struct stat st;
    if (stat(path, &st) < 0)
        printf("%s:%d: warning: %s does not exist yet\n", t->file, line, path);
    else if (!(st.st_mode & 0111))
        printf("%s:%d: warning: %s is not executable\n", t->file, line, path);
}

/* Warnings: what is no error of the files, but will fail at run time. */
static void warn(const struct home *h, const struct conf_tenant *t)
{
    const struct conf_batch *b = t->batch.v;
    const struct conf_stream_app *a = t->stream_apps.v;
    if (t->own_error)
        printf("warning: conf/own/%s.conf, what the tenant configures itself, is left out, since it has errors:\n%s", t->id,
               t->own_error);
    for (size_t k = 0; k < t->batch.n; k++)
        warn_exec(h, t, b[k].app, b[k].line, b[k].exec, b[k].image);
    for (size_t k = 0; k < t->stream_apps.n; k++)
        warn_exec(h, t, a[k].app, a[k].line, a[k].exec, a[k].image);
    for (size_t k = 0; k < t->stream_apps.n; k++)
        if (*a[k].checker)
            warn_exec(h, t, a[k].app, a[k].line, a[k].checker, "");
}

/* Whether something can listen on the address of `listen` here. That is tried, since nothing else tells. NULL: it can; else why
 * not. */
static const char *listen_trouble(const char *address)
{
    struct addrinfo want = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    size_t n = strlen(address);
    AUTO_FREE char *name = address[0] == '[' ? xstrndup(address + 1, n - 2) : xstrdup(address);
    if (!*address)
        return NULL;
    int r = getaddrinfo(!strcmp(name, "*") ? "0.0.0.0" : name, "0", &want, &found);
    if (r != 0)
        return gai_strerror(r);
    AUTO_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    r = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) < 0 ? -errno : 0;
    freeaddrinfo(found);
    return r < 0 ? err_text(r) : NULL;
}

static int check_listen(const struct home *h, const struct conf *conf)
{
    const char *address = conf_listen(conf), *why = listen_trouble(address);
    if (why)
        fprintf(stderr, "%s/conf/mysimbdp.conf: key 'platform.%slisten': nothing can listen on \"%s\" of this host: %s\n", h->path,
                *conf->platform.listen ? "" : "slurm.", address, why);
    return why ? -EADDRNOTAVAIL : 0;
}

/* What a reload would change: against what was accepted last. */
static int tell_changes(struct cli *c, const struct home *h, const struct conf *now)
{
    struct conf *in_force = NULL;
    struct err e = {0};
    int64_t number;
    int r = conf_changes_load(h, 0, &in_force, &number, &e);
    if (r == -ENOENT && !c->json)
        puts("no configuration was accepted yet: all of it is new");
    if (r == 0)
        conf_changes_print(c, in_force, now);
    conf_free(in_force);
    return r < 0 && r != -ENOENT ? cli_fail(c, &e) : CLI_DONE;
}

int verb_check(struct cli *c)
{
    struct home h;
    struct err e = {0};
    struct conf *conf = NULL;
    bool keys = cli_flag(c, "--keys"), diff = cli_flag(c, "--diff"), failed = false;
    int r = cli_args(c, 0, 0);
    if (r)
        return r;
    if (c->json && !diff)
        return cli_usage(c, "--json is for --diff");
    if (keys) {
        AUTO_BUF struct buf b = {0};
        conf_help(&b);
        fputs(b.p, stdout);
        return CLI_DONE;
    }
    if (cli_home(c, &h))
        return CLI_FAILED;
    AUTO_BUF struct buf all = {0};
    r = conf_load_all(h.path, &all, &conf, &e);
    if (r < 0) {
        if (all.n)
            fputs(all.p, stderr);
        else
            fprintf(stderr, "%s\n", e.msg);
    } else {
        for (size_t i = 0; !c->json && i < conf->n_tenants; i++)
            warn(&h, &conf->tenants[i]);
        r = check_listen(&h, conf);
        failed = r == 0 && diff && tell_changes(c, &h, conf);
        if (r == 0 && !diff)
            printf("ok: %zu tenants, %zu profiles\n", conf->n_tenants, conf->profiles.n);
    }
    conf_free(conf);
    home_close(&h);
    return r < 0 || failed ? CLI_FAILED : CLI_DONE;
}
