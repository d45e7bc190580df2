/* What libmicrohttpd refuses itself, before there is a request: a first line or a field that is malformed, a header without end,
 * chunks that are none. It would answer with a page of its own. These are its functions, which it calls by name (the program's come
 * before the library's); where a build of it does not, its pages come. tests/system/test_gateway_wire.py says which it is. */
#ifndef SIMBDP_GATEWAY_REFUSALS_H
#define SIMBDP_GATEWAY_REFUSALS_H

#include <microhttpd.h>

/* As MHD_queue_response() of the library. */
enum MHD_Result refusals_pass(struct MHD_Connection *c, unsigned status, struct MHD_Response *r);

#endif
