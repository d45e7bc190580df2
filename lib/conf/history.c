#include "history.h"
#include "conf.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 1,
    DIGITS = 8,
    HASH_BYTES = 32,
    HASH_LINE = 2 * HASH_BYTES + 1,
    MAX_FILE_BYTES = 4 << 20,
    MAX_ENTRY_BYTES = 256 << 20
};

/* ---- texts ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct conf_text *)a)->path, ((const struct conf_text *)b)->path);
}

void conf_texts_fini(struct conf_texts *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->v[i].path);
        buf_fini(&t->v[i].text);
    }
    free(t->v);
    *t = (struct conf_texts){0};
}

static struct conf_text *add_text(struct conf_texts *t, const char *path)
{
    t->v = xgrow(t->v, t->n, sizeof *t->v);
    t->v[t->n] = (struct conf_text){.path = xstrdup(path)};
    return &t->v[t->n++];
}

static int read_text(int dirfd, const char *path, struct conf_texts *t, struct err *e)
{
    return fd_read_file(dirfd, path, &add_text(t, path)->text, MAX_FILE_BYTES, e);
}

/* The tenant whose file has that name below conf/tenants; the caller frees. NULL: nobody's, and it is not read. */
static char *tenant_of(const char *name)
{
    size_t n = strlen(name);
    char *id = n > 5 && !strcmp(name + n - 5, ".conf") ? xstrndup(name, n - 5) : NULL;
    if (id && conf_valid_id(id))
        return id;
    free(id);
    return NULL;
}

int conf_texts_read(int dirfd, struct conf_texts *ret, struct err *e)
{
    struct conf_texts t = {0};
    int r = read_text(dirfd, "conf/mysimbdp.conf", &t, e);
    if (r == 0)
        r = read_text(dirfd, "conf/profiles.conf", &t, e);
    DIR *d = r == 0 ? fd_open_dir(dirfd, "conf/tenants") : NULL;
    if (r == 0 && !d)
        r = err_sys(e, -errno, "cannot open conf/tenants");
    int unread = 0;
    for (struct dirent *ent; r == 0 && (ent = fd_next_name(d, &unread));) {
        AUTO_FREE char *id = tenant_of(ent->d_name);
        AUTO_FREE char *path = xasprintf("conf/tenants/%s", ent->d_name);
        r = id ? read_text(dirfd, path, &t, e) : 0;
    }
    if (d)
        closedir(d);
    if (r == 0 && unread < 0)
        r = err_sys(e, unread, "cannot list conf/tenants");
    if (r < 0) {
        conf_texts_fini(&t);
        return r;
    }
    qsort(t.v, t.n, sizeof *t.v, by_path);
    *ret = t;
    return 0;
}

const struct conf_text *conf_texts_find(const struct conf_texts *t, const char *path)
{
    const struct conf_text key = {.path = (char *)path};
    return t->n ? bsearch(&key, t->v, t->n, sizeof key, by_path) : NULL;
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n));
}

bool conf_texts_equal(const struct conf_texts *a, const struct conf_texts *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; equal && i < a->n; i++)
        equal = !strcmp(a->v[i].path, b->v[i].path) && same(&a->v[i].text, &b->v[i].text);
    return equal;
}

int conf_texts_extract(const struct conf_texts *t, int dirfd, const char *dir, struct err *e)
{
    AUTO_FREE char *tenants = xasprintf("%s/tenants", dir);
    int r = fd_mkdirs(dirfd, tenants, 0700);
    if (r < 0)
        return err_sys(e, r, "cannot make %s", tenants);
    for (size_t i = 0; r == 0 && i < t->n; i++) {
        AUTO_FREE char *path = xasprintf("%s%s", dir, strchr(t->v[i].path, '/'));
        AUTO_FD int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : fd_write_all(fd, t->v[i].text.p ? t->v[i].text.p : "", t->v[i].text.n);
        if (r < 0)
            err_sys(e, r, "cannot write %s", path);
    }
    return r;
}

/* ---- a file of the history ---- */

void conf_entry_fini(struct conf_entry *entry)
{
    free(entry->who);
    free(entry->what);
    conf_texts_fini(&entry->texts);
    *entry = (struct conf_entry){0};
}

static char *path_of(int64_t number)
{
    return xasprintf(HISTORY_DIR "/%0*" PRId64, DIGITS, number);
}

static void add_hash(struct buf *b)
{
    unsigned char hash[HASH_BYTES];
    char hex[2 * HASH_BYTES + 1];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)b->p, b->n, NULL, 0);
    buf_addf(b, "%s\n", sodium_bin2hex(hex, sizeof hex, hash, sizeof hash));
}

