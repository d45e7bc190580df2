/* Writes a dataset's settings as the JSON spec that the reader takes (lib/read/spec.h). */
#include "conf.h"

#include "base/json.h"

#include <math.h>
#include <string.h>

static void add_text(struct buf *b, const char *key, const char *value)
{
    if (strcmp(value, CONF_SNIFFED))
        json_str(b, key, value);
}

static void add_texts(struct buf *b, const char *key, const struct strs *l)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < l->n; i++)
        json_str(b, NULL, l->v[i]);
    json_end(b, ']');
}

static void add_column(struct buf *b, const struct conf_column *c)
{
    json_begin(b, NULL, '{');
    json_str(b, "name", c->name);
    if (*c->type)
        json_str(b, "type", c->type);
    if (c->required)
        json_bool(b, "required", true);
    if (*c->regex)
        json_str(b, "regex", c->regex);
    if (!isnan(c->min))
        json_f64(b, "min", c->min);
    if (!isnan(c->max))
        json_f64(b, "max", c->max);
    if (c->one_of.n)
        add_texts(b, "enum", &c->one_of);
    if (c->unique)
        json_bool(b, "unique", true);
    if (c->max_age_days >= 0)
        json_i64(b, "max_age_days", c->max_age_days);
    if (*c->as)
        json_str(b, "as", c->as);
    if (*c->value)
        json_str(b, "value", c->value);
    json_end(b, '}');
}

static const char *stored_as(const struct conf_dataset *d, const char *column)
{
    const struct conf_column *c = d->columns.v;
    for (size_t i = 0; i < d->columns.n; i++)
        if (!strcmp(c[i].name, column) && *c[i].as)
            return c[i].as;
    return column;
}

static void add_shard(struct buf *out, const struct conf_dataset *d, bool stored)
{
    const struct strs *key = &d->shard.key;
    if (!key->n && !*d->shard.hashed)
        return;
    json_begin(out, "shard", '{');
    json_begin(out, "key", '[');
    for (size_t i = 0; i < key->n; i++)
        json_str(out, NULL, stored ? stored_as(d, key->v[i]) : key->v[i]);
    json_end(out, ']');
    if (*d->shard.hashed)
        json_str(out, "hashed", stored ? stored_as(d, d->shard.hashed) : d->shard.hashed);
    json_end(out, '}');
}

static void add_spec(const struct conf_dataset *d, bool keys, bool shard, int64_t max_row_bytes, int64_t now_ms, struct buf *out)
{
    const struct conf_csv *c = &d->csv;
    const struct conf_column *columns = d->columns.v;
    bool nulls = c->null.n != 1 || strcmp(c->null.v[0], CONF_SNIFFED);
    json_begin(out, NULL, '{');
    json_str(out, "format", d->format);
    json_begin(out, "csv", '{');
    add_text(out, "delimiter", c->delimiter);
    add_text(out, "quote", c->quote);
    add_text(out, "escape", c->escape);
    add_text(out, "encoding", c->encoding);
    add_text(out, "line_end", c->line_end);
    json_i64(out, "skip_rows", c->skip_rows);
    json_i64(out, "header_rows", c->header_rows);
    json_i64(out, "footer_rows", c->footer_rows);
    json_str(out, "ragged", c->ragged);
    /* Written only when it is set: this text is part of the rows' identity, which must not change for homes that do not have the
     * key. */
    if (strcmp(c->damaged, "reject"))
        json_str(out, "damaged", c->damaged);
    if (nulls)
        add_texts(out, "null", &c->null);
    json_end(out, '}');
    json_begin(out, "columns", '[');
    for (size_t i = 0; i < d->columns.n; i++)
        add_column(out, &columns[i]);
    json_end(out, ']');
    if (keys) {
        add_texts(out, "key", &d->key);
        json_str(out, "on_key_conflict", key_conflict_name(d->on_key_conflict));
        if (shard)
            add_shard(out, d, false);
    }
    json_i64(out, "max_row_bytes", max_row_bytes);
    if (now_ms)
        json_i64(out, "now_ms", now_ms);
    json_end(out, '}');
}

/* The shard key where rows are looked for by it: the text is part of what `_id`s are made of, and a libsimbdp that an app brought
 * along may not know it. */
void conf_spec_json(const struct conf_dataset *d, bool keys, int64_t max_row_bytes, int64_t now_ms, struct buf *out)
{
    add_spec(d, keys, d->on_key_conflict == KEY_replace, max_row_bytes, now_ms, out);
}

void conf_whole_spec_json(const struct conf_dataset *d, struct buf *out)
{
    add_spec(d, true, true, -1, 0, out);
}

void conf_output_spec_json(const struct conf_dataset *d, int64_t max_row_bytes, struct buf *out)
{
    const struct conf_column *c = d->columns.v;
    json_begin(out, NULL, '{');
    json_begin(out, "columns", '[');
    for (size_t i = 0; i < d->columns.n; i++)
        if (c[i].unique) {
            json_begin(out, NULL, '{');
            json_str(out, "name", stored_as(d, c[i].name));
            json_str(out, "as", stored_as(d, c[i].name));
            json_bool(out, "unique", true);
            json_end(out, '}');
        }
    json_end(out, ']');
    json_begin(out, "key", '[');
    for (size_t i = 0; i < d->key.n; i++)
        json_str(out, NULL, stored_as(d, d->key.v[i]));
    json_end(out, ']');
    json_str(out, "on_key_conflict", key_conflict_name(d->on_key_conflict));
    add_shard(out, d, true);
    json_i64(out, "max_row_bytes", max_row_bytes);
    json_end(out, '}');
}
