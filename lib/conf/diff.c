#include "diff.h"
#include "keys.h"

#include "base/buf.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PATH_ROOM = 256 };

struct walk {
    const char *file, *tenant;
    const char *list; /* the outermost list that it is in; NULL: none */
    conf_change_fn each;
    void *arg;
    size_t n;
};

/* What happens with runs, files, messages and instances. */
static const struct {
    const char *list;
    enum conf_change_kind kind;
    const char *text;
} effects[] = {
    {"", CONF_ADDED, "it gets a uid and its staging directories; files and messages are taken from then on"},
    {"", CONF_REMOVED,
     "it is suspended: its files stay in staging, publishing is refused, nothing is started any more; instances of its stream apps "
     "finish what they hold, batch runs go on to their end; nothing is deleted"},
    {"profiles", CONF_CHANGED, "runs that start from then on have it; instances are replaced one by one"},
    {"datasets", CONF_ADDED, "its staging directory is made"},
    {"datasets", CONF_REMOVED, "files in its staging directory stay there, and no more are taken; what is stored stays"},
    {"datasets", CONF_CHANGED, "files that are taken from then on are read so"},
    {"batch", CONF_ADDED, "files that are queued are given out anew, and may go to it"},
    {"batch", CONF_REMOVED,
     "runs go on to their end; files that are queued go to another app that takes them, or else are rejected (no_app)"},
    {"batch", CONF_CHANGED, "runs that start from then on have it; those that run go on"},
    {"streams", CONF_ADDED, "it can be published to"},
    {"streams", CONF_REMOVED, "publishing to it is refused, its messages are delivered no more, and stay on the disk"},
    {"stream_apps", CONF_ADDED, "it has a subscription from then on; its instances are started"},
    {"stream_apps", CONF_REMOVED, "its instances finish what they hold and end; messages that wait for it stay on the disk"},
    {"stream_apps", CONF_CHANGED, "where it is about how they run, instances are replaced one by one"},
    {"alerts", CONF_REMOVED, "where it fires it is over"},
};

static const char *effect_of(const char *list, enum conf_change_kind kind)
{
    for (size_t i = 0; list && i < sizeof effects / sizeof *effects; i++)
        if (!strcmp(effects[i].list, list) && effects[i].kind == kind)
            return effects[i].text;
    return "";
}

static void tell(struct walk *w, const struct conf_change *change)
{
    struct conf_change c = *change;
    c.file = w->file;
    c.tenant = w->tenant;
    w->each(w->arg, &c);
    w->n++;
}

/* ---- values ---- */

static void add_text(struct buf *b, const char *v)
{
    buf_adds(b, "\"");
    for (; *v; v++)
        if ((unsigned char)*v < ' ')
            buf_addf(b, "\\x%02x", (unsigned char)*v);
        else
            buf_addf(b, *v == '"' || *v == '\\' ? "\\%c" : "%c", *v);
    buf_adds(b, "\"");
}

/* scheme://user:password@host: without the password. */
static char *without_password(const char *v)
{
    const char *at, *user = strstr(v, "://"), *colon;
    user = user ? user + 3 : NULL;
    at = user ? memchr(user, '@', strcspn(user, "/?#")) : NULL;
    colon = at ? memchr(user, ':', (size_t)(at - user)) : NULL;
    return colon ? xasprintf("%.*s:***%s", (int)(colon - v), v, at) : xstrdup(v ? v : "");
}

static void print_value(const struct cfg_key *k, const char *field, struct buf *b)
{
    const struct strs *strs = (const void *)field;
    double number;
    int choice;
    switch (k->type) {
    case CFG_INT:
        buf_addf(b, "%lld", (long long)*(const int64_t *)(const void *)field);
        break;
    case CFG_F64:
        memcpy(&number, field, sizeof number);
        buf_addf(b, isnan(number) ? "none" : "%.15g", number);
        break;
    case CFG_BOOL:
        buf_adds(b, *(const bool *)field ? "true" : "false");
        break;
    case CFG_ENUM: {
        memcpy(&choice, field, sizeof choice);
        AUTO_FREE char *word = cfg_choice(k->one_of, choice);
        add_text(b, word);
        break;
    }
    case CFG_STR: {
        const char *v = *(char *const *)(const void *)field;
        AUTO_FREE char *shown = without_password(v ? v : "");
        add_text(b, shown);
        break;
    }
    case CFG_STRS:
        buf_adds(b, "(");
        for (size_t i = 0; i < strs->n; i++) {
            buf_adds(b, i ? ", " : "");
            add_text(b, strs->v[i]);
        }
        buf_adds(b, ")");
        break;
    case CFG_GROUP:
    case CFG_LIST:
    case CFG_LATER:
        break;
    }
}

