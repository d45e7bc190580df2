/* Verbs that are one order: retry, delete, stop. */
#include "remote.h"

#include <stdio.h>

static void print_count(const struct remote *r, const bson_t *doc, const char *one, const char *many)
{
    long long n = (long long)json_get_i64(doc, "n", 0);
    if (r->json)
        printf("{\"n\":%lld}\n", n);
    else
        printf("%lld %s\n", n, n == 1 ? one : many);
}

/* An order about what has an id. */
static int order(struct remote *r, bool run, const char *method, const char *suffix, const char *one, const char *many)
{
    AUTO_BUF struct buf path = {0};
    const char *id = r->argv[0];
    int code = remote_whole_id(r, run, &id);
    if (code)
        return code;
    remote_path(r, &path, run ? "runs/" : "files/");
    http_escape(&path, id);
    buf_adds(&path, suffix);
    AUTO_BSON bson_t *doc = remote_order(r, method, path.p, NULL);
    if (!doc)
        return REMOTE_FAILED;
    print_count(r, doc, one, many);
    return REMOTE_DONE;
}

int verb_retry(struct remote *r)
{
    AUTO_BUF struct buf path = {0};
    bool all = remote_flag(r, "--all");
    int code = remote_args(r, all ? 0 : 1, all ? 0 : 1);
    if (code || (code = remote_open(r)))
        return code;
    if (!all)
        return order(r, false, "POST", ":retry", "file is tried again", "files are tried again");
    remote_path(r, &path, "files:retry");
    AUTO_BSON bson_t *doc = remote_order(r, "POST", path.p, NULL);
    if (doc)
        print_count(r, doc, "file is tried again", "files are tried again");
    return doc ? REMOTE_DONE : REMOTE_FAILED;
}

int verb_delete(struct remote *r)
{
    int code = remote_args(r, 1, 1);
    if (code || (code = remote_open(r)))
        return code;
    return order(r, false, "DELETE", "", "file is removed", "files are removed");
}

int verb_stop(struct remote *r)
{
    int code = remote_args(r, 1, 1);
    if (code || (code = remote_open(r)))
        return code;
    return order(r, true, "POST", ":stop", "run is stopped", "runs are stopped");
}
