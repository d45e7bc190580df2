#include "watchers.h"

enum { WATCHER_BACKLOG = 1 << 20 };

void watchers_add_sub(struct buf *out, const char *key, const struct broker_sub *bs)
{
    json_begin(out, key, '{');
    json_str(out, "tenant_id", bs->stream->tenant->id);
    json_str(out, "stream", bs->stream->name);
    json_str(out, "app", sub_name(bs->sub));
    json_end(out, '}');
}

void watchers_tell(struct ctl_conn *c, const struct broker_sub *bs)
{
    AUTO_BUF struct buf line = {0};
    if (!bs->told || ctl_backlog(c) > WATCHER_BACKLOG)
        return; /* one that does not read asks for `consumers` when it reads again */
    json_begin(&line, NULL, '{');
    watchers_add_sub(&line, "activate", bs);
    json_end(&line, '}');
    ctl_send(c, &line);
}

void watchers_activate(struct broker_sub *bs)
{
    struct broker *b = bs->stream->b;
    bs->told = true;
    for (size_t i = 0; i < b->n_watchers; i++)
        watchers_tell(b->watchers[i], bs);
}

int watchers_add(struct broker *b, struct ctl_conn *c)
{
    if (b->n_watchers == sizeof b->watchers / sizeof *b->watchers)
        return -1;
    ctl_hold(c);
    b->watchers[b->n_watchers++] = c;
    return 0;
}

void watchers_remove(struct broker *b, struct ctl_conn *c)
{
    for (size_t i = 0; i < b->n_watchers; i++)
        if (b->watchers[i] == c) {
            b->watchers[i] = b->watchers[--b->n_watchers];
            ctl_release(c);
            return;
        }
}

void watchers_end(struct broker *b)
{
    while (b->n_watchers)
        ctl_release(b->watchers[--b->n_watchers]);
}
