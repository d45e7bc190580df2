#include "agreed.h"
#include "advice.h"

#include "base/mem.h"
#include "base/near.h"
#include "read/format.h"

#include <stdio.h>
#include <string.h>

/* -1: there is no bound. */
struct bounds {
    int64_t file_bytes, files_left, bytes_left;
};

static bool find_dataset(const bson_t *doc, const char *dataset, bson_t *ret, struct near *near)
{
    bson_iter_t it;
    for (bool more = json_get_iter(doc, "datasets", &it); more && json_next_doc(&it, ret);) {
        if (!strcmp(json_get_str(ret, "dataset", ""), dataset))
            return true;
        if (near)
            near_try(near, json_get_str(ret, "dataset", ""));
    }
    return false;
}

static int64_t member(const bson_t *doc, const char *object, const char *key)
{
    bson_iter_t it, sub;
    return bson_iter_init_find(&it, doc, object) && bson_iter_recurse(&it, &sub) && bson_iter_find(&sub, key) &&
                   BSON_ITER_HOLDS_NUMBER(&sub)
               ? bson_iter_as_int64(&sub)
               : -1;
}

static int64_t less(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

static void take_usage(const bson_t *usage, const char *dataset, struct bounds *b)
{
    bson_t of;
    b->files_left = member(usage, "files_today", "left");
    b->bytes_left = member(usage, "bytes_today", "left");
    if (!find_dataset(usage, dataset, &of, NULL))
        return;
    b->files_left = less(b->files_left, member(&of, "files_today", "left"));
    b->bytes_left = less(b->bytes_left, member(&of, "bytes_today", "left"));
}

static void refuse(struct item *i, const char *code, const char *why)
{
    struct err e = {0};
    err_set(&e, ERR_REFUSED, "%s (%s; nothing of it was sent)", why, code);
    e.reason = advice_word(code);
    item_fail(i, &e);
}

static bool has_format(const bson_t *dataset, const char *name)
{
    enum reader_format format;
    bson_iter_t it;
    bool any = false;
    if (format_of_name(name, &format) < 0)
        return false;
    for (bool more = json_get_iter(dataset, "formats", &it); more && bson_iter_next(&it); any = true)
        if (BSON_ITER_HOLDS_UTF8(&it) && !strcmp(bson_iter_utf8(&it, NULL), format_name(format)))
            return true;
    return !any;
}

static void mark(struct item *i, const bson_t *dataset, struct bounds *b)
{
    char why[128];
    if (b->file_bytes >= 0 && i->size > b->file_bytes) {
        snprintf(why, sizeof why, "it has %lld bytes; %lld are agreed", (long long)i->size, (long long)b->file_bytes);
        refuse(i, "max_file_bytes", why);
    } else if (!has_format(dataset, i->name)) {
        refuse(i, "format", "the dataset takes no files with this ending");
    } else if (b->files_left == 0) {
        refuse(i, "max_files_per_day", "no more files are agreed for today");
    } else if (b->bytes_left >= 0 && i->size > b->bytes_left) {
        snprintf(why, sizeof why, "it has %lld bytes; %lld are left of today", (long long)i->size, (long long)b->bytes_left);
        refuse(i, "max_bytes_per_day", why);
    } else {
        b->files_left -= b->files_left > 0;
        b->bytes_left -= b->bytes_left > 0 ? i->size : 0;
    }
}

int agreed_mark(const bson_t *agreement, const bson_t *usage, const char *dataset, struct items *all, struct err *e)
{
    struct near near = {.word = dataset};
    char meant[NEAR_TEXT_SIZE];
    bson_t of;
    struct bounds b = {-1, -1, -1};
    if (!find_dataset(agreement, dataset, &of, &near)) {
        err_set(e, ERR_REFUSED, "the agreement has no dataset %s%s", dataset, near_text(&near, meant));
        e->reason = advice_word("no_dataset");
        return ERR_REFUSED;
    }
    b.file_bytes = member(&of, "limits", "max_file_bytes");
    take_usage(usage, dataset, &b);
    for (size_t i = 0; i < all->n; i++)
        if (all->v[i]->state == ITEM_READY)
            mark(all->v[i], &of, &b);
    return 0;
}

int agreed_check(struct remote *r, const char *dataset, struct items *all)
{
    AUTO_BUF struct buf agreement_path = {0}, usage_path = {0};
    AUTO_BSON bson_t *agreement = NULL;
    AUTO_BSON bson_t *usage = NULL;
    struct err e = {0};
    remote_path(r, &agreement_path, "agreement");
    remote_path(r, &usage_path, "usage");
    int n = remote_get(r, agreement_path.p, &agreement, &e);
    if (n == 0)
        n = remote_get(r, usage_path.p, &usage, &e);
    if (n < 0 && e.reason && (!strcmp(e.reason, "forbidden") || !strcmp(e.reason, "not_found")))
        return REMOTE_DONE;
    if (n == 0)
        n = agreed_mark(agreement, usage, dataset, all, &e);
    return n < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}
