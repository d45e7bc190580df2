#include "cfg.h"
#include "syntax.h"
#include "unknown_key.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libconfig.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 4 << 20, WHERE_SIZE = 128 };

struct reading {
    const char *file;
    bool part; /* only a part is read: required keys may be missing */
    struct err *e;
    struct buf *all;        /* gets every error, a line each, and reading goes on; NULL: the first error ends it */
    bool unreadable;        /* the file's text, to explain syntax errors, of which libconfig says little */
    char where[WHERE_SIZE]; /* the list elements that are being read, for messages: "batch 1: " */
};

/* Reports an error, which begins with file and line. ERR_CONFIG, or 0 where reading goes on. */
static int wrong(struct reading *r, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int wrong(struct reading *r, int line, const char *fmt, ...)
{
    struct err one = {0};
    char text[sizeof one.msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&one, ERR_CONFIG, "%s:%d: %s%s", r->file, line, r->where, text);
    if (!r->all)
        return err_set(r->e, ERR_CONFIG, "%s", one.msg);
    buf_addf(r->all, "%s\n", one.msg);
    return 0;
}

static const char *type_name(const config_setting_t *s)
{
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "an integer";
    case CONFIG_TYPE_FLOAT:
        return "a decimal number";
    case CONFIG_TYPE_STRING:
        return "a string";
    case CONFIG_TYPE_BOOL:
        return "true or false";
    case CONFIG_TYPE_GROUP:
        return "a group { }";
    case CONFIG_TYPE_LIST:
        return "a list ( )";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ]";
    default:
        return "nothing";
    }
}

static void describe(const struct cfg_key *k, struct buf *b)
{
    switch (k->type) {
    case CFG_INT:
    case CFG_F64:
        buf_adds(b, k->type == CFG_INT ? "an integer" : "a number");
        if (isinf(k->max))
            break;
        if (k->max < 9e18)
            buf_addf(b, " from %.15g to %.15g", k->min, k->max);
        else
            buf_addf(b, " from %.15g", k->min);
        if (k->def && !strcmp(k->def, "-1") && !strstr(k->help, "-1:"))
            buf_adds(b, " (-1: no limit)");
        break;
    case CFG_BOOL:
        buf_adds(b, "true or false");
        break;
    case CFG_ENUM:
    case CFG_STR:
    case CFG_STRS:
        buf_adds(b, k->type != CFG_STRS ? "a string" : "a string or a list of strings (\"a\", \"b\")");
        if (k->one_of)
            buf_addf(b, ", one of %s", k->one_of);
        break;
    case CFG_GROUP:
        buf_adds(b, "a group { }");
        break;
    case CFG_LIST:
        buf_adds(b, "a list of groups ( { } )");
        break;
    case CFG_LATER:
        buf_adds(b, "not in this version");
        break;
    }
}

static int bad_value(struct reading *r, const config_setting_t *s, const struct cfg_key *k, const char *got)
{
    AUTO_BUF struct buf allowed = {0};
    describe(k, &allowed);
    return wrong(r, (int)config_setting_source_line(s), "key '%s': expected %s, got %s", k->name, allowed.p, got);
}

/* Which of the choices it is, from 0; -1: none. */
static int which_of(const char *choices, const char *value)
{
    size_t n = strlen(value);
    int i = 0;
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL, i++)
        if (!strncmp(p, value, n) && (p[n] == 0 || p[n] == '|'))
            return i;
    return -1;
}

char *cfg_choice(const char *one_of, int n)
{
    for (; n > 0; n--)
        one_of = strchr(one_of, '|') + 1;
    return xstrndup(one_of, strcspn(one_of, "|"));
}

static void store_choice(const struct cfg_key *k, const char *value, char *field)
{
    int i = which_of(k->one_of, value);
    memcpy(field, &i, sizeof i);
}

static void store_f64(char *field, double value)
{
    memcpy(field, &value, sizeof value);
}

