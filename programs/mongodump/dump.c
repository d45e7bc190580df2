#include "dump.h"
#include "metadata.h"
#include "names.h"
#include "server.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "term/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

enum { PIECE = 1 << 20 };

struct collection {
    char *database, *name, *path; /* path: below the dump, without what it ends with */
    bson_t *info;                 /* of listCollections */
    bool view;
};

struct dump {
    const struct dump_order *o;
    mongoc_client_t *c;
    int dirfd;
    struct manifest m;
    struct collection *v;
    size_t n;
    struct progress progress;
};

/* ---- the directory ---- */

/* What is there that no dump of ours made. "": nothing. The caller frees. */
static char *stranger(int dirfd)
{
    char *name = NULL;
    DIR *d = fd_open_dir(dirfd, ".");
    for (struct dirent *ent; d && !name && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") && strcmp(ent->d_name, "..") && strcmp(ent->d_name, MANIFEST ".tmp"))
            name = xstrdup(ent->d_name);
    if (d)
        closedir(d);
    return name;
}

static int remove_files(int dirfd, const struct manifest *m)
{
    int r = 0;
    for (size_t i = 0; i < m->n_databases; i++) {
        const int one = fd_remove_tree(dirfd, m->databases[i]);
        r = one < 0 && one != -ENOENT ? one : r;
    }
    if (r == 0 && unlinkat(dirfd, MANIFEST, 0) < 0 && errno != ENOENT)
        r = -errno;
    return r;
}

static int clear(const char *dir, int dirfd, struct err *e)
{
    struct manifest old = {0};
    int r = manifest_read(&old, dirfd, e);
    if (r == -ENOENT)
        r = 0;
    else if (r == 0 && old.complete)
        r = err_set(e, ERR_REFUSED, "%s has a complete dump: give another directory, or remove it", dir);
    else if (r == 0 && (r = remove_files(dirfd, &old)) < 0)
        err_sys(e, r, "cannot remove the dump in %s that was cut short", dir);
    else if (r < 0)
        err_context(e, "%s", dir);
    manifest_fini(&old);
    AUTO_FREE char *name = r == 0 ? stranger(dirfd) : NULL;
    return name ? err_set(e, ERR_REFUSED, "%s is not empty (%s is there): give a directory of the dump's own", dir, name) : r;
}

static int open_directory(struct dump *d, struct err *e)
{
    const char *dir = d->o->dir;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", dir);
    d->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dirfd < 0)
        return err_sys(e, -errno, "cannot open %s", dir);
    if (flock(d->dirfd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? err_set(e, -EWOULDBLOCK, "%s is in use: another dump or restore has it", dir)
                                    : err_sys(e, -errno, "cannot lock %s", dir);
    return clear(dir, d->dirfd, e);
}

/* ---- what there is ---- */

static int add_collection(struct dump *d, const char *database, const bson_t *info, struct err *e)
{
    const char *name = json_get_str(info, "name", ""), *type = json_get_str(info, "type", "collection");
    if (names_is_systems(name)) {
        if (strcmp(name, "system.views") != 0) /* views are in the dump themselves */
            manifest_note(&d->m, xasprintf("%s.%s is the server's own and not in the dump", database, name));
        return 0;
    }
    if (!*name || (strcmp(type, "collection") != 0 && strcmp(type, "view") != 0))
        return err_set(e, ERR_REFUSED, "%s.%s is a %s, which this dump cannot hold: use mongodump", database, name, type);
    d->v = xgrow(d->v, d->n, sizeof *d->v);
    AUTO_FREE char *file = names_escape(name);
    d->v[d->n++] = (struct collection){.database = xstrdup(database),
                                       .name = xstrdup(name),
                                       .path = xasprintf("%s/%s", database, file),
                                       .info = bson_copy(info),
                                       .view = !strcmp(type, "view")};
    return 0;
}

static int list_collections(struct dump *d, const char *database, struct err *e)
{
    bson_error_t be = {0};
    const bson_t *doc;
    int r = 0;
    mongoc_database_t *db = mongoc_client_get_database(d->c, database);
    mongoc_cursor_t *cursor = mongoc_database_find_collections_with_opts(db, NULL);
    while (r == 0 && mongoc_cursor_next(cursor, &doc))
        r = add_collection(d, database, doc, e);
    if (r == 0 && mongoc_cursor_error(cursor, &be))
        r = server_error(&be, e, "cannot list the collections of %s", database);
    mongoc_cursor_destroy(cursor);
    mongoc_database_destroy(db);
    return r;
}

static int add_database(struct dump *d, const char *name, struct err *e)
{
    if (!names_is_database(name))
        return err_set(e, ERR_FORMAT, "a database is called \"%s\", which is no name of one", name);
    d->m.databases = xgrow(d->m.databases, d->m.n_databases, sizeof *d->m.databases);
    d->m.databases[d->m.n_databases++] = xstrdup(name);
    return list_collections(d, name, e);
}

static int list(struct dump *d, struct err *e)
{
    bson_error_t be = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < d->o->n_databases; i++)
        r = add_database(d, d->o->databases[i], e);
    if (d->o->n_databases)
        return r;
    char **names = mongoc_client_get_database_names_with_opts(d->c, NULL, &be);
    if (!names)
        return server_error(&be, e, "cannot list the databases");
    for (size_t i = 0; r == 0 && names[i]; i++)
        r = names_is_nobodys(names[i]) ? 0 : add_database(d, names[i], e);
    bson_strfreev(names);
    return r;
}

/* ---- a collection ---- */

struct output {
    int fd;
    struct buf b;
    crypto_generichash_state hash;
    struct manifest_file *file;
};

static int output_open(struct output *x, struct dump *d, const char *path, struct err *e)
{
    *x = (struct output){.fd = openat(d->dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (x->fd < 0)
        return err_sys(e, -errno, "cannot make %s/%s", d->o->dir, path);
    crypto_generichash_init(&x->hash, NULL, 0, READER_HASH_BYTES);
    x->file = manifest_add(&d->m, path);
    return 0;
}

static int output_flush(struct output *x, struct err *e)
{
    int r = fd_write_all(x->fd, x->b.p, x->b.n);
    if (r < 0)
        return err_sys(e, r, "cannot write %s", x->file->file);
    crypto_generichash_update(&x->hash, (const unsigned char *)x->b.p, x->b.n);
    x->file->bytes += (int64_t)x->b.n;
    x->b.n = 0;
    crash_at(CRASH_mongo_dump_written);
    return 0;
}

static int output_finish(struct output *x, struct err *e)
{
    unsigned char hash[READER_HASH_BYTES];
    int r = x->b.n ? output_flush(x, e) : 0;
    if (r == 0 && fdatasync(x->fd) < 0)
        r = err_sys(e, -errno, "cannot write %s", x->file->file);
    crypto_generichash_final(&x->hash, hash, sizeof hash);
    sodium_bin2hex(x->file->hash, sizeof x->file->hash, hash, sizeof hash);
    return r;
}

static void output_close(struct output *x)
{
    if (x->fd >= 0)
        close(x->fd);
    buf_fini(&x->b);
}

static int write_documents(struct dump *d, const struct collection *k, mongoc_collection_t *from, struct output *x, struct err *e)
{
    AUTO_BSON_DOC bson_t all = BSON_INITIALIZER;
    AUTO_FREE char *phase = xasprintf("reading %s.%s", k->database, k->name);
    bson_error_t be = {0};
    const bson_t *doc;
    int r = 0;
    const int64_t total = mongoc_collection_estimated_document_count(from, NULL, NULL, NULL, &be);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(from, &all, NULL, NULL);
    for (x->file->documents = 0; r == 0 && mongoc_cursor_next(cursor, &doc); x->file->documents++) {
        buf_add(&x->b, bson_get_data(doc), doc->len);
        if (x->b.n >= PIECE)
            r = output_flush(x, e);
        progress_show(&d->progress, phase, x->file->documents, total, "documents");
    }
    if (r == 0 && mongoc_cursor_error(cursor, &be))
        r = server_error(&be, e, "cannot read %s.%s, behind %" PRId64 " documents", k->database, k->name, x->file->documents);
    mongoc_cursor_destroy(cursor);
    return r;
}

static int read_indexes(const struct collection *k, mongoc_collection_t *from, bson_t *ret, struct err *e)
{
    bson_error_t be = {0};
    const bson_t *doc;
    char room[16];
    const char *key;
    uint32_t n = 0;
    mongoc_cursor_t *cursor = mongoc_collection_find_indexes_with_opts(from, NULL);
    while (mongoc_cursor_next(cursor, &doc)) {
        bson_uint32_to_string(n++, &key, room, sizeof room);
        bson_append_document(ret, key, -1, doc);
    }
    const bool failed = mongoc_cursor_error(cursor, &be);
    mongoc_cursor_destroy(cursor);
    return failed ? server_error(&be, e, "cannot list the indexes of %s.%s", k->database, k->name) : 0;
}

static int write_metadata(struct dump *d, const struct collection *k, mongoc_collection_t *from, struct err *e)
{
    AUTO_BSON_DOC bson_t indexes = BSON_INITIALIZER;
    AUTO_FREE char *path = xasprintf("%s" NAMES_METADATA, k->path);
    struct output x = {.fd = -1};
    int r = k->view ? 0 : read_indexes(k, from, &indexes, e);
    if (r == 0)
        r = output_open(&x, d, path, e);
    if (r == 0)
        r = metadata_write(k->info, &indexes, &x.b, e);
    if (r == 0)
        r = output_finish(&x, e);
    output_close(&x);
    return r;
}

static int dump_collection(struct dump *d, const struct collection *k, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s" NAMES_BSON, k->path);
    struct output x = {.fd = -1};
    mongoc_collection_t *from = mongoc_client_get_collection(d->c, k->database, k->name);
    int r = write_metadata(d, k, from, e);
    if (r == 0 && !k->view)
        r = output_open(&x, d, path, e);
    if (r == 0 && !k->view)
        r = write_documents(d, k, from, &x, e);
    if (r == 0 && !k->view)
        r = output_finish(&x, e);
    output_close(&x);
    mongoc_collection_destroy(from);
    crash_at(CRASH_mongo_dump_file);
    return r;
}

/* ---- */

static int dump_all(struct dump *d, struct err *e)
{
    int r = manifest_write(&d->m, d->dirfd, e);
    crash_at(CRASH_mongo_dump_begin);
    for (size_t i = 0; r == 0 && i < d->m.n_databases; i++)
        if (mkdirat(d->dirfd, d->m.databases[i], 0700) < 0)
            r = err_sys(e, -errno, "cannot make %s/%s", d->o->dir, d->m.databases[i]);
    for (size_t i = 0; r == 0 && i < d->n; i++)
        r = dump_collection(d, &d->v[i], e);
    for (size_t i = 0; r == 0 && i < d->m.n_databases; i++)
        if ((r = fd_sync_dir(d->dirfd, d->m.databases[i])) < 0)
            err_sys(e, r, "cannot write %s/%s", d->o->dir, d->m.databases[i]);
    if (r == 0) {
        d->m.complete = true;
        d->m.ended_wall_ms = clk_wall_ms();
        r = manifest_write(&d->m, d->dirfd, e);
    }
    if (r < 0) /* room is given back: the disk may be full */
        remove_files(d->dirfd, &d->m);
    crash_at(CRASH_mongo_dump_done);
    return r;
}

int dump_take(const struct dump_order *o, struct manifest *ret, struct err *e)
{
    struct dump d = {.o = o, .dirfd = -1, .m = {.home = xstrdup(o->home), .began_wall_ms = clk_wall_ms()}};
    progress_begin(&d.progress, "mysimbdp mongo dump");
    int r = open_directory(&d, e);
    if (r == 0)
        r = (d.c = o->connect(e)) ? 0 : e->code;
    if (r == 0)
        r = list(&d, e);
    if (r == 0)
        r = dump_all(&d, e);
    progress_clear(&d.progress);
    for (size_t i = 0; i < d.n; i++) {
        free(d.v[i].database);
        free(d.v[i].name);
        free(d.v[i].path);
        bson_destroy(d.v[i].info);
    }
    free(d.v);
    if (d.c)
        mongoc_client_destroy(d.c);
    if (d.dirfd >= 0)
        close(d.dirfd);
    *ret = d.m;
    return r;
}
