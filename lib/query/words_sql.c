#include "words.h"

#include <stdlib.h>

static int64_t count_at(sqlite3_value *v)
{
    return sqlite3_value_type(v) == SQLITE_NULL ? -1 : sqlite3_value_int64(v);
}

static void on_words(sqlite3_context *c, int n, sqlite3_value **v)
{
    (void)n;
    const char *state = (const char *)sqlite3_value_text(v[0]);
    char *text = state ? words_of(state, (const char *)sqlite3_value_text(v[1]), (const char *)sqlite3_value_text(v[2]),
                                  count_at(v[3]), count_at(v[4]))
                       : NULL;
    sqlite3_result_text(c, text, -1, free); /* NULL gives null */
}

int words_register(sqlite3 *db)
{
    return sqlite3_create_function(db, "words", 5, SQLITE_UTF8, NULL, on_words, NULL, NULL);
}
