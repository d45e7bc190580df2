/* A repaired name ends with '_' and its column's number. So no two repaired names are equal, and each only has to differ from the
 * names that the file has. */
#include "header.h"
#include "base/mem.h"
#include "scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPAIRS_BYTES = 300, NAME_SHOWN = 60 };
static const char extra[] = "_extra"; /* where plan.c puts further cells */

void header_fini(struct header *h)
{
    for (size_t i = 0; i < h->n; i++)
        free(h->names[i]);
    free(h->names);
    buf_fini(&h->repaired);
    *h = (struct header){0};
}

void header_repaired(struct header *h, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    if (h->repaired.n > REPAIRS_BYTES) {
        h->n_unsaid++;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_addf(&h->repaired, "%s%s", h->repaired.n ? "; " : "", text);
}

void header_add(struct header *h, const struct cell *cells, size_t n_cells, bool repair)
{
    for (size_t i = 0; i < n_cells; i++) {
        const char *p = cells[i].p;
        size_t n = cells[i].n, at;
        if (repair && scan_text(p, n, &at) != TEXT_OK) {
            header_repaired(h, "the name of column %zu is no text", i + 1);
            n = 0;
        }
        while (n && (*p == ' ' || *p == '\t'))
            p++, n--;
        while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
            n--;
        if (i == h->n) {
            h->names = xrealloc(h->names, (i + 1) * sizeof *h->names);
            h->names[i] = xstrndup(p, n);
            h->n++;
        } else if (n && *h->names[i]) {
            char *joined = xasprintf("%s_%.*s", h->names[i], (int)n, p);
            free(h->names[i]);
            h->names[i] = joined;
        } else if (n) {
            char *name = xstrndup(p, n);
            free(h->names[i]);
            h->names[i] = name;
        }
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int header_check(struct header *h, struct err *e)
{
    AUTO_FREE char **sorted = xcalloc(h->n + 1, sizeof *sorted);
    for (size_t i = 0; i < h->n; i++)
        if (!*h->names[i]) {
            char *name = xasprintf("column_%zu", i + 1);
            free(h->names[i]);
            h->names[i] = name;
        }
    if (h->n) {
        memcpy(sorted, h->names, h->n * sizeof *sorted);
        qsort(sorted, h->n, sizeof *sorted, by_name);
    }
    for (size_t i = 1; i < h->n; i++)
        if (!strcmp(sorted[i - 1], sorted[i]))
            return err_set(e, ERR_FORMAT,
                           "the header names column '%.100s' twice (csv.damaged = \"repair\" would number the second)", sorted[i]);
    return 0;
}

/* --- repair --- */

struct field {
    char *name; /* the name it is stored under */
    size_t column;
};

/* One for each column: where it is stored now, whether that changes, and what its name becomes. */
struct repair {
    size_t n;
    struct field *fields;
    bool *change;
    char **names;
};

static void repair_fini(struct repair *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->fields ? r->fields[i].name : NULL);
        free(r->names ? r->names[i] : NULL);
    }
    free(r->fields);
    free(r->change);
    free(r->names);
}

static char *field_of(const struct spec *s, const char *name)
{
    const struct rule *u = spec_rule(s, name, strlen(name));
    return u ? xstrdup(u->target) : spec_field_name(name, strlen(name));
}

/* Columns of the same name in the order of the file. */
static int by_field(const void *a, const void *b)
{
    const struct field *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : x->column < y->column ? -1 : x->column > y->column;
}

static int by_field_name(const void *key, const void *f)
{
    return strcmp(key, ((const struct field *)f)->name);
}

static bool taken(const struct spec *s, const struct field *fields, size_t n, const char *name)
{
    AUTO_FREE char *field = field_of(s, name);
    return bsearch(field, fields, n, sizeof *fields, by_field_name);
}

/* Each failed try met another name of the file, and the numbers differ, so the tries of all columns together are few. */
static char *new_name(const struct spec *s, const struct field *fields, size_t n, const char *from, size_t column)
{
    AUTO_FREE char *name = xasprintf("%s_%zu", *from ? from : "column", column + 1);
    while (taken(s, fields, n, name)) {
        char *longer = xasprintf("%s_%zu", name, column + 1);
        free(name);
        name = longer;
    }
    return TAKE(name);
}

void header_repair(struct header *h, const struct spec *s)
{
    __attribute__((cleanup(repair_fini))) struct repair r = {.n = h->n};
    struct field *fields = r.fields = xcalloc(h->n + 1, sizeof *r.fields);
    bool *change = r.change = xcalloc(h->n + 1, sizeof *r.change);
    char **names = r.names = xcalloc(h->n + 1, sizeof *r.names);
    for (size_t i = 0; i < h->n; i++) {
        fields[i].name = field_of(s, h->names[i]);
        fields[i].column = i;
    }
    qsort(fields, h->n, sizeof *fields, by_field);
    for (size_t i = 0; i < h->n; i++)
        change[fields[i].column] =
            !*fields[i].name || !strcmp(fields[i].name, extra) || (i > 0 && !strcmp(fields[i - 1].name, fields[i].name));
    for (size_t i = 0; i < h->n; i++) {
        if (!change[i])
            continue;
        names[i] = new_name(s, fields, h->n, h->names[i], i);
        if (*h->names[i])
            header_repaired(h, "column %zu, '%.*s', is named like %s: read as '%.*s'", i + 1, NAME_SHOWN, h->names[i],
                            strcmp(h->names[i], extra) ? "another" : "the field of further cells", NAME_SHOWN, names[i]);
        else
            header_repaired(h, "column %zu has no name: read as '%.*s'", i + 1, NAME_SHOWN, names[i]);
    }
    for (size_t i = 0; i < h->n; i++) {
        if (!change[i])
            continue;
        free(h->names[i]);
        h->names[i] = TAKE(names[i]);
    }
    if (h->n_unsaid)
        buf_addf(&h->repaired, "; and %zu more", h->n_unsaid);
    buf_make_plain(&h->repaired, 0);
}
