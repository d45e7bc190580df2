/* docs/openapi.yaml, compiled in (scripts/embed). */
#ifndef SIMBDP_GATEWAY_OPENAPI_H
#define SIMBDP_GATEWAY_OPENAPI_H

#include <stddef.h>

extern const char openapi_yaml[];
extern const size_t openapi_yaml_size;

#endif
