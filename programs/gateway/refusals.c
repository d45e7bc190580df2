#include "refusals.h"
#include "figures.h"
#include "problem.h"

#include "base/mem.h"
#include "host/home.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SHOWN __attribute__((visibility("default"))) /* to the library */

typedef enum MHD_Result queue_fn(struct MHD_Connection *, unsigned, struct MHD_Response *);
typedef enum MHD_Result lookup_fn(struct MHD_Connection *, enum MHD_ValueKind, const char *, size_t, const char **, size_t *);

static void *library(const char *name)
{
    void *fn = dlsym(RTLD_NEXT, name);
    if (!fn)
        abort(); /* it is linked, and has it */
    return fn;
}

enum MHD_Result refusals_pass(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
    static queue_fn *queue;
    if (!queue)
        queue = (queue_fn *)library("MHD_queue_response");
    return queue(c, status, r);
}

static void explain(struct buf *b, unsigned status, const char *id)
{
    static const struct {
        unsigned status;
        const char *code, *detail;
    } known[] = {
        {MHD_HTTP_BAD_REQUEST, "bad_request", "the first line, a field of the header, or a chunk of the body is malformed"},
        {MHD_HTTP_CONTENT_TOO_LARGE, "too_large", "a chunk says that it is larger than there are numbers"},
        {MHD_HTTP_URI_TOO_LONG, "uri_too_long", "the target has no room in what a connection may have of memory"},
        {MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large", "it has no room in what a connection may have of memory"},
        {MHD_HTTP_HTTP_VERSION_NOT_SUPPORTED, "http_version", "this speaks HTTP/1.1"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status) {
            problem_write(b, known[i].code, known[i].detail, id);
            return;
        }
    problem_write(b, "internal", NULL, id);
}

/* By libmicrohttpd itself only: programs/gateway calls refusals_pass(). */
SHOWN enum MHD_Result MHD_queue_response(struct MHD_Connection *c, unsigned status, struct MHD_Response *page)
{
    char id[ID_SIZE];
    struct buf b = {0};
    home_new_id(id);
    explain(&b, status, id);
    struct MHD_Response *r = MHD_create_response_from_buffer(b.n, b.p, MHD_RESPMEM_MUST_FREE);
    if (!r)
        mem_exhausted();
    (void)page;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/problem+json");
    MHD_add_response_header(r, "X-Request-Id", id);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    enum MHD_Result queued = refusals_pass(c, status, r);
    MHD_destroy_response(r);
    figures_count(status, 0, 0);
    return queued;
}

/* A Content-Length that it cannot read makes it send a head twice. It is shown one that it can; framing.c reads the field itself,
 * refuses the request, and closes the connection. */
SHOWN enum MHD_Result MHD_lookup_connection_value_n(struct MHD_Connection *c, enum MHD_ValueKind kind, const char *name, size_t n,
                                                    const char **ret_value, size_t *ret_n)
{
    static lookup_fn *lookup;
    if (!lookup)
        lookup = (lookup_fn *)library("MHD_lookup_connection_value_n");
    enum MHD_Result r = lookup(c, kind, name, n, ret_value, ret_n);
    if (r == MHD_YES && kind == MHD_HEADER_KIND && ret_value && *ret_value && ret_n &&
        !strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) &&
        (*ret_n > 18 || strspn(*ret_value, "0123456789") != *ret_n || *ret_n == 0)) {
        *ret_value = "0";
        *ret_n = 1;
    }
    return r;
}
