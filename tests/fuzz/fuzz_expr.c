/* Conditions of alerts: any text is an expression that can be evaluated, or is refused with a reason. */
#include "conf/expr.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct metric_row rows[2] = {0};
    struct expr *x = NULL;
    struct err e = {0};
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    for (int i = 0; i < N_METRICS; i++) {
        rows[0].number[i] = NAN;
        rows[1].number[i] = i - 3;
        rows[1].text[i] = metric_is_text((enum metric)i) ? "OK" : NULL;
    }
    if (expr_parse(text, &x, &e) == 0) {
        expr_holds(x, &rows[0]);
        expr_holds(x, &rows[1]);
        expr_free(x);
    } else {
        assert(e.code == ERR_FORMAT && *e.msg && !x);
    }
    free(text);
    return 0;
}
