#include "audit_page.h"

#include "accounts/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct page {
    const char *who, *what, *tenant; /* NULL: any */
    int64_t left;
    struct buf *out;
};

static bool has(const bson_t *record, const char *key, const char *part)
{
    return !part || strstr(json_get_str(record, key, ""), part);
}

static int add(void *arg, const bson_t *record, const char *line, size_t n)
{
    static const char *const texts[] = {"ts", "who", "from", "what", "tenant_id", "subject", "outcome"};
    struct page *p = arg;
    (void)line;
    (void)n;
    if (!has(record, "who", p->who) || !has(record, "what", p->what) ||
        (p->tenant && strcmp(json_get_str(record, "tenant_id", ""), p->tenant) != 0))
        return 0;
    json_begin(p->out, NULL, '{');
    json_i64(p->out, "seq", json_get_i64(record, "seq", 0));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        json_str(p->out, texts[i], json_get_str(record, texts[i], NULL));
    json_end(p->out, '}');
    return --p->left <= 0;
}

static void refuse(struct query_answer *ret, const char *detail)
{
    ret->status = 400;
    ret->code = "parameter";
    snprintf(ret->detail, sizeof ret->detail, "%s", detail);
}

/* "SEQ.AT". False: it is none. */
static bool read_cursor(const char *text, struct audit_place *ret)
{
    int n = 0;
    return strspn(text, "0123456789.") == strlen(text) &&
           sscanf(text, "%18" SCNd64 ".%18" SCNd64 "%n", &ret->seq, &ret->at, &n) == 2 && !text[n];
}

/* What is filled in is any of them. */
static const char *filter(const bson_t *params, const char *key)
{
    const char *text = json_get_str(params, key, "");
    return *text ? text : NULL;
}

void audit_page(int dirfd, const bson_t *params, struct query_answer *ret)
{
    struct page p = {filter(params, "who"), filter(params, "what"), filter(params, "tenant"), json_get_i64(params, "limit", 100),
                     &ret->body};
    const char *cursor = filter(params, "cursor");
    struct audit_place at = {0, AUDIT_END};
    struct err e = {0};
    int64_t skipped;
    bool more;
    ret->status = 200;
    if (p.left < 1 || p.left > 1000)
        return refuse(ret, "limit: from 1 to 1000");
    if (cursor && !read_cursor(cursor, &at))
        return refuse(ret, "cursor: is none of an earlier answer");
    json_begin(&ret->body, NULL, '{');
    json_begin(&ret->body, "records", '[');
    int r = audit_newest(dirfd, &at, AUDIT_PAGE_BYTES, add, &p, &skipped, &more, &e);
    if (r < 0) {
        buf_reset(&ret->body);
        refuse(ret, "cursor: is none of an earlier answer");
        if (r == ERR_USAGE)
            return;
        ret->status = 503;
        ret->code = "unavailable";
        snprintf(ret->why, sizeof ret->why, "%s", e.msg);
        snprintf(ret->detail, sizeof ret->detail, "the audit log cannot be read now");
        return;
    }
    char next[48];
    snprintf(next, sizeof next, "%" PRId64 ".%" PRId64, at.seq, at.at);
    json_end(&ret->body, ']');
    json_str(&ret->body, "next", more ? next : NULL);
    json_i64(&ret->body, "skipped", skipped);
    json_end(&ret->body, '}');
}
