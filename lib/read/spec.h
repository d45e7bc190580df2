/* What is known of a file before it is read: its format, dialect, column rules, keys. One JSON object, the same for
 * inspector, loader, preview and libsimbdp; its keys are those of a dataset in the configuration (docs/tenant-guide.md):
 *   {"format":"csv"|"json", "csv":{"delimiter","quote","escape","encoding","line_end","skip_rows":N,"header_rows":N,
 *    "footer_rows":N,"ragged","damaged","null":[...]}, "columns":[{"name","type","required","regex","min","max","enum":[...],
 *    "unique","max_age_days":N,"as","value"}], "key":[...], "on_key_conflict", "shard":{"key":[...],"hashed"},
 *    "max_row_bytes":N, "now_ms":N, "types":"all-string"}
 * Every key is optional; unknown ones are errors. */
#ifndef SIMBDP_READ_SPEC_H
#define SIMBDP_READ_SPEC_H

#include "base/err.h"
#include "base/mem.h"
#include "base/strs.h"
#include "dialect.h"
#include "value.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum reader_format { READER_CSV, READER_JSON };
enum damaged { DAMAGED_REJECT, DAMAGED_REPAIR };
#define KEY_CONFLICTS(X) X(reject) X(keep) X(replace)
enum on_key_conflict {
#define X(name) KEY_##name,
    KEY_CONFLICTS(X)
#undef X
};

const char *key_conflict_name(enum on_key_conflict v);

struct rule {
    char *name;
    char *target;          /* dotted path of the field it is stored as */
    char *value;           /* a constant: no column of the file; NULL: none */
    enum value_type type;  /* VALUE_auto: inferred */
    bool required, unique; /* unique: an index of the collection */
    char *regex;           /* Perl-compatible, unanchored; NULL: none */
    pcre2_code *code;
    double min, max;      /* NaN: none */
    int64_t max_age_days; /* -1: none */
    struct strs one_of;   /* enum; none: any */
};

struct spec {
    enum reader_format format;
    char *delimiter, *quote, *escape, *encoding;       /* NULL: sniffed */
    int line_end, skip_rows, header_rows, footer_rows; /* SNIFFED */
    enum ragged ragged;
    enum damaged damaged; /* of CSV records and headers */
    bool null_given;      /* else "" is null, and in columns of numbers the usual tokens are */
    struct strs null;
    bool fixed_columns; /* CSV without a header has the rules' columns, neither more nor less */
    bool all_string;    /* no inference: every cell that has no rule is a string, also an empty one */
    struct rule *rules;
    size_t n_rules;
    struct strs key;
    enum on_key_conflict on_key_conflict;
    struct strs shard;             /* the shard key of the collection: columns, fields or SPEC_ID; none: it has none */
    char *hashed;                  /* the one of them that is hashed; NULL: none */
    int64_t max_row_bytes;         /* -1: SPEC_MAX_ROW_BYTES */
    int64_t max_rows, max_columns; /* of a stream's message (lib/read/message.h); -1: no limit. Not part of the text */
    int64_t now_ms;                /* wall clock for max_age_days: the same for everyone who reads the file */
};

#define SPEC_ID "_id"

enum { SPEC_MAX_ROW_BYTES = 16 << 20, SPEC_MAX_BYTES = 100 << 10 };

/* Checks everything. *ret_rule (may be NULL): index of the column at fault, -1 when it is none's. The caller frees. */
int spec_parse(const char *json, size_t n, struct spec **ret, int *ret_rule, struct err *e);
void spec_free(struct spec *s); /* accepts NULL */
AUTO_DEFINE(spec, spec_free)
#define AUTO_SPEC __attribute__((cleanup(spec_free_auto)))

const struct rule *spec_rule(const struct spec *s, const char *name, size_t n);
/* The field that a column is stored as: its rule's, or the name itself. */
const char *spec_target(const struct spec *s, const char *column);
bool spec_is_key(const struct spec *s, const char *name);
/* Whether a sharded MongoDB can tell that an index of these columns is unique: the shard key comes first in it, in its order. True
 * where there is no shard key. */
bool spec_shard_allows_unique(const struct spec *s, const struct strs *columns);

/* The field that a column without a rule is stored as: '.' and a leading '$' become '_'. The caller frees. */
char *spec_field_name(const char *name, size_t n);

#endif
