#include "complete.h"

#include "table.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

enum { MAX_ITEMS = 48, MAX_FORMS = 24, MAX_TOKENS = 256 };

/* What may stand at one place of a usage text: an option with what its value is, or a word. */
struct item {
    const char *choices; /* "TENANT", "list", "replay|drop", "N"; of an option: its value's, NULL: it takes none */
    const char *option;  /* "--json"; NULL: it is a word */
    bool again;          /* "..." */
};

/* One way to call a verb. */
struct form {
    struct item items[MAX_ITEMS];
    size_t n;
};

struct usage {
    struct form forms[MAX_FORMS];
    size_t n;
    char *text; /* what items point into */
};

/* ---- usage texts ---- */

static int depth_of(const char *token)
{
    int depth = 0;
    for (; *token; token++)
        depth += (*token == '[') - (*token == ']');
    return depth;
}

/* Takes brackets and dots out. True: there were dots. */
static bool strip(char *token)
{
    char *out = token;
    bool again = strstr(token, "...");
    for (const char *p = token; *p; p++)
        if (*p != '[' && *p != ']' && *p != '.' && *p != '<')
            *out++ = *p;
    *out = 0;
    return again;
}

static void add_item(struct form *f, const char *option, const char *choices, bool again)
{
    if (f->n < MAX_ITEMS)
        f->items[f->n++] = (struct item){choices, option, again};
}

/* "N|--all": what begins with a dash is an option of its own. */
static void split_options(struct form *f, char *choices)
{
    char *at;
    while ((at = strstr(choices, "|--"))) {
        *at = 0;
        add_item(f, at + 1, NULL, false);
        choices = at + 1;
    }
}

/* tokens[i] is an option; its value is the next one, unless its bracket ends before. Returns how many it took. */
static size_t parse_option(struct form *f, char **tokens, size_t i, size_t n, int depth_before)
{
    char *token = tokens[i], *next = i + 1 < n ? tokens[i + 1] : NULL;
    const bool closed = strchr(token, ']') && depth_before + depth_of(token) == 0;
    const bool takes = next && !closed && next[0] != '-' && next[0] != '[' && strcmp(next, "|") != 0;
    strip(token);
    if (!strcmp(token, "--") || !*token)
        return 1;
    if (!takes) {
        split_options(f, token);
        add_item(f, token, NULL, false);
        return 1;
    }
    strip(next);
    split_options(f, next);
    add_item(f, token, next, false);
    return 2;
}

static struct form *next_form(struct usage *u)
{
    if (u->n < MAX_FORMS)
        u->n++;
    u->forms[u->n - 1] = (struct form){0};
    return &u->forms[u->n - 1];
}

/* Adds the forms of a usage text. `text` is kept. */
static void parse(struct usage *u, char *text)
{
    char *tokens[MAX_TOKENS], *save = NULL;
    size_t n = 0;
    int depth = 0;
    for (char *t = strtok_r(text, " \n", &save); t && n < MAX_TOKENS; t = strtok_r(NULL, " \n", &save))
        tokens[n++] = t;
    struct form *f = next_form(u);
    for (size_t i = 0, took; i < n; i += took) {
        char *word = tokens[i] + strspn(tokens[i], "[");
        const int change = depth_of(tokens[i]), next = i + 1 < n ? depth_of(tokens[i + 1]) : 0;
        took = 1;
        if (!strcmp(tokens[i], "|")) {
            f = depth == 0 ? next_form(u) : f;
        } else if (*word == '-') {
            took = parse_option(f, tokens, i, n, depth);
        } else {
            bool again = strip(tokens[i]);
            if (*tokens[i])
                add_item(f, NULL, tokens[i], again);
        }
        depth += change + (took == 2 ? next : 0);
    }
}

static bool is_literal(const char *choice, size_t n)
{
    return n > 0 && islower((unsigned char)choice[0]);
}

static bool has_choice(const char *choices, const char *word)
{
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        size_t n = strcspn(p, "|");
        if (!is_literal(p, n) || (strlen(word) == n && !strncmp(p, word, n)))
            return true;
    }
    return false;
}

/* The i-th word of a form, counted without options; the last one where that may come again. */
static const struct item *word_at(const struct form *f, size_t i)
{
    const struct item *last = NULL;
    for (size_t k = 0; k < f->n; k++) {
        if (f->items[k].option)
            continue;
        last = &f->items[k];
        if (i-- == 0)
            return last;
    }
    return last && last->again ? last : NULL;
}

static const struct item *option_of(const struct usage *u, const char *name)
{
    for (size_t i = 0; i < u->n; i++)
        for (size_t k = 0; k < u->forms[i].n; k++)
            if (u->forms[i].items[k].option && !strcmp(u->forms[i].items[k].option, name))
                return &u->forms[i].items[k];
    return NULL;
}

/* ---- what is offered ---- */

void complete_add(struct complete_offer *o, const char *word, const char *what)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+-";
    if (!*word || word[strspn(word, plain)] || strncmp(word, o->word, strlen(o->word)) != 0)
        return;
    AUTO_FREE char *first = what ? xstrndup(what, strcspn(what, "\n")) : NULL;
    AUTO_FREE char *shown = first ? table_plain(first) : NULL;
    buf_addf(&o->lines, "%s\t%s\n", word, shown ? shown : "");
    o->n++;
}

void complete_files(struct complete_offer *o)
{
    if (!o->lines.n || !strstr(o->lines.p, ":files\n"))
        buf_adds(&o->lines, ":files\n");
}

