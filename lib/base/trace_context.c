#include "trace_context.h"

#include "mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { MAX_MEMBERS = 32, LONG_MEMBER = 128, MAX_KEY = 256, MAX_TENANT = 241, MAX_SYSTEM = 14, MAX_VALUE = 256 };

static const char hex[] = "0123456789abcdef";

/* n hex digits, not all of them 0 unless that is allowed. */
static bool is_hex(const char *p, size_t n, bool zero)
{
    bool any = zero;
    for (size_t i = 0; i < n; i++) {
        if (!p[i] || !strchr(hex, p[i]))
            return false;
        any |= p[i] != '0';
    }
    return any;
}

int trace_parent_read(const char *text, struct trace_context *ret)
{
    enum { TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53, END = 55 };
    if (!text || strnlen(text, END) < END || text[2] != '-' || text[SPAN_AT - 1] != '-' || text[FLAGS_AT - 1] != '-')
        return -EINVAL;
    bool first = !strncmp(text, "00", 2);
    if (!is_hex(text, 2, true) || !strncmp(text, "ff", 2) || !is_hex(text + TRACE_AT, 32, false) ||
        !is_hex(text + SPAN_AT, 16, false) || !is_hex(text + FLAGS_AT, 2, true) || (text[END] && (first || text[END] != '-')))
        return -EINVAL;
    snprintf(ret->trace, sizeof ret->trace, "%s", text + TRACE_AT);
    snprintf(ret->span, sizeof ret->span, "%s", text + SPAN_AT);
    ret->sampled = (strchr(hex, text[FLAGS_AT + 1]) - hex) & 1;
    return 0;
}

void trace_parent_write(const struct trace_context *c, char ret[TRACE_PARENT_SIZE])
{
    snprintf(ret, TRACE_PARENT_SIZE, "00-%.32s-%.16s-%02d", c->trace, c->span, c->sampled);
}

static void add_byte(char **at, unsigned char v)
{
    *(*at)++ = hex[v >> 4];
    *(*at)++ = hex[v & 15];
}

/* A later version is taken as 00 has it, here too. */
bool trace_parent_unpack(const unsigned char *packed, char ret[TRACE_PARENT_SIZE])
{
    enum { SPAN_AT = 17, FLAGS_AT = 25 };
    struct trace_context c;
    char text[TRACE_PARENT_SIZE], *at = text;
    for (int i = 0; i < TRACE_PACKED_BYTES; i++) {
        if (i == 1 || i == SPAN_AT || i == FLAGS_AT)
            *at++ = '-';
        add_byte(&at, packed[i]);
    }
    *at = 0;
    if (trace_parent_read(text, &c) < 0)
        return false;
    trace_parent_write(&c, ret);
    return true;
}

static unsigned digit(char c)
{
    return (unsigned)(strchr(hex, c) - hex);
}

bool trace_parent_pack(const char *text, unsigned char ret[TRACE_PACKED_BYTES])
{
    struct trace_context c;
    char known[TRACE_PARENT_SIZE];
    memset(ret, 0, TRACE_PACKED_BYTES);
    if (trace_parent_read(text, &c) < 0)
        return false;
    trace_parent_write(&c, known);
    for (int i = 0, at = 0; i < TRACE_PACKED_BYTES; i++, at += 2) {
        at += known[at] == '-';
        ret[i] = (unsigned char)(digit(known[at]) << 4 | digit(known[at + 1]));
    }
    return true;
}

/* ---- tracestate ---- */

struct member {
    const char *p;
    size_t n, n_key;
};

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_key_part(const char *p, size_t n, size_t most, bool digit_first)
{
    static const char others[] = "_-*/";
    if (!n || n > most || !(is_lower(*p) || (digit_first && *p >= '0' && *p <= '9')))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_lower(p[i]) && !(p[i] >= '0' && p[i] <= '9') && !memchr(others, p[i], sizeof others - 1))
            return false;
    return true;
}

/* simple-key, or tenant-id "@" system-id. */
static bool is_key(const char *p, size_t n)
{
    const char *at = memchr(p, '@', n);
    return at ? is_key_part(p, (size_t)(at - p), MAX_TENANT, true) &&
                    is_key_part(at + 1, (size_t)(p + n - at - 1), MAX_SYSTEM, false)
              : is_key_part(p, n, MAX_KEY, false);
}

static bool is_value(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] > 0x7e || p[i] == ',' || p[i] == '=')
            return false;
    return n && n <= MAX_VALUE && p[n - 1] != ' ';
}

static bool read_member(const char *p, size_t n, struct member *ret)
{
    const char *equals = memchr(p, '=', n);
    size_t n_key = equals ? (size_t)(equals - p) : 0;
    *ret = (struct member){p, n, n_key};
    return equals && is_key(p, n_key) && is_value(equals + 1, n - n_key - 1);
}

/* How many there are; 0 where anything is wrong with any: then nobody knows what it means. */
static size_t read_members(const char *text, struct member v[MAX_MEMBERS])
{
    size_t n = 0;
    for (const char *p = text, *end; *p; p = *end ? end + 1 : end) {
        end = strchrnul(p, ',');
        const char *last = end;
        while (p < last && (*p == ' ' || *p == '\t'))
            p++;
        while (p < last && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        if (p == last)
            continue; /* empty ones are allowed */
        if (n == MAX_MEMBERS || !read_member(p, (size_t)(last - p), &v[n]))
            return 0;
        for (size_t i = 0; i < n; i++)
            if (v[i].n_key == v[n].n_key && !memcmp(v[i].p, v[n].p, v[n].n_key))
                return 0;
        n++;
    }
    return n;
}

static size_t length(const struct member *v, size_t n)
{
    size_t all = 0;
    for (size_t i = 0; i < n; i++)
        all += v[i].n + (i > 0);
    return all;
}

void trace_state_read(const char *text, char ret[TRACE_STATE_BYTES + 1])
{
    struct member v[MAX_MEMBERS];
    size_t n = text ? read_members(text, v) : 0;
    if (length(v, n) > TRACE_STATE_BYTES) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (v[i].n <= LONG_MEMBER)
                v[kept++] = v[i];
        n = kept;
    }
    while (length(v, n) > TRACE_STATE_BYTES)
        n--;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (i)
            ret[at++] = ',';
        memcpy(ret + at, v[i].p, v[i].n);
        at += v[i].n;
    }
    ret[at] = 0;
}

/* ---- what is kept ---- */

char *trace_keep(const char *parent, const char *state)
{
    struct trace_context c;
    char text[TRACE_PARENT_SIZE], rest[TRACE_STATE_BYTES + 1];
    if (trace_parent_read(parent, &c) < 0)
        return NULL;
    trace_parent_write(&c, text);
    trace_state_read(state, rest);
    return xasprintf("%s%s%s", text, *rest ? " " : "", rest);
}

char *trace_keep_again(const char *kept)
{
    AUTO_FREE char *parent = kept ? xstrndup(kept, strcspn(kept, " ")) : NULL;
    return trace_keep(parent, trace_kept_state(kept));
}

const char *trace_kept_state(const char *kept)
{
    const char *blank = kept ? strchr(kept, ' ') : NULL;
    return blank ? blank + 1 : "";
}
