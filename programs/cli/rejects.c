#include "rejects.h"
#include "cli.h"
#include "ledger.h"
#include "term/table.h"
#include "term/text.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char *const members[] = {"line", "byte_offset", "column", "type", "message", "raw", "repaired"};
enum { N_MEMBERS = sizeof members / sizeof *members, FIRST_TEXT = 3 };

void rejects_print_header(void)
{
    table_csv_line(members, N_MEMBERS);
}

static void print_csv(const bson_t *doc)
{
    char *cells[N_MEMBERS];
    for (size_t i = 0; i < N_MEMBERS; i++) {
        const int64_t n = i < FIRST_TEXT ? json_get_i64(doc, members[i], -1) : -1;
        const char *text = i < FIRST_TEXT ? NULL : json_get_str(doc, members[i], NULL);
        cells[i] = n >= 0 ? xasprintf("%lld", (long long)n) : text ? table_plain(text) : NULL;
    }
    table_csv_line((const char *const *)cells, N_MEMBERS);
    for (size_t i = 0; i < N_MEMBERS; i++)
        free(cells[i]);
}

void rejects_print(const char *line, bool csv)
{
    AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
    if (!doc)
        return;
    if (csv) {
        print_csv(doc);
        return;
    }
    const char *raw = json_get_str(doc, "raw", NULL);
    int64_t column = json_get_i64(doc, "column", 0);
    printf("line %lld, byte %lld", (long long)json_get_i64(doc, "line", 0), (long long)json_get_i64(doc, "byte_offset", 0));
    if (column > 0)
        printf(", column %lld", (long long)column);
    printf(json_get_str(doc, "repaired", NULL) ? ": repaired: " : ": ");
    text_print(json_get_str(doc, "message", ""));
    putchar('\n');
    if (raw) {
        AUTO_BUF struct buf b = {0};
        json_str(&b, NULL, raw);
        printf("  %.*s\n", (int)b.n - 2, b.p + 1); /* JSON of ours has no control bytes */
    }
}

/* The run that loaded the file keeps its rejects: runs/<run_id>/rejects.jsonl, or the loading step's. */
static int print_rejects(struct cli *c, const struct home *h, const char *run)
{
    static const char *const dirs[] = {"load/", ""};
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *path = xasprintf("runs/%s/%srejects.jsonl", run, dirs[i]);
        int fd = beneath_open(h->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
        FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
        char *line = NULL;
        size_t cap = 0;
        if (!f)
            continue;
        for (ssize_t n; (n = getline(&line, &cap, f)) > 0;) {
            line[strcspn(line, "\n")] = 0;
            AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
            if (c->json && doc) {
                text_print(line); /* an app may have written the file, with DEL or C1 as they are */
                putchar('\n');
            } else if (doc)
                rejects_print(line, c->csv);
        }
        free(line);
        fclose(f);
        return CLI_DONE;
    }
    return CLI_DONE;
}

int verb_rejects(struct cli *c)
{
    struct home h;
    bool none;
    int r = cli_args(c, 1, 1);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    if (cli_whole_id(c, &h, false, (const char **)&c->argv[0])) {
        home_close(&h);
        return CLI_FAILED;
    }
    sqlite3 *db = cli_ledger(c, &h, &none);
    sqlite3_stmt *s = NULL;
    r = CLI_FAILED;
    if (db) {
        sqlite3_prepare_v2(db, "SELECT run_id FROM files WHERE file_id=?1", -1, &s, NULL);
        sqlite3_bind_text(s, 1, c->argv[0], -1, SQLITE_STATIC);
        bool known = sqlite3_step(s) == SQLITE_ROW;
        if (known && c->csv)
            rejects_print_header();
        if (known)
            r = print_rejects(c, &h, (const char *)sqlite3_column_text(s, 0));
        else
            fprintf(stderr, "mysimbdp rejects: no file %s in the ledger\n", c->argv[0]);
        sqlite3_finalize(s);
    }
    sqlite3_close(db);
    home_close(&h);
    return r;
}
