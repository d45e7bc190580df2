/* mysimbdp profile: gateways by name. */
#include "profiles.h"
#include "remote.h"

#include "base/mem.h"
#include "term/table.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static char *absolute(const char *path, struct err *e)
{
    char real[PATH_MAX];
    if (realpath(path, real))
        return xstrdup(real);
    err_sys(e, -errno, "%s", path);
    return NULL;
}

static int add(struct remote *r, struct profiles *all, const char *name)
{
    const struct target_options *o = &r->options;
    struct err e = {0};
    if (!profile_is_name(name))
        return remote_usage(r, "\"%s\" is no name of a profile: letters, digits, - and _", name);
    if (!o->url)
        return remote_usage(r, "say where its gateway is, with --url URL");
    AUTO_FREE char *token_file = o->token_file ? absolute(o->token_file, &e) : NULL;
    AUTO_FREE char *ca = !e.code && o->ca ? absolute(o->ca, &e) : NULL;
    AUTO_FREE char *token = NULL;
    if (e.code || target_check_url(o->url, &e) < 0 || (token_file && target_read_token(token_file, &token, &e) < 0))
        return remote_fail(r, &e);
    if (token)
        explicit_bzero(token, strlen(token));
    profiles_set(all, &(struct profile){(char *)name, (char *)o->url, token_file, ca, (char *)o->tenant});
    if (!all->use)
        xstr_set(&all->use, name);
    return profiles_write(all, &e) < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}

static int list(const struct remote *r, const struct profiles *all)
{
    static const struct col cols[] = {
        {"profile", COL_TEXT, 1}, {"in_use", COL_TEXT, 1},     {"url", COL_TEXT, 1},
        {"tenant", COL_TEXT, 2},  {"token_file", COL_LONG, 3}, {"ca", COL_LONG, 4},
    };
    struct table *t = table_new(cols, sizeof cols / sizeof *cols);
    for (size_t i = 0; i < all->n; i++) {
        const struct profile *p = &all->v[i];
        const bool used = all->use && !strcmp(all->use, p->name);
        AUTO_BUF struct buf b = {0};
        char *cells[] = {xstrdup(p->name),   xstrdup(used ? "yes" : "no"), xstrdup(p->url),
                         xstrdup(p->tenant), xstrdup(p->token_file),       xstrdup(p->ca)};
        table_add(t, cells);
        if (!r->json)
            continue;
        json_begin(&b, NULL, '{');
        json_str(&b, "profile", p->name);
        json_bool(&b, "in_use", used);
        json_str(&b, "url", p->url);
        json_str(&b, "tenant", p->tenant);
        json_str(&b, "token_file", p->token_file);
        json_str(&b, "ca", p->ca);
        json_end(&b, '}');
        puts(b.p);
    }
    if (!r->json)
        table_print(t);
    if (!r->json && !all->n)
        fputs("no profiles yet; `mysimbdp profile add NAME --url URL --token-file FILE` makes one\n", stderr);
    table_free(t);
    return REMOTE_DONE;
}

static int change(struct remote *r, struct profiles *all, bool use, const char *name)
{
    struct err e = {0};
    if (!profiles_find(all, name)) {
        err_set(&e, ERR_REFUSED, "there is no profile %s in %s; `mysimbdp profile list` lists them", name, all->path);
        return remote_fail(r, &e);
    }
    if (use) {
        xstr_set(&all->use, name);
    } else {
        if (all->use && !strcmp(all->use, name))
            xstr_set(&all->use, NULL);
        profiles_remove(all, name);
    }
    return profiles_write(all, &e) < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}

int verb_profile(struct remote *r)
{
    struct profiles all = {0};
    struct err e = {0};
    int code = remote_args(r, 1, 2);
    if (code)
        return code;
    const char *what = r->argv[0], *name = r->argv[1];
    bool is_list = !strcmp(what, "list"), is_add = !strcmp(what, "add"), use = !strcmp(what, "use");
    if (is_list != !name || (!is_list && !is_add && !use && strcmp(what, "remove") != 0))
        return remote_usage(r, "list, add NAME, use NAME, or remove NAME");
    if (profiles_read(&all, &e) < 0)
        code = remote_fail(r, &e);
    else
        code = is_list ? list(r, &all) : is_add ? add(r, &all, name) : change(r, &all, use, name);
    profiles_fini(&all);
    return code;
}
