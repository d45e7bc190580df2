#include "uri.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_text(const char *s)
{
    return utf8_is_plain(s, strlen(s));
}

/* In place. plus: `+` is a blank, as forms have it. */
static bool decode(char *s, bool plus)
{
    char *to = s;
    for (; *s; s++) {
        if (*s != '%') {
            *to++ = plus && *s == '+' ? ' ' : *s;
            continue;
        }
        int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);
        if (low < 0 || !(high | low))
            return false;
        *to++ = (char)(high << 4 | low);
        s += 2;
    }
    *to = 0;
    return true;
}

static bool is_segment(const char *s)
{
    return *s && !strchr(s, '/') && strcmp(s, ".") && strcmp(s, "..") && is_text(s);
}

static bool parse_path(struct uri *u, char *path)
{
    if (*path != '/')
        return false;
    for (char *at = path + 1, *next; at && *at; at = next) {
        next = strchr(at, '/');
        if (next)
            *next++ = 0;
        if (u->n_segments == URI_SEGMENTS)
            return false;
        if (!decode(at, false) || !is_segment(at))
            return false;
        u->segments[u->n_segments++] = at;
        if (next && !*next)
            return false; /* a slash at the end */
    }
    return true;
}

static bool parse_query(struct uri *u, char *query)
{
    char *save = NULL;
    for (char *at = strtok_r(query, "&", &save); at; at = strtok_r(NULL, "&", &save)) {
        char *value = strchr(at, '=');
        if (value)
            *value++ = 0;
        else
            value = at + strlen(at);
        if (u->n_fields == URI_FIELDS || !decode(at, true) || !decode(value, true) || !is_text(at) || !is_text(value))
            return false;
        u->fields[u->n_fields].name = at;
        u->fields[u->n_fields++].value = value;
    }
    return true;
}

bool uri_parse(const char *target, struct uri *ret)
{
    *ret = (struct uri){0};
    if (strlen(target) > URI_MAX || strchr(target, '#'))
        return false;
    ret->text = xstrdup(target);
    char *query = strchr(ret->text, '?');
    if (query)
        *query++ = 0;
    return parse_path(ret, ret->text) && (!query || parse_query(ret, query));
}

void uri_fini(struct uri *u)
{
    free(u->text);
    *u = (struct uri){0};
}

const char *uri_field(const struct uri *u, const char *name)
{
    const char *found = NULL;
    for (size_t i = 0; i < u->n_fields; i++) {
        if (strcmp(u->fields[i].name, name))
            continue;
        if (found)
            return NULL;
        found = u->fields[i].value;
    }
    return found;
}

bool uri_number(const struct uri *u, const char *name, int64_t def, int64_t min, int64_t max, int64_t *ret)
{
    const char *text = uri_field(u, name);
    char *end;
    *ret = def;
    if (!text)
        return true;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    *ret = n;
    return *text >= '0' && *text <= '9' && !*end && !errno && n >= min && n <= max;
}

bool uri_knows(const struct uri *u, const char *const *names, const char **ret_other)
{
    for (size_t i = 0; i < u->n_fields; i++) {
        const char *const *at = names;
        while (*at && strcmp(*at, u->fields[i].name))
            at++;
        if (!*at || !uri_field(u, *at)) {
            if (ret_other)
                *ret_other = u->fields[i].name;
            return false;
        }
    }
    return true;
}
