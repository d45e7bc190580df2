/* Reading JSON objects, on libbson. Absent keys and other types give the default. */
#ifndef SIMBDP_BASE_JSON_H
#define SIMBDP_BASE_JSON_H

#include "err.h"

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

/* Parses one JSON object. NULL on malformed text (message in e). The caller frees with bson_destroy. */
bson_t *json_parse(const char *text, size_t n, struct err *e);
/* The same into an empty document of the caller's. After ERR_FORMAT the document may only be destroyed. */
int json_read(const char *text, size_t n, bson_t *doc, struct err *e);

const char *json_get_str(const bson_t *doc, const char *key, const char *def); /* points into doc */
int64_t json_get_i64(const bson_t *doc, const char *key, int64_t def);
double json_get_f64(const bson_t *doc, const char *key, double def);
bool json_get_bool(const bson_t *doc, const char *key, bool def);
/* Sets an iterator to the elements of the array or object at key. False when there is none. */
bool json_get_iter(const bson_t *doc, const char *key, bson_iter_t *ret);
/* A view (no copy) of the object under the iterator. False when the value is no object. */
bool json_iter_doc(const bson_iter_t *it, bson_t *ret);
/* A view of the next object of an array; elements that are no objects are skipped. False at the end. */
bool json_next_doc(bson_iter_t *it, bson_t *ret);

/* The document as one line of relaxed Extended JSON (v2). Doubles have as few digits as read back the same. */
struct buf;
void json_from_bson(const bson_t *doc, struct buf *out);

/* Makes a document of n bytes of BSON elements (no header, no end). It is built in `room`, whose content is replaced, and is a view
 * of it. False when the bytes are no elements. */
bool json_doc_of_elements(const void *elements, size_t n, struct buf *room, bson_t *ret);

/* Of a document that is initialised where it is declared. */
#define AUTO_BSON_DOC __attribute__((cleanup(bson_destroy)))

static inline void bson_cleanup(bson_t **doc)
{
    if (*doc)
        bson_destroy(*doc);
}
#define AUTO_BSON __attribute__((cleanup(bson_cleanup)))

#endif
