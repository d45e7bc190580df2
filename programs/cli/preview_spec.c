#include "preview_spec.h"

#include "base/clk.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void add_opt(struct buf *b, const char *key, const char *value)
{
    if (value)
        json_str(b, key, value);
}

static int add_number(struct cli *c, struct buf *b, const char *opt, const char *key, const char *value)
{
    char *end;
    if (!value)
        return 0;
    long n = strtol(value, &end, 10);
    if (!*value || *end || n < 0)
        return cli_usage(c, "%s takes a number, not \"%s\"", opt, value);
    json_i64(b, key, n);
    return 0;
}

/* Understands "\t" and the like, which people type. */
static char *unescape(const char *text)
{
    if (!text)
        return NULL;
    char *s = xstrdup(text), *o = s;
    for (const char *p = text; *p; p++) {
        bool known = *p == '\\' && (p[1] == 't' || p[1] == '\\');
        *o++ = !known ? *p : *++p == 't' ? '\t' : '\\';
    }
    *o = 0;
    return s;
}

/* The configured dataset's spec, as JSON. */
static int dataset_spec(struct cli *c, const struct preview_options *o, struct buf *out)
{
    struct home h;
    struct err e = {0};
    struct conf *conf = NULL;
    if (cli_home(c, &h))
        return CLI_FAILED;
    if (cli_conf(c, &h, &conf)) {
        home_close(&h);
        return CLI_FAILED;
    }
    const struct conf_tenant *t = conf_tenant(conf, o->tenant);
    const struct conf_dataset *d = t ? conf_dataset(t, o->dataset) : NULL;
    int r = 0;
    if (!t)
        r = err_set(&e, ERR_USAGE, "no tenant \"%s\" in conf/tenants/", o->tenant);
    else if (!d)
        r = err_set(&e, ERR_USAGE, "%s has no dataset \"%s\"", t->file, o->dataset);
    if (d)
        conf_spec_json(d, true, conf_effective_limits(t, d).max_row_bytes, clk_wall_ms(), out);
    conf_free(conf);
    home_close(&h);
    return r < 0 ? cli_fail(c, &e) : 0;
}

/* Puts the members of `from` into the open object `out`, except those that options set. */
static void add_other_members(struct buf *out, const bson_t *from, const bson_t *over)
{
    bson_iter_t it;
    bson_t rest = BSON_INITIALIZER;
    AUTO_BUF struct buf json = {0};
    bson_iter_init(&it, from);
    while (bson_iter_next(&it))
        if (!bson_has_field(over, bson_iter_key(&it)))
            bson_append_iter(&rest, NULL, 0, &it);
    if (bson_count_keys(&rest)) {
        json_from_bson(&rest, &json);
        buf_add(out, out->p[out->n - 1] == '{' ? "" : ",", out->p[out->n - 1] != '{');
        buf_add(out, json.p + 1, json.n - 2);
    }
    bson_destroy(&rest);
}

int preview_spec(struct cli *c, const char *format, const struct preview_options *o, struct spec **ret)
{
    struct err e = {0};
    AUTO_BUF struct buf base = {0}, csv = {0}, json = {0};
    AUTO_FREE char *delimiter = unescape(o->delimiter), *escape = unescape(o->escape);
    if (o->tenant) {
        int r = dataset_spec(c, o, &base);
        if (r)
            return r;
    } else {
        buf_adds(&base, "{}");
    }
    json_begin(&csv, NULL, '{');
    add_opt(&csv, "delimiter", delimiter);
    add_opt(&csv, "quote", o->quote);
    add_opt(&csv, "escape", escape);
    add_opt(&csv, "encoding", o->encoding);
    add_opt(&csv, "ragged", o->ragged);
    add_opt(&csv, "damaged", o->damaged);
    int r = add_number(c, &csv, "--skip-rows", "skip_rows", o->skip_rows);
    if (r == 0)
        r = add_number(c, &csv, "--header-rows", "header_rows", o->no_header ? "0" : o->header_rows);
    if (r)
        return r;
    buf_addf(&csv, "}");
    AUTO_BSON bson_t *base_doc = json_parse(base.p, base.n, &e), *csv_doc = json_parse(csv.p, csv.n, &e);
    if (!base_doc || !csv_doc)
        return cli_usage(c, "an option is no valid UTF-8");
    bson_iter_t it;
    bson_t base_csv;
    csv.n--;
    if (bson_iter_init_find(&it, base_doc, "csv") && json_iter_doc(&it, &base_csv))
        add_other_members(&csv, &base_csv, csv_doc);
    json_end(&csv, '}');
    json_begin(&json, NULL, '{');
    json_str(&json, "format", format);
    json_raw(&json, "csv", csv.p);
    add_opt(&json, "types", o->types);
    bson_t set = BSON_INITIALIZER;
    bson_append_null(&set, "format", -1);
    bson_append_null(&set, "csv", -1);
    add_other_members(&json, base_doc, &set);
    bson_destroy(&set);
    json_end(&json, '}');
    r = spec_parse(json.p, json.n, ret, NULL, &e);
    return r < 0 ? cli_usage(c, "%s", e.msg) : 0;
}
