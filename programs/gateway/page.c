#include "page.h"
#include "handlers.h"
#include "request.h"

#include <string.h>

/* Scripts, styles and answers of this origin only; nobody shows the page within his own. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static const struct page_file *find(const char *name)
{
    for (size_t i = 0; i < page_n_files; i++)
        if (!strcmp(page_files[i].name, name))
            return &page_files[i];
    return NULL;
}

void get_page(struct request *rq)
{
    const struct page_file *f = find(rq->name ? rq->name : "index.html");
    struct buf b = {0};
    if (!f) {
        request_refuse(rq, "not_found", "the dashboard has no such file");
        return;
    }
    const char *known = request_header(rq, MHD_HTTP_HEADER_IF_NONE_MATCH);
    bool same = known && !strcmp(known, f->etag);
    if (!same)
        buf_add(&b, (const char *)f->p, f->n);
    rq->may_be_kept = true;
    request_answer(rq, same ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK, f->type, &b);
    request_add_header(rq, MHD_HTTP_HEADER_ETAG, f->etag);
    request_add_header(rq, "Content-Security-Policy", policy);
    request_add_header(rq, "X-Frame-Options", "DENY");
    request_add_header(rq, "Referrer-Policy", "no-referrer");
}
