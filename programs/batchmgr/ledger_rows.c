#include "ledger_rows.h"

#include "base/mem.h"
#include "db/continuity.h"
#include "db/db.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char put_file_sql[] =
    "INSERT OR REPLACE INTO files VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,"
    "?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,?35,?36,?37,0,?38,?39,?40)";
static const char put_quality_sql[] = "INSERT OR REPLACE INTO quality VALUES(?1,?2)";
static const char put_run_sql[] = "INSERT OR REPLACE INTO runs VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,"
                                  "?16,?17,?18,?19,?20,?21,?22,?23,?24,0,?25,?26,?27)";

void ledger_bind_text(sqlite3_stmt *s, int i, const char *text)
{
    sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

int ledger_connect(const char *path, sqlite3 **ret, struct err *e)
{
    int r = db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, ret);
    if (r == SQLITE_OK) {
        sqlite3_busy_timeout(*ret, 10000);
        r = sqlite3_exec(*ret, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF; PRAGMA cache_size=-512;", NULL, NULL, NULL);
    }
    return r == SQLITE_OK ? 0 : err_set(e, -EIO, "%s", db_why(*ret));
}

int64_t ledger_get_i64(sqlite3 *db, const char *sql, const char *text, int64_t def)
{
    sqlite3_stmt *s = NULL;
    int64_t v = def;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
        if (text)
            ledger_bind_text(s, 1, text);
        if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
            v = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return v;
}

int ledger_puts_init(struct ledger_puts *p, sqlite3 *db, struct err *e)
{
    if (sqlite3_prepare_v2(db, put_file_sql, -1, &p->file, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, put_quality_sql, -1, &p->quality, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, put_run_sql, -1, &p->run, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "UPDATE runs SET pruned=1 WHERE run_id=?1", -1, &p->pruned, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "UPDATE files SET expired=1 WHERE file_id=?1", -1, &p->expired, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO hand_ins VALUES(?1,?2,?3,?4,?5,?6,?7)", -1, &p->hand_in, NULL) !=
            SQLITE_OK ||
        sqlite3_prepare_v2(db, "DELETE FROM hand_ins WHERE at<?1", -1, &p->forget, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "%s", db_why(db));
    return 0;
}

void ledger_puts_fini(struct ledger_puts *p)
{
    sqlite3_finalize(p->file);
    sqlite3_finalize(p->quality);
    sqlite3_finalize(p->run);
    sqlite3_finalize(p->pruned);
    sqlite3_finalize(p->expired);
    sqlite3_finalize(p->hand_in);
    sqlite3_finalize(p->forget);
}

int ledger_put_file_row(const struct ledger_puts *p, const struct file *f)
{
    sqlite3_stmt *s = p->file;
    const char *texts[] = {f->file_id, f->tenant, f->dataset, f->name};
    for (int i = 0; i < 4; i++)
        ledger_bind_text(s, i + 1, texts[i]);
    sqlite3_bind_blob(s, 5, f->raw_name, f->raw_name ? (int)strlen(f->raw_name) : 0, SQLITE_STATIC);
    ledger_bind_text(s, 6, f->safe);
    ledger_bind_text(s, 7, f->from);
    ledger_bind_text(s, 8, f->app);
    ledger_bind_text(s, 9, file_state_name(f->state));
    ledger_bind_text(s, 10, file_place_name(f->place));
    ledger_bind_text(s, 11, f->reason);
    ledger_bind_text(s, 12, f->detail);
    sqlite3_bind_int64(s, 13, f->size);
    sqlite3_bind_int64(s, 14, f->rows);
    sqlite3_bind_int64(s, 15, f->columns);
    ledger_bind_text(s, 16, f->hash);
    sqlite3_bind_int64(s, 17, f->rows_parsed);
    sqlite3_bind_int64(s, 18, f->rows_loaded);
    sqlite3_bind_int64(s, 19, f->rows_rejected);
    sqlite3_bind_null(s, 20); /* it has a table of its own */
    sqlite3_bind_int64(s, 21, f->attempts);
    sqlite3_bind_int64(s, 22, f->losses);
    sqlite3_bind_int(s, 23, f->force);
    sqlite3_bind_int64(s, 24, f->received_wall_ms);
    sqlite3_bind_int64(s, 25, f->started_wall_ms);
    sqlite3_bind_int64(s, 26, f->ended_wall_ms);
    sqlite3_bind_int64(s, 27, f->not_before_wall_ms);
    sqlite3_bind_int64(s, 28, f->first_temp_wall_ms);
    ledger_bind_text(s, 29, f->run_id);
    ledger_bind_text(s, 30, f->output_run);
    ledger_bind_text(s, 31, f->prefix);
    ledger_bind_text(s, 32, f->old_prefixes);
    sqlite3_bind_int64(s, 33, f->checkpoint);
    sqlite3_bind_int64(s, 34, f->released_wall_ms);
    sqlite3_bind_int(s, 35, f->checked);
    sqlite3_bind_int(s, 36, f->solo);
    sqlite3_bind_int64(s, 37, f->group_n);
    sqlite3_bind_int64(s, 38, f->rows_repaired);
    sqlite3_bind_int64(s, 39, f->rows_added);
    ledger_bind_text(s, 40, f->trace);
    int r = sqlite3_step(s);
    sqlite3_reset(s);
    if (r == SQLITE_DONE && f->quality) {
        ledger_bind_text(p->quality, 1, f->file_id);
        ledger_bind_text(p->quality, 2, f->quality);
        r = sqlite3_step(p->quality);
        sqlite3_reset(p->quality);
    }
    return r == SQLITE_DONE ? SQLITE_OK : r;
}

int ledger_put_run_row(const struct ledger_puts *p, const struct run *r)
{
    sqlite3_stmt *s = p->run;
    ledger_bind_text(s, 1, r->run_id);
    ledger_bind_text(s, 2, r->file_id);
    ledger_bind_text(s, 3, r->tenant);
    ledger_bind_text(s, 4, r->app);
    ledger_bind_text(s, 5, run_step_name(r->step));
    sqlite3_bind_int64(s, 6, r->attempt);
    ledger_bind_text(s, 7, run_state_name(r->state));
    ledger_bind_text(s, 8, r->outcome < 0 ? NULL : run_outcome_name((enum run_outcome)r->outcome));
    sqlite3_bind_int(s, 9, r->exit_code);
    sqlite3_bind_int(s, 10, r->signal);
    ledger_bind_text(s, 11, run_limit_name(r->limit));
    ledger_bind_text(s, 12, r->error);
    ledger_bind_text(s, 13, r->node);
    sqlite3_bind_int(s, 14, r->forced);
    sqlite3_bind_int64(s, 15, r->started_wall_ms);
    sqlite3_bind_int64(s, 16, r->ended_wall_ms);
    sqlite3_bind_double(s, 17, r->wall_s);
    sqlite3_bind_double(s, 18, r->cpu_s);
    sqlite3_bind_int64(s, 19, r->max_rss_bytes);
    sqlite3_bind_int64(s, 20, r->output_bytes_dropped);
    sqlite3_bind_int64(s, 21, r->n_files);
    sqlite3_bind_int64(s, 22, r->rows_parsed);
    sqlite3_bind_int64(s, 23, r->rows_loaded);
    sqlite3_bind_int64(s, 24, r->rows_rejected);
    sqlite3_bind_int64(s, 25, r->network_refused);
    sqlite3_bind_int64(s, 26, r->rows_repaired);
    sqlite3_bind_int64(s, 27, r->rows_added);
    int n = sqlite3_step(s);
    sqlite3_reset(s);
    return n == SQLITE_DONE ? SQLITE_OK : n;
}

static int step_once(sqlite3_stmt *s)
{
    int r = sqlite3_step(s);
    sqlite3_reset(s);
    return r == SQLITE_DONE ? SQLITE_OK : r;
}

int ledger_mark_row(sqlite3_stmt *s, const char *id)
{
    ledger_bind_text(s, 1, id);
    return step_once(s);
}

int ledger_put_hand_in_row(const struct ledger_puts *p, const struct ledger_hand_in *h)
{
    const char *texts[] = {h->tenant, h->key, h->file_id, h->dataset, h->name};
    for (int i = 0; i < 5; i++)
        ledger_bind_text(p->hand_in, i + 1, texts[i]);
    sqlite3_bind_int64(p->hand_in, 6, h->size);
    sqlite3_bind_int64(p->hand_in, 7, h->wall_ms);
    return step_once(p->hand_in);
}

int ledger_forget_hand_in_rows(const struct ledger_puts *p, int64_t wall_ms)
{
    sqlite3_bind_int64(p->forget, 1, wall_ms);
    return step_once(p->forget);
}

char *ledger_column(sqlite3_stmt *s, int i)
{
    return xstrdup((const char *)sqlite3_column_text(s, i));
}

void ledger_column_id(sqlite3_stmt *s, int i, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(s, i);
    snprintf(out, size, "%s", text ? text : "");
}

struct file *ledger_row_file(sqlite3_stmt *s)
{
    struct file *f = xcalloc(1, sizeof *f);
    const char *raw = sqlite3_column_blob(s, 4);
    int state = file_state_parse((const char *)sqlite3_column_text(s, 8));
    int place = file_place_parse((const char *)sqlite3_column_text(s, 9));
    ledger_column_id(s, 0, f->file_id, sizeof f->file_id);
    f->tenant = ledger_column(s, 1);
    f->dataset = ledger_column(s, 2);
    f->name = ledger_column(s, 3);
    f->raw_name = raw ? xstrndup(raw, (size_t)sqlite3_column_bytes(s, 4)) : NULL;
    f->safe = ledger_column(s, 5);
    f->from = ledger_column(s, 6);
    f->app = ledger_column(s, 7);
    f->state = state < 0 ? FILE_quarantined : (enum file_state)state;
    f->place = place < 0 ? PLACE_gone : (enum file_place)place;
    f->reason = ledger_column(s, 10);
    f->detail = ledger_column(s, 11);
    f->size = sqlite3_column_int64(s, 12);
    f->rows = sqlite3_column_int64(s, 13);
    f->columns = sqlite3_column_int64(s, 14);
    ledger_column_id(s, 15, f->hash, sizeof f->hash);
    f->rows_parsed = sqlite3_column_int64(s, 16);
    f->rows_loaded = sqlite3_column_int64(s, 17);
    f->rows_rejected = sqlite3_column_int64(s, 18);
    f->quality = ledger_column(s, 19);
    f->attempts = sqlite3_column_int64(s, 20);
    f->losses = sqlite3_column_int64(s, 21);
    f->force = sqlite3_column_int(s, 22) != 0;
    f->received_wall_ms = sqlite3_column_int64(s, 23);
    f->started_wall_ms = sqlite3_column_int64(s, 24);
    f->ended_wall_ms = sqlite3_column_int64(s, 25);
    f->not_before_wall_ms = sqlite3_column_int64(s, 26);
    f->first_temp_wall_ms = sqlite3_column_int64(s, 27);
    ledger_column_id(s, 28, f->run_id, sizeof f->run_id);
    ledger_column_id(s, 29, f->output_run, sizeof f->output_run);
    ledger_column_id(s, 30, f->prefix, sizeof f->prefix);
    f->old_prefixes = ledger_column(s, 31);
    f->checkpoint = sqlite3_column_int64(s, 32);
    f->released_wall_ms = sqlite3_column_int64(s, 33);
    f->checked = sqlite3_column_int(s, 34) != 0;
    f->solo = sqlite3_column_int(s, 35) != 0;
    f->group_n = sqlite3_column_int64(s, 36);
    f->rows_repaired = sqlite3_column_int64(s, 38);
    f->rows_added = sqlite3_column_int64(s, 39);
    f->trace = ledger_column(s, 40);
    /* A verdict whose file was not filed away yet may not have been told. */
    f->told = file_state_is_final(f->state) && f->place == PLACE_work ? -1 : (int)f->state + 1;
    f->told_read = *f->hash != 0;
    return f;
}

static const char *column_text(sqlite3_stmt *s, int i)
{
    return (const char *)sqlite3_column_text(s, i);
}

struct run *ledger_row_run(sqlite3_stmt *s)
{
    struct run *r = run_new();
    enum run_outcome outcome;
    ledger_column_id(s, 0, r->run_id, sizeof r->run_id);
    ledger_column_id(s, 1, r->file_id, sizeof r->file_id);
    r->tenant = ledger_column(s, 2);
    r->app = ledger_column(s, 3);
    run_step_of(column_text(s, 4), &r->step); /* what is none stays the first: `app` */
    r->attempt = sqlite3_column_int64(s, 5);
    run_state_of(column_text(s, 6), &r->state); /* likewise: `starting`, whose runner is looked for */
    r->outcome = run_outcome_of(column_text(s, 7), &outcome) == 0 ? (int)outcome : -1;
    r->exit_code = sqlite3_column_int(s, 8);
    r->signal = sqlite3_column_int(s, 9);
    run_limit_of(column_text(s, 10), &r->limit);
    r->error = ledger_column(s, 11);
    r->node = ledger_column(s, 12);
    r->forced = sqlite3_column_int(s, 13);
    r->started_wall_ms = sqlite3_column_int64(s, 14);
    r->ended_wall_ms = sqlite3_column_int64(s, 15);
    r->wall_s = sqlite3_column_double(s, 16);
    r->cpu_s = sqlite3_column_double(s, 17);
    r->max_rss_bytes = sqlite3_column_int64(s, 18);
    r->output_bytes_dropped = sqlite3_column_int64(s, 19);
    r->n_files = sqlite3_column_int64(s, 20);
    r->rows_parsed = sqlite3_column_int64(s, 21);
    r->rows_loaded = sqlite3_column_int64(s, 22);
    r->rows_rejected = sqlite3_column_int64(s, 23);
    r->network_refused = sqlite3_column_int64(s, 25);
    r->rows_repaired = sqlite3_column_int64(s, 26);
    r->rows_added = sqlite3_column_int64(s, 27);
    r->told = (int)r->state + 1;
    return r;
}
