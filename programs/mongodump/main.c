/* simbdp-mongodump: what `mysimbdp mongo dump` and `mysimbdp mongo restore` execute. A program of its own, so that the command line
 * does not load the driver.
 *
 *     simbdp-mongodump dump DIR [--home HOME] [--quiet] [--json] [DATABASE...]
 *     simbdp-mongodump restore DIR [--exact] [--part DOCUMENTS] [--quiet] [--json] [DATABASE...]
 *
 * MONGO_URL in the environment is the MongoDB: it is a secret, which a command line would tell. Without a DATABASE all are meant.
 * Exit code 0: done; 1: not, or not all of it, which is said on stderr; 2: usage. */
#include "dump.h"
#include "restore.h"
#include "server.h"
#include "table.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "term/args.h"
#include "term/progress.h"
#include "term/text.h"

#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    bool json, exact;
    const char *home;
    int64_t part;
};

static int complain(const char *verb, const struct err *e)
{
    fflush(stdout);
    fprintf(stderr, "mysimbdp mongo %s: %s\n", verb, e->msg);
    return 1;
}

static void print_notes(const char *verb, char *const *notes, size_t n)
{
    fflush(stdout);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "mysimbdp mongo %s: %s\n", verb, notes[i]);
}

static void add_notes(struct buf *b, char *const *notes, size_t n)
{
    json_begin(b, "notes", '[');
    for (size_t i = 0; i < n; i++)
        json_str(b, NULL, notes[i]);
    json_end(b, ']');
}

/* ---- dump ---- */

static void print_dump(const char *dir, const struct manifest *m, const struct options *o)
{
    AUTO_BUF struct buf b = {0};
    int64_t documents = 0, bytes = 0, collections = 0;
    json_begin(&b, NULL, '{');
    json_str(&b, "dump", dir);
    json_time(&b, "began_at", m->began_wall_ms);
    json_time(&b, "ended_at", m->ended_wall_ms);
    json_begin(&b, "files", '[');
    for (size_t i = 0; i < m->n_files; i++) {
        const struct manifest_file *f = &m->files[i];
        bytes += f->bytes;
        if (f->documents < 0)
            continue;
        documents += f->documents;
        collections++;
        if (!o->json)
            printf("%s  %" PRId64 " documents  %.1f MB\n", f->file, f->documents, (double)f->bytes / 1e6);
        json_begin(&b, NULL, '{');
        json_str(&b, "file", f->file);
        json_i64(&b, "documents", f->documents);
        json_i64(&b, "bytes", f->bytes);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    json_i64(&b, "databases", (int64_t)m->n_databases);
    json_i64(&b, "collections", collections);
    json_i64(&b, "documents", documents);
    json_i64(&b, "bytes", bytes);
    add_notes(&b, m->notes, m->n_notes);
    json_end(&b, '}');
    if (o->json)
        puts(b.p);
    else
        printf("%s has %" PRId64 " documents in %" PRId64 " collections of %zu databases, %.1f MB\n", dir, documents, collections,
               m->n_databases, (double)bytes / 1e6);
}

static int dump(const char *dir, char **databases, size_t n, const struct options *o, struct err *e)
{
    struct manifest m = {0};
    int r = dump_take(&(struct dump_order){dir, o->home, databases, n, server_connect}, &m, e);
    if (r == 0) {
        print_notes("dump", m.notes, m.n_notes);
        print_dump(dir, &m, o);
    }
    manifest_fini(&m);
    return r;
}

/* ---- restore ---- */

static void say(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "mysimbdp mongo restore: %s\n", text);
}

/* A word for each figure that is not 0. */
struct figure {
    const char *key, *words;
    int64_t n;
};

static void add_figures(struct buf *json, struct buf *text, const struct restored_collection *c)
{
    const struct figure figures[] = {
        {"documents", NULL, c->documents},
        {"inserted", "inserted", c->inserted},
        {"present", "there already", c->present},
        {"conflicts", "not stored: another document is in the way", c->conflicts},
        {"refused", "refused", c->refused},
        {"missing", "gone again", c->missing},
        {"kept", "marks of homes, as the target has them", c->kept},
        {"extra", "others in the target", c->extra},
        {"deleted", "deleted", c->deleted},
        {"indexes", "indexes", c->indexes},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        json_i64(json, figures[i].key, figures[i].n);
        if (figures[i].words && figures[i].n)
            buf_addf(text, ", %" PRId64 " %s", figures[i].n, figures[i].words);
    }
}

