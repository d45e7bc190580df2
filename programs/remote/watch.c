/* mysimbdp files --watch: asks again and again for the newest files, and prints those whose state is another than before. Of those
 * on their way that are no longer among the newest, each is asked for by itself. */
#include "watch.h"
#include "listing.h"

#include "base/clk.h"
#include "base/map.h"
#include "base/mem.h"
#include "query/words.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { EVERY_MS = 1000, NEWEST = 500, MAX_ALONE = 50, MAX_KNOWN = 100000 };

struct watch {
    struct remote *r;
    struct map files; /* file_id -> struct file */
    bool first;       /* what is there at the beginning is no change */
};

struct file {
    char id[ID_SIZE], state[16];
};

static bool is_final(const char *state)
{
    static const char *const on_the_way[] = {"received", "queued", "running", "waiting"};
    for (size_t i = 0; i < sizeof on_the_way / sizeof *on_the_way; i++)
        if (!strcmp(state, on_the_way[i]))
            return false;
    return true;
}

static void print_change(const struct watch *w, const bson_t *file)
{
    char stamp[CLK_RFC3339_SIZE];
    if (w->r->json) {
        listing_object(file);
        return;
    }
    AUTO_FREE char *why = listing_cell(file, &(struct col){"why", COL_WORDS, 1});
    printf("%.19s  %s  %-11s  %s/%s%s%s\n", clk_rfc3339(clk_wall_ms(), stamp), json_get_str(file, "file_id", "?"),
           json_get_str(file, "state", "?"), json_get_str(file, "dataset", "?"), json_get_str(file, "file_name", "?"),
           why ? ": " : "", why ? why : "");
}

static void look_at(struct watch *w, const bson_t *doc)
{
    const char *id = json_get_str(doc, "file_id", ""), *state = json_get_str(doc, "state", "");
    struct file *f = map_get(&w->files, id);
    if (f && !strcmp(f->state, state))
        return;
    if (!w->first)
        print_change(w, doc);
    if (!f) {
        f = xcalloc(1, sizeof *f);
        snprintf(f->id, sizeof f->id, "%s", id);
        map_put(&w->files, id, f);
    }
    snprintf(f->state, sizeof f->state, "%s", state);
}

/* Asks for what is on its way and was not on the page. */
static int look_at_others(struct watch *w, const struct map *seen, struct err *e)
{
    AUTO_DOCS struct docs found = {0};
    size_t at = 0;
    int n = 0, r = 0;
    for (struct file *f; r == 0 && n < MAX_ALONE && (f = map_next(&w->files, &at));) {
        AUTO_BUF struct buf path = {0};
        AUTO_BSON bson_t *doc = NULL;
        if (is_final(f->state) || map_get(seen, f->id))
            continue;
        remote_path(w->r, &path, "files/%s", f->id);
        r = remote_get(w->r, path.p, &doc, e);
        if (doc)
            docs_add(&found, doc);
        n++;
    }
    for (size_t i = 0; i < found.n; i++)
        look_at(w, found.v[i]);
    return r;
}

static int look(struct watch *w, const char *query, struct err *e)
{
    AUTO_DOCS struct docs page = {0};
    struct map seen = {0};
    int r = listing_pages(w->r, "files", query, NEWEST, &page, e);
    for (size_t i = page.n; r == 0 && i-- > 0;) {
        look_at(w, page.v[i]);
        map_put(&seen, json_get_str(page.v[i], "file_id", ""), &seen);
    }
    if (r == 0)
        r = look_at_others(w, &seen, e);
    map_fini(&seen);
    w->first = false;
    return r;
}

static void forget_all(struct watch *w)
{
    size_t i = 0;
    for (struct file *f; (f = map_next(&w->files, &i));)
        free(f);
    map_fini(&w->files);
}

int watch_files(struct remote *r, const char *query)
{
    struct watch w = {.r = r, .first = true};
    struct err e = {0};
    int n = 0;
    while ((n = look(&w, query, &e)) == 0) {
        fflush(stdout);
        if (ferror(stdout))
            break;
        if (w.files.n > MAX_KNOWN) {
            forget_all(&w);
            w.first = true;
        }
        poll(NULL, 0, EVERY_MS);
    }
    forget_all(&w);
    return n < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}
