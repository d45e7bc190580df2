#include "restore.h"
#include "server.h"
#include "table.h"
#include "writer.h"

#include "base/crash.h"
#include "base/json.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { EXAMPLES = 5, DELETE_BYTES = 1 << 20, NAMESPACE_EXISTS = 48 };
#define MARKS "simbdp_home" /* programs/batchmgr/database_identity.h */

/* A collection that is being restored. */
struct job {
    const struct restore_order *o;
    const struct source *from;
    const struct source_collection *k;
    struct restored *all;
    struct restored_collection *r;
    mongoc_client_t *c;
    mongoc_collection_t *to;
    struct writer w;
    struct progress *progress;
    int64_t examples;
    bool skip; /* it cannot be made */
};

static void say(struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct job *j, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    progress_clear(j->progress);
    j->o->say(j->o->arg, text);
}

static void say_document(struct job *j, const bson_t *doc, const char *why)
{
    if (j->examples++ >= EXAMPLES)
        return;
    AUTO_FREE char *id = server_id_text(doc);
    say(j, "%s: %s: %s", j->r->name, id, why);
}

static void on_refused(void *arg, const bson_t *doc, const char *why)
{
    say_document(arg, doc, why);
}

static void note(struct restored *r, const char *text)
{
    r->notes = xgrow(r->notes, r->n_notes, sizeof *r->notes);
    r->notes[r->n_notes++] = xstrdup(text);
}

/* ---- the collection and its indexes ---- */

static bool is_same_options(const bson_t *info, const bson_t *options)
{
    bson_iter_t it;
    bson_t have;
    const bool any = bson_iter_init_find(&it, info, "options") && json_iter_doc(&it, &have) && bson_count_keys(&have);
    return options && any ? bson_equal(&have, options) : !options && !any;
}

/* What the target has under that name. *ret_same: with the options of the dump. */
static int look(struct job *j, bool *ret_there, bool *ret_same, struct err *e)
{
    bson_t info;
    int r = server_collection(j->c, j->k->database, j->k->name, &info, e);
    *ret_there = r > 0;
    if (r <= 0)
        return r;
    *ret_same = is_same_options(&info, j->k->m.options);
    if (j->k->m.view != !strcmp(json_get_str(&info, "type", "collection"), "view")) {
        say(j, "%s is a %s in the dump, and none in the target; it is left out", j->r->name, j->k->m.view ? "view" : "collection");
        j->skip = true;
        j->all->problems++;
    }
    bson_destroy(&info);
    return 0;
}

static int create(struct job *j, struct err *e)
{
    bson_error_t be = {0};
    AUTO_BSON_DOC bson_t cmd = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&cmd, "create", j->k->name);
    if (j->k->m.options)
        bson_copy_to_excluding_noinit(j->k->m.options, &cmd, "autoIndexId", "uuid", "recordIdsReplicated", NULL);
    const bool ok = mongoc_client_write_command_with_opts(j->c, j->k->database, &cmd, NULL, NULL, &be);
    crash_at(CRASH_mongo_restore_create);
    if (ok || be.code == NAMESPACE_EXISTS)
        return 0;
    if (be.domain != MONGOC_ERROR_SERVER)
        return server_error(&be, e, "cannot make %s", j->r->name);
    say(j, "%s cannot be made, and is left out: %s", j->r->name, be.message);
    j->skip = true;
    j->all->problems++;
    return 0;
}

/* Servers may also take options and not have them: the embedded one has neither views nor capped collections. */
static int make(struct job *j, struct err *e)
{
    bool there, same = true;
    int r = look(j, &there, &same, e);
    if (r == 0 && !there)
        r = create(j, e);
    if (r == 0 && !there && !j->skip)
        r = look(j, &there, &same, e);
    if (r == 0 && !same && !j->skip) {
        AUTO_FREE char *text = xasprintf("%s has other options in the target than in the dump", j->r->name);
        note(j->all, text);
    }
    return r;
}

static int make_index(struct job *j, const bson_t *index, struct err *e)
{
    bson_error_t be = {0};
    AUTO_BSON_DOC bson_t cmd = BSON_INITIALIZER;
    bson_t list, one;
    BSON_APPEND_UTF8(&cmd, "createIndexes", j->k->name);
    BSON_APPEND_ARRAY_BEGIN(&cmd, "indexes", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &one);
    bson_copy_to_excluding_noinit(index, &one, "v", NULL); /* the server's own version, as mongorestore has it */
    bson_append_document_end(&list, &one);
    bson_append_array_end(&cmd, &list);
    const bool ok = mongoc_client_write_command_with_opts(j->c, j->k->database, &cmd, NULL, NULL, &be);
    crash_at(CRASH_mongo_restore_index);
    if (ok) {
        j->r->indexes++;
        return 0;
    }
    if (be.domain != MONGOC_ERROR_SERVER)
        return server_error(&be, e, "cannot make index %s of %s", json_get_str(index, "name", ""), j->r->name);
    say(j, "%s: index %s cannot be made: %s", j->r->name, json_get_str(index, "name", ""), be.message);
    j->all->problems++;
    return 0;
}

