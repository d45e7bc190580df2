/* libconfig's grammar, as far as it matters here:
 *
 *   settings := { NAME ("=" | ":") value [";" | ","] }        of a file or between { }
 *   value    := scalar | string string … | "{" settings "}" | "[" scalars "]" | "(" values ")"      elements with commas between
 *
 * Nothing is built, and the parser does not recurse. A file that nests too deep for it gets no explanation. */
#include "syntax.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_DEPTH = 64, SHOWN = 40 };

struct token {
    char kind; /* a punctuation mark, 'n' name, 's' string, 'v' number or truth value, 'u' string without its end, 0 the end */
    int line;
    const char *p;
    size_t n;
};

struct lexer {
    const char *p;
    int line;
};

/* ---- tokens ---- */

static void skip_blanks(struct lexer *l)
{
    for (;; l->p++) {
        if (l->p[0] == '#' || (l->p[0] == '/' && l->p[1] == '/'))
            l->p += strcspn(l->p, "\n");
        else if (l->p[0] == '/' && l->p[1] == '*')
            for (l->p += 2; *l->p && !(l->p[0] == '*' && l->p[1] == '/'); l->p++)
                l->line += *l->p == '\n';
        else if (!*l->p || !isspace((unsigned char)*l->p))
            return;
        if (!*l->p)
            return;
        if (l->p[0] == '*')
            l->p++; /* a comment; the slash was taken above */
        l->line += *l->p == '\n';
    }
}

static bool is_value(const char *p, size_t n)
{
    return isdigit((unsigned char)*p) || *p == '-' || *p == '+' || *p == '.' || (n == 4 && !strncasecmp(p, "true", 4)) ||
           (n == 5 && !strncasecmp(p, "false", 5));
}

static struct token next(struct lexer *l)
{
    skip_blanks(l);
    struct token t = {*l->p, l->line, l->p, *l->p != 0};
    if (*l->p == '"') {
        for (l->p++; *l->p && *l->p != '"'; l->p++) {
            l->p += l->p[0] == '\\' && l->p[1];
            l->line += *l->p == '\n';
        }
        t.kind = *l->p ? 's' : 'u';
        l->p += *l->p != 0;
    } else if (isalnum((unsigned char)*l->p) || (*l->p && strchr("-+._", *l->p))) {
        while (isalnum((unsigned char)*l->p) || (*l->p && strchr("-+._", *l->p)))
            l->p++;
        t.kind = is_value(t.p, (size_t)(l->p - t.p)) ? 'v' : 'n';
    } else {
        l->p += *l->p != 0;
    }
    t.n = (size_t)(l->p - t.p);
    return t;
}

/* ---- the grammar ---- */

enum expected { A_NAME, AN_EQUALS, A_VALUE, WHAT_FOLLOWS };

struct parser {
    struct token open[MAX_DEPTH], before;
    int depth;
    enum expected want;
};

static bool in_settings(const struct parser *s)
{
    return !s->depth || s->open[s->depth - 1].kind == '{';
}

static char closing(char open)
{
    return open == '{' ? '}' : open == '[' ? ']' : ')';
}

/* Takes one token. False: it does not belong there. */
static bool take(struct parser *s, const struct token *t)
{
    bool settings = in_settings(s), ends = s->depth && t->kind == closing(s->open[s->depth - 1].kind);
    bool more = s->want == WHAT_FOLLOWS, first = s->before.kind == '(' || s->before.kind == '[';
    if (ends && (settings ? s->want == A_NAME || more : more || first)) {
        s->depth--;
        s->want = WHAT_FOLLOWS;
    } else if (settings && t->kind == 'n' && (s->want == A_NAME || more)) {
        s->want = AN_EQUALS;
    } else if (s->want == AN_EQUALS && (t->kind == '=' || t->kind == ':')) {
        s->want = A_VALUE;
    } else if (more && t->kind == 's' && s->before.kind == 's') {
        return true;
    } else if (more && (t->kind == ',' || (settings && t->kind == ';'))) {
        s->want = settings ? A_NAME : A_VALUE;
    } else if (s->want == A_VALUE && (t->kind == 's' || t->kind == 'v')) {
        s->want = WHAT_FOLLOWS;
    } else if (s->want == A_VALUE && t->kind && strchr("{[(", t->kind) && s->depth < MAX_DEPTH) {
        s->open[s->depth++] = *t;
        s->want = t->kind == '{' ? A_NAME : A_VALUE;
    } else {
        return false;
    }
    return true;
}

static int shown(const struct token *t)
{
    return t->n < SHOWN ? (int)t->n : SHOWN;
}

