/* mysimbdp files --watch, runs --watch. The gateway tells what happens (server-sent events), and of what it names the record is
 * asked for, which has the whole truth; so is everything when a connection begins, since events before it were not heard. Where
 * there may be no more such streams (429 event_streams) it asks again and again. */
#include "watch.h"
#include "listing.h"
#include "sse.h"

#include "base/mem.h"
#include "query/changes.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { EVERY_MS = 1000, MAX_NAMED = 20 /* more of them are a listing */ };

struct watch {
    struct remote *r;
    const struct records *of;
    const char *query, *dataset; /* dataset NULL: all */
    struct changes *known;
    char named[MAX_NAMED][ID_SIZE]; /* what events named since the last look */
    size_t n_named;
    bool many; /* more than that */
    struct err e;
};

static void take(struct watch *w, const bson_t *row)
{
    if (changes_take(w->known, row))
        changes_print(w->known, row, w->r->json);
}

/* One of them; it may be gone. */
static int ask_for(struct watch *w, const char *id)
{
    AUTO_BUF struct buf path = {0};
    AUTO_BSON bson_t *doc = NULL;
    remote_path(w->r, &path, "%s/%s", w->of->what, id);
    int n = remote_get(w->r, path.p, &doc, &w->e);
    bson_t row = BSON_INITIALIZER;
    if (doc && (!w->dataset || !strcmp(json_get_str(doc, "dataset", ""), w->dataset))) {
        bson_copy_to_excluding_noinit(doc, &row, "story", "runs", NULL);
        take(w, &row);
    }
    bson_destroy(&row);
    if (n != ERR_REFUSED || !w->e.reason || strcmp(w->e.reason, "not_found") != 0)
        return n;
    w->e = (struct err){0};
    return 0;
}

/* All that is wanted, and what is on its way and older than that. */
static int look(struct watch *w)
{
    AUTO_DOCS struct docs page = {0};
    int r = listing_pages(w->r, w->of->what, w->query, CHANGES_NEWEST, &page, &w->e);
    if (r < 0)
        return r;
    changes_begin(w->known);
    for (size_t i = page.n; i-- > 0;)
        take(w, page.v[i]);
    for (const char *id; r == 0 && (id = changes_missing(w->known));)
        r = ask_for(w, id);
    changes_end(w->known);
    return r;
}

static bool is_read(void)
{
    return fflush(stdout) == 0 && !ferror(stdout);
}

static bool on_begin(void *arg)
{
    struct watch *w = arg;
    w->n_named = 0;
    w->many = false;
    return look(w) == 0 && is_read();
}

static bool on_event(void *arg, const char *name, const bson_t *doc)
{
    struct watch *w = arg;
    const char *id = doc ? json_get_str(doc, w->of->id, "") : "";
    w->many |= !strcmp(name, "gap");
    for (size_t i = 0; i < w->n_named; i++)
        if (!strcmp(w->named[i], id))
            return true;
    if (!home_valid_id(id))
        return true;
    if (w->n_named == MAX_NAMED)
        w->many = true;
    else
        memcpy(w->named[w->n_named++], id, ID_SIZE);
    return true;
}

/* Where a filter is more than can be seen of a record, the listing is asked. */
static bool on_pause(void *arg)
{
    struct watch *w = arg;
    int r = 0;
    if (w->many || (w->n_named && *w->query && !w->dataset))
        r = look(w);
    else
        for (size_t i = 0; r == 0 && i < w->n_named; i++)
            r = ask_for(w, w->named[i]);
    w->n_named = 0;
    w->many = false;
    return r == 0 && is_read();
}

/* Without a stream of events. */
static int ask_again_and_again(struct watch *w)
{
    int n;
    while ((n = look(w)) == 0 && is_read())
        poll(NULL, 0, EVERY_MS);
    return n;
}

int watch_records(struct remote *r, const struct records *of, const char *query, const char *dataset)
{
    AUTO_BUF struct buf path = {0};
    struct err e = {0};
    struct watch w = {.r = r, .of = of, .query = query, .dataset = dataset, .known = changes_new(of)};
    remote_path(r, &path, "events?types=%s", of == &records_files ? "file" : "run,instance");
    struct sse s = {
        .r = r, .path = path.p, .may_give_way = true, .on_begin = on_begin, .on_event = on_event, .on_pause = on_pause, .arg = &w};
    int n = sse_follow(&s, &e);
    if (n == 0 && w.e.code && is_read()) { /* it was one of the questions that failed */
        e = w.e;
        n = e.code;
    } else if (n == ERR_REFUSED && e.reason && !strcmp(e.reason, SSE_TOO_MANY)) {
        n = ask_again_and_again(&w);
        e = w.e;
    }
    changes_free(w.known);
    return n < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}
