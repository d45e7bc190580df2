/* mysimbdp explain: keys of the configuration, from the table that it is read by (lib/conf/explain.h). It needs no home. */
#include "cli.h"

#include "base/mem.h"
#include "conf/explain.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>

enum { INDENT = 12 };

static const struct col cols[] = {
    {"key", COL_TEXT, 1},
    {"type", COL_TEXT, 3},
    {"default", COL_TEXT, 2},
    {"help", COL_LONG, 1},
};
enum { N_COLS = sizeof cols / sizeof *cols };

static void add_choices(struct buf *b, const bson_t *doc)
{
    bson_iter_t it, one;
    if (bson_iter_init_find(&it, doc, "choices") && BSON_ITER_HOLDS_ARRAY(&it) && bson_iter_recurse(&it, &one))
        for (int i = 0; bson_iter_next(&one); i++) {
            const char *word = bson_iter_utf8(&one, NULL);
            buf_addf(b, "%s%s", i ? " | " : "", *word ? word : "\"\"");
        }
}

static bool has_number(const bson_t *doc, const char *key, double *ret)
{
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, key) || !BSON_ITER_HOLDS_NUMBER(&it))
        return false;
    *ret = bson_iter_as_double(&it);
    return true;
}

/* "-1 to 100", "1 and more", "" */
static void add_range(struct buf *b, const bson_t *doc)
{
    double min, max;
    bool has_min = has_number(doc, "min", &min), has_max = has_number(doc, "max", &max);
    if (has_min)
        buf_addf(b, "%.15g", min);
    if (has_min && has_max)
        buf_addf(b, " to %.15g", max);
    else if (has_min)
        buf_adds(b, " and more");
    const char *def = json_get_str(doc, "default", ""), *help = json_get_str(doc, "help", "");
    if (has_min && min == -1 && !strcmp(def, "-1") && !strstr(help, "-1:"))
        buf_adds(b, "; -1: no limit");
}

static void print_line(const char *name, const char *text)
{
    AUTO_BUF struct buf b = {0};
    if (!*text)
        return;
    buf_addf(&b, "  %-*s", INDENT - 2, name);
    table_fold(&b, text, INDENT, INDENT, table_room());
    puts(b.p);
}

static const char *type_words(const char *type)
{
    if (!strcmp(type, "strings"))
        return "a string, or a list of strings (\"a\", \"b\")";
    if (!strcmp(type, "boolean"))
        return "true or false";
    if (!strcmp(type, "group"))
        return "a group { } of keys";
    return !strcmp(type, "list") ? "a list ( { }, { } ) of groups" : type;
}

static void print_one(const bson_t *doc)
{
    AUTO_BUF struct buf choices = {0}, range = {0};
    buf_adds(&choices, "");
    buf_adds(&range, "");
    const char *type = json_get_str(doc, "type", ""), *def = json_get_str(doc, "default", NULL);
    const bool is_text = !strcmp(type, "string") || !strcmp(type, "strings");
    AUTO_FREE char *shown = is_text ? xasprintf("\"%s\"", def ? def : "") : xstrdup(def ? def : "");
    add_choices(&choices, doc);
    add_range(&range, doc);
    printf("%s\n", json_get_str(doc, "key", ""));
    print_line("what", json_get_str(doc, "help", ""));
    print_line("file", json_get_str(doc, "file", ""));
    print_line("type", type_words(type));
    print_line("choices", choices.p);
    print_line("range", range.p);
    print_line("default", json_get_bool(doc, "required", false) ? "none: it has to be there" : def ? shown : "");
    if (strcmp(type, "group") != 0 && strcmp(type, "list") != 0)
        print_line("effect", !strcmp(json_get_str(doc, "takes_effect", ""), "reload")
                                 ? "on `mysimbdp reload`, and at the next start"
                                 : "when the platform is started again (`mysimbdp down`, `mysimbdp up`)");
    print_line("example", json_get_str(doc, "example", ""));
}

static void add_row(struct table *t, const bson_t *doc)
{
    char *cells[N_COLS];
    for (size_t i = 0; i < N_COLS; i++)
        cells[i] = xstrdup(json_get_str(doc, cols[i].name, NULL));
    table_add(t, cells);
}

/* A group or a list is followed by what may stand in it. */
static int add_inner(const bson_t *doc, struct buf *lines)
{
    AUTO_BUF struct buf all = {0};
    AUTO_FREE char *inside = xasprintf("\"key\":\"%s.", json_get_str(doc, "key", ""));
    const char *type = json_get_str(doc, "type", "");
    int n = 0;
    if ((strcmp(type, "group") != 0 && strcmp(type, "list") != 0) || conf_explain(NULL, &all, NULL) < 0)
        return 0;
    for (char *line = strtok(all.p, "\n"); line; line = strtok(NULL, "\n"))
        if (strstr(line, inside)) {
            buf_addf(lines, "%s\n", line);
            n++;
        }
    return n;
}

static void print_table(char *lines)
{
    struct table *t = table_new(cols, N_COLS);
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
        if (doc)
            add_row(t, doc);
    }
    table_print(t);
    table_free(t);
}

int verb_explain(struct cli *c)
{
    AUTO_BUF struct buf lines = {0}, inner = {0};
    struct err e = {0};
    int r = cli_args(c, 0, 1);
    if (r)
        return r;
    int n = conf_explain(c->argc ? c->argv[0] : NULL, &lines, &e);
    if (n < 0)
        return cli_fail(c, &e);
    if (c->json) {
        fputs(lines.p, stdout);
        return CLI_DONE;
    }
    if (n > 1) {
        print_table(lines.p);
        return CLI_DONE;
    }
    AUTO_BSON bson_t *doc = json_parse(lines.p, lines.n - 1, &e);
    if (!doc)
        return cli_fail(c, &e);
    print_one(doc);
    if (add_inner(doc, &inner)) {
        puts("");
        print_table(inner.p);
    }
    return CLI_DONE;
}
