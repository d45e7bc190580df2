/* What the messages of stream apps were like, by app and UTC day. Instances that use our code write it into their result file as
 * they go (lib/load/quality_log.h); a copy of that is in the book while they run, and is added to their app's day with their
 * end, in the one transaction that notes it. So an instance that is killed, or lost with its runner, counts up to what was seen of
 * it last, and none counts twice.
 *
 * The file is the tenant's to forge: it is opened without following or waiting, is small, and what is in it is checked and written
 * anew before it is kept. */
#include "quality.h"
#include "instances_db.h"
#include "model.h"
#include "streammgr.h"

#include "read/quality.h"
#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "run/spec.h"

#include <fcntl.h>
#include <string.h>

enum { LOOK_AT_ONCE = 16, MAX_DAYS = 40 };

/* Replaces what the book has of the instance's days by what its result file says. */
static void take(const struct instance *i, const char *text, size_t n)
{
    AUTO_BSON bson_t *doc = json_parse(text, n, NULL);
    int64_t first = clk_day(i->started_wall_ms), today = clk_day(clk_wall_ms());
    bson_iter_t it;
    bson_t kept;
    if (!doc || !json_get_iter(doc, "quality", &it))
        return;
    for (int k = 0; k < MAX_DAYS && json_next_doc(&it, &kept); k++) {
        AUTO_BUF struct buf out = {0};
        struct quality q;
        int64_t day = quality_day(&kept);
        if (day < first || day > today)
            continue;
        quality_init(&q, day);
        quality_add_kept(&q, &kept);
        quality_keep(&q, &out);
        quality_fini(&q);
        instances_db_put_quality(i->app->mgr->book, i, i->run_id, day, out.p);
    }
}

static void look(struct instance *i)
{
    struct streammgr *m = i->app->mgr;
    AUTO_FREE char *path = xasprintf("runs/%s/app/result.json", i->run_id);
    AUTO_FD int fd = beneath_open(m->home.dirfd, path, O_RDONLY | O_NONBLOCK, 0);
    AUTO_BUF struct buf text = {0};
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_size > RUN_MAX_APP_RESULT_BYTES ||
        (st.st_ino == i->quality_ino && !memcmp(&st.st_mtim, &i->quality_mtime, sizeof st.st_mtim)))
        return;
    i->quality_ino = st.st_ino;
    i->quality_mtime = st.st_mtim;
    if (fd_read_all(fd, &text, RUN_MAX_APP_RESULT_BYTES) == 0 && text.n)
        take(i, text.p, text.n);
}

void quality_look(struct streammgr *m)
{
    size_t n = instances_of(m, NULL), at = 0, number = 0, from = n ? m->quality_at % n : 0;
    for (struct app *a; n && (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next, number++)
            if (i->state != INSTANCE_starting && (number + n - from) % n < LOOK_AT_ONCE)
                look(i);
    m->quality_at = from + LOOK_AT_ONCE;
}

/* Adds a day of the instance to its app's. */
static void add_day(struct instances_db *b, const struct instance *i, int64_t day)
{
    AUTO_FREE char *sum = instances_db_quality(b, i, "", day), *own = instances_db_quality(b, i, i->run_id, day);
    AUTO_BUF struct buf out = {0};
    struct quality q;
    quality_init(&q, day);
    const char *const texts[] = {sum, own};
    for (int k = 0; k < 2; k++) {
        AUTO_BSON bson_t *kept = texts[k] ? json_parse(texts[k], strlen(texts[k]), NULL) : NULL;
        if (kept)
            quality_add_kept(&q, kept);
    }
    quality_keep(&q, &out);
    quality_fini(&q);
    instances_db_put_quality(b, i, "", day, out.p);
}

void quality_end(struct instances_db *b, const struct instance *i, const struct run_result *res)
{
    int64_t days[MAX_DAYS];
    if (res->app_result)
        take(i, res->app_result, strlen(res->app_result));
    for (size_t n; (n = instances_db_quality_days(b, i, days, MAX_DAYS)) > 0;) {
        for (size_t k = 0; k < n; k++) {
            add_day(b, i, days[k]);
            if (!instances_db_drop_quality(b, i, days[k]))
                return;
        }
    }
}
