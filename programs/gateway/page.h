/* The dashboard's files (page/), compiled in by page/embed. Nothing is loaded from elsewhere. */
#ifndef SIMBDP_GATEWAY_PAGE_H
#define SIMBDP_GATEWAY_PAGE_H

#include <stddef.h>

struct page_file {
    const char *name, *type, *etag; /* etag: quoted, of the content */
    const unsigned char *p;
    size_t n;
};
extern const struct page_file page_files[];
extern const size_t page_n_files;

#endif
