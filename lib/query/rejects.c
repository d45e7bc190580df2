/* Rows of a file that were not stored, or that were repaired. The run that loaded the file keeps them, in
 * runs/<run_id>/rejects.jsonl or the loading step's; an app may have written that file, so each line is taken apart and written
 * anew. */
#include "parts.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LIMIT = 10000, DEFAULT_LIMIT = 1000, MAX_FORMAT = 8, MAX_LINE = 1 << 18, MAX_OFFSET = 1 << 30 };

struct reject {
    int64_t line, byte_offset, column; /* -1: unknown */
    const char *type, *message, *raw, *repaired;
};

struct listing {
    FILE *f; /* NULL: there are none */
    bool csv;
    int64_t offset, limit, next; /* lines; next -1: none follow */
};

static FILE *open_rejects(const struct asking *a, const char *run)
{
    static const char *const dirs[] = {"load/", ""};
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *path = xasprintf("runs/%s/%srejects.jsonl", run, dirs[i]);
        AUTO_FD int fd = beneath_open(a->home->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
        struct stat st;
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
            return fdopen(fd_take(&fd), "r");
    }
    return NULL;
}

/* Reads a line into `line`, without its end; what is longer than MAX_LINE is passed over, and empty. False at the end. */
static bool next_line(FILE *f, struct buf *line)
{
    char part[4096];
    bool any = false, whole = false, fits = true;
    buf_reset(line);
    while (!whole && fgets(part, sizeof part, f)) {
        size_t n = strcspn(part, "\n"); /* a NUL ends it, too: then it is no JSON */
        any = true;
        whole = part[n] == '\n' || strlen(part) < sizeof part - 1;
        fits = fits && line->n + n <= MAX_LINE;
        if (fits)
            buf_add(line, part, n);
    }
    if (!fits)
        buf_reset(line);
    return any;
}

static void show_json(struct buf *b, const struct reject *j)
{
    json_begin(b, NULL, '{');
    json_i64_or_null(b, "line", j->line);
    json_i64_or_null(b, "byte_offset", j->byte_offset);
    json_i64_or_null(b, "column", j->column);
    json_str(b, "type", j->type);
    json_str(b, "message", j->message);
    json_str(b, "raw", j->raw);
    json_str(b, "repaired", j->repaired);
    json_end(b, '}');
}

static void csv_text(struct buf *b, const char *text, char end)
{
    buf_adds(b, text ? "\"" : "");
    for (const char *p = text; p && *p; p++) {
        buf_add(b, p, 1);
        if (*p == '"')
            buf_add(b, p, 1);
    }
    buf_adds(b, text ? "\"" : "");
    buf_add(b, &end, 1);
}

static void csv_count(struct buf *b, int64_t n)
{
    if (n >= 0)
        buf_addf(b, "%lld", (long long)n);
    buf_adds(b, ",");
}

static void show_csv(struct buf *b, const struct reject *j)
{
    csv_count(b, j->line);
    csv_count(b, j->byte_offset);
    csv_count(b, j->column);
    csv_text(b, j->type, ',');
    csv_text(b, j->message, ',');
    csv_text(b, j->raw, ',');
    csv_text(b, j->repaired, '\r');
    buf_adds(b, "\n");
}

static bool show_line(struct buf *b, const struct listing *l, const struct buf *line)
{
    AUTO_BSON bson_t *doc =
        line->n && *line->p == '{' ? json_parse(line->p, line->n, NULL) : NULL; /* an array is a document, too */
    if (!doc)
        return false;
    const struct reject j = {json_get_i64(doc, "line", -1),      json_get_i64(doc, "byte_offset", -1),
                             json_get_i64(doc, "column", -1),    json_get_str(doc, "type", NULL),
                             json_get_str(doc, "message", NULL), json_get_str(doc, "raw", NULL),
                             json_get_str(doc, "repaired", NULL)};
    (l->csv ? show_csv : show_json)(b, &j);
    return true;
}

static int show_lines(struct asking *a, struct listing *l)
{
    struct buf *b = &a->out->body;
    AUTO_BUF struct buf line = {0};
    int64_t at = 0, shown = 0;
    l->next = -1;
    for (; l->f && next_line(l->f, &line); at++) {
        if (!has_time(a))
            return refuse(a, 503, "busy", "it takes too long");
        if (at < l->offset)
            continue;
        if (shown == l->limit || b->n > QUERY_MAX_BODY) {
            l->next = at;
            break;
        }
        shown += show_line(b, l, &line);
    }
    return 0;
}

static int show(struct asking *a, struct listing *l)
{
    struct buf *b = &a->out->body;
    if (l->csv) {
        a->out->type = "text/csv; charset=utf-8; header=present";
        buf_adds(b, "line,byte_offset,column,type,message,raw,repaired\r\n");
    } else {
        json_begin(b, NULL, '{');
        json_begin(b, "rejects", '[');
    }
    int r = show_lines(a, l);
    if (!l->csv) {
        json_end(b, ']');
        json_i64_or_null(b, "next", l->next);
        json_end(b, '}');
    }
    json_i64_or_null(&a->out->head, "next", l->next);
    return r;
}

/* Without a file of rejects there were none, or they are gone. The run may be that of a group which began with another file. */
static int refuse_if_gone(struct asking *a, const char *run)
{
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, "SELECT pruned FROM runs WHERE run_id=:id AND tenant=:tenant");
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":id", run);
    int r = sqlite3_step(s);
    if (r == SQLITE_ROW && sqlite3_column_int(s, 0))
        return refuse(a, 410, "not_kept", "rejects are kept for retention.logs_days");
    return r == SQLITE_ROW || r == SQLITE_DONE ? 0 : refuse_for_db(a);
}

int ask_rejects(struct asking *a)
{
    struct listing l = {0};
    const char *id, *format;
    char run[ID_SIZE];
    int r = param_text(a, "format", MAX_FORMAT, &format);
    if (r == 0 && format && strcmp(format, "json") != 0 && strcmp(format, "csv") != 0)
        r = refuse(a, 400, "parameter", "format: is json or csv");
    if (r == 0)
        r = param_count(a, "offset", 0, MAX_OFFSET, 0, &l.offset);
    if (r == 0)
        r = param_count(a, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT, &l.limit);
    if (r == 0)
        r = param_id(a, "file_id", &id);
    if (r == 0)
        r = file_is_seen(a, id, run);
    if (r < 0)
        return r;
    l.csv = format && !strcmp(format, "csv");
    l.f = home_valid_id(run) ? open_rejects(a, run) : NULL;
    if (!l.f && *run)
        r = refuse_if_gone(a, run);
    if (r == 0)
        r = show(a, &l);
    if (l.f)
        fclose(l.f);
    return r;
}