/* Explains why `t` does not belong there. Returns the line of the cause. */
static int explain(const struct parser *s, const struct token *t, char *out)
{
    const struct token *b = &s->before, *open = s->depth ? &s->open[s->depth - 1] : NULL;
    const size_t size = SYNTAX_HINT_SIZE;
    if (t->kind == 'u')
        return snprintf(out, size, "the string that begins here has no closing \""), t->line;
    if (s->want == AN_EQUALS)
        return snprintf(out, size, "'=' is missing behind %.*s", shown(b), b->p), b->line;
    if (s->want == A_VALUE && t->kind == 'n' && (t->line == b->line || !in_settings(s)))
        return snprintf(out, size, "%.*s is no value; a string needs quotes", shown(t), t->p), t->line;
    if (s->want == A_VALUE && (b->kind == '=' || b->kind == ':' || b->kind == ','))
        return snprintf(out, size, "a value is missing behind '%c'", b->kind), b->line;
    if (!t->kind && open)
        return snprintf(out, size, "the '%c' of this line is not closed with '%c'", open->kind, closing(open->kind)), open->line;
    if (t->kind && strchr("}])", t->kind) && open)
        return snprintf(out, size, "'%c' is missing before the '%c' of line %d: the '%c' of this line is open", closing(open->kind),
                        t->kind, t->line, open->kind),
               open->line;
    if (s->want == WHAT_FOLLOWS && !in_settings(s))
        return snprintf(out, size, "',' is missing behind %.*s, or '%c'", shown(b), b->p, closing(open->kind)), b->line;
    return snprintf(out, size, "'%.*s' does not belong here", shown(t), t->p), t->line;
}

int syntax_explain(const char *text, char out[SYNTAX_HINT_SIZE])
{
    struct lexer l = {text, 1};
    struct parser s = {.want = A_NAME};
    for (;;) {
        struct token t = next(&l);
        bool ends = !t.kind && !s.depth && (s.want == A_NAME || s.want == WHAT_FOLLOWS);
        if (ends || t.kind == '@' || s.depth == MAX_DEPTH)
            return 0;
        if (!take(&s, &t))
            return explain(&s, &t, out);
        s.before = t;
    }
}

/* ---- numbers ---- */

int syntax_each_literal(const char *text, int (*found)(void *arg, const struct syntax_literal *l), void *arg)
{
    struct lexer l = {text, 1};
    struct syntax_literal one = {0};
    for (struct token t = next(&l); t.kind && t.kind != 'u'; t = next(&l)) {
        size_t sign = t.kind == 'v' && (*t.p == '-' || *t.p == '+');
        if (t.kind == 'n')
            snprintf(one.key, sizeof one.key, "%.*s", (int)t.n, t.p);
        if (t.kind != 'v' || !isdigit((unsigned char)t.p[sign]))
            continue;
        one.line = t.line;
        one.p = t.p + sign;
        one.n = t.n - sign;
        int r = found(arg, &one);
        if (r < 0)
            return r;
    }
    return 0;
}

struct unit {
    const char *key, *name;
    double factor;
};

/* A key whose name has no other unit is taken to be of bytes. */
static const struct unit units[] = {
    {"_ms", "ms", 1},       {"_ms", "s", 1000}, {"_ms", "min", 60000}, {"_ms", "m", 60000}, {"_ms", "h", 3600000},
    {"_ms", "d", 86400000}, {"_s", "s", 1},     {"_s", "min", 60},     {"_s", "m", 60},     {"_s", "h", 3600},
    {"_s", "d", 86400},     {"_days", "d", 1},  {"_days", "w", 7},
};

static double factor_of(const char *key, const char *unit, size_t n)
{
    static const char prefixes[] = "kmgt";
    size_t k = strlen(key);
    bool timed = false;
    if (!n)
        return 1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t l = strlen(units[i].key);
        bool ours = k > l && !strcmp(key + k - l, units[i].key);
        timed |= ours;
        if (ours && strlen(units[i].name) == n && !strncmp(units[i].name, unit, n))
            return units[i].factor;
    }
    const char *prefix = strchr(prefixes, tolower((unsigned char)*unit));
    if (timed || !prefix || (n > 1 && strncasecmp(unit + 1, "ib", n - 1) && (n != 2 || tolower((unsigned char)unit[1]) != 'b')))
        return 0;
    return (double)(INT64_C(1) << (10 * (prefix - prefixes + 1)));
}

const char *syntax_number(const char *key, const char *value, size_t n, char out[32])
{
    char text[32], *end;
    if (n >= sizeof text || !n || !isdigit((unsigned char)*value))
        return NULL;
    snprintf(text, sizeof text, "%.*s", (int)n, value);
    double v = strtod(text, &end);
    end += strspn(end, " ");
    v *= factor_of(key, end, strlen(end));
    if (!(v > 0 && v < 9e18))
        return NULL;
    snprintf(out, 32, "%lld%s", (long long)v, v > INT32_MAX ? "L" : "");
    return out;
}