/* ---- documents ---- */

/* 0: that is no failure. */
static int put_failed(struct job *j, const struct table_entry *there, const struct fingerprint *f, int64_t offset, struct err *e)
{
    if (!there)
        return err_set(e, ERR_FORMAT, "%s grew while it was read", j->k->bson);
    if (there->content == f->content) /* mongodump reads a document twice that moved while it did */
        return 0;
    return err_set(e, ERR_FORMAT, "%s: the document at byte %" PRId64 " has the _id of one before it, and another content",
                   j->k->bson, offset);
}

/* What the file has of the table's part. */
static int fill_table(struct job *j, struct table *t, struct err *e)
{
    struct reader x;
    struct fingerprint f;
    struct table_entry *there;
    int64_t offset;
    bson_t doc;
    int r = reader_open(&x, j->from->dirfd, j->k->bson, j->k->bson_gz, false, e);
    while (r == 0 && (r = reader_next(&x, &doc, &offset, e)) > 0) {
        r = 0;
        if (!table_fingerprint(&t->scratch, &doc, &f))
            r = err_set(e, ERR_FORMAT, "%s was changed while it was read, at byte %" PRId64, j->k->bson, offset);
        else if (table_is_of(t, &f) && !table_put(t, &f, &there))
            r = put_failed(j, there, &f, offset, e);
    }
    reader_close(&x);
    return r;
}

enum scan { COMPARE, COMPARE_AND_TELL, DELETE };

struct scan_state {
    enum scan how;
    struct buf doomed;
    int64_t n_doomed, extra;
};

static int doom(struct job *j, struct scan_state *s, const bson_t *doc, bool now, struct err *e)
{
    int r = 0;
    if (doc) {
        buf_add(&s->doomed, bson_get_data(doc), doc->len);
        s->n_doomed++;
    }
    if (s->doomed.n && (now || s->doomed.n >= DELETE_BYTES)) {
        r = writer_delete(&j->w, &s->doomed, e);
        s->doomed.n = 0;
    }
    return r;
}

static int scan_document(struct job *j, struct table *t, struct scan_state *s, const bson_t *doc, struct err *e)
{
    struct fingerprint f;
    if (!table_fingerprint(&t->scratch, doc, &f) || !table_is_of(t, &f))
        return 0;
    struct table_entry *x = table_find(t, &f);
    s->extra += !x;
    if (x && x->content == f.content) {
        x->state = TABLE_SAME;
        return 0;
    }
    if (s->how == DELETE)
        return doom(j, s, doc, false, e);
    if (x)
        x->state = TABLE_OTHER;
    if (x && s->how == COMPARE_AND_TELL && strcmp(j->k->name, MARKS) != 0)
        say_document(j, doc, "the target has another document of this _id, which stays");
    return 0;
}

/* Marks what the target has. */
static int scan(struct job *j, struct table *t, enum scan how, int64_t *ret_extra, struct err *e)
{
    AUTO_BSON_DOC bson_t all = BSON_INITIALIZER;
    AUTO_FREE char *phase = xasprintf("comparing %s", j->r->name);
    struct scan_state s = {.how = how};
    bson_error_t be = {0};
    const bson_t *doc;
    int64_t n = 0;
    int r = 0;
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(j->to, &all, NULL, NULL);
    for (; r == 0 && mongoc_cursor_next(cursor, &doc); n++) {
        r = scan_document(j, t, &s, doc, e);
        progress_show(j->progress, phase, n, j->k->documents, "documents");
    }
    if (r == 0 && mongoc_cursor_error(cursor, &be))
        r = server_error(&be, e, "cannot read %s", j->r->name);
    if (r == 0)
        r = doom(j, &s, NULL, true, e);
    mongoc_cursor_destroy(cursor);
    buf_fini(&s.doomed);
    j->r->deleted += s.n_doomed;
    *ret_extra = s.extra;
    return r;
}

/* Inserts what the table says is absent. */
static int insert(struct job *j, struct table *t, struct err *e)
{
    AUTO_FREE char *phase = xasprintf("restoring %s", j->r->name);
    struct reader x;
    struct fingerprint f;
    int64_t offset, n = 0;
    bson_t doc;
    int r = reader_open(&x, j->from->dirfd, j->k->bson, j->k->bson_gz, false, e);
    for (; r == 0 && (r = reader_next(&x, &doc, &offset, e)) > 0; n++) {
        r = reader_check(&x, &doc, offset, e);
        struct table_entry *there =
            r == 0 && table_fingerprint(&t->scratch, &doc, &f) && table_is_of(t, &f) ? table_find(t, &f) : NULL;
        if (there && there->state == TABLE_ABSENT) {
            there->state = TABLE_SAME; /* so that a second one like it is not sent */
            r = writer_insert(&j->w, &doc, e);
        }
        progress_show(j->progress, phase, n, j->k->documents, "documents");
    }
    if (r == 0)
        r = writer_flush(&j->w, e);
    reader_close(&x);
    return r;
}

