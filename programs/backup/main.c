/* simbdp-backup: what `mysimbdp backup` and `mysimbdp restore` execute. A program of its own, so that the other verbs do not load
 * libarchive and zstd.
 *
 *     simbdp-backup take HOME DIR|- [--files] [--keep N] [--rate BYTES_PER_S] [--json]
 *     simbdp-backup list DIR [--json]
 *     simbdp-backup verify DIR [--point POINT] [--json]
 *     simbdp-backup restore DIR|- NEW_HOME [--point POINT] [--json]
 *
 * Exit code 0: done; 1: not, which is said on stderr, or (verify) something is damaged. */
#include "check.h"
#include "collect.h"
#include "pieces/point.h"
#include "prune.h"
#include "restore.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "term/args.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NICE = 10, IOPRIO = 2 << 13 | 7 /* best effort, last of its class */, IOPRIO_PROCESS = 1 };

struct options {
    bool json, files;
    int64_t keep, rate;
    const char *point;
};

static int complain(const char *verb, const struct err *e)
{
    fprintf(stderr, "mysimbdp %s: %s\n", verb, e->msg);
    return 1;
}

static void stand_back(void)
{
    setpriority(PRIO_PROCESS, 0, NICE);
    syscall(SYS_ioprio_set, IOPRIO_PROCESS, 0, IOPRIO);
}

/* ---- what is printed ---- */

static void add_point(struct buf *b, const struct point *p)
{
    json_str(b, "point", p->name);
    json_time(b, "at", p->at_ms);
    json_str(b, "home", p->home);
    json_str(b, "host", p->host);
    json_bool(b, "files", p->files);
    json_i64(b, "entries", p->entries);
    json_i64(b, "bytes", p->bytes);
    json_begin(b, "notes", '[');
    for (size_t i = 0; i < p->n_notes; i++)
        json_str(b, NULL, p->notes[i]);
    json_end(b, ']');
}

static void print_taken(FILE *to, const struct options *o, const struct store *s, const struct point *p)
{
    const struct store_figures f = store_figures(s);
    AUTO_BUF struct buf b = {0};
    for (size_t i = 0; i < p->n_notes; i++)
        fprintf(stderr, "mysimbdp backup: %s\n", p->notes[i]);
    if (!o->json) {
        fprintf(to, "%s: %" PRId64 " files and directories, %.1f MB, of which %.1f MB were new and take %.1f MB\n", p->name,
                p->entries, (double)p->bytes / 1e6, (double)f.fresh_bytes / 1e6, (double)f.stored_bytes / 1e6);
        return;
    }
    json_begin(&b, NULL, '{');
    add_point(&b, p);
    json_i64(&b, "fresh_bytes", f.fresh_bytes);
    json_i64(&b, "stored_bytes", f.stored_bytes);
    json_end(&b, '}');
    fprintf(to, "%s\n", b.p);
}

/* ---- take ---- */

/* The newest point; NULL: none. The caller frees. */
static char *newest(const struct store *s, struct err *e)
{
    char **points = NULL, *last = NULL;
    size_t n = 0;
    if (store_points(s, &points, &n, e) < 0)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        free(last);
        last = points[i];
    }
    free(points);
    return last;
}

static int prune_old(struct store *s, const struct options *o, struct err *e)
{
    int64_t points, pieces;
    int r = o->keep ? prune(s, o->keep, &points, &pieces, e) : 0;
    if (r == 0 && o->keep && points && !o->json)
        printf("removed %" PRId64 " older points, and %" PRId64 " pieces that were theirs alone\n", points, pieces);
    return r;
}

static bool is_below(const char *home, const char *dir)
{
    char a[PATH_MAX], b[PATH_MAX];
    AUTO_FREE char *copy = xstrdup(dir);
    char *slash = strrchr(copy, '/');
    if (!realpath(dir, b)) { /* it is still to be made */
        if (slash)
            *slash = 0;
        if (!realpath(slash ? (*copy ? copy : "/") : ".", b))
            return false;
    }
    const size_t n = realpath(home, a) ? strlen(a) : 0;
    return n && !strncmp(a, b, n) && (!b[n] || b[n] == '/');
}

