/* Tables show ids as short as they can be told apart. */
#include "parts.h"

#include <string.h>

enum { MIN_BEGIN = 4, MAX_OF = 8 };

int ask_ids(struct asking *a)
{
    static const char files[] =
        "SELECT file_id FROM files WHERE file_id>=:begin AND file_id<:begin||'~' AND +tenant=:tenant AND (:end='' OR "
        "substr(file_id, -length(:end))=:end) AND " IN_SCOPE("dataset") " LIMIT 2";
    static const char runs[] =
        "SELECT run_id FROM runs WHERE run_id>=:begin AND run_id<:begin||'~' AND +tenant=:tenant AND (:end='' OR "
        "substr(run_id, -length(:end))=:end) AND " RUN_IN_SCOPE
        " UNION ALL SELECT run_id FROM streams.instances WHERE run_id>=:begin AND "
        "run_id<:begin||'~' AND +tenant=:tenant AND (:end='' OR substr(run_id, -length(:end))=:end) AND :scope IS NULL LIMIT 2";
    const char *of, *begin, *end;
    int r = param_text(a, "of", MAX_OF, &of);
    if (r == 0 && (!of || (strcmp(of, "file") != 0 && strcmp(of, "run") != 0)))
        r = refuse(a, 400, "parameter", "of: is file or run");
    if (r == 0)
        r = param_text(a, "begin", ID_SIZE, &begin);
    if (r == 0 && (!begin || strlen(begin) < MIN_BEGIN))
        r = refuse(a, 400, "parameter", "begin: is too short");
    if (r == 0)
        r = param_text(a, "end", ID_SIZE, &end);
    AUTO_STATEMENT sqlite3_stmt *s = r == 0 ? prepare(a, !strcmp(of, "file") ? files : runs) : NULL;
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":begin", begin);
    bind_text(s, ":end", end ? end : "");
    json_begin(&a->out->body, NULL, '{');
    json_begin(&a->out->body, "ids", '[');
    while ((r = sqlite3_step(s)) == SQLITE_ROW)
        json_str(&a->out->body, NULL, (const char *)sqlite3_column_text(s, 0));
    json_end(&a->out->body, ']');
    json_end(&a->out->body, '}');
    return r == SQLITE_DONE ? 0 : refuse_for_db(a);
}