static void account(struct job *j, const struct table *t, int64_t same_before, int64_t duplicates, int64_t refused)
{
    struct restored_collection *r = j->r;
    const int64_t other = table_count(t, TABLE_OTHER), absent = table_count(t, TABLE_ABSENT) - refused;
    const int64_t hindered = absent < duplicates ? absent : duplicates;
    r->present += same_before;
    r->inserted += table_count(t, TABLE_SAME) - same_before;
    r->refused += refused;
    r->missing += absent - hindered;
    r->conflicts += hindered;
    *(strcmp(j->k->name, MARKS) ? &r->conflicts : &r->kept) += other;
}

static int restore_part(struct job *j, uint64_t part, uint64_t parts, bool deletes, struct err *e)
{
    struct table t;
    int64_t extra = 0;
    const int64_t duplicates = j->w.duplicates, refused = j->w.refused;
    table_init(&t, j->k->documents, part, parts);
    int r = fill_table(j, &t, e);
    if (r == 0)
        r = scan(j, &t, deletes ? DELETE : COMPARE, &extra, e);
    const int64_t same = table_count(&t, TABLE_SAME), absent = table_count(&t, TABLE_ABSENT);
    if (r == 0 && !deletes && absent)
        r = insert(j, &t, e);
    if (r == 0 && !deletes && (absent || table_count(&t, TABLE_OTHER))) {
        table_reset(&t);
        r = scan(j, &t, COMPARE_AND_TELL, &extra, e);
    }
    if (r == 0 && !deletes) {
        account(j, &t, same, j->w.duplicates - duplicates, j->w.refused - refused);
        j->r->extra += extra;
    }
    table_fini(&t);
    return r;
}

static int restore_documents(struct job *j, struct err *e)
{
    const uint64_t parts = table_parts(j->k->documents, j->o->table_documents);
    int r = 0;
    /* All that has to go goes first: it may hold a value of a unique index that a document of another part needs. */
    for (uint64_t i = 0; r == 0 && j->o->exact && i < parts; i++)
        r = restore_part(j, i, parts, true, e);
    for (uint64_t i = 0; r == 0 && i < parts; i++)
        r = restore_part(j, i, parts, false, e);
    return r;
}

static int restore_collection(struct job *j, struct err *e)
{
    j->to = mongoc_client_get_collection(j->c, j->k->database, j->k->name);
    j->w = (struct writer){.to = j->to, .name = j->r->name, .on_refused = on_refused, .arg = j};
    j->w.bypass = j->k->m.options && bson_has_field(j->k->m.options, "validator");
    int r = make(j, e);
    if (r == 0 && !j->skip && !j->k->m.view)
        r = restore_documents(j, e);
    for (size_t i = 0; r == 0 && !j->skip && i < j->k->m.n_indexes; i++)
        r = make_index(j, j->k->m.indexes[i], e);
    j->all->problems += j->r->conflicts + j->r->refused + j->r->missing;
    writer_fini(&j->w);
    mongoc_collection_destroy(j->to);
    return r;
}

/* ---- */

static int restore_all(const struct restore_order *o, const struct source *s, mongoc_client_t *c, struct progress *p,
                       struct restored *ret, struct err *e)
{
    int r = 0;
    ret->v = xcalloc(s->n + 1, sizeof *ret->v);
    for (size_t i = 0; r == 0 && i < s->n; i++) {
        const struct source_collection *k = &s->v[i];
        struct restored_collection *one = &ret->v[ret->n++];
        *one = (struct restored_collection){.name = xasprintf("%s.%s", k->database, k->name), .documents = k->documents};
        struct job j = {.o = o, .from = s, .k = k, .all = ret, .r = one, .c = c, .progress = p};
        r = restore_collection(&j, e);
    }
    return r;
}

int restore_run(const struct restore_order *o, struct restored *ret, struct err *e)
{
    struct source s;
    struct progress p;
    *ret = (struct restored){0};
    progress_begin(&p, "mysimbdp mongo restore");
    int r = source_open(&s, &o->from, &p, e);
    for (size_t i = 0; i < s.n_notes; i++)
        note(ret, s.notes[i]);
    mongoc_client_t *c = r == 0 ? o->connect(e) : NULL;
    if (r == 0 && !c)
        r = e->code;
    if (r == 0)
        r = restore_all(o, &s, c, &p, ret, e);
    progress_clear(&p);
    if (c)
        mongoc_client_destroy(c);
    source_close(&s);
    return r;
}

void restored_fini(struct restored *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->v[i].name);
    for (size_t i = 0; i < r->n_notes; i++)
        free(r->notes[i]);
    free(r->v);
    free(r->notes);
    *r = (struct restored){0};
}
