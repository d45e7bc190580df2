/* Splitting must not depend on where reads end: any text, in any dialect, in pieces of any size, gives the same records as in
 * one piece. src_read and src_at_most below stand in for the real ones. */
#include "check.h"
#include "read/csv.h"

#include <stdlib.h>
#include <string.h>

struct src {
    const char *p;
    size_t n, at;
    unsigned seed;
};

size_t src_at_most(const struct src *s, size_t n)
{
    (void)s;
    return n;
}

ssize_t src_read(struct src *s, void *p, size_t n, struct err *e)
{
    size_t piece = 1 + (size_t)rand_r(&s->seed) % 7, left = s->n - s->at;
    piece = piece < left ? piece : left;
    piece = piece < n ? piece : n;
    memcpy(p, s->p + s->at, piece);
    s->at += piece;
    return (ssize_t)piece;
}

static void add_row(struct buf *out, const struct csv *c, const struct csv_row *row, const struct window *w)
{
    buf_addf(out, "%lld:%lld n%zu next%zu lines%zu %s", (long long)w->line, (long long)w->offset, row->n, row->next, row->lines,
             row->damage ? row->damage : "");
    for (size_t i = 0; i < c->n_cells; i++)
        buf_addf(out, " %s[%.*s]", c->cells[i].quoted ? "q" : "", (int)c->cells[i].n, c->cells[i].p);
    buf_adds(out, "\n");
}

static void split(const struct dialect *d, struct window *w, struct buf *out)
{
    struct csv c;
    struct csv_row row;
    struct err e = {0};
    csv_init(&c, d);
    buf_reset(out);
    while (w->at < w->n || !w->end) {
        if (w->at < w->n && csv_split(&c, w, &row)) {
            assert_true(row.next > 0 && w->at + row.next <= w->n && row.n <= row.next && row.spot <= row.n);
            add_row(out, &c, &row, w);
            csv_advance(&c, w, &row);
            continue;
        }
        size_t shift;
        assert_false(w->end); /* a whole file is always split to its end */
        assert_int_equal(window_grow(w, &shift, &e), 0);
        csv_moved(&c, shift);
    }
    csv_fini(&c);
}

static void any_pieces_give_the_same(void **state)
{
    static const char alphabet[] = "aab,,;\"\"\"'\\|\n\n\r ";
    static const char *const delimiters[] = {",", ";", "||", "a,", ",,"};
    struct buf one = {0}, many = {0};
    unsigned seed = 11;
    (void)state;
    for (int i = 0; i < 10000; i++) {
        char text[120];
        size_t n = (size_t)rand_r(&seed) % sizeof text;
        for (size_t k = 0; k < n; k++)
            text[k] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
        const char *delimiter = delimiters[rand_r(&seed) % 5];
        struct dialect d = {.n_delimiter = strlen(delimiter), .line_end = (enum line_end)(rand_r(&seed) % 3)};
        memcpy(d.delimiter, delimiter, d.n_delimiter);
        d.quote = (int[]){'"', '\'', NO_CHAR}[rand_r(&seed) % 3];
        d.escape = (int[]){d.quote, d.quote, '\\', NO_CHAR}[rand_r(&seed) % 4];
        struct src s = {text, n, 0, seed};
        struct window whole = {.p = text, .n = n, .end = true, .line = 1}, pieces = {.src = &s, .line = 1};
        split(&d, &whole, &one);
        split(&d, &pieces, &many);
        if (one.n || many.n)
            assert_string_equal(one.p, many.p);
        window_fini(&pieces);
    }
    buf_fini(&one);
    buf_fini(&many);
}

/* Every third line opens a quote that nobody closes: each costs its own line, and the time stays linear. */
static void stray_quotes_cost_their_lines(void **state)
{
    struct buf text = {0};
    struct csv_row row;
    struct csv c;
    struct dialect d = {.delimiter = ",", .n_delimiter = 1, .quote = '"', .escape = '"'};
    size_t rows = 0, damaged = 0;
    (void)state;
    for (int i = 0; i < 100000; i++)
        buf_adds(&text, "x,\"y\n1,\"2\"\"\"\n3,4\n");
    struct window w = {.p = text.p, .n = text.n, .end = true, .line = 1};
    csv_init(&c, &d);
    while (w.at < w.n && csv_split(&c, &w, &row)) {
        csv_advance(&c, &w, &row);
        rows++;
        damaged += row.damage != NULL;
    }
    assert_int_equal(rows, 300000);
    assert_int_equal(damaged, 100000);
    assert_int_equal(w.line, 300001);
    csv_fini(&c);
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_pieces_give_the_same), cmocka_unit_test(stray_quotes_cost_their_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
