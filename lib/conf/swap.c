#include "swap.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1, MAX_JOURNAL_BYTES = 64 << 20, NEW_MODE = 0640 };
enum kind { KIND_replace, KIND_add, KIND_remove, N_KINDS };
static const char *const kinds[] = {"replace", "add", "remove"};

struct step {
    char *path;
    enum kind kind;
};
struct plan {
    struct step *v;
    size_t n;
};

static void plan_fini(struct plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i].path);
    free(p->v);
}

static void add_step(struct plan *p, const char *path, enum kind kind)
{
    p->v = xgrow(p->v, p->n, sizeof *p->v);
    p->v[p->n++] = (struct step){xstrdup(path), kind};
}

static char *beside(const struct step *s, const char *suffix)
{
    return xasprintf("%s.%s", s->path, suffix);
}

/* ---- the journal ---- */

static int write_journal(int dirfd, const struct plan *p, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", VERSION);
    json_begin(&b, "files", '[');
    for (size_t i = 0; i < p->n; i++) {
        json_begin(&b, NULL, '{');
        json_str(&b, "path", p->v[i].path);
        json_str(&b, "kind", kinds[p->v[i].kind]);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(dirfd, SWAP_JOURNAL, b.p, b.n, 0600, e);
}

static int kind_of(const char *word)
{
    for (int i = 0; i < N_KINDS; i++)
        if (!strcmp(kinds[i], word))
            return i;
    return -1;
}

static bool parse_step(const bson_iter_t *at, struct plan *p)
{
    bson_iter_t member;
    const char *path = "";
    int kind = -1;
    if (!BSON_ITER_HOLDS_DOCUMENT(at) || !bson_iter_recurse(at, &member))
        return false;
    while (bson_iter_next(&member)) {
        const char *text = BSON_ITER_HOLDS_UTF8(&member) ? bson_iter_utf8(&member, NULL) : "";
        if (!strcmp(bson_iter_key(&member), "path"))
            path = text;
        else if (!strcmp(bson_iter_key(&member), "kind"))
            kind = kind_of(text);
    }
    if (strncmp(path, "conf/", 5) != 0 || strstr(path, "..") || kind < 0)
        return false;
    add_step(p, path, (enum kind)kind);
    return true;
}

/* -ENOENT: there is none. */
static int read_journal(int dirfd, const char *name, struct plan *p, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(dirfd, name, &b, MAX_JOURNAL_BYTES, e);
    if (r < 0)
        return r;
    AUTO_BSON bson_t *doc = json_parse(b.p ? b.p : "", b.n, NULL);
    bson_iter_t it, one;
    if (doc && json_get_i64(doc, "v", 0) > VERSION)
        return err_set(e, ERR_VERSION,
                       "%s: a rollback by a newer version of mysimbdp was cut short; install that version again, which ends it",
                       name);
    bool whole = doc && json_get_i64(doc, "v", 0) == VERSION && bson_iter_init_find(&it, doc, "files") &&
                 BSON_ITER_HOLDS_ARRAY(&it) && bson_iter_recurse(&it, &one);
    while (whole && bson_iter_next(&one))
        whole = parse_step(&one, p);
    return whole ? 0
                 : err_set(e, ERR_FORMAT,
                           "%s is damaged: a rollback was cut short; put each conf/….conf.before back, then remove it", name);
}

static int remove_journal(int dirfd, const char *name, struct err *e)
{
    if (unlinkat(dirfd, name, 0) < 0)
        return err_sys(e, -errno, "cannot remove %s", name);
    int r = fd_sync_dir(dirfd, HISTORY_DIR);
    return r < 0 ? err_sys(e, r, "cannot sync " HISTORY_DIR) : 0;
}

static int sync_conf(int dirfd, struct err *e)
{
    int r = fd_sync_dir(dirfd, "conf");
    if (r == 0)
        r = fd_sync_dir(dirfd, "conf/tenants");
    return r < 0 ? err_sys(e, r, "cannot sync conf/") : 0;
}

/* ---- there and back ---- */

static void make_plan(const struct conf_texts *present, const struct conf_texts *wanted, struct plan *p)
{
    for (size_t i = 0; i < wanted->n; i++) {
        const struct conf_text *w = &wanted->v[i], *is = conf_texts_find(present, w->path);
        if (!is || is->text.n != w->text.n || (w->text.n && memcmp(is->text.p, w->text.p, w->text.n) != 0))
            add_step(p, w->path, is ? KIND_replace : KIND_add);
    }
    for (size_t i = 0; i < present->n; i++)
        if (!conf_texts_find(wanted, present->v[i].path))
            add_step(p, present->v[i].path, KIND_remove);
}

static int prepare_one(int dirfd, const struct step *s, const struct conf_text *wanted, struct err *e)
{
    AUTO_FREE char *next = beside(s, "next"), *before = beside(s, "before");
    struct stat st = {.st_mode = NEW_MODE};
    unlinkat(dirfd, before, 0);
    if (s->kind != KIND_add && fstatat(dirfd, s->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, -errno, "%s", s->path);
    if (S_ISLNK(st.st_mode))
        return err_set(e, ERR_REFUSED, "%s is a link to a file that is kept elsewhere; change it there", s->path);
    if (s->kind != KIND_add && linkat(dirfd, s->path, dirfd, before, 0) < 0)
        return err_sys(e, -errno, "cannot link %s to %s", s->path, before);
    return wanted ? fd_write_file(dirfd, next, wanted->text.p ? wanted->text.p : "", wanted->text.n, st.st_mode & 0777, e) : 0;
}

/* Writes what is to come beside what is there, and gives that a second name; durably. */
static int prepare(int dirfd, const struct plan *p, const struct conf_texts *wanted, struct err *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < p->n; i++)
        r = prepare_one(dirfd, &p->v[i], conf_texts_find(wanted, p->v[i].path), e);
    return r == 0 ? sync_conf(dirfd, e) : r;
}

static void unprepare(int dirfd, const struct plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        AUTO_FREE char *next = beside(&p->v[i], "next"), *before = beside(&p->v[i], "before");
        unlinkat(dirfd, next, 0);
        unlinkat(dirfd, before, 0);
    }
}