static int bad_number(struct reading *r, const config_setting_t *s, const struct cfg_key *k)
{
    const char *text = config_setting_type(s) == CONFIG_TYPE_STRING ? config_setting_get_string(s) : NULL;
    char number[32];
    if (!text || !syntax_number(k->name, text, strlen(text), number))
        return bad_value(r, s, k, type_name(s));
    AUTO_FREE char *got = xasprintf("the string \"%s\"; write %s", text, number);
    return bad_value(r, s, k, got);
}

static int read_number(struct reading *r, const config_setting_t *s, const struct cfg_key *k, char *field)
{
    int type = config_setting_type(s);
    bool whole = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    if (!whole && !(k->type == CFG_F64 && type == CONFIG_TYPE_FLOAT))
        return bad_number(r, s, k);
    long long i = whole ? config_setting_get_int64(s) : 0;
    double d = whole ? (double)i : config_setting_get_float(s);
    if (!(d >= k->min && d <= k->max)) {
        char got[64];
        snprintf(got, sizeof got, "%.15g", d);
        return bad_value(r, s, k, got);
    }
    if (k->type == CFG_INT)
        *(int64_t *)field = i;
    else
        store_f64(field, d);
    return 0;
}

static int read_string(struct reading *r, const config_setting_t *s, const struct cfg_key *k, char **ret)
{
    if (config_setting_type(s) != CONFIG_TYPE_STRING)
        return bad_value(r, s, k, type_name(s));
    const char *value = config_setting_get_string(s);
    if (k->one_of && which_of(k->one_of, value) < 0) {
        AUTO_FREE char *got = xasprintf("\"%s\"", value);
        return bad_value(r, s, k, got);
    }
    xstr_set(ret, value);
    return 0;
}

static int read_choice(struct reading *r, const config_setting_t *s, const struct cfg_key *k, char *field)
{
    AUTO_FREE char *value = NULL;
    int n = read_string(r, s, k, &value);
    if (n == 0 && value) /* none: all errors are collected, and this is one */
        store_choice(k, value, field);
    return n;
}

static void strs_free(struct strs *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct strs){0};
}

static void strs_default(struct strs *l, const char *def)
{
    strs_free(l);
    while (*def) {
        size_t n = strcspn(def, " ");
        l->v = xrealloc(l->v, (l->n + 1) * sizeof *l->v);
        l->v[l->n++] = xstrndup(def, n);
        def += n + (def[n] == ' ');
    }
}

static int read_table(struct reading *r, const config_setting_t *group, const struct cfg_key *keys, char *out);

static int read_strs(struct reading *r, const config_setting_t *s, const struct cfg_key *k, struct strs *ret)
{
    int type = config_setting_type(s);
    bool alone = type == CONFIG_TYPE_STRING; /* one value stands for a list of one */
    if (type != CONFIG_TYPE_LIST && type != CONFIG_TYPE_ARRAY && !alone)
        return bad_value(r, s, k, type_name(s));
    strs_free(ret);
    for (int i = 0; i < (alone ? 1 : config_setting_length(s)); i++) {
        ret->v = xrealloc(ret->v, (ret->n + 1) * sizeof *ret->v);
        ret->v[ret->n] = NULL;
        int e = read_string(r, alone ? s : config_setting_get_elem(s, (unsigned)i), k, &ret->v[ret->n++]);
        if (e < 0)
            return e;
    }
    return 0;
}

static int read_list(struct reading *r, const config_setting_t *s, const struct cfg_key *k, struct cfg_list *ret)
{
    if (config_setting_type(s) != CONFIG_TYPE_LIST)
        return bad_value(r, s, k, type_name(s));
    int n = config_setting_length(s);
    ret->v = xcalloc((size_t)n, k->item_size);
    for (int i = 0; i < n; i++) {
        const config_setting_t *item = config_setting_get_elem(s, (unsigned)i);
        char *at = (char *)ret->v + (size_t)i * k->item_size;
        ret->n++;
        *(int *)at = config_setting_source_line(item);
        size_t outer = strlen(r->where);
        snprintf(r->where + outer, sizeof r->where - outer, "%s %d: ", k->name, i + 1);
        int e = config_setting_type(item) == CONFIG_TYPE_GROUP ? read_table(r, item, k->keys, at)
                                                               : bad_value(r, item, k, type_name(item));
        r->where[outer] = 0;
        if (e < 0)
            return e;
    }
    return 0;
}

