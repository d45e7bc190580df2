#include "model.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const char *const states[] = {
#define X(name) #name,
    FILE_STATES(X)
#undef X
};
static const char *const places[] = {
#define X(name) #name,
    FILE_PLACES(X)
#undef X
};

static int lookup(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (name && !strcmp(names[i], name))
            return i;
    return ERR_FORMAT;
}

const char *file_state_name(enum file_state s)
{
    return states[s];
}

int file_state_parse(const char *name)
{
    return lookup(states, FILE_N_STATES, name);
}

bool file_state_is_final(enum file_state s)
{
    return s >= FILE_ingested;
}

const char *file_place_name(enum file_place p)
{
    return places[p];
}

int file_place_parse(const char *name)
{
    return lookup(places, PLACE_N, name);
}

struct file *file_new(const char *tenant, const char *dataset)
{
    struct file *f = xcalloc(1, sizeof *f);
    f->tenant = xstrdup(tenant);
    f->dataset = xstrdup(dataset);
    f->size = f->rows = f->columns = f->rows_parsed = f->rows_loaded = f->rows_rejected = f->rows_repaired = f->rows_added = -1;
    f->group_n = 1;
    return f;
}

#define FILE_STRINGS(X)                                                                                                            \
    X(tenant) X(dataset) X(name) X(raw_name) X(safe) X(from) X(app) X(reason) X(detail) X(quality) X(old_prefixes) X(trace)

struct file *file_copy(const struct file *f)
{
    struct file *c = xmalloc(sizeof *c);
    *c = *f;
#define X(field) c->field = xstrdup(f->field);
    FILE_STRINGS(X)
#undef X
    c->timer = NULL;
    c->list = NULL;
    c->copy = NULL;
    c->move = NULL;
    c->behind = c->mate = c->lead = c->next = c->previous = NULL;
    return c;
}

void file_free(struct file *f)
{
    if (!f)
        return;
#define X(field) free(f->field);
    FILE_STRINGS(X)
#undef X
    free(f);
}

void file_list_add(struct file_list *l, struct file *f)
{
    assert(!f->list);
    f->list = l;
    f->next = NULL;
    f->previous = l->last;
    *(l->last ? &l->last->next : &l->first) = f;
    l->last = f;
    l->n++;
}

void file_list_add_first(struct file_list *l, struct file *f)
{
    assert(!f->list);
    f->list = l;
    f->previous = NULL;
    f->next = l->first;
    *(l->first ? &l->first->previous : &l->last) = f;
    l->first = f;
    l->n++;
}

void file_list_remove(struct file *f)
{
    struct file_list *l = f->list;
    assert(l);
    *(f->previous ? &f->previous->next : &l->first) = f->next;
    *(f->next ? &f->next->previous : &l->last) = f->previous;
    l->n--;
    f->list = NULL;
    f->next = f->previous = NULL;
}

struct file *file_list_take(struct file_list *l)
{
    struct file *f = l->first;
    if (f)
        file_list_remove(f);
    return f;
}

void file_add_old_prefix(struct file *f, const char *prefix)
{
    if (!*prefix || (f->old_prefixes && strstr(f->old_prefixes, prefix)))
        return;
    AUTO_FREE char *all = f->old_prefixes && *f->old_prefixes ? xasprintf("%s %s", f->old_prefixes, prefix) : xstrdup(prefix);
    xstr_set(&f->old_prefixes, all);
}

void file_drop_output(struct file *f)
{
    if (!*f->output_run)
        return;
    file_add_old_prefix(f, f->prefix);
    f->output_run[0] = 0;
    f->checkpoint = 0;
}

bool file_may_be_grouped(const struct file *f)
{
    return !f->solo && !f->attempts && !f->losses && !f->first_temp_wall_ms && !*f->output_run;
}

void file_add_mate(struct file *f, struct file *mate)
{
    struct file *last = f;
    while (last->mate)
        last = last->mate;
    last->mate = mate;
    mate->lead = f;
}

struct file *file_take_mate(struct file *f)
{
    struct file *mate = f->mate;
    f->mate = f->lead = NULL;
    return mate;
}

static const char *const run_states[] = {
#define X(name) #name,
    RUN_STATES(X)
#undef X
};

const char *run_state_name(enum run_state s)
{
    return run_states[s];
}

int run_state_of(const char *text, enum run_state *ret)
{
    int i = lookup(run_states, RUN_N_STATES, text);
    if (i < 0)
        return i;
    *ret = (enum run_state)i;
    return 0;
}

void run_set_state(struct run *r, enum run_state next)
{
    assert(next < RUN_N_STATES && next > r->state);
    log_debug("state", r->tenant, r->run_id, "%s -> %s", run_state_name(r->state), run_state_name(next));
    r->state = next;
}

struct run *run_new(void)
{
    struct run *r = xcalloc(1, sizeof *r);
    r->outcome = r->exit_code = r->signal = -1;
    r->max_rss_bytes = r->network_refused = r->rows_parsed = r->rows_loaded = r->rows_rejected = r->rows_repaired = r->rows_added =
        -1;
    r->waited = RUN_WAITED_UNKNOWN;
    r->n_files = 1;
    return r;
}

#define RUN_STRINGS(X) X(tenant) X(app) X(error) X(node) X(dataset) X(trace)

struct run *run_copy(const struct run *r)
{
    struct run *c = xmalloc(sizeof *c);
    *c = *r;
#define X(field) c->field = xstrdup(r->field);
    RUN_STRINGS(X)
#undef X
    c->stop = RUN_STOP_none;
    c->output = RUN_OUTPUT_none;
    c->image = c->image_digest = c->image_why = NULL;
    c->pending = NULL;
    c->handle = NULL;
    return c;
}

void run_free(struct run *r)
{
    if (!r)
        return;
#define X(field) free(r->field);
    RUN_STRINGS(X)
#undef X
    free(r->image);
    free(r->image_digest);
    free(r->image_why);
    if (r->pending) {
        run_result_free(r->pending);
        free(r->pending);
    }
    free(r);
}
