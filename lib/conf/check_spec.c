#include "check.h"

#include "read/spec.h"

#include <string.h>

static bool same_texts(const struct strs *a, const struct strs *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = !strcmp(a->v[i], b->v[i]);
    return same;
}

/* A collection has one shard key. */
static int check_shard(const struct conf_tenant *t, const struct conf_dataset *d, struct err *e)
{
    for (const struct conf_dataset *o = t->datasets.v; o < d; o++)
        if (!strcmp(o->collection, d->collection) &&
            (!same_texts(&o->shard.key, &d->shard.key) || strcmp(o->shard.hashed, d->shard.hashed) != 0))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'datasets.shard': dataset %s stores into the same collection (%s), with another shard key; "
                           "write the same `shard` into both",
                           t->file, d->line, o->name, d->collection);
    return 0;
}

/* Checks dialect, rules and keys with the reader's own code; the error has the line of the column at fault. */
int conf_check_spec(const struct conf_tenant *t, const struct conf_dataset *d, struct err *e)
{
    AUTO_BUF struct buf json = {0};
    struct spec *spec = NULL;
    int rule = -1, r = check_shard(t, d, e);
    if (r < 0)
        return r;
    conf_whole_spec_json(d, &json);
    r = json.n > SPEC_MAX_BYTES ? err_set(e, ERR_CONFIG, "more than 100 KiB of columns")
                                : spec_parse(json.p, json.n, &spec, &rule, e);
    if (r < 0) {
        const struct conf_column *columns = d->columns.v;
        err_context(e, "%s:%d: dataset %s", t->file, rule >= 0 ? columns[rule].line : d->line, d->name);
    }
    spec_free(spec);
    return r;
}
