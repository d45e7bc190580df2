/* Which names, owners and modes are durable. Changes are kept in their order. With `journal` any sync that has something to commit
 * commits all of them, and a cut leaves the first ones. Without it POSIX alone holds: a directory's sync makes its names durable,
 * a file's sync its owner and mode; nothing else does, and a cut leaves any of them. A rename is one step, whichever of its two
 * directories is synced. */
#include "badfs.h"

#include <stdlib.h>
#include <string.h>

enum { N_BUCKETS = 4096 };

struct name {
    uint64_t dir, id; /* id 0: there is none */
    char *name;
    struct name *next;
};

struct change {
    struct name to[2];
    struct node *node; /* its attributes change to `st`; NULL: it is about names */
    struct stat st;
    struct change *next;
};

static struct name *names[N_BUCKETS]; /* by directory */
static struct change *pending, **last = &pending;

static struct name *name_of(uint64_t dir, const char *name)
{
    struct name **at = &names[dir % N_BUCKETS];
    for (struct name *n = *at; n; n = n->next)
        if (n->dir == dir && strcmp(n->name, name) == 0)
            return n;
    struct name *n = need(calloc(1, sizeof *n));
    *n = (struct name){dir, 0, need(strdup(name)), *at};
    return *at = n;
}

void journal_known(uint64_t dir, const char *name, uint64_t id)
{
    name_of(dir, name)->id = id;
}

static struct change *add(void)
{
    struct change *c = need(calloc(1, sizeof *c));
    *last = c;
    last = &c->next;
    return c;
}

static void touched(uint64_t id)
{
    struct node *n = id ? node_of_id(id) : NULL;
    if (n)
        n->changed = true;
}

void journal_names(uint64_t of, uint64_t a_dir, const char *a, uint64_t a_is, uint64_t b_dir, const char *b, uint64_t b_is)
{
    struct change *c = add();
    c->to[0] = (struct name){a_dir, a_is, need(strdup(a)), NULL};
    if (b)
        c->to[1] = (struct name){b_dir, b_is, need(strdup(b)), NULL};
    touched(of);
    touched(a_dir);
    touched(b ? b_dir : 0);
}

void journal_attributes(struct node *n, const struct stat *st)
{
    struct change *c = add();
    c->node = n;
    c->st = *st;
    n->changed = true;
}

static void apply(struct change *c)
{
    if (c->node) {
        c->node->st.st_uid = c->st.st_uid;
        c->node->st.st_gid = c->st.st_gid;
        c->node->st.st_mode = c->st.st_mode;
    }
    for (int i = 0; i < 2; i++)
        if (c->to[i].name) {
            name_of(c->to[i].dir, c->to[i].name)->id = c->to[i].id;
            free(c->to[i].name);
        }
    free(c);
}

static bool same(const struct change *a, const struct change *b)
{
    if (a->node || b->node)
        return a->node == b->node;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            if (a->to[i].name && b->to[j].name && a->to[i].dir == b->to[j].dir && strcmp(a->to[i].name, b->to[j].name) == 0)
                return true;
    return false;
}

static void take(struct change *c)
{
    struct change **at = &pending;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (!*at)
        last = at;
    apply(c);
}

/* Makes `c` durable, and before it what was done earlier to the same. */
static void commit(struct change *c)
{
    for (struct change *x = pending; x != c;) {
        if (same(x, c)) {
            commit(x);
            x = pending; /* others may be gone, too */
        } else {
            x = x->next;
        }
    }
    take(c);
}

static void is_written(struct node *n)
{
    n->changed = n->reallocated = false;
}

void journal_commit_all(void)
{
    while (pending)
        take(pending);
    nodes_each(is_written);
}

void journal_commit_directory(uint64_t dir)
{
    for (struct change *c = pending; c;) {
        if ((c->to[0].name && c->to[0].dir == dir) || (c->to[1].name && c->to[1].dir == dir)) {
            commit(c);
            c = pending;
        } else {
            c = c->next;
        }
    }
    journal_commit_attributes(dir);
}

void journal_commit_attributes(uint64_t id)
{
    for (struct change *c = pending; c;) {
        struct change *next = c->next;
        if (c->node && c->node->id == id)
            take(c);
        c = next;
    }
}

void journal_keep_some(void)
{
    unsigned n = 0;
    for (struct change *c = pending; c; c = c->next)
        n++;
    if (control->journal) {
        for (n = chance(n + 1); n > 0; n--)
            take(pending);
        return;
    }
    for (struct change *c = pending; c;) {
        if (chance(2)) {
            commit(c);
            c = chance(4) ? pending : NULL;
        } else {
            c = c->next;
        }
    }
}

void journal_each(uint64_t dir, void (*fn)(const char *name, struct node *n, int to), int to)
{
    for (const struct name *e = names[dir % N_BUCKETS]; e; e = e->next) {
        struct node *n = e->dir == dir && e->id ? node_of_id(e->id) : NULL;
        if (n)
            fn(e->name, n, to);
    }
}
