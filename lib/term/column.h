/* Columns of what is listed: what a value is, and what of it a table shows (table.h). */
#ifndef SIMBDP_TERM_COLUMN_H
#define SIMBDP_TERM_COLUMN_H

enum col_kind { COL_TEXT, COL_ID, COL_LONG, COL_COUNT, COL_NUMBER, COL_TIME, COL_BOOL, COL_JSON, COL_WORDS };
struct col {
    const char *name;
    enum col_kind kind; /* COL_COUNT: negative is null; COL_TIME: milliseconds, 0 is null; COL_ID, COL_LONG: text of which a table
                           may show the beginning; COL_JSON: the platform's own; COL_WORDS: as COL_LONG, and in no JSON */
    int rank; /* 0: in JSON, CSV and wide tables only. Else in all; a terminal that is too narrow leaves out the highest first, 1
                 never */
};

#endif