/* A key that this version does not implement may only have the value that means "not used". */
static int read_later(struct reading *r, const config_setting_t *s, const struct cfg_key *k)
{
    const char *text = config_setting_type(s) == CONFIG_TYPE_STRING ? config_setting_get_string(s) : NULL;
    bool empty = config_setting_is_aggregate(s) && config_setting_length(s) == 0;
    bool same = text && !strcmp(text, k->def);
    if (config_setting_is_number(s)) {
        char number[32];
        snprintf(number, sizeof number, "%lld", config_setting_get_int64(s));
        same = !strcmp(number, k->def);
    }
    if (empty || same)
        return 0;
    return wrong(r, (int)config_setting_source_line(s), "key '%s' is not supported by this version (%s); remove it", k->name,
                 k->help);
}

static int read_key(struct reading *r, const config_setting_t *s, const struct cfg_key *k, char *field)
{
    switch (k->type) {
    case CFG_INT:
    case CFG_F64:
        return read_number(r, s, k, field);
    case CFG_BOOL:
        if (config_setting_type(s) != CONFIG_TYPE_BOOL)
            return bad_value(r, s, k, type_name(s));
        *(bool *)field = config_setting_get_bool(s);
        return 0;
    case CFG_ENUM:
        return read_choice(r, s, k, field);
    case CFG_STR:
        return read_string(r, s, k, (char **)field);
    case CFG_STRS:
        return read_strs(r, s, k, (struct strs *)field);
    case CFG_GROUP:
        if (config_setting_type(s) != CONFIG_TYPE_GROUP)
            return bad_value(r, s, k, type_name(s));
        return read_table(r, s, k->keys, field);
    case CFG_LIST:
        return read_list(r, s, k, (struct cfg_list *)field);
    case CFG_LATER:
        return read_later(r, s, k);
    }
    return 0;
}

static int say_unknown(struct reading *r, const config_setting_t *s, const struct cfg_key *keys)
{
    AUTO_BUF struct buf text = {0};
    unknown_key_text(config_setting_name(s), keys, &text);
    return wrong(r, (int)config_setting_source_line(s), "%s", text.p);
}

static int read_table(struct reading *r, const config_setting_t *group, const struct cfg_key *keys, char *out)
{
    cfg_defaults(keys, out);
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const struct cfg_key *k = keys;
        while (k->name && strcmp(k->name, config_setting_name(s)))
            k++;
        int e = k->name ? read_key(r, s, k, out + k->offset) : say_unknown(r, s, keys);
        if (e < 0)
            return e;
    }
    int e = 0;
    for (const struct cfg_key *k = keys; e == 0 && k->name && !r->part; k++)
        if (!k->def && k->type != CFG_GROUP && k->type != CFG_LIST && !config_setting_get_member(group, k->name))
            e = wrong(r, (int)config_setting_source_line(group), "key '%s' is missing: %s", k->name, k->help);
    return e;
}

/* libconfig 1.5 silently wraps an integer over 32 bits that has no suffix L, and calls one with a unit a syntax error. */
static int check_literal(void *arg, const struct syntax_literal *l)
{
    struct reading *r = arg;
    char number[32], text[64];
    bool hex = l->n > 2 && (l->p[1] == 'x' || l->p[1] == 'X');
    size_t digits = hex ? 2 + strspn(l->p + 2, "0123456789abcdefABCDEF") : strspn(l->p, "0123456789");
    snprintf(text, sizeof text, "%.*s", (int)digits, l->p);
    errno = 0;
    unsigned long long v = strtoull(text, NULL, hex ? 16 : 10);
    if (digits == l->n && (v > (hex ? UINT32_MAX : INT32_MAX) || errno))
        return wrong(r, l->line, "the number %s needs the suffix L (it is over 32 bits)", text);
    if (digits < l->n && l->p[digits] == 'L' && (v > INT64_MAX || errno))
        return wrong(r, l->line, "the number %s is over 64 bits", text);
    if (hex || digits == l->n || l->p[digits] == 'L' || strspn(l->p, "0123456789.eE+-") == l->n ||
        !syntax_number(l->key, l->p, l->n, number))
        return 0;
    r->unreadable = true;
    return wrong(r, l->line, "key '%s': %.*s has a unit; write %s", l->key, (int)l->n, l->p, number);
}

