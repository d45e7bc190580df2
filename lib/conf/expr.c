/* A recursive-descent parser that compiles for a stack machine. Truth values are numbers: 1, 0, or NaN where it is not known
 * (Kleene's logic). */
#include "expr.h"

#include "base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 128, MAX_DEPTH = 32 };

enum op { NUMBER, TEXT, COLUMN, ADD, SUB, MUL, DIV, NEG, LT, LE, GT, GE, EQ, NE, TEXT_EQ, TEXT_NE, NOT, AND, OR };

struct step {
    enum op op;
    double number; /* NUMBER */
    char *text;    /* TEXT */
    int column;
};

struct expr {
    struct step v[MAX_STEPS];
    size_t n;
};

enum type { IS_NUMBER, IS_TEXT, IS_TRUTH, IS_WRONG };

struct parser {
    const char *text, *at;
    struct expr *x;
    struct err *e;
    int depth;
};

static enum type wrong(struct parser *p, const char *what)
{
    err_set(p->e, ERR_FORMAT, "%s at character %d of \"%s\"", what, (int)(p->at - p->text) + 1, p->text);
    return IS_WRONG;
}

static struct step *add(struct parser *p, enum op op)
{
    if (p->x->n == MAX_STEPS) {
        wrong(p, "it is too long");
        return NULL;
    }
    p->x->v[p->x->n] = (struct step){.op = op};
    return &p->x->v[p->x->n++];
}

static void skip(struct parser *p)
{
    while (isspace((unsigned char)*p->at))
        p->at++;
}

static bool take(struct parser *p, const char *token)
{
    size_t n = strlen(token);
    skip(p);
    if (strncmp(p->at, token, n) || (isalpha((unsigned char)*token) && (isalnum((unsigned char)p->at[n]) || p->at[n] == '_')))
        return false;
    p->at += n;
    return true;
}

static enum type condition(struct parser *p);

static enum type column(struct parser *p)
{
    const char *end = p->at;
    while (isalnum((unsigned char)*end) || *end == '_')
        end++;
    int c = metric_find(p->at, (size_t)(end - p->at));
    if (end == p->at)
        return wrong(p, *p->at ? "a number, a \"text\" or a column is missing" : "something is missing");
    if (c < 0)
        return wrong(p, "unknown column (`mysimbdp check --keys` lists them)");
    struct step *s = add(p, COLUMN);
    if (!s)
        return IS_WRONG;
    s->column = c;
    p->at = end;
    return metric_is_text((enum metric)c) ? IS_TEXT : IS_NUMBER;
}

static enum type primary(struct parser *p)
{
    skip(p);
    if (take(p, "(")) {
        enum type t = condition(p);
        return t != IS_WRONG && !take(p, ")") ? wrong(p, "\")\" is missing") : t;
    }
    if (*p->at == '"') {
        const char *end = strchr(p->at + 1, '"');
        struct step *s = end ? add(p, TEXT) : NULL;
        if (!end)
            return wrong(p, "a text has no end");
        if (!s)
            return IS_WRONG;
        s->text = xstrndup(p->at + 1, (size_t)(end - p->at - 1));
        p->at = end + 1;
        return IS_TEXT;
    }
    if (isdigit((unsigned char)*p->at) || *p->at == '.') {
        char *end;
        double v = strtod(p->at, &end);
        struct step *s = end != p->at && isfinite(v) ? add(p, NUMBER) : NULL;
        if (!s)
            return p->e->code ? IS_WRONG : wrong(p, "this is no number");
        s->number = v;
        p->at = end;
        return IS_NUMBER;
    }
    return column(p);
}

static enum type unary(struct parser *p)
{
    enum type t;
    if (++p->depth > MAX_DEPTH)
        return wrong(p, "it is nested too deep");
    if (take(p, "-")) {
        t = unary(p);
        if (t != IS_WRONG)
            t = t != IS_NUMBER ? wrong(p, "only a number can be negative") : add(p, NEG) ? IS_NUMBER : IS_WRONG;
    } else {
        t = primary(p);
    }
    p->depth--;
    return t;
}

/* The operators of one level of precedence, which associate to the left. */
struct level {
    struct {
        const char *token; /* NULL: the level has only one */
        enum op op;
    } v[2];
    enum type takes;
    const char *what_else; /* operands must be of that type */
};

static const struct level product_level = {{{"*", MUL}, {"/", DIV}}, IS_NUMBER, "* and / take numbers"},
                          sum_level = {{{"+", ADD}, {"-", SUB}}, IS_NUMBER, "+ and - take numbers"},
                          and_level = {{{"and", AND}}, IS_TRUTH, "\"and\" and \"or\" join conditions"},
                          or_level = {{{"or", OR}}, IS_TRUTH, "\"and\" and \"or\" join conditions"};

