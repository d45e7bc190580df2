#include "manifest.h"
#include "names.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_BYTES = 256 << 20 };

void manifest_fini(struct manifest *m)
{
    for (size_t i = 0; i < m->n_databases; i++)
        free(m->databases[i]);
    for (size_t i = 0; i < m->n_files; i++)
        free(m->files[i].file);
    for (size_t i = 0; i < m->n_notes; i++)
        free(m->notes[i]);
    free(m->databases);
    free(m->files);
    free(m->notes);
    free(m->home);
    map_fini(&m->by_name);
    *m = (struct manifest){0};
}

struct manifest_file *manifest_add(struct manifest *m, const char *file)
{
    m->files = xgrow(m->files, m->n_files, sizeof *m->files);
    struct manifest_file *f = &m->files[m->n_files++];
    *f = (struct manifest_file){.file = xstrdup(file), .documents = -1};
    map_put(&m->by_name, file, (void *)m->n_files);
    return f;
}

void manifest_note(struct manifest *m, char *text)
{
    m->notes = xgrow(m->notes, m->n_notes, sizeof *m->notes);
    m->notes[m->n_notes++] = text;
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *file)
{
    const size_t number = (size_t)map_get(&m->by_name, file);
    return number ? &m->files[number - 1] : NULL;
}

/* ---- writing ---- */

static void add_texts(struct buf *b, const char *key, char *const *v, size_t n)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < n; i++)
        json_str(b, NULL, v[i]);
    json_end(b, ']');
}

int manifest_write(const struct manifest *m, int dirfd, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", MANIFEST_VERSION);
    json_bool(&b, "complete", m->complete);
    json_time(&b, "began_at", m->began_wall_ms);
    json_time(&b, "ended_at", m->ended_wall_ms);
    json_str(&b, "home", m->home);
    add_texts(&b, "databases", m->databases, m->n_databases);
    json_begin(&b, "files", '[');
    for (size_t i = 0; i < m->n_files; i++) {
        json_begin(&b, NULL, '{');
        json_str(&b, "file", m->files[i].file);
        json_i64_or_null(&b, "documents", m->files[i].documents);
        json_i64(&b, "bytes", m->files[i].bytes);
        json_str(&b, "hash", m->files[i].hash);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    add_texts(&b, "notes", m->notes, m->n_notes);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(dirfd, MANIFEST, b.p, b.n, 0600, e);
}

/* ---- reading ---- */

static int64_t time_of(const bson_t *doc, const char *key)
{
    int64_t ms = 0;
    const char *text = json_get_str(doc, key, NULL);
    return text && clk_parse(text, &ms) == 0 ? ms : 0;
}

static int take_files(struct manifest *m, const bson_t *doc)
{
    bson_iter_t it;
    bson_t one;
    if (!json_get_iter(doc, "files", &it))
        return ERR_FORMAT;
    while (json_next_doc(&it, &one)) {
        const char *file = json_get_str(&one, "file", ""), *hash = json_get_str(&one, "hash", "");
        struct manifest_file *f = manifest_add(m, file);
        f->documents = json_get_i64(&one, "documents", -1);
        f->bytes = json_get_i64(&one, "bytes", -1);
        if (!*file || f->bytes < 0 || strlen(hash) != sizeof f->hash - 1)
            return ERR_FORMAT;
        memcpy(f->hash, hash, sizeof f->hash);
    }
    return 0;
}

static int take_databases(struct manifest *m, const bson_t *doc)
{
    bson_iter_t it;
    if (!json_get_iter(doc, "databases", &it))
        return ERR_FORMAT;
    while (bson_iter_next(&it)) {
        const char *name = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : "";
        if (!names_is_database(name))
            return ERR_FORMAT;
        m->databases = xgrow(m->databases, m->n_databases, sizeof *m->databases);
        m->databases[m->n_databases++] = xstrdup(name);
    }
    return 0;
}

static void take_notes(struct manifest *m, const bson_t *doc)
{
    bson_iter_t it;
    if (!json_get_iter(doc, "notes", &it))
        return;
    while (bson_iter_next(&it))
        if (BSON_ITER_HOLDS_UTF8(&it))
            manifest_note(m, xstrdup(bson_iter_utf8(&it, NULL)));
}

int manifest_read(struct manifest *ret, int dirfd, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct manifest m = {0};
    if (fd_is_gone(dirfd, MANIFEST))
        return -ENOENT;
    AUTO_FD int fd = reader_open_file(dirfd, MANIFEST, e);
    int r = fd < 0 ? fd : fd_read_all(fd, &b, MAX_BYTES);
    AUTO_BSON bson_t *doc = r == 0 ? json_parse(b.n ? b.p : "", b.n, NULL) : NULL;
    if (r < 0)
        return fd < 0 ? r : err_sys(e, r, "cannot read " MANIFEST);
    const int64_t version = doc ? json_get_i64(doc, "v", 0) : 0;
    if (version > MANIFEST_VERSION)
        return err_set(e, ERR_VERSION, MANIFEST " is of version %" PRId64 "; this program reads up to %d", version,
                       MANIFEST_VERSION);
    r = version < 1 ? ERR_FORMAT : take_databases(&m, doc);
    if (r == 0)
        r = take_files(&m, doc);
    if (r < 0) {
        manifest_fini(&m);
        return err_set(e, r, MANIFEST " is damaged; without it (moved away) the files are taken as a dump of mongodump's");
    }
    m.complete = json_get_bool(doc, "complete", false);
    m.began_wall_ms = time_of(doc, "began_at");
    m.ended_wall_ms = time_of(doc, "ended_at");
    m.home = xstrdup(json_get_str(doc, "home", NULL));
    take_notes(&m, doc);
    *ret = m;
    return 0;
}