static int syntax_error(struct reading *r, const char *text, const config_t *c)
{
    char hint[SYNTAX_HINT_SIZE] = "";
    int line = syntax_explain(text, hint);
    return wrong(r, line ? line : config_error_line(c), "%s%s%s", config_error_text(c), line ? ": " : "", hint);
}

static int read_text(struct reading *r, const char *text, const struct cfg_key *keys, void *out)
{
    config_t c;
    int n;
    config_init(&c);
    if (config_read_string(&c, text) != CONFIG_TRUE)
        n = syntax_error(r, text, &c);
    else
        n = read_table(r, config_root_setting(&c), keys, out);
    config_destroy(&c);
    return n;
}

int cfg_load_all(const char *file, const struct cfg_key *keys, void *out, struct buf *all, struct err *e)
{
    struct reading r = {.file = file, .e = e, .all = all};
    AUTO_BUF struct buf text = {0};
    size_t before = all ? all->n : 0;
    int n = fd_read_file(AT_FDCWD, file, &text, MAX_CONFIG_BYTES, e);
    if (n < 0)
        return n;
    buf_add(&text, "", 0);
    if (memchr(text.p, 0, text.n))
        return err_set(e, ERR_CONFIG, "%s: contains a NUL byte; it is not a text file", file);
    n = syntax_each_literal(text.p, check_literal, &r);
    if (n == 0 && !r.unreadable)
        n = read_text(&r, text.p, keys, out);
    return n == 0 && all && all->n > before ? err_set(e, ERR_CONFIG, "%s", CFG_TOLD) : n;
}

int cfg_load(const char *file, const struct cfg_key *keys, void *out, struct err *e)
{
    return cfg_load_all(file, keys, out, NULL, e);
}

int cfg_read_part(const char *text, const struct cfg_key *keys, void *out, struct err *e)
{
    return read_text(&(struct reading){.file = "the configuration", .part = true, .e = e}, text, keys, out);
}

/* ---- writing ---- */

/* Whether to write the key at `path`: it is one of the names, or below one (all of that is written), or above one (only a part is).
 */
static bool is_named(const char *const *names, const char *path)
{
    size_t n = strlen(path);
    for (; *names; names++) {
        size_t k = strlen(*names);
        if (!strncmp(*names, path, n < k ? n : k) && (n == k || (n < k ? (*names)[n] : path[k]) == '.'))
            return true;
    }
    return false;
}

static void print_string(struct buf *out, const char *v)
{
    buf_adds(out, "\"");
    for (; *v; v++)
        if ((unsigned char)*v < ' ' || *v == '"' || *v == '\\')
            buf_addf(out, "\\x%02x", (unsigned char)*v);
        else
            buf_add(out, v, 1);
    buf_adds(out, "\"");
}

static void print_table(const struct cfg_key *keys, const char *in, const char *const *names, const char *path, struct buf *out);

