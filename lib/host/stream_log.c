#include "stream_log.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    struct map last; /* by stream and app */
    void (*fn)(void *arg, const struct stream_interval *v, int sign);
    void *arg;
};

static void add_line(struct reading *k, const bson_t *line)
{
    const char *app = json_get_str(line, "app", NULL);
    struct stream_interval v = {.of_app = app != NULL, .messages = json_get_i64(line, "messages", 0)};
    if (strcmp(json_get_str(line, "event", ""), "interval") || clk_parse(json_get_str(line, "ts", ""), &v.at_ms) < 0)
        return;
    AUTO_FREE char *key = xasprintf("%s/%s", json_get_str(line, "stream", ""), app ? app : "");
    snprintf(v.stream, sizeof v.stream, "%s", json_get_str(line, "stream", ""));
    snprintf(v.app, sizeof v.app, "%s", app ? app : "");
    snprintf(v.line, sizeof v.line, "%s", json_get_str(line, "line", ""));
    v.bytes = json_get_i64(line, "bytes", 0);
    v.rows = json_get_i64(line, "rows", 0);
    v.refused = json_get_i64(line, "refused", 0);
    v.dead = json_get_i64(line, "dead", 0);
    v.ms = (double)v.messages * json_get_f64(line, "avg_ms", 0);
    struct stream_interval *was = map_get(&k->last, key);
    if (!was) {
        was = xcalloc(1, sizeof *was);
        map_put(&k->last, key, was);
    } else if (*v.line && !strcmp(was->line, v.line)) {
        k->fn(k->arg, was, -1);
    }
    *was = v;
    k->fn(k->arg, was, 1);
}

int stream_log_read(int home_fd, const char *tenant, void (*fn)(void *arg, const struct stream_interval *v, int sign), void *arg)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s/stream.jsonl", tenant);
    struct reading k = {.fn = fn, .arg = arg};
    int fd = openat(home_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    char *line = NULL;
    size_t cap = 0, i = 0;
    if (!file)
        return errno == ENOENT ? 0 : -errno;
    for (ssize_t n; (n = getline(&line, &cap, file)) > 0;) {
        AUTO_BSON bson_t *doc = json_parse(line, (size_t)n, NULL); /* a crash may have cut off the last line */
        if (doc)
            add_line(&k, doc);
    }
    free(line);
    fclose(file);
    for (void *v; (v = map_next(&k.last, &i));)
        free(v);
    map_fini(&k.last);
    return 0;
}
