/* mysimbdp verify: whether ledger, directories and MongoDB agree. Every file that is under way or kept has its bytes; nothing lies
 * there that the ledger does not know; every file that was ingested, and every stream app, has its rows (verify_rows.c,
 * verify_streams.c). Works with the programs up or down. What moves meanwhile is looked at twice. */
#include "cli.h"
#include "ledger.h"
#include "marks.h"
#include "verify_rows.h"

#include "base/fd.h"
#include "base/mem.h"
#include "db/continuity.h"
#include "db/db.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct verify {
    struct cli *cli;
    struct home *home;
    sqlite3 *db;
    sqlite3_stmt *known;
    int64_t files, found;
};

static void say(struct verify *v, const char *what, const char *tenant, const char *file_id, const char *path)
{
    AUTO_BUF struct buf b = {0};
    v->found++;
    if (!v->cli->json) {
        printf("%-16s %s%s%s\n", what, file_id ? file_id : "", file_id ? "  " : "", path);
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "found", what);
    json_str(&b, "tenant_id", tenant);
    json_str(&b, "file_id", file_id);
    json_str(&b, "path", path);
    json_end(&b, '}');
    puts(b.p);
}

/* ---- what the ledger knows ---- */

/* Where the bytes of the row at s are when it is at `place`; NULL: it has none there. */
static char *bytes_at(sqlite3_stmt *s, const char *place)
{
    const char *id = (const char *)sqlite3_column_text(s, 0);
    if (!strcmp(place, "work"))
        return xasprintf("work/%s/in/%s", id, (const char *)sqlite3_column_text(s, 3));
    if (!strcmp(place, "done") || !strcmp(place, "quarantine"))
        return xasprintf("%s/%s/%s/%s", place, (const char *)sqlite3_column_text(s, 1), (const char *)sqlite3_column_text(s, 2),
                         id);
    return NULL;
}

/* Where the bytes of the row at s should be; NULL: it should have none now. */
static char *bytes_of(sqlite3_stmt *s)
{
    return bytes_at(s, (const char *)sqlite3_column_text(s, 4));
}

/* A file is renamed first, and its row follows (programs/batchmgr/filing.c): it may lie in any of its places. */
static bool lies_anywhere(const struct verify *v, sqlite3_stmt *s)
{
    static const char *const places[] = {"work", "done", "quarantine"};
    bool there = false;
    for (size_t i = 0; i < sizeof places / sizeof *places && !there; i++) {
        AUTO_FREE char *path = bytes_at(s, places[i]);
        there = !fd_is_gone(v->home->dirfd, path);
    }
    return there;
}

/* Whether the row still says the same now. */
static bool still_missing(const struct verify *v, const char *id, const char *path)
{
    sqlite3_stmt *s = NULL;
    bool missing = false;
    if (sqlite3_prepare_v2(v->db, "SELECT file_id, tenant, dataset, safe, place FROM files WHERE file_id=?1", -1, &s, NULL) ==
        SQLITE_OK) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW) {
            AUTO_FREE char *now = bytes_of(s);
            missing = now && !strcmp(now, path) && !lies_anywhere(v, s);
        }
    }
    sqlite3_finalize(s);
    return missing;
}

static int look_at_rows(struct verify *v)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(
        v->db, "SELECT file_id, tenant, dataset, safe, place FROM files WHERE place IN('work','done','quarantine')", -1, &s, NULL);
    while (r == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        AUTO_FREE char *path = bytes_of(s);
        const char *id = (const char *)sqlite3_column_text(s, 0);
        v->files++;
        if (path && fd_is_gone(v->home->dirfd, path) && still_missing(v, id, path))
            say(v, "bytes missing", (const char *)sqlite3_column_text(s, 1), id, path);
    }
    sqlite3_finalize(s);
    return r;
}

/* ---- what the directories have ---- */

static bool is_known(const struct verify *v, const char *id)
{
    sqlite3_bind_text(v->known, 1, id, -1, SQLITE_TRANSIENT);
    bool known = sqlite3_step(v->known) == SQLITE_ROW;
    sqlite3_reset(v->known);
    return known;
}

/* Looks at a directory in which files lie `depth` levels below, each in a directory that has its id as name. */
static void look_below(struct verify *v, const char *path, int depth)
{
    DIR *d = fd_open_dir(v->home->dirfd, path);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        AUTO_FREE char *below = xasprintf("%s/%s", path, ent->d_name);
        if (ent->d_name[0] == '.')
            continue;
        if (depth)
            look_below(v, below, depth - 1);
        else if (home_valid_id(ent->d_name) && !is_known(v, ent->d_name) && !fd_is_gone(v->home->dirfd, below))
            say(v, "not in ledger", NULL, ent->d_name, below);
    }
    if (d)
        closedir(d);
}

static void look_at_pages(struct verify *v, sqlite3 *db, const char *what)
{
    struct err e = {0};
    if (db_check(db, &e) < 0)
        say(v, what, NULL, NULL, e.msg);
}

static void look_at_continuity(struct verify *v, const struct continuity_of *of, sqlite3 *db, const char *what)
{
    struct err e = {0};
    if (continuity_check(of, v->home, db, &e) == ERR_REFUSED)
        say(v, what, NULL, NULL, e.msg);
}

