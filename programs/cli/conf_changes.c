#include "conf_changes.h"

#include "base/fd.h"
#include "base/mem.h"
#include "conf/diff.h"
#include "conf/history.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { INDENT = 6 };

/* ---- reading one of the history ---- */

/* Messages name the directory that it was put into for reading, which is gone by then. */
static void print_errors(const char *errors, const char *dir, int64_t number)
{
    const size_t n = strlen(dir);
    for (const char *at; (at = strstr(errors, dir)); errors = at + n)
        fprintf(stderr, "%.*sconfiguration %lld, conf", (int)(at - errors), errors, (long long)number);
    fprintf(stderr, "%s%s", errors, *errors && errors[strlen(errors) - 1] == '\n' ? "" : "\n");
}

static int load_texts(const struct home *h, const struct conf_entry *entry, struct conf **ret, struct err *e)
{
    AUTO_BUF struct buf all = {0};
    AUTO_FREE char *rel = xasprintf(HISTORY_DIR "/.read-%lld", (long long)getpid()), *dir = home_path(h, rel);
    fd_remove_tree(h->dirfd, rel);
    int r = conf_texts_extract(&entry->texts, h->dirfd, rel, e);
    if (r == 0)
        r = conf_load_dir(h->path, dir, &all, ret, e);
    fd_remove_tree(h->dirfd, rel);
    if (r < 0 && all.n)
        print_errors(all.p, dir, entry->number);
    else if (r == ERR_CONFIG)
        print_errors(e->msg, dir, entry->number);
    return r == ERR_CONFIG ? err_set(e, r, "configuration %lld cannot be accepted now (see above)", (long long)entry->number) : r;
}

int conf_changes_load(const struct home *h, int64_t number, struct conf **ret, int64_t *ret_number, struct err *e)
{
    struct conf_entry entry = {0};
    int r = history_read(h->dirfd, number, &entry, e);
    if (r < 0)
        return r;
    *ret_number = entry.number;
    r = load_texts(h, &entry, ret, e);
    conf_entry_fini(&entry);
    return r;
}

/* ---- telling ---- */

struct telling {
    const struct cli *c;
    char *file; /* whose changes are being told */
    size_t n_reload, n_start;
};

static const char *when(const struct conf_change *ch)
{
    return ch->on_reload ? "on `mysimbdp reload`" : "when the platform is started again";
}

static void print_json(const struct conf_change *ch)
{
    static const char *const kinds[] = {"changed", "added", "removed"};
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "file", ch->file);
    json_str(&b, "tenant_id", ch->tenant);
    json_str(&b, "key", ch->key);
    json_str(&b, "change", kinds[ch->kind]);
    json_str(&b, "old", ch->old_value);
    json_str(&b, "new", ch->new_value);
    json_str(&b, "takes_effect", ch->on_reload ? "reload" : "start");
    json_str(&b, "help", ch->help);
    json_str(&b, "effect", ch->effect);
    json_end(&b, '}');
    puts(b.p);
}

static void print_folded(const char *text)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%*s", INDENT, "");
    table_fold(&b, text, INDENT, INDENT, table_room());
    puts(b.p);
}

static void print_change(void *arg, const struct conf_change *ch)
{
    struct telling *t = arg;
    ++*(ch->on_reload ? &t->n_reload : &t->n_start);
    if (t->c->json) {
        print_json(ch);
        return;
    }
    if (!t->file || strcmp(t->file, ch->file) != 0)
        printf("%s\n", ch->file);
    xstr_set(&t->file, ch->file);
    if (ch->kind == CONF_CHANGED)
        printf("  %s: %s -> %s\n", ch->key, ch->old_value, ch->new_value);
    else
        printf("  %s %s\n", *ch->key ? ch->key : "the tenant", ch->kind == CONF_ADDED ? "is added" : "is taken out");
    AUTO_FREE char *what = xasprintf("%s%s%s", ch->help, *ch->help ? "; " : "", when(ch));
    print_folded(what);
    if (*ch->effect)
        print_folded(ch->effect);
}

void conf_changes_print(const struct cli *c, const struct conf *from, const struct conf *to)
{
    struct telling t = {.c = c};
    size_t n = conf_diff(from, to, print_change, &t);
    free(t.file);
    if (c->json)
        return;
    if (!n)
        puts("nothing would change");
    else
        printf("%zu %s: %zu on `mysimbdp reload`, %zu when the platform is started again\n", n, n == 1 ? "change" : "changes",
               t.n_reload, t.n_start);
}