static bool same_strs(const struct strs *a, const struct strs *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = !strcmp(a->v[i], b->v[i]);
    return same;
}

/* Of a key that holds no others. */
static bool same_value(const struct cfg_key *k, const char *a, const char *b)
{
    double x, y;
    switch (k->type) {
    case CFG_INT:
        return *(const int64_t *)(const void *)a == *(const int64_t *)(const void *)b;
    case CFG_F64:
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return x == y || (isnan(x) && isnan(y));
    case CFG_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case CFG_ENUM:
        return !memcmp(a, b, sizeof(int));
    case CFG_STR: {
        const char *s = *(char *const *)(const void *)a, *t = *(char *const *)(const void *)b;
        return !strcmp(s ? s : "", t ? t : "");
    }
    case CFG_STRS:
        return same_strs((const void *)a, (const void *)b);
    case CFG_GROUP:
    case CFG_LIST:
    case CFG_LATER:
        break;
    }
    return true;
}

static void compare_value(struct walk *w, const struct cfg_key *k, const char *a, const char *b, const char *path)
{
    AUTO_BUF struct buf from = {0}, to = {0};
    if (same_value(k, a, b))
        return;
    print_value(k, a, &from);
    print_value(k, b, &to);
    if (!strcmp(from.p, to.p))
        buf_adds(&to, " (another password)");
    tell(w, &(struct conf_change){.kind = CONF_CHANGED,
                                  .key = path,
                                  .old_value = from.p,
                                  .new_value = to.p,
                                  .on_reload = k->reloadable,
                                  .help = k->help,
                                  .effect = effect_of(w->list, CONF_CHANGED)});
}

/* ---- lists ---- */

/* An element is known by its first key, which is its name. */
static const char *name_of(const struct cfg_key *k, const struct cfg_list *l, size_t i)
{
    const char *item = (const char *)l->v + i * k->item_size;
    const char *name = *(char *const *)(const void *)(item + k->keys[0].offset);
    return name ? name : "";
}

/* The nth of that name. */
static const char *find(const struct cfg_key *k, const struct cfg_list *l, const char *name, size_t n)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(name_of(k, l, i), name) && n-- == 0)
            return (const char *)l->v + i * k->item_size;
    return NULL;
}

static size_t nth_of_its_name(const struct cfg_key *k, const struct cfg_list *l, size_t i)
{
    size_t n = 0;
    for (size_t j = 0; j < i; j++)
        n += !strcmp(name_of(k, l, j), name_of(k, l, i));
    return n;
}

static void compare(struct walk *w, const struct cfg_key *keys, const char *a, const char *b, const char *path);

/* For an outer one that has it, this is a change. */
static void tell_element(struct walk *w, bool has_outer, enum conf_change_kind kind, const char *path)
{
    const char *effect = effect_of(w->list, has_outer ? CONF_CHANGED : kind);
    tell(w, &(struct conf_change){.kind = kind, .key = path, .on_reload = true, .help = "", .effect = effect});
}