static int swap_one(int dirfd, const struct step *s, struct err *e)
{
    AUTO_FREE char *next = beside(s, "next");
    if (s->kind == KIND_remove ? unlinkat(dirfd, s->path, 0) < 0 : renameat(dirfd, next, dirfd, s->path) < 0)
        return err_sys(e, -errno, "cannot replace %s", s->path);
    return 0;
}

/* Of a step that was not taken yet both names are one file; of one that was undone there is no FILE.before; and a file that was to
 * be added is not there before its step. */
static int undo(int dirfd, const struct plan *p, struct err *e)
{
    int r = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct step *s = &p->v[i];
        AUTO_FREE char *before = beside(s, "before");
        const int back = s->kind == KIND_add ? unlinkat(dirfd, s->path, 0) : renameat(dirfd, before, dirfd, s->path);
        if (back < 0 && errno != ENOENT)
            r = err_sys(e, -errno, "cannot put %s back", s->path);
    }
    if (r == 0)
        r = sync_conf(dirfd, e);
    if (r < 0)
        return r; /* FILE.before may be all that there is of it */
    unprepare(dirfd, p);
    return remove_journal(dirfd, SWAP_JOURNAL, e);
}

static int end(int dirfd, const struct plan *p, struct err *e)
{
    for (size_t i = 0; i < p->n; i++) {
        AUTO_FREE char *before = beside(&p->v[i], "before"), *removed = beside(&p->v[i], "removed");
        if (p->v[i].kind == KIND_remove)
            renameat(dirfd, before, dirfd, removed);
        else
            unlinkat(dirfd, before, 0);
    }
    int r = sync_conf(dirfd, e);
    return r == 0 ? remove_journal(dirfd, SWAP_DONE, e) : r;
}

int conf_swap_begin(int dirfd, const struct conf_texts *present, const struct conf_texts *wanted, struct err *e)
{
    struct plan p = {0};
    struct err later = {0};
    make_plan(present, wanted, &p);
    int r = fd_mkdirs(dirfd, HISTORY_DIR, 0700);
    r = r < 0 ? err_sys(e, r, "cannot make " HISTORY_DIR) : prepare(dirfd, &p, wanted, e);
    if (r == 0)
        r = write_journal(dirfd, &p, e);
    if (r < 0) {
        unprepare(dirfd, &p);
        unlinkat(dirfd, SWAP_JOURNAL, 0); /* it may be there, and not durable */
        plan_fini(&p);
        return r;
    }
    for (size_t i = 0; r == 0 && i < p.n; i++)
        r = swap_one(dirfd, &p.v[i], e);
    if (r == 0)
        r = sync_conf(dirfd, e);
    if (r < 0 && undo(dirfd, &p, &later) < 0)
        err_context(e, "%s; and then", later.msg);
    plan_fini(&p);
    return r;
}

int conf_swap_end(int dirfd, struct err *e)
{
    struct plan p = {0};
    struct err later = {0};
    int r = read_journal(dirfd, SWAP_JOURNAL, &p, e);
    if (r == 0 && renameat(dirfd, SWAP_JOURNAL, dirfd, SWAP_DONE) < 0)
        r = err_sys(e, -errno, "cannot rename " SWAP_JOURNAL);
    const int synced = r < 0 ? r : fd_sync_dir(dirfd, HISTORY_DIR);
    if (r == 0 && synced < 0) {
        renameat(dirfd, SWAP_DONE, dirfd, SWAP_JOURNAL);
        r = err_sys(e, synced, "cannot sync " HISTORY_DIR);
    }
    if (r == 0)
        end(dirfd, &p, &later); /* traces that stay go with the next recovery */
    plan_fini(&p);
    return r;
}

int conf_swap_undo(int dirfd, struct err *e)
{
    struct plan p = {0};
    int r = read_journal(dirfd, SWAP_JOURNAL, &p, e);
    if (r == 0)
        r = undo(dirfd, &p, e);
    plan_fini(&p);
    return r;
}

int conf_swap_recover(int dirfd, struct err *e)
{
    struct plan p = {0};
    const bool done = fd_exists(dirfd, SWAP_DONE);
    int r = read_journal(dirfd, done ? SWAP_DONE : SWAP_JOURNAL, &p, e);
    if (r == 0)
        r = done ? end(dirfd, &p, e) : undo(dirfd, &p, e);
    plan_fini(&p);
    return r == -ENOENT ? SWAP_none : r < 0 ? r : done ? SWAP_ended : SWAP_undone;
}
