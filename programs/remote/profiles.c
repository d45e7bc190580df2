#include "profiles.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libconfig.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_BYTES = 1 << 20, MAX_NAME = 64 };

static char *path_of_config(void)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        return xasprintf("%s/mysimbdp/config", xdg);
    return xasprintf("%s/.config/mysimbdp/config", home && *home ? home : "/nonexistent");
}

bool profile_is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", rest[] = "0123456789_-";
    if (!*name || strlen(name) > MAX_NAME || !strchr(letters, *name))
        return false;
    for (const char *c = name; *c; c++)
        if (!strchr(letters, *c) && !strchr(rest, *c))
            return false;
    return true;
}

static void profile_fini(struct profile *p)
{
    free(p->name);
    free(p->url);
    free(p->token_file);
    free(p->ca);
    free(p->tenant);
}

void profiles_fini(struct profiles *p)
{
    for (size_t i = 0; i < p->n; i++)
        profile_fini(&p->v[i]);
    free(p->v);
    free(p->use);
    free(p->path);
    *p = (struct profiles){0};
}

const struct profile *profiles_find(const struct profiles *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp(p->v[i].name, name))
            return &p->v[i];
    return NULL;
}

void profiles_set(struct profiles *p, const struct profile *one)
{
    struct profile copy = {xstrdup(one->name), xstrdup(one->url), xstrdup(one->token_file), xstrdup(one->ca), xstrdup(one->tenant)};
    profiles_remove(p, one->name);
    p->v = xgrow(p->v, p->n, sizeof *p->v);
    p->v[p->n++] = copy;
}

bool profiles_remove(struct profiles *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->v[i].name, name))
            continue;
        profile_fini(&p->v[i]);
        memmove(p->v + i, p->v + i + 1, (p->n - i - 1) * sizeof *p->v);
        p->n--;
        return true;
    }
    return false;
}

/* ---- the file ---- */

static const char *text_of(const config_setting_t *s, const char *key)
{
    const char *v = NULL;
    return config_setting_lookup_string(s, key, &v) && *v ? v : NULL;
}

static int take_profiles(struct profiles *p, const config_t *c, struct err *e)
{
    const config_setting_t *all = config_lookup(c, "profiles");
    const char *use = NULL;
    if (config_lookup_string(c, "use", &use) && *use)
        xstr_set(&p->use, use);
    for (int i = 0; all && i < config_setting_length(all); i++) {
        const config_setting_t *s = config_setting_get_elem(all, (unsigned)i);
        const char *name = config_setting_name(s);
        if (!name || !config_setting_is_group(s) || !text_of(s, "url"))
            return err_set(e, ERR_CONFIG, "%s:%d: a profile is NAME = { url = \"https://…\"; … };", p->path,
                           config_setting_source_line(s));
        struct profile one = {(char *)name, (char *)text_of(s, "url"), (char *)text_of(s, "token_file"), (char *)text_of(s, "ca"),
                              (char *)text_of(s, "tenant")};
        profiles_set(p, &one);
    }
    return 0;
}

int profiles_read(struct profiles *p, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    struct stat st;
    *p = (struct profiles){.path = path_of_config()};
    AUTO_FD int fd = fd_open_regular(p->path, &st);
    if (fd == -ENOENT || fd == -ENOTDIR)
        return 0;
    if (fd < 0)
        return err_sys(e, fd, "cannot read %s", p->path);
    if ((st.st_mode & 022) || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_set(e, ERR_CONFIG,
                       "%s can be written by others (mode %03o), who could have your tokens sent elsewhere; chmod go-w %s", p->path,
                       st.st_mode & 0777, p->path);
    int r = fd_read_all(fd, &text, MAX_BYTES);
    if (r < 0)
        return err_sys(e, r, "cannot read %s", p->path);
    config_t c;
    config_init(&c);
    if (config_read_string(&c, text.n ? text.p : ""))
        r = take_profiles(p, &c, e);
    else
        r = err_set(e, ERR_CONFIG, "%s:%d: %s", p->path, config_error_line(&c), config_error_text(&c));
    config_destroy(&c);
    return r;
}

static void put(config_setting_t *group, const char *key, const char *value)
{
    if (value)
        config_setting_set_string(config_setting_add(group, key, CONFIG_TYPE_STRING), value);
}

static char *text_of_profiles(const struct profiles *p)
{
    char *text = NULL;
    size_t n = 0;
    config_t c;
    config_init(&c);
    put(config_root_setting(&c), "use", p->use);
    config_setting_t *all = config_setting_add(config_root_setting(&c), "profiles", CONFIG_TYPE_GROUP);
    for (size_t i = 0; i < p->n; i++) {
        config_setting_t *s = config_setting_add(all, p->v[i].name, CONFIG_TYPE_GROUP);
        put(s, "url", p->v[i].url);
        put(s, "token_file", p->v[i].token_file);
        put(s, "ca", p->v[i].ca);
        put(s, "tenant", p->v[i].tenant);
    }
    FILE *f = open_memstream(&text, &n);
    if (f) {
        config_write(&c, f);
        fclose(f);
    }
    config_destroy(&c);
    return text;
}

int profiles_write(const struct profiles *p, struct err *e)
{
    AUTO_FREE char *text = text_of_profiles(p), *dir = xstrdup(p->path);
    if (!text)
        mem_exhausted();
    *strrchr(dir, '/') = 0;
    int r = fd_mkdirs(AT_FDCWD, dir, 0700);
    return r < 0 ? err_sys(e, r, "cannot make %s", dir) : fd_write_file(AT_FDCWD, p->path, text, strlen(text), 0600, e);
}
