#include "own.h"
#include "check.h"
#include "keys.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char *conf_own_path(const char *tenant)
{
    return xasprintf("conf/own/%s.conf", tenant);
}

/* One check at a time: what is wrong is added to c->all, and the next one is made. */
struct own {
    struct conf *c;
    const struct conf_tenant *t; /* as the provider has it */
    struct conf_tenant mine;
};

static void complain(struct own *o, int line, const char *key, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void complain(struct own *o, int line, const char *key, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    buf_addf(o->c->all, "%s:%d: key '%s': %s\n", o->mine.file, line, key, text);
    free(text);
}

/* ---- what is allowed ---- */

static void check_list(struct own *o, const struct cfg_list *l, const char *key, const char *what)
{
    int line = l->n ? *(const int *)l->v : 0;
    if (l->n && !conf_allows(o->t, what))
        complain(o, line, key, "the agreement does not let the tenant have %s of its own", what);
    if (l->n > CONF_OWN_MAX_ITEMS)
        complain(o, line, key, "there are more than %d", CONF_OWN_MAX_ITEMS);
}

static void check_path(struct own *o, int line, const char *key, const char *path)
{
    if (path[0] == '/')
        complain(o, line, key, "\"%s\" must be a path below apps/%s/, or built in", path, o->t->id);
}

static bool names(const struct strs *l, const char *word)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i], word))
            return true;
    return false;
}

static bool may_have_profile(const struct conf_tenant *t, const char *profile)
{
    const struct conf_batch *b = t->batch.v;
    const struct conf_stream_app *a = t->stream_apps.v;
    bool found = names(&t->own_profiles, profile);
    for (size_t i = 0; i < t->batch.n && !t->own_profiles.n; i++)
        found |= !strcmp(b[i].profile, profile);
    for (size_t i = 0; i < t->stream_apps.n && !t->own_profiles.n; i++)
        found |= !strcmp(a[i].profile, profile);
    return found;
}

static void check_app(struct own *o, int line, const char *list, const char *exec, const char *checker, const char *image,
                      const char *profile, const struct cfg_list *secrets)
{
    const struct conf_secret *s = secrets->v;
    AUTO_FREE char *of_exec = xasprintf("%s.exec", list), *of_checker = xasprintf("%s.checker", list),
                   *of_image = xasprintf("%s.image", list), *of_profile = xasprintf("%s.profile", list);
    check_path(o, line, of_exec, exec);
    check_path(o, line, of_checker, checker);
    check_path(o, line, of_image, image);
    if (!may_have_profile(o->t, profile))
        complain(o, line, of_profile, "the agreement has no profile \"%s\" for the tenant's own apps", profile);
    for (size_t i = 0; i < secrets->n; i++)
        if (s[i].file[0] == '/')
            complain(o, s[i].line, "secrets.file", "\"%s\" must be a name below keys/%s/", s[i].file, o->t->id);
}

static void check_apps(struct own *o)
{
    const struct conf_batch *b = o->mine.batch.v;
    const struct conf_stream_app *a = o->mine.stream_apps.v;
    int64_t instances = 0;
    for (size_t i = 0; i < o->mine.batch.n; i++)
        check_app(o, b[i].line, "batch", b[i].exec, b[i].checker, b[i].image, b[i].profile, &b[i].secrets);
    for (size_t i = 0; i < o->mine.stream_apps.n; i++) {
        instances += a[i].max_instances;
        check_app(o, a[i].line, "stream_apps", a[i].exec, a[i].checker, a[i].image, a[i].profile, &a[i].secrets);
        if (instances > o->t->max_own_instances) {
            complain(o, a[i].line, "stream_apps.max_instances",
                     "with it the tenant's own apps have more than max_own_instances = %lld", (long long)o->t->max_own_instances);
            break;
        }
    }
}

/* Not above what a stream has of which nothing is written. */
static void check_streams(struct own *o)
{
    const struct conf_stream *s = o->mine.streams.v;
    const struct conf_stream *d = conf_stream_defaults();
    for (size_t i = 0; i < o->mine.streams.n; i++) {
        const struct {
            const char *key;
            int64_t is, most;
        } limits[] = {{"streams.max_message_bytes", s[i].max_message_bytes, d->max_message_bytes},
                      {"streams.max_stored_bytes", s[i].max_stored_bytes, d->max_stored_bytes},
                      {"streams.max_messages_per_request", s[i].max_messages_per_request, d->max_messages_per_request},
                      {"streams.retention_s", s[i].retention_s, d->retention_s},
                      {"streams.dead_retention_s", s[i].dead_retention_s, d->dead_retention_s},
                      {"streams.dedup_window_s", s[i].dedup_window_s, d->dedup_window_s}};
        if (s[i].store != d->store)
            complain(o, s[i].line, "streams.store", "where its messages are kept is the provider's to say");
        for (size_t k = 0; k < sizeof limits / sizeof *limits; k++)
            if (limits[k].is < 0 || limits[k].is > limits[k].most)
                complain(o, s[i].line, limits[k].key, "%lld is more than %lld, which a stream of the tenant's own may have",
                         (long long)limits[k].is, (long long)limits[k].most);
    }
}

/* ---- both together ---- */

static const struct {
    const char *what, *key;
    size_t offset, item_size;
} lists[] = {
    {CONF_ALLOW_DATASETS, "datasets", offsetof(struct conf_tenant, datasets), sizeof(struct conf_dataset)},
    {CONF_ALLOW_APPS, "batch", offsetof(struct conf_tenant, batch), sizeof(struct conf_batch)},
    {CONF_ALLOW_STREAMS, "streams", offsetof(struct conf_tenant, streams), sizeof(struct conf_stream)},
    {CONF_ALLOW_APPS, "stream_apps", offsetof(struct conf_tenant, stream_apps), sizeof(struct conf_stream_app)},
};
enum { N_LISTS = sizeof lists / sizeof *lists };

