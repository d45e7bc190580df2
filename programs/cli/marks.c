#include "marks.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

enum { MAX_BYTES = 16 << 20 };

void marks_each_lost(const struct home *h, void (*fn)(void *arg, const char *tenant, const char *why), void *arg)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    bson_t one;
    if (fd_read_file(h->dirfd, HOME_MONGO_MARKS, &b, MAX_BYTES, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    if (!doc || !json_get_iter(doc, "marks", &it))
        return;
    while (json_next_doc(&it, &one)) {
        const char *why = json_get_str(&one, "lost", NULL);
        if (why)
            fn(arg, json_get_str(&one, "tenant", ""), why);
    }
}
