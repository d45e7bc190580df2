/* What a tenant is: what its purge removes (programs/batchmgr/purge.c), and its accounts.
 *
 * Ahead, it works meanwhile: what is read then is only what does not change any more once it is there (done/, quarantine/, versions
 * of apps), or what is cheap to read twice. Which files that were, and of what size and time, is noted beside (T.ahead). When it
 * stands still, those that are the same are left out and named in `kept`.
 *
 * A file that somebody still writes to cannot be copied: it is asked of a lease, as batchmgr does before it takes one. */
#include "move.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "host/move_record.h"
#include "pieces/copy.h"

#include "base/clk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WRITER_WAIT_MS = 5000, WRITER_POLL_MS = 50, MAX_JSON = 1 << 20, HOST_NAME = 256 };

struct sent {
    int64_t size, mtime_ns;
};

struct exporting {
    const struct order *o;
    struct copying k;
    char *out;        /* state/moves/T.out */
    struct map ahead; /* path -> struct sent *: what was brought before */
    FILE *list;       /* of what is sent ahead, or kept */
    int64_t uid;
    bool suspended, has_streams;
};

/* ---- each file ---- */

static bool is_in(const char *path, const char *dir)
{
    return !strncmp(path, dir, strlen(dir)) && path[strlen(dir)] == '/';
}

/* A descriptor that only reads can have a read lease as long as nobody has the file open to write. */
static int check_writer(int fd, const char *path, struct err *e)
{
    const int64_t until_ms = clk_now_ms() + WRITER_WAIT_MS;
    while (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
        if (errno != EAGAIN)
            return 0; /* not a file system that has them, or not ours */
        if (clk_now_ms() >= until_ms)
            return err_set(e, ERR_REFUSED,
                           "%s is still being written to; go on with --resume when that is done, or go back with --undo", path);
        poll(NULL, 0, WRITER_POLL_MS);
    }
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 0;
}

static int look(void *arg, int fd, const char *path, const struct stat *st, struct err *e)
{
    struct exporting *x = arg;
    const struct sent *s = map_get(&x->ahead, path);
    int r = is_in(path, "staging") || is_in(path, "work") ? check_writer(fd, path, e) : 0;
    const bool may_stay = is_in(path, "done") || is_in(path, "quarantine") || is_in(path, "apps") || is_in(path, "logs");
    if (r < 0 || !may_stay || !kept_can_tell(path))
        return r;
    const bool same = s && s->size == st->st_size && s->mtime_ns == mtime_ns_of(st);
    if (x->o->ahead || same)
        fprintf(x->list, "%" PRId64 " %" PRId64 " %s\n", (int64_t)st->st_size, mtime_ns_of(st), path);
    return same;
}

static int note_ahead(void *arg, const char *path, int64_t size, int64_t mtime_ns, struct err *e)
{
    struct exporting *x = arg;
    struct sent *s = map_get(&x->ahead, path);
    (void)e;
    if (!s)
        map_put(&x->ahead, path, s = xmalloc(sizeof *s));
    *s = (struct sent){size, mtime_ns};
    return 0;
}

/* ---- parts ---- */

/* Where the home's MongoDB is, if it is not its own: the hosts of its URL. "": it is its own. */
static void add_mongo(struct exporting *x, struct buf *b)
{
    AUTO_BUF struct buf t = {0};
    AUTO_BSON bson_t *doc =
        fd_read_file(x->o->home->dirfd, "state/mongo.json", &t, MAX_JSON, NULL) < 0 ? NULL : json_parse(t.n ? t.p : "", t.n, NULL);
    const char *url = doc && !strcmp(json_get_str(doc, "kind", ""), "url") ? json_get_str(doc, "url", "") : "";
    const char *hosts = strstr(url, "://");
    hosts = hosts ? hosts + 3 : "";
    const char *at = strchr(hosts, '@');
    hosts = at ? at + 1 : hosts;
    json_strn(b, "mongo", hosts, strcspn(hosts, "/?"));
}

static int put_manifest(struct exporting *x, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s/tenant.json", x->out);
    const struct stat st = {.st_mode = 0600};
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", x->has_streams ? TENANT_STREAM_VERSION : 1);
    json_str(&b, "move", x->o->id);
    json_str(&b, "tenant", x->o->tenant);
    json_str(&b, "home", x->o->home->path);
    json_bool(&b, "ahead", x->o->ahead);
    json_i64(&b, "uid", x->uid);
    json_bool(&b, "suspended", x->suspended);
    json_bool(&b, "documents", x->o->documents);
    add_mongo(x, &b);
    json_end(&b, '}');
    return copy_memory(&x->k, path, b.p, b.n, &st, e);
}

/* work/ and runs/ have all tenants' by id: those that the rows name. */
static int put_named(struct exporting *x, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s/rows.db", x->o->home->path, x->out),
                   *book = xasprintf("%s/%s/book.db", x->o->home->path, x->out);
    char **ids = NULL;
    size_t n = 0;
    int r = rows_each_id(path, false, &ids, &n, e);
    if (r == 0 && access(book, F_OK) == 0)
        r = rows_each_id(book, true, &ids, &n, e);
    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            r = copy_path(&x->k, ids[i], COPY_WHOLE, e);
        free(ids[i]);
    }
    free(ids);
    return r;
}

