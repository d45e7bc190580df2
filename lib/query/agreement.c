/* What the provider agreed to: the tenant's limits and datasets and streams, as the configuration has them. Not in it: how its apps
 * are started, where its database is, addresses, secrets. */
#include "parts.h"

#include <math.h>

static void limit(struct buf *b, const char *key, int64_t v)
{
    json_i64_or_null(b, key, v); /* -1: none */
}

static void limits(struct buf *b, const struct conf_limits *l)
{
    json_begin(b, "limits", '{');
    limit(b, "max_file_bytes", l->max_file_bytes);
    limit(b, "max_decompressed_bytes", l->max_decompressed_bytes);
    limit(b, "max_expansion", l->max_expansion);
    limit(b, "max_inspect_s", l->max_inspect_s);
    limit(b, "max_files_in_staging", l->max_files_in_staging);
    limit(b, "max_files_per_day", l->max_files_per_day);
    limit(b, "max_bytes_per_day", l->max_bytes_per_day);
    limit(b, "max_rows", l->max_rows);
    limit(b, "max_row_bytes", l->max_row_bytes);
    limit(b, "max_columns", l->max_columns);
    limit(b, "max_rejects", l->max_rejects);
    json_f64(b, "max_reject_pct", l->max_reject_pct < 0 ? NAN : l->max_reject_pct);
    json_end(b, '}');
}

static void strings(struct buf *b, const char *key, const struct strs *v)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < v->n; i++)
        json_str(b, NULL, v->v[i]);
    json_end(b, ']');
}

static const char *text_or_null(const char *s)
{
    return s && *s ? s : NULL;
}

static void column(struct buf *b, const struct conf_column *c)
{
    json_begin(b, NULL, '{');
    json_str(b, "name", c->name);
    json_str(b, "type", text_or_null(c->type));
    json_bool(b, "required", c->required);
    json_bool(b, "unique", c->unique);
    json_f64(b, "min", c->min);
    json_f64(b, "max", c->max);
    json_str(b, "regex", text_or_null(c->regex));
    strings(b, "enum", &c->one_of);
    limit(b, "max_age_days", c->max_age_days);
    json_end(b, '}');
}

/* Limits on files and bytes in staging and a day count for each level on its own; others are the tighter ones of both. */
static void dataset(struct buf *b, const struct conf *c, const struct conf_tenant *t, const struct conf_dataset *d)
{
    static const char *const formats[] = {"csv", "json"};
    struct conf_limits l = conf_effective_limits(t, d);
    const struct conf_column *v = d->columns.v;
    l.max_files_in_staging = d->limits.max_files_in_staging;
    l.max_files_per_day = d->limits.max_files_per_day;
    l.max_bytes_per_day = d->limits.max_bytes_per_day;
    json_begin(b, NULL, '{');
    json_str(b, "dataset", d->name);
    json_str(b, "format", d->format);
    json_begin(b, "formats", '[');
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!conf_format_refusal(c, t, d, formats[i]))
            json_str(b, NULL, formats[i]);
    json_end(b, ']');
    limits(b, &l);
    strings(b, "key", &d->key);
    json_begin(b, "columns", '[');
    for (size_t i = 0; i < d->columns.n; i++)
        column(b, &v[i]);
    json_end(b, ']');
    json_end(b, '}');
}

static void stream(struct buf *b, const struct conf_stream *s)
{
    json_begin(b, NULL, '{');
    json_str(b, "stream", s->name);
    limit(b, "max_message_bytes", s->max_message_bytes);
    limit(b, "max_messages_per_s", s->max_messages_per_s);
    limit(b, "max_bytes_per_s", s->max_bytes_per_s);
    limit(b, "max_rows_per_s", s->max_rows_per_s);
    limit(b, "max_messages_per_request", s->max_messages_per_request);
    limit(b, "burst_ms", s->burst_ms);
    limit(b, "max_stored_bytes", s->max_stored_bytes);
    limit(b, "retention_s", s->retention_s);
    limit(b, "dead_retention_s", s->dead_retention_s);
    limit(b, "dedup_window_s", s->dedup_window_s);
    limit(b, "max_deliveries", s->max_deliveries);
    json_f64(b, "max_reject_pct", s->max_reject_pct < 0 ? NAN : s->max_reject_pct);
    json_end(b, '}');
}

static void retention(struct buf *b, const struct conf_tenant *t)
{
#define X(name) #name,
    static const char *const on_success[] = {CONF_ON_SUCCESS(X)}, *const on_failure[] = {CONF_ON_FAILURE(X)};
#undef X
    json_begin(b, "retention", '{');
    limit(b, "files_days", t->retention.files_days);
    limit(b, "documents_days", t->retention.documents_days);
    limit(b, "logs_days", t->retention.logs_days);
    json_str(b, "on_success", on_success[t->retention.on_success]);
    json_str(b, "on_failure", on_failure[t->retention.on_failure]);
    json_end(b, '}');
}

static int is_suspended(struct asking *a, bool *ret)
{
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, "SELECT suspended OR purging=1 FROM tenants WHERE id=:tenant");
    int r = s ? sqlite3_step(s) : SQLITE_ERROR;
    *ret = r == SQLITE_ROW && sqlite3_column_int(s, 0);
    return r == SQLITE_ROW || r == SQLITE_DONE ? 0 : refuse_for_db(a);
}

static void list(struct buf *b, const char *key, const struct strs *l)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < l->n; i++)
        json_str(b, NULL, l->v[i]);
    json_end(b, ']');
}

/* What the tenant may have of its own, and of versions of its apps. */
static void own(struct buf *b, const struct conf_tenant *t)
{
    json_begin(b, "own", '{');
    list(b, "allow", &t->allow);
    list(b, "profiles", &t->own_profiles);
    json_i64(b, "max_instances", t->max_own_instances);
    json_i64(b, "max_app_bytes", t->max_app_bytes);
    json_i64(b, "max_app_files", t->max_app_files);
    json_i64(b, "max_app_versions", t->max_app_versions);
    json_i64(b, "max_app_build_s", t->max_app_build_s);
    json_str(b, "error", t->own_error);
    json_end(b, '}');
}

int ask_agreement(struct asking *a)
{
    const struct conf_tenant *t = tenant_of_conf(a);
    struct buf *b = &a->out->body;
    bool suspended;
    if (!t || is_suspended(a, &suspended) < 0)
        return ERR_REFUSED;
    const struct conf_dataset *d = t->datasets.v;
    const struct conf_stream *s = t->streams.v;
    json_begin(b, NULL, '{');
    json_str(b, "tenant_id", t->id);
    json_str(b, "display_name", text_or_null(t->display_name));
    json_bool(b, "suspended", suspended);
    json_i64(b, "concurrency", t->concurrency);
    limit(b, "max_database_bytes", t->max_database_bytes);
    limit(b, "max_streams", t->max_streams);
    limits(b, &t->limits);
    retention(b, t);
    own(b, t);
    json_begin(b, "datasets", '[');
    for (size_t i = 0; i < t->datasets.n; i++)
        if (in_scope(a, d[i].name))
            dataset(b, a->conf, t, &d[i]);
    json_end(b, ']');
    json_begin(b, "streams", '[');
    for (size_t i = 0; i < t->streams.n; i++)
        stream(b, &s[i]);
    json_end(b, ']');
    json_end(b, '}');
    return 0;
}