static void print_value(const struct cfg_key *k, const char *field, const char *const *names, const char *path, struct buf *out)
{
    const struct strs *strs = (const void *)field;
    const struct cfg_list *list = (const void *)field;
    AUTO_FREE char *choice = NULL;
    double number;
    int n;
    switch (k->type) {
    case CFG_INT:
        buf_addf(out, "%lldL", (long long)*(const int64_t *)(const void *)field);
        break;
    case CFG_F64:
        memcpy(&number, field, sizeof number);
        buf_addf(out, "%.17e", number);
        break;
    case CFG_BOOL:
        buf_adds(out, *(const bool *)field ? "true" : "false");
        break;
    case CFG_ENUM:
        memcpy(&n, field, sizeof n);
        choice = cfg_choice(k->one_of, n);
        print_string(out, choice);
        break;
    case CFG_STR:
        print_string(out, *(char *const *)(const void *)field);
        break;
    case CFG_STRS:
    case CFG_LIST:
        buf_adds(out, "(");
        for (size_t i = 0; i < (k->type == CFG_STRS ? strs->n : list->n); i++) {
            buf_adds(out, i ? ", " : "");
            if (k->type == CFG_STRS)
                print_string(out, strs->v[i]);
            else
                print_table(k->keys, (const char *)list->v + i * k->item_size, names, path, out);
        }
        buf_adds(out, ")");
        break;
    case CFG_GROUP:
        print_table(k->keys, field, names, path, out);
        break;
    case CFG_LATER:
        break;
    }
}

static void print_keys(const struct cfg_key *keys, const char *in, const char *const *names, const char *path, struct buf *out)
{
    for (const struct cfg_key *k = keys; k->name; k++) {
        AUTO_FREE char *at = xasprintf("%s%s%s", path, *path ? "." : "", k->name);
        if (k->type == CFG_LATER || !is_named(names, at))
            continue;
        buf_addf(out, "%s = ", k->name);
        print_value(k, in + k->offset, names, at, out);
        buf_adds(out, "; ");
    }
}

static void print_table(const struct cfg_key *keys, const char *in, const char *const *names, const char *path, struct buf *out)
{
    buf_adds(out, "{ ");
    print_keys(keys, in, names, path, out);
    buf_adds(out, "}");
}

void cfg_print(const struct cfg_key *keys, const void *in, const char *const *names, struct buf *out)
{
    print_keys(keys, in, names, "", out);
    buf_add(out, "", 0);
}

void cfg_defaults(const struct cfg_key *keys, void *out)
{
    for (const struct cfg_key *k = keys; k->name; k++) {
        char *field = (char *)out + k->offset;
        if (k->type == CFG_GROUP)
            cfg_defaults(k->keys, field);
        if (!k->def)
            continue;
        if (k->type == CFG_INT)
            *(int64_t *)field = strtoll(k->def, NULL, 10);
        else if (k->type == CFG_F64)
            store_f64(field, strtod(k->def, NULL));
        else if (k->type == CFG_BOOL)
            *(bool *)field = !strcmp(k->def, "true");
        else if (k->type == CFG_ENUM)
            store_choice(k, k->def, field);
        else if (k->type == CFG_STR)
            xstr_set((char **)field, k->def);
        else if (k->type == CFG_STRS)
            strs_default((struct strs *)field, k->def);
    }
}

void cfg_free(const struct cfg_key *keys, void *out)
{
    for (const struct cfg_key *k = keys; k->name; k++) {
        char *field = (char *)out + k->offset;
        if (k->type == CFG_GROUP)
            cfg_free(k->keys, field);
        else if (k->type == CFG_STR)
            xstr_set((char **)field, NULL);
        else if (k->type == CFG_STRS)
            strs_free((struct strs *)field);
        else if (k->type == CFG_LIST) {
            struct cfg_list *l = (struct cfg_list *)field;
            for (size_t i = 0; i < l->n; i++)
                cfg_free(k->keys, (char *)l->v + i * k->item_size);
            free(l->v);
            *l = (struct cfg_list){0};
        }
    }
}

void cfg_help(const struct cfg_key *keys, int indent, struct buf *out)
{
    for (const struct cfg_key *k = keys; k->name; k++) {
        if (k->type == CFG_LATER)
            continue;
        buf_addf(out, "%*s%s: ", indent, "", k->name);
        describe(k, out);
        if (k->def && *k->def && strcmp(k->def, "nan"))
            buf_addf(out, "; default %s", k->def);
        else if (!k->def && k->type != CFG_GROUP && k->type != CFG_LIST)
            buf_adds(out, "; required");
        buf_addf(out, "%s. %s\n", k->reloadable ? "; takes effect on reload" : "", k->help);
        if (k->keys)
            cfg_help(k->keys, indent + 2, out);
    }
}