static int put_files(struct exporting *x, struct err *e)
{
    static const char *const always[] = {"conf/tenants/%s.conf", "conf/own/%s.conf", "apps/%s",      "keys/%s",
                                         "logs/tenants/%s",      "done/%s",          "quarantine/%s"};
    const char *t = x->o->tenant;
    AUTO_FREE char *staging = xasprintf("staging/%s", t), *mongo = xasprintf("%s/mongo", x->out),
                   *streams = xasprintf("%s/streams", x->out), *book = xasprintf("%s/book.db", x->out);
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof always / sizeof *always; i++) {
        AUTO_FREE char *path = xstrdup(always[i]);
        char *at = strstr(path, "%s");
        AUTO_FREE char *whole = xasprintf("%.*s%s%s", (int)(at - path), path, t, at + 2);
        r = copy_path(&x->k, whole, COPY_WHOLE, e);
    }
    if (r == 0 && !x->o->ahead)
        r = copy_path(&x->k, staging, COPY_WHOLE, e);
    if (r == 0 && !x->o->ahead)
        r = copy_path(&x->k, mongo, COPY_WHOLE, e);
    if (r == 0 && !x->o->ahead)
        r = copy_path(&x->k, streams, COPY_WHOLE, e);
    if (r == 0 && !x->o->ahead)
        r = copy_path(&x->k, book, COPY_WHOLE, e);
    return r < 0 || x->o->ahead ? r : put_named(x, e);
}

static int64_t uid_base(const struct home *h)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc =
        fd_read_file(h->dirfd, "state/uids.json", &b, MAX_JSON, NULL) < 0 ? NULL : json_parse(b.n ? b.p : "", b.n, NULL);
    return doc ? json_get_i64(doc, "uid_base", -1) : -1;
}

static void describe(struct point *p, const struct home *h)
{
    char host[HOST_NAME] = "";
    gethostname(host, sizeof host - 1);
    p->at_ms = clk_wall_ms();
    point_name(p->at_ms, p->name);
    p->home = xstrdup(h->path);
    p->host = xstrdup(host);
    p->version = xstrdup(SIMBDP_VERSION);
    p->uid_base = uid_base(h);
    p->mode = 0700;
    p->uid = p->gid = -1;
}

static int put_list(struct exporting *x, const char *path, struct err *e)
{
    int r = fclose(x->list) == 0 ? 0 : err_sys(e, -errno, "cannot write %s/%s", x->o->home->path, path);
    x->list = NULL;
    return r == 0 && !x->o->ahead ? copy_path(&x->k, path, COPY_WHOLE, e) : r;
}

static int put_all(struct exporting *x, const char *rows, const char *list, struct err *e)
{
    int r = put_manifest(x, e);
    if (r == 0)
        r = copy_path(&x->k, rows, COPY_WHOLE, e);
    if (r == 0)
        r = put_files(x, e);
    if (r == 0)
        r = put_list(x, list, e);
    return r == 0 ? point_finish(&x->k.w, e) : r;
}

static int begin(struct exporting *x, const char *rows, const char *list, struct err *e)
{
    const struct home *h = x->o->home;
    AUTO_FREE char *ahead = xasprintf(MOVES_DIR "/%s.ahead", x->o->tenant), *path = home_path(h, list),
                   *streams = xasprintf("%s/streams", x->out), *book = xasprintf("%s/book.db", x->out);
    int r = fd_mkdirs(h->dirfd, MOVES_DIR, 0711);
    if (r == 0)
        r = fd_mkdirs(h->dirfd, x->out, 0700);
    if (r < 0)
        return err_sys(e, r, "cannot make %s/%s", h->path, x->out);
    if (!x->o->ahead && fd_exists(h->dirfd, ahead))
        r = kept_each(h->dirfd, ahead, note_ahead, x, e);
    x->list = r == 0 ? fopen(path, "we") : NULL;
    if (r == 0 && !x->list)
        r = err_sys(e, -errno, "cannot write %s", path);
    if (r == 0)
        r = rows_export(x->o, rows, &x->uid, &x->suspended, e);
    if (r == 0 && !x->o->ahead)
        r = rows_export_book(x->o, book, e);
    x->has_streams = !x->o->ahead && (fd_exists(h->dirfd, streams) || fd_exists(h->dirfd, book));
    return r;
}

int export_tenant(const struct order *o, int fd, struct err *e)
{
    struct exporting x = {.o = o, .out = xasprintf(MOVES_DIR "/%s.out", o->tenant)};
    struct store *s = NULL;
    AUTO_FREE char *rows = xasprintf("%s/rows.db", x.out),
                   *list = o->ahead ? xasprintf(MOVES_DIR "/%s.ahead", o->tenant) : xasprintf("%s/kept", x.out);
    int r = store_to_stream(fd, o->home->path, &s, e);
    if (r == 0)
        r = begin(&x, rows, list, e);
    if (r == 0) {
        copy_init(&x.k, o->home, s);
        x.k.look = look;
        x.k.look_arg = &x;
        describe(&x.k.w.p, o->home);
        r = put_all(&x, rows, list, e);
        copy_fini(&x.k);
    }
    if (x.list)
        fclose(x.list);
    size_t i = 0;
    for (struct sent *v; (v = map_next(&x.ahead, &i));)
        free(v);
    map_fini(&x.ahead);
    store_close(s);
    free(x.out);
    return r;
}
