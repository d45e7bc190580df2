/* mysimbdp rejects FILE: rows that were not stored, or that were repaired. */
#include "listing.h"

#include "base/fd.h"
#include "base/mem.h"
#include "term/text.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 10000 };

static char *path_of(const struct remote *r, const char *id, int64_t offset)
{
    struct buf b = {0};
    remote_path(r, &b, "files/");
    http_escape(&b, id);
    buf_addf(&b, "/rejects?limit=%d&offset=%lld", PAGE, (long long)offset);
    return b.p;
}

static void print_human(const bson_t *row)
{
    const char *raw = json_get_str(row, "raw", NULL), *message = json_get_str(row, "message", "");
    int64_t column = json_get_i64(row, "column", 0);
    printf("line %lld, byte %lld", (long long)json_get_i64(row, "line", 0), (long long)json_get_i64(row, "byte_offset", 0));
    if (column > 0)
        printf(", column %lld", (long long)column);
    printf("%s%s\n", json_get_str(row, "repaired", NULL) ? ": repaired: " : ": ", message);
    if (raw) {
        AUTO_BUF struct buf b = {0};
        json_str(&b, NULL, raw);
        printf("  %.*s\n", (int)b.n - 2, b.p + 1);
    }
}

static int print_rows(struct remote *r, const char *id)
{
    for (int64_t offset = 0; offset >= 0;) {
        AUTO_FREE char *path = path_of(r, id, offset);
        AUTO_BSON bson_t *doc = remote_ask(r, path);
        bson_iter_t it;
        bson_t row;
        if (!doc)
            return REMOTE_FAILED;
        for (bool more = json_get_iter(doc, "rejects", &it); more && json_next_doc(&it, &row);) {
            if (r->json)
                listing_object(&row);
            else
                print_human(&row);
        }
        int64_t next = json_get_i64(doc, "next", -1);
        offset = next > offset ? next : -1;
    }
    return REMOTE_DONE;
}

/* The header's line once. What is no terminal gets the bytes as they are. */
static bool print_csv(const struct buf *page, bool first)
{
    const char *p = page->n ? page->p : "", *lf = strchr(p, '\n');
    if (!first)
        p = lf ? lf + 1 : "";
    if (isatty(STDOUT_FILENO))
        return fputs(p, stdout) >= 0;
    fflush(stdout);
    return fd_write_all(STDOUT_FILENO, p, page->n - (size_t)(p - (page->n ? page->p : p))) == 0;
}

static int print_all_csv(struct remote *r, const char *id)
{
    struct err e = {0};
    for (int64_t offset = 0; offset >= 0;) {
        AUTO_FREE char *path = path_of(r, id, offset);
        AUTO_ANSWER struct http_answer a = {0};
        if (http_ask(r->http, &(struct http_request){.method = "GET", .path = path, .accept = "text/csv"}, &a, &e) < 0)
            return remote_fail(r, &e);
        if (!print_csv(&a.body, offset == 0))
            return REMOTE_FAILED;
        offset = a.next > offset ? a.next : -1;
    }
    return REMOTE_DONE;
}

int verb_rejects(struct remote *r)
{
    bool csv = remote_flag(r, "--csv");
    int code = remote_args(r, 1, 1);
    if (!code && csv && r->json)
        code = remote_usage(r, "--csv or --json, not both");
    csv |= r->csv;
    text_fold(!csv && !r->json);
    if (code || (code = remote_open(r)))
        return code;
    const char *id = r->argv[0];
    if ((code = remote_whole_id(r, false, &id)))
        return code;
    return csv ? print_all_csv(r, id) : print_rows(r, id);
}
