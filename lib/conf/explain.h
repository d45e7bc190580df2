/* What each key of the configuration is, in words and by an example: `mysimbdp explain`. All but the examples' values comes from
 * the table that the parser reads by (keys.h). */
#ifndef SIMBDP_CONF_EXPLAIN_H
#define SIMBDP_CONF_EXPLAIN_H

#include "base/buf.h"
#include "base/err.h"

/* Appends a JSON object a line, one for each key that `key` means: a whole path as it is written in its file
 * ("platform.http.listen", "limits.max_rejects"); a group or a list is a key, too. A path's end means all keys that have it
 * ("max_rejects"), NULL or "" all. The members, in this order:
 *   key, file (where it stands, below the home), type (integer, number, boolean, string, strings, group, list), default (null:
 * none, or a group or list), min, max (null: none), choices (an array, or null), required, takes_effect ("reload" or "start"),
 * help, example (lines of that file) Returns how many there are; or ERR_USAGE: there is none, and the message names the nearest. */
int conf_explain(const char *key, struct buf *out, struct err *e);

#endif