static int take(const char *path, const char *dir, const struct options *o, struct err *e)
{
    struct home h;
    struct store *s = NULL;
    AUTO_POINT struct point p = {0};
    const bool stream = !strcmp(dir, "-");
    int r = home_open(&h, path, e);
    if (r < 0)
        return r;
    if (stream && isatty(STDOUT_FILENO))
        r = err_set(e, ERR_USAGE, "a backup is nothing for a terminal: send stdout to a file or a program");
    else if (!stream && is_below(h.path, dir))
        r = err_set(e, ERR_REFUSED, "%s lies in the home itself, and would go with it; give a directory elsewhere", dir);
    else
        r = stream ? store_to_stream(STDOUT_FILENO, h.path, &s, e) : store_open(dir, STORE_WRITE, h.path, &s, e);
    AUTO_FREE char *before = r == 0 && !stream ? newest(s, e) : NULL;
    stand_back();
    if (r == 0) {
        store_set_rate(s, o->rate);
        r = collect(&(struct backup_order){&h, s, o->files, before}, &p, e);
    }
    if (r == 0)
        print_taken(stream ? stderr : stdout, o, s, &p);
    if (r == 0 && !stream)
        r = prune_old(s, o, e);
    store_close(s);
    home_close(&h);
    return r;
}

/* ---- list, verify ---- */

static int print_point(const struct store *s, const char *name, const struct options *o, struct err *e)
{
    AUTO_POINT struct point p;
    AUTO_BUF struct buf b = {0};
    int r = point_read(s, name, &p, e);
    if (r < 0)
        return r;
    if (!o->json) {
        printf("%s  %8" PRId64 " files and directories  %10.1f MB%s\n", p.name, p.entries, (double)p.bytes / 1e6,
               p.files ? "" : "  without done/ and quarantine/");
        return 0;
    }
    json_begin(&b, NULL, '{');
    add_point(&b, &p);
    json_end(&b, '}');
    puts(b.p);
    return 0;
}

static int list(const char *dir, const struct options *o, struct err *e)
{
    struct store *s = NULL;
    char **points = NULL;
    size_t n = 0;
    int r = store_open(dir, STORE_LOOK, NULL, &s, e);
    if (r == 0)
        r = store_points(s, &points, &n, e);
    if (r == 0 && !n && !o->json)
        fprintf(stderr, "mysimbdp backup: %s has no backup in it: none was finished\n", dir);
    for (size_t i = 0; i < n; i++) {
        struct err one = {0};
        if (print_point(s, points[i], o, &one) < 0 && store_has_point(s, points[i])) /* else it went just now, by --keep */
            r = err_set(e, one.code, "%s", one.msg);
        free(points[i]);
    }
    free(points);
    store_close(s);
    return r;
}

/* The point that is meant, or the newest. */
static int read_point(struct store *s, const struct options *o, struct point *ret, struct err *e)
{
    AUTO_FREE char *last = o->point ? NULL : newest(s, e);
    *ret = (struct point){0};
    if (!o->point && !last)
        return e->code ? e->code : err_set(e, ERR_FORMAT, "%s has no backup in it: none was finished", store_path(s));
    return point_read(s, o->point ? o->point : last, ret, e);
}

struct finding {
    const struct options *options;
    const char *point;
};

static void say_finding(void *arg, const char *text)
{
    const struct finding *f = arg;
    AUTO_BUF struct buf b = {0};
    if (!f->options->json) {
        printf("damaged  %s  %s\n", f->point, text);
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "found", "damaged");
    json_str(&b, "point", f->point);
    json_str(&b, "text", text);
    json_end(&b, '}');
    puts(b.p);
}

/* How many things are damaged, or a negative code. */
static int64_t verify_point(struct store *s, const char *name, struct map *known, const struct options *o, struct err *e)
{
    AUTO_POINT struct point p = {0};
    struct finding f = {o, name};
    int r = point_read(s, name, &p, e);
    int64_t found = r < 0 ? r : check_point(s, &p, known, say_finding, &f, e);
    if (!o->json && !found)
        printf("%s can be restored: %" PRId64 " files and directories, %.1f MB\n", p.name, p.entries, (double)p.bytes / 1e6);
    return found;
}

/* A point whose own list cannot be read is one damaged thing, and the others are looked at all the same. */
static int64_t verify_all(struct store *s, const struct options *o, struct err *e)
{
    char **points = NULL;
    size_t n = 0;
    struct map known = {0};
    int64_t found = store_points(s, &points, &n, e);
    if (found == 0 && !n)
        found = err_set(e, ERR_FORMAT, "%s has no backup in it: none was finished", store_path(s));
    for (size_t i = 0; i < n; i++) {
        struct err one = {0};
        int64_t of_point = found < 0 ? 0 : verify_point(s, points[i], &known, o, &one);
        if (of_point < 0)
            say_finding(&(struct finding){o, points[i]}, one.msg);
        found += of_point < 0 ? 1 : of_point;
        free(points[i]);
    }
    free(points);
    map_fini(&known);
    return found;
}

