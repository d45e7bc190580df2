/* mysimbdp file ID: all that is known of a file. */
#include "listing.h"

#include "base/mem.h"
#include "query/records.h"

#include <stdio.h>

static const struct col story_cols[] = {
    {"at", COL_TIME, 1},      {"event", COL_TEXT, 1},  {"app", COL_TEXT, 2},    {"step", COL_TEXT, 6},  {"attempt", COL_COUNT, 5},
    {"outcome", COL_TEXT, 1}, {"reason", COL_TEXT, 3}, {"detail", COL_LONG, 2}, {"until", COL_TIME, 4}, {"run_id", COL_ID, 3},
};

static void print_part(const struct remote *r, const bson_t *file, const char *key, const struct col *cols, size_t n_cols)
{
    AUTO_DOCS struct docs d = {0};
    bson_iter_t it;
    bson_t one;
    for (bool more = json_get_iter(file, key, &it); more && json_next_doc(&it, &one);)
        docs_add(&d, &one);
    if (!d.n)
        return;
    printf("\n%s:\n", key);
    listing_print(r, &d, cols, n_cols, false);
}

int verb_file(struct remote *r)
{
    static const char *const parts[] = {"story", "runs", NULL};
    AUTO_BUF struct buf path = {0};
    int code = remote_args(r, 1, 1);
    if (code || (code = remote_open(r)))
        return code;
    const char *id = r->argv[0];
    if ((code = remote_whole_id(r, false, &id)))
        return code;
    remote_path(r, &path, "files/");
    http_escape(&path, id);
    AUTO_BSON bson_t *file = remote_ask(r, path.p);
    if (!file)
        return REMOTE_FAILED;
    if (r->json) {
        listing_object(file);
        return REMOTE_DONE;
    }
    AUTO_FREE char *why = listing_cell(file, &(struct col){"why", COL_WORDS, 1});
    listing_members(file, parts);
    if (why)
        printf("%s: %s\n", json_get_str(file, "state", "?"), why);
    print_part(r, file, "story", story_cols, sizeof story_cols / sizeof *story_cols);
    print_part(r, file, "runs", records_runs.cols, records_runs.n_cols);
    return REMOTE_DONE;
}

int verb_run(struct remote *r)
{
    AUTO_BUF struct buf path = {0};
    int code = remote_args(r, 1, 1);
    if (code || (code = remote_open(r)))
        return code;
    const char *id = r->argv[0];
    if ((code = remote_whole_id(r, true, &id)))
        return code;
    remote_path(r, &path, "runs/");
    http_escape(&path, id);
    AUTO_BSON bson_t *run = remote_ask(r, path.p);
    if (run && r->json)
        listing_object(run);
    else if (run)
        listing_members(run, NULL);
    return run ? REMOTE_DONE : REMOTE_FAILED;
}
