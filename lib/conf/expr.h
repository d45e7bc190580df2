/* Conditions over an app's figures (lib/conf/metric.h), for alerts: oldest_age_s > 60 and (ready > 100 or state == "STALLED").
 *
 * There are numbers, "texts", columns; + - * /, < <= > >= == !=, not, and, or, parentheses. A comparison with a figure that is not
 * known is unknown, as in SQL: neither it nor its opposite holds. */
#ifndef SIMBDP_CONF_EXPR_H
#define SIMBDP_CONF_EXPR_H

#include "base/err.h"
#include "metric.h"

struct expr;

/* Compiles a condition. ERR_FORMAT: the message says what is wrong and at which character. Free with expr_free. */
int expr_parse(const char *text, struct expr **ret, struct err *e);
void expr_free(struct expr *x); /* NULL is fine */
/* Whether the condition certainly holds. */
bool expr_holds(const struct expr *x, const struct metric_row *row);

#endif