static void format_entry(const struct conf_entry *entry, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_i64(b, "v", VERSION);
    json_i64(b, "number", entry->number);
    json_i64(b, "at_ms", entry->at_wall_ms);
    json_str(b, "who", entry->who);
    json_str(b, "what", entry->what);
    json_begin(b, "files", '[');
    for (size_t i = 0; i < entry->texts.n; i++) {
        json_begin(b, NULL, '{');
        json_str(b, "path", entry->texts.v[i].path);
        json_i64(b, "bytes", (int64_t)entry->texts.v[i].text.n);
        json_end(b, '}');
    }
    json_end(b, ']');
    json_end(b, '}');
    buf_adds(b, "\n");
    for (size_t i = 0; i < entry->texts.n; i++)
        buf_add(b, entry->texts.v[i].text.p, entry->texts.v[i].text.n);
    add_hash(b);
}

static bool is_intact(const struct buf *b)
{
    AUTO_BUF struct buf again = {0};
    if (b->n < HASH_LINE)
        return false;
    buf_add(&again, b->p, b->n - HASH_LINE);
    add_hash(&again);
    return same(&again, b);
}

static bool is_ours(const char *path)
{
    static const char below[] = "conf/tenants/";
    if (!strcmp(path, "conf/mysimbdp.conf") || !strcmp(path, "conf/profiles.conf"))
        return true;
    AUTO_FREE char *id = !strncmp(path, below, strlen(below)) ? tenant_of(path + strlen(below)) : NULL;
    return id;
}

/* Takes the files' bytes from p[0..n), to the last one. */
static bool parse_files(const bson_t *head, const char *p, size_t n, struct conf_texts *t)
{
    bson_iter_t it, one;
    if (!bson_iter_init_find(&it, head, "files") || !BSON_ITER_HOLDS_ARRAY(&it) || !bson_iter_recurse(&it, &one))
        return false;
    while (bson_iter_next(&one)) {
        bson_iter_t member;
        const char *path = NULL;
        int64_t bytes = -1;
        if (!BSON_ITER_HOLDS_DOCUMENT(&one) || !bson_iter_recurse(&one, &member))
            return false;
        while (bson_iter_next(&member)) {
            if (!strcmp(bson_iter_key(&member), "path") && BSON_ITER_HOLDS_UTF8(&member))
                path = bson_iter_utf8(&member, NULL);
            else if (!strcmp(bson_iter_key(&member), "bytes") && BSON_ITER_HOLDS_INT(&member))
                bytes = bson_iter_as_int64(&member);
        }
        if (!path || !is_ours(path) || conf_texts_find(t, path) || bytes < 0 || (uint64_t)bytes > n)
            return false;
        buf_add(&add_text(t, path)->text, p, (size_t)bytes);
        p += bytes;
        n -= (size_t)bytes;
    }
    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, by_path);
    return n == 0;
}

static int parse_entry(const struct buf *b, int64_t number, struct conf_entry *ret)
{
    const char *end = b->n ? memchr(b->p, '\n', b->n) : NULL;
    AUTO_BSON bson_t *head = end ? json_parse(b->p, (size_t)(end - b->p), NULL) : NULL;
    struct conf_entry entry = {.number = number};
    if (head && json_get_i64(head, "v", 0) > VERSION)
        return ERR_VERSION; /* how such a one ends is not known here */
    if (!head || !is_intact(b) || json_get_i64(head, "v", 0) != VERSION || json_get_i64(head, "number", 0) != number)
        return ERR_FORMAT;
    entry.at_wall_ms = json_get_i64(head, "at_ms", 0);
    entry.who = xstrdup(json_get_str(head, "who", ""));
    entry.what = xstrdup(json_get_str(head, "what", ""));
    if (!parse_files(head, end + 1, b->n - HASH_LINE - (size_t)(end + 1 - b->p), &entry.texts)) {
        conf_entry_fini(&entry);
        return ERR_FORMAT;
    }
    *ret = entry;
    return 0;
}

static int write_entry(int dirfd, const struct conf_entry *entry, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = path_of(entry->number);
    format_entry(entry, &b);
    return fd_write_file(dirfd, path, b.p, b.n, 0600, e);
}