/* Which of several apps gets a file is the first that takes it. */
static void compare_order(struct walk *w, const struct cfg_key *k, const struct cfg_list *a, const struct cfg_list *b,
                          const char *path)
{
    AUTO_BUF struct buf from = {0}, to = {0};
    for (size_t i = 0; i < a->n; i++)
        if (find(k, b, name_of(k, a, i), 0))
            buf_addf(&from, "%s%s", from.n ? ", " : "", name_of(k, a, i));
    for (size_t i = 0; i < b->n; i++)
        if (find(k, a, name_of(k, b, i), 0))
            buf_addf(&to, "%s%s", to.n ? ", " : "", name_of(k, b, i));
    if (!from.n || !strcmp(from.p, to.p))
        return;
    tell(w, &(struct conf_change){.kind = CONF_CHANGED,
                                  .key = path,
                                  .old_value = from.p,
                                  .new_value = to.p,
                                  .on_reload = true,
                                  .help = "the order of the tenant's batch apps",
                                  .effect = "a file goes to the first that takes it"});
}

static void compare_list(struct walk *w, const struct cfg_key *k, const struct cfg_list *a, const struct cfg_list *b,
                         const char *path)
{
    const char *outer = w->list;
    w->list = outer ? outer : k->name;
    for (size_t i = 0; i < a->n; i++) {
        const char *name = name_of(k, a, i), *item = (const char *)a->v + i * k->item_size;
        const char *other = find(k, b, name, nth_of_its_name(k, a, i));
        char at[PATH_ROOM];
        snprintf(at, sizeof at, "%s %s", path, name);
        if (other)
            compare(w, k->keys, item, other, at);
        else
            tell_element(w, outer, CONF_REMOVED, at);
    }
    for (size_t i = 0; i < b->n; i++) {
        char at[PATH_ROOM];
        snprintf(at, sizeof at, "%s %s", path, name_of(k, b, i));
        if (!find(k, a, name_of(k, b, i), nth_of_its_name(k, b, i)))
            tell_element(w, outer, CONF_ADDED, at);
    }
    if (!strcmp(k->name, "batch"))
        compare_order(w, k, a, b, path);
    w->list = outer;
}

static void compare(struct walk *w, const struct cfg_key *keys, const char *a, const char *b, const char *path)
{
    for (const struct cfg_key *k = keys; k->name; k++) {
        char at[PATH_ROOM];
        snprintf(at, sizeof at, "%s%s%s", path, *path ? "." : "", k->name);
        if (k->type == CFG_GROUP)
            compare(w, k->keys, a + k->offset, b + k->offset, at);
        else if (k->type == CFG_LIST)
            compare_list(w, k, (const void *)(a + k->offset), (const void *)(b + k->offset), at);
        else if (k->type != CFG_LATER)
            compare_value(w, k, a + k->offset, b + k->offset, at);
    }
}

/* ---- all ---- */

/* a or b NULL: there is no such tenant. */
static void compare_tenant(struct walk *w, const char *id, const struct conf_tenant *a, const struct conf_tenant *b)
{
    AUTO_FREE char *file = xasprintf("conf/tenants/%s.conf", id);
    w->file = file;
    w->tenant = id;
    if (a && b) {
        compare(w, conf_tenant_keys, (const char *)a, (const char *)b, "");
    } else {
        const enum conf_change_kind kind = a ? CONF_REMOVED : CONF_ADDED;
        tell(w, &(struct conf_change){.kind = kind, .key = "", .on_reload = true, .help = "", .effect = effect_of("", kind)});
    }
}

size_t conf_diff(const struct conf *from, const struct conf *to, conf_change_fn each, void *arg)
{
    struct walk w = {.file = "conf/mysimbdp.conf", .each = each, .arg = arg};
    compare(&w, conf_platform_keys, (const char *)from, (const char *)to, "");
    w.file = "conf/profiles.conf";
    compare(&w, conf_profiles_keys, (const char *)from, (const char *)to, "");
    for (size_t i = 0, k = 0; i < from->n_tenants || k < to->n_tenants;) {
        const struct conf_tenant *a = i < from->n_tenants ? &from->tenants[i] : NULL,
                                 *b = k < to->n_tenants ? &to->tenants[k] : NULL;
        const int order = !a ? 1 : !b ? -1 : strcmp(a->id, b->id);
        compare_tenant(&w, order <= 0 ? from->tenants[i].id : to->tenants[k].id, order <= 0 ? a : NULL, order >= 0 ? b : NULL);
        i += order <= 0;
        k += order >= 0;
    }
    return w.n;
}
