/* mysimbdp events -f: what happens, as the gateway tells it (server-sent events), an event a line. */
#include "listing.h"
#include "sse.h"

#include "base/mem.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>

enum { INDENT = 4 };

static void print_human(const bson_t *doc)
{
    static const char *const shown[] = {"ts", "event", "tenant_id"};
    AUTO_BUF struct buf b = {0}, lines = {0};
    bson_iter_t it;
    buf_addf(&b, "%.19s  %s ", json_get_str(doc, "ts", "?"), json_get_str(doc, "event", "?"));
    for (bool more = bson_iter_init(&it, doc) && bson_iter_next(&it); more; more = bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        bool is_shown = false;
        for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
            is_shown |= !strcmp(key, shown[i]);
        AUTO_FREE char *text = is_shown ? NULL : listing_cell(doc, &(struct col){key, COL_TEXT, 1});
        AUTO_FREE char *plain = text ? table_plain(text) : NULL;
        if (plain && *plain)
            buf_addf(&b, " %s=%s", key, plain);
    }
    table_fold(&lines, b.p, 0, INDENT, table_room());
    puts(lines.p);
}

static bool on_event(void *arg, const char *name, const bson_t *doc)
{
    const struct remote *r = arg;
    if (!strcmp(name, "gap")) {
        fflush(stdout);
        fputs("some events are gone: more came than is kept; `mysimbdp files` and `mysimbdp runs` have all\n", stderr);
    } else if (doc && r->json) {
        listing_object(doc);
    } else if (doc) {
        print_human(doc);
    }
    return true;
}

/* Until nobody reads. */
static bool on_pause(void *arg)
{
    (void)arg;
    return fflush(stdout) == 0 && !ferror(stdout);
}

int verb_events(struct remote *r)
{
    const char *types = remote_opt(r, "--types");
    bool f = remote_flag(r, "-f");
    AUTO_BUF struct buf path = {0};
    struct err e = {0};
    int code = remote_args(r, 0, 0);
    if (!code && !f)
        code = remote_usage(r, "give -f: events are told from now on; `mysimbdp files` and `mysimbdp runs` have what was");
    if (code || (code = remote_open(r)))
        return code;
    remote_path(r, &path, "events");
    if (types) {
        buf_adds(&path, "?types=");
        http_escape(&path, types);
    }
    struct sse s = {.r = r, .path = path.p, .on_event = on_event, .on_pause = on_pause, .arg = r};
    return sse_follow(&s, &e) < 0 ? remote_fail(r, &e) : REMOTE_DONE;
}
