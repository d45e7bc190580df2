#include "source.h"
#include "names.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

enum { MAX_METADATA = 64 << 20 };

/* Takes the text over. */
static void note(struct source *s, char *text)
{
    s->notes = xgrow(s->notes, s->n_notes, sizeof *s->notes);
    s->notes[s->n_notes++] = text;
}

static bool is_wanted(const struct source_order *o, const char *database)
{
    for (size_t i = 0; i < o->n_databases; i++)
        if (!strcmp(o->databases[i], database))
            return true;
    return !o->n_databases;
}

/* ---- what is there ---- */

/* Takes `end` off the name. */
static bool cut_end(char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    if (n <= k || strcmp(name + n - k, end) != 0)
        return false;
    name[n - k] = 0;
    return true;
}

static struct source_collection *collection_of(struct source *s, const char *database, const char *file)
{
    AUTO_FREE char *base = xasprintf("%s/%s", database, file);
    const size_t number = (size_t)map_get(&s->by_base, base);
    if (number)
        return &s->v[number - 1];
    s->v = xgrow(s->v, s->n, sizeof *s->v);
    s->v[s->n] = (struct source_collection){.database = xstrdup(database), .base = xstrdup(base)};
    map_put(&s->by_base, base, (void *)++s->n);
    return &s->v[s->n - 1];
}

static int add_file(struct source *s, const char *database, const char *name, struct err *e)
{
    AUTO_FREE char *file = xstrdup(name), *path = xasprintf("%s/%s", database, name);
    const bool gz = cut_end(file, NAMES_GZ), metadata = cut_end(file, NAMES_METADATA),
               bson = !metadata && cut_end(file, NAMES_BSON);
    if (!metadata && !bson)
        return 0;
    if (s->ours && !manifest_find(&s->manifest, path))
        return err_set(e, ERR_FORMAT, "%s is not of this dump: " MANIFEST " does not name it", path);
    if (*file == '$' || names_is_systems(file)) {
        if (!strncmp(file, "system.buckets.", strlen("system.buckets.")))
            return err_set(e, ERR_REFUSED, "%s is of a time series, which this cannot restore: use mongorestore", path);
        if (bson)
            note(s, xasprintf("%s is the server's own, and is not restored", path));
        return 0;
    }
    struct source_collection *k = collection_of(s, database, file);
    char **which = bson ? &k->bson : &k->metadata;
    if (*which)
        return err_set(e, ERR_FORMAT, "%s is there twice, also as %s", *which, path);
    *which = xstrdup(path);
    *(bson ? &k->bson_gz : &k->metadata_gz) = gz;
    return 0;
}

static int read_database(struct source *s, const char *database, struct err *e)
{
    int r = 0;
    DIR *d = fd_open_dir(s->dirfd, database);
    if (!d)
        return err_sys(e, -errno, "cannot list %s/%s", s->dir, database);
    for (struct dirent *ent; r == 0 && (ent = readdir(d));)
        r = add_file(s, database, ent->d_name, e);
    closedir(d);
    return r;
}

static int add_entry(struct source *s, const struct source_order *o, const char *name, struct err *e)
{
    struct stat st;
    if (!strcmp(name, ".") || !strcmp(name, ".."))
        return 0;
    if (fstatat(s->dirfd, name, &st, 0) < 0)
        return err_sys(e, -errno, "cannot look at %s/%s", s->dir, name);
    if (!strcmp(name, "oplog.bson"))
        note(s, xstrdup("oplog.bson is not replayed: what changed while the dump was taken is restored as it was read"));
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (!names_is_database(name))
        return err_set(e, ERR_FORMAT, "%s/%s is no name of a database; nothing is restored", s->dir, name);
    if (!is_wanted(o, name))
        return 0;
    if (names_is_nobodys(name)) {
        note(s, xasprintf("the database %s is %s own, and is not restored", name,
                          strcmp(name, "simbdp_platform") ? "a server's" : "a home's"));
        return 0;
    }
    return read_database(s, name, e);
}

