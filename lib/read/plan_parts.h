/* The inside of a plan, for plan.c (making it, CSV rows, writing) and plan_json.c (JSON rows and cells). */
#ifndef SIMBDP_READ_PLAN_PARTS_H
#define SIMBDP_READ_PLAN_PARTS_H

#include "plan.h"

enum { KEY_ROOM = 32 };

enum op_kind { OP_VALUE, OP_OPEN, OP_CLOSE };

struct op {
    enum op_kind kind;
    uint32_t column;
    uint32_t n_key;     /* with its NUL */
    char key[KEY_ROOM]; /* padded, when it fits */
    char *long_key;     /* when it does not */
};

struct column {
    const struct rule *rule; /* NULL: none */
    enum value_type type;
    bool checked;     /* it has rules beyond its type */
    bool usual_nulls; /* NA and the like are null */
    bool key;         /* part of the key: never null */
    const char *name;
};

struct plan {
    const struct spec *spec;
    struct column *columns; /* those of the file, then the constants */
    struct value *values;
    size_t n_cells, n_columns;
    struct op *ops;
    size_t n_ops, room; /* room: bytes a row takes at most besides its text */
    uint64_t null_lengths;
    bool empty_is_null;
    struct buf json; /* documents of json cells */
    struct figures *figures;
    size_t *slots; /* of CSV: of each cell's column in the figures */
    pcre2_match_data *match;
    pcre2_match_context *match_limits;
    bool nested; /* JSON: fields were renamed */
    char why[400];
};

/* Refuses the row with this text; ERR_FORMAT. */
int plan_refuse(struct plan *p, struct record *rec, const char *rule, int column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
int plan_wrong_type(struct plan *p, const struct column *c, const char *text, size_t n, struct record *rec, int column);
/* The rules of the column beyond its type. */
int plan_check_value(struct plan *p, const struct column *c, const struct value *v, struct record *rec, int column);

/* Write at `o`, where there must be room; give the place behind. A value of type VALUE_N_TYPES is none: left out by put_ops. */
char *plan_put_value(struct plan *p, char *o, const struct op *op, const struct value *v);
char *plan_put_ops(struct plan *p, char *o);

/* The cell as a JSON value, kept in p->json as {"v": value}; v->i is where. False: it is none. */
bool plan_json_cell(struct plan *p, const struct cell *c, struct value *v);

#endif
