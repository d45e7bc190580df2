/* Conditions over the figures of an app (lib/conf/metric.h), as alerts have them: oldest_age_s > 60 and (ready > 100 or state ==
 * "STALLED"). Numbers, "texts", columns; + - * /, < <= > >= == !=, not, and, or, parentheses. A figure that is not known makes a
 * comparison unknown, as in SQL: neither it nor its opposite holds. */
#ifndef SIMBDP_CONF_EXPR_H
#define SIMBDP_CONF_EXPR_H

#include "base/err.h"
#include "metric.h"

struct expr;

/* ERR_FORMAT: the message says what is wrong and at which character. Free with expr_free. */
int expr_parse(const char *text, struct expr **ret, struct err *e);
void expr_free(struct expr *x); /* NULL is fine */
/* Whether it holds for certain. */
bool expr_holds(const struct expr *x, const struct metric_row *row);

#endif
