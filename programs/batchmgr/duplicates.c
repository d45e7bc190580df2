#include "duplicates.h"
#include "admit.h"
#include "deletions.h"
#include "files.h"
#include "filing.h"
#include "ledger.h"
#include "state.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct contents {
    struct map in_flight; /* content_key -> the file that has it */
};

enum { DELETION_POLL_MS = 200 };

static char *content_key(const struct file *f)
{
    return xasprintf("%s/%s/%s", f->tenant, f->dataset, f->hash);
}

void duplicates_index(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *key = content_key(f);
    if (*f->hash && !map_get(&m->contents->in_flight, key))
        map_put(&m->contents->in_flight, key, f);
}

void duplicates_unindex(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *key = content_key(f);
    if (*f->hash && map_get(&m->contents->in_flight, key) == f)
        map_remove(&m->contents->in_flight, key);
}

/* Looks for the same content: ingested before, the file is a duplicate; in flight, it waits for that one's end. True when the file
 * goes no further now. */
static bool is_repeated(struct batchmgr *m, struct file *f)
{
    char id[ID_SIZE], prefix[33], detail[200];
    int64_t group_n;
    AUTO_FREE char *key = content_key(f);
    struct file *other = map_get(&m->contents->in_flight, key);
    if (other && other != f) {
        f->behind = other;
        other->n_followers++;
        snprintf(detail, sizeof detail, "same content as file %s, which is not finished yet", other->file_id);
        xstr_set(&f->reason, "same_content");
        xstr_set(&f->detail, detail);
        file_set_state(f, FILE_waiting);
        ledger_put_file(m->ledger, f);
        return true;
    }
    if (f->force && deletions_are_going(m, f->tenant)) { /* retention may be deleting the rows that this upload replaces */
        if (f->state != FILE_waiting)
            file_set_state(f, FILE_waiting);
        xstr_set(&f->reason, "documents_days");
        ledger_put_file(m->ledger, f);
        file_timer(m, f, DELETION_POLL_MS, duplicates_check);
        return true;
    }
    map_put(&m->contents->in_flight, key, f);
    if (!ledger_find_ingested(m->ledger, f->tenant, f->dataset, f->hash, id, prefix, &group_n))
        return false;
    if (f->force && group_n > 1) {
        duplicates_unindex(m, f);
        admit_reject(m, f, "group",
                     "file %s has the same content and was ingested by one run together with %lld others, whose rows cannot "
                     "be told apart: it cannot be replaced alone",
                     id, (long long)group_n - 1);
        return true;
    }
    if (f->force) {
        file_add_old_prefix(f, prefix);
        return false;
    }
    snprintf(detail, sizeof detail, "same content as file %s", id);
    duplicates_unindex(m, f);
    filing_finish(m, f, FILE_duplicate, "duplicate", detail, NULL);
    return true;
}

void duplicates_check(struct batchmgr *m, struct file *f)
{
    if (!is_repeated(m, f))
        admit_queue(m, f);
}

void duplicates_settle(struct batchmgr *m, struct file *f)
{
    struct file *heir = NULL;
    char detail[200];
    size_t i = 0;
    duplicates_unindex(m, f);
    if (!f->n_followers)
        return;
    for (struct file *other; (other = map_next(&m->files, &i));) {
        if (other->behind != f)
            continue;
        other->behind = NULL;
        if (f->state == FILE_ingested && !other->force) {
            snprintf(detail, sizeof detail, "same content as file %s", f->file_id);
            filing_finish(m, other, FILE_duplicate, "duplicate", detail, NULL);
        } else if (!heir) {
            heir = other;
            if (f->state == FILE_ingested)
                file_add_old_prefix(other, f->prefix);
            xstr_set(&other->reason, NULL);
            xstr_set(&other->detail, NULL);
            admit_queue(m, other);
        } else {
            other->behind = heir;
            heir->n_followers++;
        }
    }
}

void duplicates_start(struct batchmgr *m)
{
    m->contents = xcalloc(1, sizeof *m->contents);
}

void duplicates_stop(struct batchmgr *m)
{
    if (m->contents)
        map_fini(&m->contents->in_flight);
    free(m->contents);
    m->contents = NULL;
}