static void sum_up(struct restored_collection *sum, const struct restored_collection *c)
{
    sum->documents += c->documents;
    sum->inserted += c->inserted;
    sum->present += c->present;
    sum->conflicts += c->conflicts;
    sum->refused += c->refused;
    sum->missing += c->missing;
    sum->kept += c->kept;
    sum->extra += c->extra;
    sum->deleted += c->deleted;
    sum->indexes += c->indexes;
}

static void print_restored(const char *dir, const struct restored *r, const struct options *o)
{
    AUTO_BUF struct buf b = {0}, all = {0};
    struct restored_collection sum = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "restored", dir);
    json_begin(&b, "collections", '[');
    for (size_t i = 0; i < r->n; i++) {
        AUTO_BUF struct buf text = {0};
        json_begin(&b, NULL, '{');
        json_str(&b, "collection", r->v[i].name);
        add_figures(&b, &text, &r->v[i]);
        json_end(&b, '}');
        sum_up(&sum, &r->v[i]);
        if (!o->json)
            printf("%s  %" PRId64 " documents%s\n", r->v[i].name, r->v[i].documents, text.n ? text.p : "");
    }
    json_end(&b, ']');
    add_figures(&b, &all, &sum);
    json_i64(&b, "problems", r->problems);
    add_notes(&b, r->notes, r->n_notes);
    json_end(&b, '}');
    if (o->json)
        puts(b.p);
    else if (!r->problems)
        printf("all of %s is there: %" PRId64 " documents in %zu collections%s\n", dir, sum.documents, r->n, all.n ? all.p : "");
}

static int restore(const char *dir, char **databases, size_t n, const struct options *o, struct err *e)
{
    struct restored done;
    const struct restore_order order = {{dir, databases, n}, o->exact, o->part, server_connect, say, NULL};
    int r = restore_run(&order, &done, e);
    print_notes("restore", done.notes, done.n_notes);
    if (r == 0)
        print_restored(dir, &done, o);
    if (r == 0 && done.problems)
        r = err_set(e, ERR_REFUSED, "not all is as in the dump: %" PRId64 " documents, indexes or collections are not%s",
                    done.problems,
                    o->exact ? "" : "; what is in the way stays (--exact replaces it, and deletes what the dump has not)");
    else if (r == ERR_DATABASE)
        err_context(e, "not done; say it again to go on");
    restored_fini(&done);
    return r;
}

/* ---- */

static const char usage_text[] =
    "usage: simbdp-mongodump dump DIR [DATABASE...] | restore DIR [--exact] [DATABASE...]\n"
    "`mysimbdp mongo dump` and `mysimbdp mongo restore` start it, with MONGO_URL in its environment.\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return 2;
}

static void quiet_driver(mongoc_log_level_t level, const char *domain, const char *message, void *arg)
{
    (void)level, (void)domain, (void)message, (void)arg;
}

static int run(int argc, char **argv)
{
    struct err e = {0};
    struct options o = {.json = args_flag(&argc, argv, "--json"), .exact = args_flag(&argc, argv, "--exact")};
    progress_set_quiet(args_flag(&argc, argv, "--quiet") || o.json);
    const char *part = args_opt(&argc, argv, "--part");
    o.home = args_opt(&argc, argv, "--home");
    o.part = part ? strtoll(part, NULL, 10) : TABLE_DOCUMENTS;
    const bool dumps = argc >= 2 && !strcmp(argv[0], "dump");
    if (argc < 2 || args_stray(argc, argv) || o.part < 1 || (!dumps && strcmp(argv[0], "restore") != 0))
        return usage();
    const int r = (dumps ? dump : restore)(argv[1], argv + 2, (size_t)argc - 2, &o, &e);
    return r < 0 ? complain(argv[0], &e) : 0;
}

int main(int argc, char **argv)
{
    log_init("mysimbdp");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage_text, stdout) < 0;
    crash_init();
    text_guard();
    signal(SIGPIPE, SIG_IGN);
    setenv("MONGOC_DISABLE_SHM", "1", 0); /* libmongoc's counters in /dev/shm would outlive a killed program */
    if (sodium_init() < 0)
        return 1;
    umask(0077);
    mongoc_log_set_handler(quiet_driver, NULL);
    mongoc_init();
    const int r = run(argc - 1, argv + 1);
    mongoc_cleanup();
    return r;
}
