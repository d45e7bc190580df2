#include "bill.h"
#include "ledger_rows.h"

#include "base/clk.h"
#include "base/mem.h"
#include "host/stream_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static const char add_sql[] = "INSERT INTO bills VALUES(?1,?2,?3,?4) ON CONFLICT DO UPDATE SET value=value+excluded.value";

struct billing {
    sqlite3 *db;
    sqlite3_stmt *add;
    const char *tenant;
    int r;
};

static void put(struct billing *k, int64_t day, const char *name, double value)
{
    if (value == 0 || k->r != SQLITE_OK)
        return;
    ledger_bind_text(k->add, 1, k->tenant);
    sqlite3_bind_int64(k->add, 2, day);
    ledger_bind_text(k->add, 3, name);
    sqlite3_bind_double(k->add, 4, value);
    k->r = sqlite3_step(k->add) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
    sqlite3_reset(k->add);
}

static void on_interval(void *arg, const struct stream_interval *v, int sign)
{
    struct billing *k = arg;
    int64_t day = clk_day(v->at_ms);
    if (v->of_app) {
        put(k, day, "messages_done", (double)(sign * v->messages));
        put(k, day, "message_ms", sign * v->ms);
        put(k, day, "bytes", (double)(sign * v->bytes));
        put(k, day, "rows", (double)(sign * v->rows));
        put(k, day, "messages_dead", (double)(sign * v->dead));
    } else {
        put(k, day, "messages", (double)(sign * v->messages));
        put(k, day, "messages_refused", (double)(sign * v->refused));
    }
}

/* The directory that was billed last is remembered by its inode and time of birth, with the bill: a purge that was cut short comes
 * again, when some of its files are gone. (Earlier versions remembered the file, `of`.) 0 where there is none. */
static double identity_of(const struct home *h, const char *tenant, const char *of)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s%s", tenant, of);
    struct statx st;
    if (statx(h->dirfd, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &st) < 0)
        return 0;
    return (double)((st.stx_ino ^ ((uint64_t)st.stx_btime.tv_sec << 20) ^ st.stx_btime.tv_nsec) & ((1ULL << 52) - 1)) + 1;
}

static int add_up(const struct home *h, sqlite3 *db, const char *tenant, double identity)
{
    struct billing k = {.db = db, .tenant = tenant};
    sqlite3_stmt *s = NULL;
    bool known = false;
    k.r = sqlite3_prepare_v2(db, "SELECT value FROM bills WHERE tenant=?1 AND day=-1 AND name='billed'", -1, &s, NULL);
    ledger_bind_text(s, 1, tenant);
    if (k.r == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        const double was = sqlite3_column_double(s, 0);
        known = was == identity || was == identity_of(h, tenant, "/stream.jsonl");
        identity -= sqlite3_column_double(s, 0); /* it is added */
    }
    sqlite3_finalize(s);
    if (known || k.r != SQLITE_OK)
        return k.r;
    k.r = sqlite3_prepare_v2(db, add_sql, -1, &k.add, NULL);
    put(&k, -1, "billed", identity);
    if (k.r == SQLITE_OK && stream_log_read(h->dirfd, tenant, on_interval, &k) < 0)
        k.r = SQLITE_IOERR;
    sqlite3_finalize(k.add);
    return k.r;
}

int bill_streams(const struct home *h, const char *tenant, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    double identity = identity_of(h, tenant, "");
    sqlite3 *db = NULL;
    if (identity == 0)
        return 0;
    int r = ledger_connect(path, &db, e);
    if (r == 0) {
        int q = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        q = q == SQLITE_OK ? add_up(h, db, tenant, identity) : q;
        q = q == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) : q;
        if (q != SQLITE_OK)
            r = err_set(e, -EIO, "cannot keep what the tenant's streams are billed by: %s", sqlite3_errmsg(db));
    }
    sqlite3_close(db); /* rolls back */
    return r;
}
