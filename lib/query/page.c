/* Pages of files or runs, newest first. Ids are picked first, then shown: a row that a filter leaves out costs a look at an index
 * and at the row, and no more than SCAN_MAX of them are looked at for a page. Where that ends it, the next page goes on behind the
 * last row that was looked at. */
#include "parts.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { SCAN_MAX = 20000, MAX_LIMIT = 1000, DEFAULT_LIMIT = 100, DAY_MS = 86400000 };

void page_fini(struct page *p)
{
    free(p->ids);
}

/* When the row of the cursor came. */
static int look_up_cursor(struct asking *a, const struct records *r, struct page *p)
{
    static const char file[] = "SELECT received_at FROM files WHERE file_id=:id AND tenant=:tenant";
    static const char run[] = "SELECT started_at FROM runs WHERE run_id=:id AND tenant=:tenant UNION ALL SELECT started_at FROM "
                              "streams.instances WHERE run_id=:id AND tenant=:tenant";
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, r == &records_files ? file : run);
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":id", p->cursor);
    int n = sqlite3_step(s);
    if (n == SQLITE_DONE)
        return refuse(a, 400, "parameter", "cursor: is none of these pages");
    if (n != SQLITE_ROW)
        return refuse_for_db(a);
    p->cursor_ms = sqlite3_column_int64(s, 0);
    return 0;
}

int page_of_params(struct asking *a, const struct records *r, struct page *ret)
{
    int n = param_count(a, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT, &ret->limit);
    if (n == 0)
        n = param_since(a, &ret->since_ms);
    if (n == 0)
        n = param_text(a, "cursor", ID_SIZE - 1, &ret->cursor);
    return n < 0 || !ret->cursor ? n : look_up_cursor(a, r, ret);
}

static void set_id(char out[ID_SIZE], sqlite3_stmt *s)
{
    snprintf(out, ID_SIZE, "%s", (const char *)sqlite3_column_text(s, 0));
}

int page_pick(struct asking *a, sqlite3_stmt *s, struct page *p)
{
    char last[ID_SIZE] = "";
    int r, n = 0;
    bind_i64(s, ":since", p->since_ms);
    bind_text(s, ":cursor", p->cursor ? p->cursor : "~"); /* behind all ids */
    bind_i64(s, ":at", p->cursor ? p->cursor_ms : INT64_MAX);
    p->ids = xcalloc((size_t)p->limit, sizeof *p->ids);
    while ((r = sqlite3_step(s)) == SQLITE_ROW) {
        bool wanted = sqlite3_column_int(s, 1) != 0;
        if (sqlite3_column_int64(s, 2) < p->since_ms - DAY_MS) /* ids are in order of time, but for steps of the clock */
            break;
        if (n++ == SCAN_MAX || (wanted && p->n == (size_t)p->limit)) {
            memcpy(p->next, last, sizeof p->next);
            return 0;
        }
        set_id(last, s);
        if (wanted)
            set_id(p->ids[p->n++], s);
    }
    return r == SQLITE_ROW || r == SQLITE_DONE ? 0 : refuse_for_db(a);
}

int show_record(struct asking *a, const struct records *r, const char *id, const char *key, sqlite3_stmt *s)
{
    sqlite3_reset(s);
    bind_text(s, ":id", id);
    int n = sqlite3_step(s);
    if (n == SQLITE_DONE)
        return 0;
    if (n != SQLITE_ROW)
        return refuse_for_db(a);
    json_begin(&a->out->body, key, '{');
    columns_json(&a->out->body, s, r->cols, r->n_cols);
    sqlite3_reset(s);
    return 1;
}

sqlite3_stmt *prepare_record(struct asking *a, const struct records *r)
{
    AUTO_FREE char *sql = xasprintf("%s WHERE %s=:id AND tenant=:tenant", r->select, r->id);
    return prepare(a, sql);
}

int page_show(struct asking *a, const struct records *r, struct page *p)
{
    struct buf *b = &a->out->body;
    AUTO_STATEMENT sqlite3_stmt *s = prepare_record(a, r);
    if (!s)
        return ERR_REFUSED;
    json_begin(b, NULL, '{');
    json_begin(b, r->what, '[');
    for (size_t i = 0; i < p->n; i++) {
        if (b->n > QUERY_MAX_BODY) { /* a row more is no matter */
            memcpy(p->next, p->ids[i - 1], sizeof p->next);
            break;
        }
        int n = show_record(a, r, p->ids[i], NULL, s);
        if (n < 0)
            return n;
        if (n)
            json_end(b, '}');
    }
    json_end(b, ']');
    json_str(b, "next", *p->next ? p->next : NULL);
    json_end(b, '}');
    return 0;
}