static void look_at_book(struct verify *v)
{
    AUTO_FREE char *path = home_path(v->home, "state/streams.db");
    sqlite3 *db = NULL;
    bool open = db_open(path, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK;
    look_at_continuity(v, &continuity_book, open ? db : NULL, "book changed");
    if (open)
        look_at_pages(v, db, "book damaged");
    sqlite3_close(db);
}

static void look_at_ledger(struct verify *v)
{
    sqlite3_stmt *s = NULL;
    AUTO_FREE char *text = NULL;
    if (sqlite3_prepare_v2(v->db, "PRAGMA main.integrity_check(1)", -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        text = xstrdup((const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s); /* it reads the ledger as it was when it began, which is older than the mark by now */
    look_at_continuity(v, &continuity_ledger, v->db, "ledger changed");
    if (!text || strcmp(text, "ok") != 0)
        say(v, "ledger damaged", NULL, NULL, text ? text : "cannot be read");
    else
        look_at_pages(v, v->db, "ledger damaged");
}

static void say_rows(void *arg, const char *what, const char *tenant, const char *file_id, const char *text)
{
    say(arg, what, tenant, file_id, text);
}

/* Prints what cannot be compared. That is no finding. */
static void note_rows(void *arg, const char *tenant, const char *text)
{
    struct verify *v = arg;
    say(v, "not comparable", tenant, NULL, text);
    v->found--;
}

static void say_lost(void *arg, const char *tenant, const char *why)
{
    say(arg, "database changed", tenant, NULL, why);
}

static void look_at_mongodb(struct verify *v)
{
    marks_each_lost(v->home, say_lost, v);
    struct verify_rows rows = {.home = v->home, .db = v->db, .say = say_rows, .note = note_rows, .arg = v};
    struct err e = {0};
    if (verify_rows(&rows, &e) < 0)
        fprintf(stderr, "mysimbdp verify: rows are not compared with the ledger: %s\n", e.msg);
    if (rows.missing && !v->cli->json)
        printf("rows are loaded again by `mysimbdp upload TENANT DATASET FILE --force`; the files lie in "
               "%s/done/TENANT/DATASET/FILE_ID/ "
               "where they are kept, and `mysimbdp upload` takes them from there\n",
               v->home->path);
}

static int verify(struct verify *v)
{
    if (sqlite3_prepare_v2(v->db, "SELECT 1 FROM files WHERE file_id=?1", -1, &v->known, NULL) != SQLITE_OK ||
        look_at_rows(v) != SQLITE_OK) {
        fprintf(stderr, "mysimbdp verify: cannot read the ledger: %s\n", db_why(v->db));
        return CLI_FAILED;
    }
    look_below(v, "work", 0);
    look_below(v, "done", 2);
    look_below(v, "quarantine", 2);
    look_at_ledger(v);
    look_at_book(v);
    look_at_mongodb(v);
    sqlite3_finalize(v->known);
    if (!v->cli->json)
        printf("%lld files of the ledger have bytes here; %lld things found\n", (long long)v->files, (long long)v->found);
    return v->found ? CLI_FAILED : CLI_DONE;
}

static int accept_pages(const struct home *h, const char *name, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/state/%s", h->path, name);
    int64_t n = db_accept(path, e);
    if (n > 0)
        printf("%lld damaged pages of state/%s are taken as they are\n", (long long)n, name);
    return n < 0 ? (int)n : 0;
}

/* For a home that has no ledger. */
static int verify_without(struct verify *v)
{
    look_at_continuity(v, &continuity_ledger, NULL, "ledger changed");
    look_at_book(v);
    if (!v->found)
        puts("there is no ledger yet");
    return v->found ? CLI_FAILED : CLI_DONE;
}

static int accept_all(struct home *h, struct err *e)
{
    int r = accept_pages(h, "ledger.db", e);
    if (r == 0)
        r = accept_pages(h, "streams.db", e);
    if (r == 0)
        r = continuity_forget(&continuity_ledger, h, e);
    if (r == 0 && unlinkat(h->dirfd, HOME_MONGO_MARKS, 0) < 0 && errno != ENOENT)
        r = err_sys(e, -errno, "cannot remove %s/" HOME_MONGO_MARKS, h->path);
    return r < 0 ? r : continuity_forget(&continuity_book, h, e);
}

/* --accept needs the managers to be down: they would go on writing the marks that are to be forgotten. */
static int accept(struct cli *c, struct home *h)
{
    struct err e = {0};
    AUTO_FD int lock = home_lock(h, "batchmgr", 0, &e);
    AUTO_FD int other = lock < 0 ? lock : home_lock(h, "streammgr", 0, &e);
    if (other < 0 || accept_all(h, &e) < 0)
        return cli_fail(c, &e);
    puts("the next start takes the ledger as it is, the book of instances, and the databases of tenants");
    return CLI_DONE;
}

/* --accept of one tenant's database, with the platform up. */
static int accept_database(struct cli *c, const char *tenant)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "accept_database");
    json_str(&b, "tenant_id", tenant);
    json_end(&b, '}');
    return cli_order(c, "batchmgr.sock", b.p, NULL);
}

int verb_verify(struct cli *c)
{
    struct home h;
    bool accepts = cli_flag(c, "--accept"), none = false;
    const char *tenant = cli_opt(c, "--tenant");
    int r = cli_args(c, 0, 0);
    if (r == 0 && tenant)
        return accepts ? accept_database(c, tenant) : cli_usage(c, "--tenant goes with --accept");
    if (r || cli_enter(c, &h))
        return r ? r : CLI_FAILED;
    struct verify v = {.cli = c, .home = &h, .db = cli_ledger(c, &h, &none)};
    if (v.db)
        r = verify(&v);
    else if (!none)
        r = CLI_FAILED;
    else
        r = verify_without(&v);
    sqlite3_close(v.db);
    if (accepts)
        r = accept(c, &h);
    home_close(&h);
    return r;
}
