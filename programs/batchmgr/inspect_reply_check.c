/* Decisions about inspections that need no inspector. */
#include "inspect_reply_check.h"

#include "base/buf.h"

#include "base/json.h"
#include "base/mem.h"
#include "read/src.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { BASE_LIMIT_S = 60, SLOWEST_BYTES_PER_S = 4 << 20 };

/* How many letters a word of JSON at p has; 1: the exponent of a number; 0: it is none (NaN, which the parser would take). */
static size_t word(const char *p, size_t n, bool behind_digit)
{
    static const char *const words[] = {"true", "false", "null"};
    if (behind_digit && (*p == 'e' || *p == 'E'))
        return 1;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) <= n && !strncmp(p, words[i], strlen(words[i])))
            return strlen(words[i]);
    return 0;
}

/* Whether the text is one object from its first byte to its last: the parser takes the first of several. */
static bool is_one_object(const char *p, size_t n)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] < 0x20)
            return false;
        if (p[i] == '"')
            quoted = !quoted;
        else if (quoted)
            i += p[i] == '\\';
        else if (p[i] == '{' || p[i] == '[')
            depth++;
        else if ((p[i] == '}' || p[i] == ']') && (depth == 0 || (--depth == 0 && i + 1 < n)))
            return false;
        else if (isalpha((unsigned char)p[i])) {
            size_t len = word(p + i, n - i, i > 0 && isdigit((unsigned char)p[i - 1]));
            if (!len)
                return false;
            i += len - 1;
        }
    }
    return n > 2 && p[0] == '{' && p[n - 1] == '}' && depth == 0 && !quoted;
}

char *inspect_figures(const char *json, size_t n)
{
    AUTO_BUF struct buf around = {0};
    if (!is_one_object(json, n) || !utf8_valid(json, n))
        return NULL;
    /* Parsed as what it becomes a part of: the parser forgives commas too many, and `{ }` has no members. */
    buf_adds(&around, "{\"a\":0,");
    buf_add(&around, json + 1, n - 2);
    buf_adds(&around, ",\"b\":0}");
    AUTO_BSON bson_t *doc = json_parse(around.p, around.n, NULL);
    return doc && bson_count_keys(doc) > 2 ? xstrndup(json + 1, n - 2) : NULL;
}

void inspect_reply_check(struct inspect_reply *re, int64_t size)
{
    const int64_t counts[] = {re->raw_bytes, re->bytes, re->rows, re->columns, re->longest_row_bytes, re->rejects, re->repaired};
    AUTO_BUF struct buf detail = {0};
    bool ok =
        re->status <= INSPECT_FAILED && re->rejects <= re->rows && re->repaired <= re->rows && (size < 0 || re->raw_bytes <= size);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        ok &= counts[i] >= 0 && counts[i] < INT64_C(1) << 53;
    re->reason[sizeof re->reason - 1] = 0;
    re->detail[sizeof re->detail - 1] = 0;
    ok &= strspn(re->reason, "abcdefghijklmnopqrstuvwxyz_") == strlen(re->reason) && (re->status != INSPECT_REFUSED || *re->reason);
    if (!ok)
        *re = (struct inspect_reply){.status = INSPECT_FAILED, .detail = "the inspector's answer makes no sense"};
    buf_adds(&detail, re->detail);
    buf_make_plain(&detail, 0);
    snprintf(re->detail, sizeof re->detail, "%s", detail.p);
}

int64_t inspect_limit_ms(const struct inspect_request *rq, int64_t max_inspect_s, int64_t size)
{
    int64_t bytes = size;
    if (rq->compression != SRC_PLAIN) {
        bytes = size > INT64_MAX / (rq->max_expansion + 1) ? INT64_MAX : size * rq->max_expansion;
        bytes = bytes < INSPECT_FREE_BYTES ? INSPECT_FREE_BYTES : bytes;
        bytes = bytes < rq->max_decompressed_bytes ? bytes : rq->max_decompressed_bytes;
    }
    int64_t seconds = max_inspect_s >= 0 ? max_inspect_s : BASE_LIMIT_S + bytes / SLOWEST_BYTES_PER_S;
    return (seconds < INT32_MAX ? seconds : INT32_MAX) * 1000;
}