static int verify(const char *dir, struct options *o, struct err *e)
{
    struct store *s = NULL;
    int64_t found = store_open(dir, STORE_READ, NULL, &s, e);
    const bool all = o->point && !strcmp(o->point, "all");
    AUTO_FREE char *last = found == 0 && !o->point ? newest(s, e) : NULL;
    stand_back();
    if (found == 0 && !o->point && !last)
        found = e->code ? e->code : err_set(e, ERR_FORMAT, "%s has no backup in it: none was finished", dir);
    if (found == 0)
        found = all ? verify_all(s, o, e) : verify_point(s, o->point ? o->point : last, NULL, o, e);
    store_close(s);
    if (found <= 0)
        return (int)found;
    return err_set(e, ERR_FORMAT, "%" PRId64 " %s damaged in %s", found, found == 1 ? "thing is" : "things are",
                   all        ? dir
                   : o->point ? o->point
                              : last);
}

/* ---- restore ---- */

static void say_later(const struct restored *r, const struct point *p)
{
    char at[CLK_RFC3339_SIZE];
    clk_rfc3339(p->at_ms, at);
    printf("%s is the home as it was at %s. What came after that is not known to it:\n", r->home, at);
    if (r->n_later == 0)
        printf("- files: none that %s knows\n", p->home);
    else if (r->n_later > 0)
        printf("- %" PRId64 " files came since, of which %" PRId64
               " were ingested: %s still has them, and lists them with `mysimbdp files "
               "--since %s --home %s`\n",
               r->n_later, r->n_later_ingested, p->home, at, p->home);
    else
        puts("- files that came since: deliver them again; rows that are stored already are stored once");
    printf(
        "- messages that were published since, and are not stored yet: publish them again. What is published from now on gets _ids "
        "of a new epoch\n"
        "- documents: MongoDB is no part of it. Put it back, or point at it, and start: then `mysimbdp verify --home %s` "
        "compares\n",
        r->home);
    if (!p->files)
        puts("- the bytes of files that were done: done/ and quarantine/ were not backed up (--files)");
    if (r->uid_base != r->uid_base_was)
        printf("another home has the uids that it had (from %lld on): here they are those from %lld on. Do not run both on one "
               "MongoDB\n",
               (long long)r->uid_base_was, (long long)r->uid_base);
}

static void print_restored(const struct options *o, const struct restored *r, const struct point *p)
{
    AUTO_BUF struct buf b = {0};
    for (size_t i = 0; i < p->n_notes; i++)
        fprintf(stderr, "mysimbdp restore: as the backup says: %s\n", p->notes[i]);
    if (!o->json) {
        say_later(r, p);
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "restored", r->home);
    add_point(&b, p);
    json_i64_or_null(&b, "files_later", r->n_later);
    json_i64_or_null(&b, "files_later_ingested", r->n_later_ingested);
    json_i64_or_null(&b, "uid_base", r->uid_base);
    json_end(&b, '}');
    puts(b.p);
}

static int restore(const char *dir, const char *to, const struct options *o, struct err *e)
{
    struct store *s = NULL;
    struct restored done = {0};
    AUTO_POINT struct point p = {0};
    int r;
    if (!strcmp(dir, "-")) {
        r = restore_stream(STDIN_FILENO, to, &p, &done, e);
    } else {
        r = store_open(dir, STORE_READ, NULL, &s, e);
        if (r == 0)
            r = read_point(s, o, &p, e);
        if (r == 0)
            r = restore_point(s, &p, to, &done, e);
    }
    store_close(s);
    if (r == 0)
        print_restored(o, &done, &p);
    restored_fini(&done);
    return r;
}

/* ---- */

static const char usage_text[] = "usage: simbdp-backup take HOME DIR|- | list DIR | verify DIR | restore DIR|- NEW_HOME\n"
                                 "`mysimbdp backup` and `mysimbdp restore` start it, with their options.\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return 2;
}

static int64_t number(const char *text)
{
    return text ? strtoll(text, NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    log_init("mysimbdp");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage_text, stdout) < 0;
    crash_init();
    signal(SIGPIPE, SIG_IGN); /* a pipe that ended is an error that is told */
    if (argc < 3 || sodium_init() < 0)
        return usage();
    argc--;
    argv++;
    struct options o = {.json = args_flag(&argc, argv, "--json"), .files = args_flag(&argc, argv, "--files")};
    o.keep = number(args_opt(&argc, argv, "--keep"));
    o.rate = number(args_opt(&argc, argv, "--rate"));
    o.point = args_opt(&argc, argv, "--point");
    umask(0077);
    const char *verb = argv[0], *says = "backup";
    int r;
    if (!strcmp(verb, "take") && argc == 3)
        r = take(argv[1], argv[2], &o, &e);
    else if (!strcmp(verb, "list") && argc == 2)
        r = list(argv[1], &o, &e);
    else if (!strcmp(verb, "verify") && argc == 2)
        r = verify(argv[1], &o, &e);
    else if (!strcmp(verb, "restore") && argc == 3)
        r = restore(argv[1], argv[2], &o, &e), says = "restore";
    else
        return usage();
    return r < 0 ? complain(says, &e) : 0;
}
