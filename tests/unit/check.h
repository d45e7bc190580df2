/* cmocka with the includes it wants. */
#ifndef SIMBDP_TEST_CHECK_H
#define SIMBDP_TEST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