/* ---- all of them ---- */

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t history_numbers(int dirfd, int64_t **ret, struct err *e)
{
    int64_t *v = NULL;
    size_t n = 0;
    DIR *d = fd_open_dir(dirfd, HISTORY_DIR);
    *ret = NULL;
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot open " HISTORY_DIR);
    int r = 0;
    for (struct dirent *ent; (ent = fd_next_name(d, &r));)
        if (strlen(ent->d_name) == DIGITS && strspn(ent->d_name, "0123456789") == DIGITS) {
            v = xgrow(v, n, sizeof *v);
            v[n++] = strtoll(ent->d_name, NULL, 10);
        }
    closedir(d);
    if (r < 0) {
        free(v);
        return err_sys(e, r, "cannot list " HISTORY_DIR);
    }
    if (n)
        qsort(v, n, sizeof *v, by_number);
    *ret = v;
    return (int64_t)n;
}

int history_read(int dirfd, int64_t number, struct conf_entry *ret, struct err *e)
{
    AUTO_FREE int64_t *v = NULL;
    AUTO_BUF struct buf b = {0};
    int64_t n = number ? 1 : history_numbers(dirfd, &v, e);
    if (n < 0)
        return (int)n;
    if (!n)
        return err_set(e, -ENOENT, "no configuration was accepted yet");
    AUTO_FREE char *path = path_of(number ? number : v[n - 1]);
    int r = fd_read_file(dirfd, path, &b, MAX_ENTRY_BYTES, e);
    if (r == -ENOENT)
        return err_set(e, r, "there is no configuration %lld; `mysimbdp history list` has those that are kept", (long long)number);
    if (r < 0)
        return r;
    r = parse_entry(&b, number ? number : v[n - 1], ret);
    if (r == ERR_VERSION)
        return err_set(e, r, "%s is of a newer version of mysimbdp, which can read it; the others are not concerned", path);
    return r < 0 ? err_set(e, r, "%s is damaged; remove it, the others are not concerned", path) : 0;
}

/* The oldest go first; the newest always stays. */
static void prune(int dirfd)
{
    AUTO_FREE int64_t *v = NULL;
    int64_t n = history_numbers(dirfd, &v, NULL), kept = 0, bytes = 0;
    for (int64_t i = n; i-- > 0;) {
        AUTO_FREE char *path = path_of(v[i]);
        struct stat st;
        bytes += fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : 0;
        if (kept && (kept >= HISTORY_MAX || bytes > HISTORY_MAX_BYTES))
            unlinkat(dirfd, path, 0);
        else
            kept++;
    }
}

int history_add(int dirfd, const struct conf_entry *entry, int64_t *ret_number, struct err *e)
{
    AUTO_FREE int64_t *v = NULL;
    struct conf_entry newest = {0}, next = *entry;
    int64_t n = history_numbers(dirfd, &v, e);
    if (n < 0)
        return (int)n;
    *ret_number = n ? v[n - 1] : 0;
    const bool known = n && history_read(dirfd, v[n - 1], &newest, NULL) == 0 && conf_texts_equal(&newest.texts, &entry->texts);
    conf_entry_fini(&newest);
    if (known)
        return 0;
    next.number = *ret_number + 1;
    int r = fd_mkdirs(dirfd, HISTORY_DIR, 0700);
    if (r < 0)
        return err_sys(e, r, "cannot make " HISTORY_DIR);
    r = write_entry(dirfd, &next, e);
    if (r == 0) {
        *ret_number = next.number;
        prune(dirfd);
    }
    return r;
}

static void take_out(struct conf_texts *t, const char *path)
{
    const struct conf_text *at = conf_texts_find(t, path);
    if (!at)
        return;
    size_t i = (size_t)(at - t->v);
    free(t->v[i].path);
    buf_fini(&t->v[i].text);
    memmove(&t->v[i], &t->v[i + 1], (--t->n - i) * sizeof *t->v);
}

int history_forget(int dirfd, const char *tenant, struct err *e)
{
    AUTO_FREE int64_t *v = NULL;
    AUTO_FREE char *path = xasprintf("conf/tenants/%s.conf", tenant);
    int64_t n = history_numbers(dirfd, &v, e);
    int r = n < 0 ? (int)n : 0;
    for (int64_t i = 0; r == 0 && i < n; i++) {
        struct conf_entry entry;
        AUTO_FREE char *file = path_of(v[i]);
        int found = history_read(dirfd, v[i], &entry, e);
        if (found == ERR_FORMAT || found == ERR_VERSION) { /* the tenant may be in it */
            r = unlinkat(dirfd, file, 0) < 0 ? err_sys(e, -errno, "cannot remove %s", file) : 0;
            continue;
        }
        r = found;
        if (r == 0 && conf_texts_find(&entry.texts, path)) {
            take_out(&entry.texts, path);
            r = write_entry(dirfd, &entry, e);
        }
        if (found == 0)
            conf_entry_fini(&entry);
    }
    return r;
}