static int read_directory(struct source *s, const struct source_order *o, struct err *e)
{
    int r = 0;
    DIR *d = fd_open_dir(s->dirfd, ".");
    if (!d)
        return err_sys(e, -errno, "cannot list %s", s->dir);
    for (struct dirent *ent; r == 0 && (ent = readdir(d));)
        r = add_entry(s, o, ent->d_name, e);
    closedir(d);
    for (size_t i = 0; r == 0 && i < o->n_databases; i++)
        if (!fd_exists(s->dirfd, o->databases[i]))
            r = err_set(e, -ENOENT, "%s has no database %s", s->dir, o->databases[i]);
    if (r == 0 && !s->n && !s->ours)
        r = err_set(e, ERR_FORMAT, "%s has no dump in it: DATABASE/COLLECTION.bson is looked for", s->dir);
    return r;
}

/* ---- checks ---- */

static int compare(const struct source *s, const char *path, int64_t documents, int64_t bytes, const char *hash, struct err *e)
{
    const struct manifest_file *f = s->ours ? manifest_find(&s->manifest, path) : NULL;
    if (f && f->bytes != bytes)
        return err_set(e, ERR_FORMAT, "%s has %" PRId64 " bytes, and had %" PRId64 " when it was written", path, bytes, f->bytes);
    if (f && strcmp(f->hash, hash) != 0)
        return err_set(e, ERR_FORMAT, "%s is not what was written: its hash differs", path);
    if (f && f->documents != documents)
        return err_set(e, ERR_FORMAT, "%s has %" PRId64 " documents, and " MANIFEST " says %" PRId64, path, documents,
                       f->documents);
    return 0;
}

/* The whole of a small file. */
static int read_text(const struct source *s, const char *path, bool gz, struct buf *out, struct err *e)
{
    char hash[2 * READER_HASH_BYTES + 1], piece[65536];
    unsigned char sum[READER_HASH_BYTES];
    int n = 0, fd = reader_open_file(s->dirfd, path, e);
    if (fd < 0)
        return fd;
    gzFile f = gz ? gzdopen(fd, "rb") : NULL;
    if (f) {
        while ((n = gzread(f, piece, sizeof piece)) > 0 && out->n <= MAX_METADATA)
            buf_add(out, piece, (size_t)n);
        n = gzclose(f) != Z_OK || n != 0 ? ERR_FORMAT : 0;
    } else {
        n = fd_read_all(fd, out, MAX_METADATA);
        close(fd);
    }
    if (n < 0)
        return n == ERR_FORMAT ? err_set(e, n, "%s is damaged, cut short or too large", path)
                               : err_sys(e, n, "cannot read %s", path);
    buf_add(out, "", 0);
    crypto_generichash(sum, sizeof sum, (const unsigned char *)out->p, out->n, NULL, 0);
    sodium_bin2hex(hash, sizeof hash, sum, sizeof sum);
    return compare(s, path, -1, (int64_t)out->n, hash, e);
}

static int check_metadata(struct source *s, struct source_collection *k, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    const char *file = strchr(k->base, '/') + 1;
    int r = k->metadata ? read_text(s, k->metadata, k->metadata_gz, &text, e) : 0;
    if (r == 0)
        r = metadata_read(text.p, text.n, k->metadata ? k->metadata : k->base, &k->m, e);
    if (r < 0)
        return r;
    AUTO_FREE char *of_file = names_is_cut(file) ? NULL : names_unescape(file);
    k->name = xstrdup(k->m.collection ? k->m.collection : of_file);
    if (!k->name || !*k->name || names_is_systems(k->name))
        return err_set(e, ERR_FORMAT, "%s: of which collection it is cannot be told", k->base);
    if (of_file && strcmp(k->name, of_file) != 0)
        return err_set(e, ERR_FORMAT, "%s is of collection %s by its name, and of %s by what is in it", k->metadata, of_file,
                       k->name);
    if (k->m.timeseries)
        return err_set(e, ERR_REFUSED, "%s is a time series, which this cannot restore: use mongorestore", k->base);
    if (!k->bson && !k->m.view)
        return err_set(e, ERR_FORMAT, "%s" NAMES_BSON " is missing", k->base);
    if (k->bson && k->m.view)
        return err_set(e, ERR_FORMAT, "%s has documents of a view", k->bson);
    return 0;
}

