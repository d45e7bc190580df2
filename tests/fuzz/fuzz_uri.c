/* The target of a request, a Content-Digest, and an array of messages: what is taken has none of the things that its header
 * promises it has not. The first byte says which of them. */
#include "programs/gateway/digest.h"
#include "programs/gateway/json_array.h"
#include "programs/gateway/uri.h"

#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *s)
{
    size_t n = strlen(s), len;
    assert(utf8_valid(s, n));
    for (; n; s += len, n -= len) {
        len = utf8_len((const unsigned char *)s, n);
        assert(len && !utf8_is_control((const unsigned char *)s, len));
    }
}

static void try_uri(const char *text)
{
    struct uri u;
    if (uri_parse(text, &u)) {
        assert(strlen(text) <= URI_MAX && u.n_segments <= URI_SEGMENTS && u.n_fields <= URI_FIELDS);
        for (size_t i = 0; i < u.n_segments; i++) {
            const char *s = u.segments[i];
            check_text(s);
            assert(*s && !strchr(s, '/') && strcmp(s, ".") && strcmp(s, ".."));
        }
        for (size_t i = 0; i < u.n_fields; i++) {
            int64_t n;
            check_text(u.fields[i].name);
            check_text(u.fields[i].value);
            uri_number(&u, u.fields[i].name, 0, 0, 1000, &n);
        }
    }
    uri_fini(&u);
}

static void try_digest(const char *text)
{
    struct digest *d;
    bool taken = digest_parse(text, &d);
    assert(taken == (d != NULL));
    digest_add(d, text, strlen(text));
    if (taken)
        digest_fits(d);
    digest_free(d);
}

static const char *last;

static void on_element(void *arg, const char *p, size_t n)
{
    const char *text = arg;
    assert(n && p >= last && p + n < text + strlen(text));
    last = p + n;
}

static void try_array(const char *text)
{
    last = text;
    if (json_array_split(text, strlen(text), NULL, NULL))
        assert(json_array_split(text, strlen(text), on_element, (void *)text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] % 4 == 1)
        try_digest(text);
    else if (data[0] % 4 == 2)
        try_array(text);
    else
        try_uri(text);
    free(text);
    return 0;
}