static enum type joined(struct parser *p, const struct level *l, enum type (*part)(struct parser *p))
{
    enum type t = part(p);
    while (t != IS_WRONG) {
        int i = take(p, l->v[0].token) ? 0 : l->v[1].token && take(p, l->v[1].token) ? 1 : -1;
        if (i < 0)
            break;
        enum type right = part(p);
        if (right != IS_WRONG && (t != l->takes || right != l->takes))
            return wrong(p, l->what_else);
        t = right == IS_WRONG || !add(p, l->v[i].op) ? IS_WRONG : l->takes;
    }
    return t;
}

static enum type product(struct parser *p)
{
    return joined(p, &product_level, unary);
}

static enum type sum(struct parser *p)
{
    return joined(p, &sum_level, product);
}

static enum type comparison(struct parser *p)
{
    static const struct {
        const char *token;
        enum op op;
    } ops[] = {{"<=", LE}, {">=", GE}, {"==", EQ}, {"!=", NE}, {"<", LT}, {">", GT}};
    enum type t = sum(p);
    size_t i = 0;
    while (t != IS_WRONG && i < sizeof ops / sizeof *ops && !take(p, ops[i].token))
        i++;
    if (t == IS_WRONG || i == sizeof ops / sizeof *ops)
        return t;
    enum type right = sum(p);
    enum op op = ops[i].op;
    if (right == IS_WRONG)
        return IS_WRONG;
    if (t != right || t == IS_TRUTH)
        return wrong(p, "a comparison takes two numbers or two texts");
    if (t == IS_TEXT && op != EQ && op != NE)
        return wrong(p, "texts are compared with == and !=");
    return add(p, t == IS_NUMBER ? op : op == EQ ? TEXT_EQ : TEXT_NE) ? IS_TRUTH : IS_WRONG;
}

static enum type negation(struct parser *p)
{
    enum type t;
    if (++p->depth > MAX_DEPTH)
        return wrong(p, "it is nested too deep");
    if (take(p, "not")) {
        t = negation(p);
        if (t != IS_WRONG)
            t = t != IS_TRUTH ? wrong(p, "\"not\" takes a condition") : add(p, NOT) ? IS_TRUTH : IS_WRONG;
    } else {
        t = comparison(p);
    }
    p->depth--;
    return t;
}

static enum type conjunction(struct parser *p)
{
    return joined(p, &and_level, negation);
}

static enum type condition(struct parser *p)
{
    return joined(p, &or_level, conjunction);
}

int expr_parse(const char *text, struct expr **ret, struct err *e)
{
    struct expr *x = xcalloc(1, sizeof *x);
    struct err scratch = {0};
    struct parser p = {text, text, x, e ? e : &scratch, 0};
    enum type t = condition(&p);
    skip(&p);
    if (t != IS_WRONG && *p.at)
        t = wrong(&p, "\"and\", \"or\" or the end is expected");
    if (t != IS_WRONG && t != IS_TRUTH)
        t = wrong(&p, "this is no condition: a comparison is missing");
    if (t == IS_WRONG) {
        expr_free(x);
        return ERR_FORMAT;
    }
    *ret = x;
    return 0;
}

void expr_free(struct expr *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->n; i++)
        free(x->v[i].text);
    free(x);
}

struct value {
    double number;
    const char *text;
};

static double compare(enum op op, double a, double b)
{
    if (isnan(a) || isnan(b))
        return NAN;
    return op == LT ? a < b : op == LE ? a <= b : op == GT ? a > b : op == GE ? a >= b : op == EQ ? a == b : a != b;
}

static double both(enum op op, double a, double b)
{
    double decisive = op == OR;
    if (a == decisive || b == decisive)
        return decisive;
    return isnan(a) || isnan(b) ? NAN : !decisive;
}

static double join(enum op op, const struct value *a, const struct value *b)
{
    switch (op) {
    case ADD:
        return a->number + b->number;
    case SUB:
        return a->number - b->number;
    case MUL:
        return a->number * b->number;
    case DIV:
        return b->number == 0 ? NAN : a->number / b->number;
    case TEXT_EQ:
    case TEXT_NE:
        return a->text && b->text ? !strcmp(a->text, b->text) == (op == TEXT_EQ) : NAN;
    case AND:
    case OR:
        return both(op, a->number, b->number);
    default:
        return compare(op, a->number, b->number);
    }
}

bool expr_holds(const struct expr *x, const struct metric_row *row)
{
    struct value stack[MAX_STEPS];
    stack[0] = (struct value){0};
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++) {
        const struct step *s = &x->v[i];
        if (s->op == NUMBER || s->op == TEXT) {
            stack[n++] = (struct value){s->number, s->text};
        } else if (s->op == COLUMN) {
            stack[n++] = (struct value){row->number[s->column], row->text[s->column]};
        } else if (s->op == NEG || s->op == NOT) {
            double v = stack[n - 1].number;
            stack[n - 1].number = s->op == NEG ? -v : isnan(v) ? v : !v;
        } else {
            n--;
            stack[n - 1].number = join(s->op, &stack[n - 1], &stack[n]);
        }
    }
    return stack[0].number == 1;
}