static int check_documents(struct source *s, struct source_collection *k, struct progress *p, struct err *e)
{
    AUTO_FREE char *phase = xasprintf("checking %s", k->bson);
    char hash[2 * READER_HASH_BYTES + 1];
    struct reader x;
    int64_t offset;
    bson_t doc;
    int r = reader_open(&x, s->dirfd, k->bson, k->bson_gz, true, e);
    while (r == 0 && (r = reader_next(&x, &doc, &offset, e)) > 0) {
        r = reader_check(&x, &doc, offset, e);
        k->documents++;
        progress_show(p, phase, x.offset, 0, "B");
    }
    if (r == 0) {
        reader_hash(&x, hash);
        r = compare(s, k->bson, k->documents, x.bytes, hash, e);
    }
    reader_close(&x);
    return r;
}

static int by_name(const void *a, const void *b)
{
    const struct source_collection *x = a, *y = b;
    const int d = strcmp(x->database, y->database);
    return x->m.view != y->m.view ? (x->m.view ? 1 : -1) : d ? d : strcmp(x->name, y->name);
}

/* Whether all files are there. */
static int check_manifest(const struct source *s, const struct source_order *o, struct err *e)
{
    for (size_t i = 0; i < s->manifest.n_files; i++) {
        const char *file = s->manifest.files[i].file, *slash = strchr(file, '/');
        AUTO_FREE char *database = slash ? xstrndup(file, (size_t)(slash - file)) : xstrdup("");
        if (is_wanted(o, database) && fd_is_gone(s->dirfd, file))
            return err_set(e, ERR_FORMAT, "%s is missing in %s", file, s->dir);
    }
    return 0;
}

static int open_manifest(struct source *s, struct err *e)
{
    s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dirfd < 0)
        return err_sys(e, -errno, "cannot open %s", s->dir);
    if (flock(s->dirfd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return err_set(e, -EWOULDBLOCK, "a dump is being written to %s; wait for its end", s->dir);
    int r = manifest_read(&s->manifest, s->dirfd, e);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return err_context(e, "%s", s->dir), r;
    s->ours = true;
    if (!s->manifest.complete)
        return err_set(e, ERR_REFUSED, "the dump in %s was cut short, and is none: take it again", s->dir);
    return 0;
}

int source_open(struct source *s, const struct source_order *o, struct progress *p, struct err *e)
{
    *s = (struct source){.dir = o->dir, .dirfd = -1};
    int r = open_manifest(s, e);
    if (r == 0)
        r = check_manifest(s, o, e);
    if (r == 0)
        r = read_directory(s, o, e);
    for (size_t i = 0; r == 0 && i < s->n; i++)
        r = check_metadata(s, &s->v[i], e);
    for (size_t i = 0; r == 0 && i < s->n; i++)
        r = s->v[i].bson ? check_documents(s, &s->v[i], p, e) : 0;
    if (r == 0 && s->n)
        qsort(s->v, s->n, sizeof *s->v, by_name);
    return r;
}

void source_close(struct source *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->v[i].database);
        free(s->v[i].name);
        free(s->v[i].base);
        free(s->v[i].bson);
        free(s->v[i].metadata);
        metadata_fini(&s->v[i].m);
    }
    for (size_t i = 0; i < s->n_notes; i++)
        free(s->notes[i]);
    free(s->v);
    free(s->notes);
    map_fini(&s->by_base);
    manifest_fini(&s->manifest);
    if (s->dirfd >= 0)
        close(s->dirfd);
    *s = (struct source){.dirfd = -1};
}