const char *complete_option(const struct complete_place *p, const char *name)
{
    for (size_t i = 0; i < p->n_options; i++)
        if (!strcmp(p->options[i].name, name))
            return p->options[i].value;
    return NULL;
}

struct line {
    struct complete_place place;
    const struct item *open; /* the option whose value is being typed; NULL: none's */
    complete_values values;
    void *arg;
    struct complete_offer *o;
};

static void offer_choices(struct line *l, const char *choices, const char *option)
{
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        AUTO_FREE char *choice = xstrndup(p, strcspn(p, "|"));
        if (is_literal(choice, strlen(choice))) {
            complete_add(l->o, choice, NULL);
            continue;
        }
        l->place.kind = choice;
        l->place.option = option;
        l->values(l->arg, &l->place, l->o);
    }
}

/* Goes through what was typed before the last word. */
static void walk(struct line *l, const struct usage *u, char *const *words, size_t n)
{
    bool ended = false;
    for (size_t i = 0; i < n; i++) {
        const char *word = words[i];
        if (!ended && !strcmp(word, "--")) {
            ended = true;
        } else if (!ended && word[0] == '-' && word[1]) {
            const struct item *option = option_of(u, word);
            const bool takes = option && option->choices;
            l->place.options[l->place.n_options].name = word;
            l->place.options[l->place.n_options++].value = takes && i + 1 < n ? words[i + 1] : NULL;
            l->open = takes && i + 1 == n ? option : NULL;
            i += takes;
        } else {
            l->place.words[l->place.n_words++] = word;
        }
    }
}

static bool is_given(const struct line *l, const char *option)
{
    for (size_t i = 0; i < l->place.n_options; i++)
        if (!strcmp(l->place.options[i].name, option))
            return true;
    return false;
}

static bool fits(const struct form *f, const struct line *l)
{
    for (size_t i = 0; i < l->place.n_words; i++) {
        const struct item *at = word_at(f, i);
        if (!at || !has_choice(at->choices, l->place.words[i]))
            return false;
    }
    return true;
}

static void offer_options(struct line *l, const struct form *f)
{
    for (size_t i = 0; i < f->n; i++) {
        AUTO_FREE char *seen = f->items[i].option ? xasprintf("%s\t", f->items[i].option) : NULL;
        if (seen && !is_given(l, f->items[i].option) && !(l->o->lines.n && strstr(l->o->lines.p, seen)))
            complete_add(l->o, f->items[i].option, NULL);
    }
}

/* The same word may be a choice of several forms. */
static bool is_new(const struct usage *u, const struct line *l, size_t i, const char *choices)
{
    for (size_t k = 0; k < i; k++) {
        const struct item *at = fits(&u->forms[k], l) ? word_at(&u->forms[k], l->place.n_words) : NULL;
        if (at && !strcmp(at->choices, choices))
            return false;
    }
    return true;
}

static void offer_next(struct line *l, const struct usage *u, size_t n_forms)
{
    const bool dash = l->place.word[0] == '-';
    if (l->open) {
        offer_choices(l, l->open->choices, l->open->option);
        return;
    }
    for (size_t i = 0; i < n_forms; i++) {
        const struct item *at = fits(&u->forms[i], l) ? word_at(&u->forms[i], l->place.n_words) : NULL;
        if (dash && fits(&u->forms[i], l))
            offer_options(l, &u->forms[i]);
        else if (!dash && at && is_new(u, l, i, at->choices))
            offer_choices(l, at->choices, NULL);
    }
    for (size_t i = n_forms; dash && i < u->n; i++)
        offer_options(l, &u->forms[i]);
}

static void offer_verbs(struct line *l, const struct usage *before, const struct complete_verb *verbs, size_t n)
{
    if (l->open || l->place.word[0] == '-') {
        offer_next(l, before, 0);
        return;
    }
    for (size_t i = 0; i < n; i++)
        complete_add(l->o, verbs[i].name, verbs[i].help);
}

static const struct complete_verb *find(const struct complete_verb *verbs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

static void complete(struct line *l, const struct complete_verb *verbs, size_t n_verbs, const char *before, char *const *words,
                     size_t n)
{
    AUTO_FREE char *before_text = xstrdup(before), *args = NULL, *common = NULL;
    struct usage u = {0};
    parse(&u, before_text);
    walk(l, &u, words, n);
    if (l->open || !l->place.n_words) {
        offer_verbs(l, &u, verbs, n_verbs);
        return;
    }
    const struct complete_verb *v = find(verbs, n_verbs, l->place.words[0]);
    if (!v)
        return;
    /* Once more, with the verb's own options known. */
    struct usage own = {0};
    args = xstrdup(v->args);
    parse(&own, args);
    const size_t n_forms = own.n;
    AUTO_FREE char *again = xasprintf("%s %s", before, v->common ? v->common : "");
    parse(&own, again);
    struct complete_place whole = {.verb = v->name, .word = l->place.word};
    l->place = whole;
    walk(l, &own, words, n);
    memmove(l->place.words, l->place.words + 1, --l->place.n_words * sizeof *l->place.words);
    offer_next(l, &own, n_forms);
}

void complete_line(const struct complete_verb *verbs, size_t n_verbs, const char *before, char *const *words, size_t n,
                   complete_values values, void *arg, struct complete_offer *o)
{
    if (!n || n > COMPLETE_MAX_WORDS)
        return;
    o->word = words[n - 1];
    struct line l = {.place = {.word = o->word}, .values = values, .arg = arg, .o = o};
    for (size_t i = 0; i + 1 < n; i++)
        if (!strcmp(words[i], "--")) /* what follows is an app's */
            return;
    complete(&l, verbs, n_verbs, before, words, n - 1);
}