static struct cfg_list *list_of(const struct conf_tenant *t, size_t i)
{
    return (struct cfg_list *)((char *)t + lists[i].offset);
}

/* Lists of the provider's items and the tenant's behind them; the items stay whose they are. */
static void join(const struct own *o, struct conf_tenant *ret)
{
    *ret = *o->t;
    ret->file = o->mine.file;
    for (size_t i = 0; i < N_LISTS; i++) {
        const struct cfg_list *a = list_of(o->t, i), *b = list_of(&o->mine, i);
        struct cfg_list *to = list_of(ret, i);
        *to = (struct cfg_list){xmalloc((a->n + b->n + 1) * lists[i].item_size), a->n + b->n};
        if (a->n)
            memcpy(to->v, a->v, a->n * lists[i].item_size);
        if (b->n)
            memcpy((char *)to->v + a->n * lists[i].item_size, b->v, b->n * lists[i].item_size);
    }
}

static void fill_in(struct conf_tenant *mine)
{
    struct conf_dataset *d = mine->datasets.v;
    for (size_t i = 0; i < mine->datasets.n; i++)
        if (!*d[i].collection)
            xstr_set(&d[i].collection, d[i].name);
}

/* What the provider has is right by itself: what is wrong now is the tenant's. */
static void check(struct own *o)
{
    struct conf_tenant both;
    struct err e = {0};
    for (size_t i = 0; i < N_LISTS; i++)
        check_list(o, list_of(&o->mine, i), lists[i].key, lists[i].what);
    check_apps(o);
    check_streams(o);
    fill_in(&o->mine);
    join(o, &both);
    conf_collect(o->c, conf_check_tenant(o->c, &both, &e), &e);
    for (size_t i = 0; i < N_LISTS; i++)
        free(list_of(&both, i)->v);
}

static void take(struct conf_tenant *t, struct conf_tenant *mine)
{
    struct own o = {.t = t, .mine = *mine};
    struct conf_tenant both;
    join(&o, &both);
    for (size_t i = 0; i < N_LISTS; i++) {
        free(list_of(t, i)->v);
        *list_of(t, i) = *list_of(&both, i);
        free(list_of(mine, i)->v); /* its items are the list's now */
        *list_of(mine, i) = (struct cfg_list){0};
    }
}

/* @include would show other files. */
static int check_text(const char *file, struct buf *text, struct err *e)
{
    struct stat st;
    int fd = fd_open_regular(file, &st);
    if (fd < 0)
        return err_sys(e, fd, "cannot open %s", file);
    int r = fd_read_all(fd, text, CONF_OWN_MAX_BYTES);
    close(fd);
    if (r < 0)
        return r == ERR_LIMIT ? err_set(e, ERR_CONFIG, "%s: it has more than %d bytes", file, CONF_OWN_MAX_BYTES)
                              : err_sys(e, r, "cannot read %s", file);
    buf_add(text, "", 0);
    return text->n && memmem(text->p, text->n, "@include", 8) ? err_set(e, ERR_CONFIG, "%s: @include is not for this file", file)
                                                              : 0;
}

/* Who wrote the text may read why it is wrong, and where it lies says nothing to him. */
static char *without_path(const char *text, const char *path)
{
    struct buf out = {0};
    size_t n = strlen(path);
    while (*text) {
        bool at_path = !strncmp(text, path, n);
        buf_adds(&out, at_path ? "line " : "");
        text += at_path ? n + (text[n] == ':') : 0;
        size_t k = strcspn(text, "\n");
        buf_add(&out, text, k + (text[k] == '\n'));
        text += k + (text[k] == '\n');
    }
    return out.p;
}

void conf_own_add(struct conf *c, struct conf_tenant *t, const char *file)
{
    AUTO_BUF struct buf all = {0};
    AUTO_BUF struct buf text = {0};
    struct own o = {.c = c, .t = t, .mine = {.id = t->id, .file = (char *)file}};
    struct buf *outer = c->all;
    struct err e = {0};
    int r = check_text(file, &text, &e);
    if (r == -ENOENT)
        return;
    c->all = &all;
    if (r == 0)
        r = cfg_load_all(file, conf_own_keys, &o.mine, &all, &e);
    if (r == 0)
        check(&o);
    else
        conf_collect(c, r, &e);
    c->all = outer;
    if (all.n)
        t->own_error = without_path(all.p, file);
    else
        take(t, &o.mine);
    cfg_free(conf_own_keys, &o.mine);
}

int conf_own_try(const char *home, const char *tenant, const char *file, struct buf *all, struct err *e)
{
    struct conf *c = NULL;
    int r = conf_load_with(home, tenant, file, &c, e);
    if (r < 0)
        return r;
    const struct conf_tenant *t = conf_tenant(c, tenant);
    if (!t)
        r = err_set(e, -ENOENT, "there is no tenant %s", tenant);
    else if (!t->allow.n)
        r = err_refuse(e, "not_allowed", 0, "the agreement does not let tenant %s configure anything (allow)", tenant);
    else if (t->own_error)
        r = err_set(e, ERR_USAGE, "the configuration has errors");
    if (r == ERR_USAGE)
        buf_adds(all, t->own_error);
    conf_free(c);
    return r;
}
