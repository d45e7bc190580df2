/* mysimbdp app, apps: the tenant's apps, their versions and instances. */
#include "listing.h"
#include "pack.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/strs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { BUILD_LOOK_MS = 1000 };

/* The path of an app, with what follows it. */
static char *app_path(const struct remote *r, const char *app, const char *rest)
{
    struct buf b = {0};
    remote_path(r, &b, "apps/");
    http_escape(&b, app);
    buf_adds(&b, rest);
    return b.p;
}

/* Prints an order's answer: with --json as it is, else in words. NULL: it failed. */
static int print_answer(const struct remote *r, const bson_t *doc, void (*print)(const bson_t *))
{
    if (!doc)
        return REMOTE_FAILED;
    if (r->json)
        listing_object(doc);
    else
        print(doc);
    return REMOTE_DONE;
}

static int tell(struct remote *r, const char *method, const char *path, const char *json, void (*print)(const bson_t *))
{
    AUTO_BSON bson_t *doc = remote_order(r, method, path, json);
    return print_answer(r, doc, print);
}

/* ---- list ---- */

static int list(struct remote *r)
{
    static const struct col cols[] = {
        {"app", COL_TEXT, 1},      {"kind", COL_TEXT, 1},      {"datasets", COL_LONG, 2},       {"pattern", COL_LONG, 4},
        {"stream", COL_TEXT, 2},   {"trigger", COL_TEXT, 3},   {"output", COL_TEXT, 5},         {"priority", COL_COUNT, 7},
        {"delivery", COL_TEXT, 7}, {"on_demand", COL_BOOL, 8}, {"min_instances", COL_COUNT, 6}, {"max_instances", COL_COUNT, 6},
        {"running", COL_COUNT, 1},
    };
    AUTO_BUF struct buf path = {0};
    AUTO_DOCS struct docs d = {0};
    bson_iter_t it;
    bson_t one;
    remote_path(r, &path, "apps");
    AUTO_BSON bson_t *doc = remote_ask(r, path.p);
    if (!doc)
        return REMOTE_FAILED;
    for (bool more = json_get_iter(doc, "apps", &it); more && json_next_doc(&it, &one);)
        docs_add(&d, &one);
    listing_print(r, &d, cols, sizeof cols / sizeof *cols, false);
    if (!d.n && !r->json)
        fputs("no apps\n", stderr);
    return REMOTE_DONE;
}

int verb_apps(struct remote *r)
{
    int code = remote_args(r, 0, 0);
    return code || (code = remote_open(r)) ? code : list(r);
}

static int versions(struct remote *r, const char *app)
{
    static const struct col cols[] = {
        {"version", COL_ID, 1},  {"state", COL_TEXT, 1},  {"active", COL_BOOL, 1}, {"created_at", COL_TIME, 2},
        {"bytes", COL_COUNT, 3}, {"files", COL_COUNT, 4}, {"by", COL_TEXT, 5},     {"reason", COL_LONG, 2},
    };
    AUTO_FREE char *path = app_path(r, app, "/versions");
    AUTO_DOCS struct docs d = {0};
    AUTO_BSON bson_t *doc = remote_ask(r, path);
    bson_iter_t it;
    bson_t one;
    if (!doc)
        return REMOTE_FAILED;
    for (bool more = json_get_iter(doc, "versions", &it); more && json_next_doc(&it, &one);)
        docs_add(&d, &one);
    listing_print(r, &d, cols, sizeof cols / sizeof *cols, false);
    if (!d.n && !r->json)
        fprintf(stderr, "no versions of %s were uploaded\n", app);
    return REMOTE_DONE;
}

/* ---- push ---- */

struct parcel {
    int fd;
    int64_t size;
    const char *type; /* of its content */
    char digest[96];  /* the field Content-Digest */
    char sha256[65];  /* the same in hex: what a version is known by until it is built */
};

static int digest(struct parcel *p, struct err *e)
{
    crypto_hash_sha256_state state;
    unsigned char hash[crypto_hash_sha256_BYTES];
    char text[sodium_base64_ENCODED_LEN(sizeof hash, sodium_base64_VARIANT_ORIGINAL)];
    AUTO_FREE unsigned char *chunk = xmalloc(1 << 20);
    int64_t at = 0;
    crypto_hash_sha256_init(&state);
    for (ssize_t n; (n = pread(p->fd, chunk, 1 << 20, at)) != 0; at += n) {
        if (n < 0)
            return err_sys(e, -errno, "cannot read what is to be sent");
        crypto_hash_sha256_update(&state, chunk, (unsigned long long)n);
    }
    crypto_hash_sha256_final(&state, hash);
    sodium_bin2hex(p->sha256, sizeof p->sha256, hash, sizeof hash);
    sodium_bin2base64(text, sizeof text, hash, sizeof hash, sodium_base64_VARIANT_ORIGINAL);
    snprintf(p->digest, sizeof p->digest, "Content-Digest: sha-256=:%s:", text);
    p->size = at;
    return 0;
}

static const char *type_of(const char *name)
{
    return str_has_ending(name, ".tar.gz") || str_has_ending(name, ".tgz") ? "Content-Type: application/gzip"
           : str_has_ending(name, ".tar.zst")                              ? "Content-Type: application/zstd"
           : str_has_ending(name, ".zip")                                  ? "Content-Type: application/zip"
                                                                           : "Content-Type: application/octet-stream";
}

static int make_parcel(const char *path, struct parcel *p, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_sys(e, -errno, "%s", path);
    p->fd = S_ISDIR(st.st_mode) ? pack_directory(path, e) : fd_open_regular(path, &st);
    if (p->fd < 0)
        return S_ISDIR(st.st_mode) ? p->fd : err_sys(e, p->fd, "cannot read %s", path);
    p->type = S_ISDIR(st.st_mode) ? "Content-Type: application/gzip" : type_of(path);
    return digest(p, e);
}

static bool is_building(const bson_t *doc)
{
    return !strcmp(json_get_str(doc, "state", ""), "building");
}

/* The version's entry in the list of all, once it is built. NULL after a complaint. */
static bson_t *wait_built(struct remote *r, const char *app, const char *sha256)
{
    AUTO_FREE char *path = app_path(r, app, "/versions");
    for (;;) {
        AUTO_BSON bson_t *all = remote_ask(r, path);
        bson_iter_t it;
        bson_t one;
        bool found = false;
        if (!all)
            return NULL;
        for (bool more = json_get_iter(all, "versions", &it); more && json_next_doc(&it, &one);) {
            if (strcmp(json_get_str(&one, "sha256", ""), sha256) != 0)
                continue;
            found = true;
            if (!is_building(&one))
                return bson_copy(&one);
        }
        if (!found) {
            fprintf(stderr, "error: what was pushed for %s is not among its versions any more; push it again\n", app);
            return NULL;
        }
        poll(NULL, 0, BUILD_LOOK_MS);
    }
}

static int print_pushed(struct remote *r, const char *app, const bson_t *doc)
{
    const char *state = json_get_str(doc, "state", "?"), *reason = json_get_str(doc, "reason", NULL);
    if (r->json)
        listing_object(doc);
    else
        printf("%s %s%s%s%s%s%s\n", app, json_get_str(doc, "version", ""), json_get_str(doc, "version", NULL) ? " " : "", state,
               json_get_bool(doc, "active", false) ? ", active" : "", reason ? ": " : "", reason ? reason : "");
    return !strcmp(state, "ready") || is_building(doc) ? REMOTE_DONE : REMOTE_FAILED;
}

static int send_parcel(struct remote *r, const char *app, const struct parcel *p, bool activate, bool wait)
{
    AUTO_FREE char *path = app_path(r, app, activate ? "/versions?activate=true" : "/versions");
    AUTO_ANSWER struct http_answer a = {0};
    struct err e = {0};
    const char *const fields[] = {p->type, p->digest, NULL};
    struct http_body body = {.fd = p->fd, .n = p->size};
    /* The same bytes are the same version: they may come twice. */
    struct http_request rq = {.method = "PUT", .path = path, .fields = fields, .body = &body, .again = true};
    if (http_ask(r->http, &rq, &a, &e) < 0)
        return remote_fail(r, &e);
    AUTO_BSON bson_t *doc = json_parse(a.body.n ? a.body.p : "", a.body.n, &e);
    if (!doc)
        return remote_fail(r, &e);
    if (!is_building(doc) || !wait)
        return print_pushed(r, app, doc);
    AUTO_BSON bson_t *built = wait_built(r, app, p->sha256);
    return built ? print_pushed(r, app, built) : REMOTE_FAILED;
}

static int push(struct remote *r, const char *app, const char *what, bool activate, bool wait)
{
    struct err e = {0};
    struct parcel p = {.fd = -1};
    int n = make_parcel(what, &p, &e);
    int code = n < 0 ? remote_fail(r, &e) : send_parcel(r, app, &p, activate, wait);
    if (p.fd >= 0)
        close(p.fd);
    return code;
}

/* ---- orders ---- */

static void print_active(const bson_t *doc)
{
    const char *before = json_get_str(doc, "previous", NULL), *now = json_get_str(doc, "version", NULL);
    printf("%s %s is active%s%s\n", json_get_str(doc, "app", "?"), now ? now : "as the provider has it",
           before ? "; before it: " : "", before ? before : "");
}

/* The id alone on the standard output, for scripts. */
static void print_started(const bson_t *doc)
{
    const char *id = json_get_str(doc, "instance_id", NULL);
    if (id)
        puts(id);
    else
        fprintf(stderr, "no instance yet: %s\n", json_get_str(doc, "reason", "it comes when it can"));
}

static void print_stopped(const bson_t *doc)
{
    (void)doc;
    puts("it is being stopped");
}

static void print_released(const bson_t *doc)
{
    printf("%lld files go\n", (long long)json_get_i64(doc, "n", 0));
}

static int app_order(struct remote *r, const char *app, const char *suffix, void (*print)(const bson_t *))
{
    AUTO_FREE char *path = app_path(r, app, suffix);
    return tell(r, "POST", path, NULL, print);
}

/* With arguments it is one more instance; without them the app runs again. */
static int start(struct remote *r, const char *app, char *const *arguments)
{
    AUTO_FREE char *path = app_path(r, app, "/instances");
    AUTO_BUF struct buf b = {0};
    if (!*arguments)
        return app_order(r, app, ":start", print_started);
    json_begin(&b, NULL, '{');
    json_begin(&b, "args", '[');
    for (; *arguments; arguments++)
        json_str(&b, NULL, *arguments);
    json_end(&b, ']');
    json_end(&b, '}');
    AUTO_BSON bson_t *doc = remote_order_once(r, "POST", path, b.p);
    return print_answer(r, doc, print_started);
}

static void print_scaled(const bson_t *doc)
{
    (void)doc;
    puts("it is being scaled");
}

static int scale(struct remote *r, const char *app, const char *count)
{
    AUTO_FREE char *path = app_path(r, app, ":scale");
    AUTO_BUF struct buf b = {0};
    int64_t n = -1;
    int code = strcmp(count, "auto") ? remote_number(r, "COUNT", count, 0, INT32_MAX, &n) : 0;
    if (code)
        return code;
    json_begin(&b, NULL, '{');
    json_i64_or_null(&b, "count", n);
    json_end(&b, '}');
    return tell(r, "POST", path, b.p, print_scaled);
}

static int instances(struct remote *r)
{
    static const struct col cols[] = {
        {"instance_id", COL_ID, 1}, {"app", COL_TEXT, 1},        {"state", COL_TEXT, 1},
        {"run_id", COL_ID, 3},      {"started_at", COL_TIME, 2}, {"in_flight", COL_COUNT, 4},
        {"by_hand", COL_BOOL, 5},   {"args", COL_LONG, 3},       {"reason", COL_LONG, 2},
    };
    AUTO_BUF struct buf path = {0};
    AUTO_DOCS struct docs d = {0};
    bson_iter_t it;
    bson_t one;
    remote_path(r, &path, "instances");
    AUTO_BSON bson_t *doc = remote_ask(r, path.p);
    if (!doc)
        return REMOTE_FAILED;
    for (bool more = json_get_iter(doc, "instances", &it); more && json_next_doc(&it, &one);)
        docs_add(&d, &one);
    listing_print(r, &d, cols, sizeof cols / sizeof *cols, false);
    if (!d.n && !r->json)
        fputs("no instances\n", stderr);
    return REMOTE_DONE;
}

static int activate(struct remote *r, const char *app, const char *version)
{
    AUTO_BUF struct buf rest = {0};
    buf_adds(&rest, "/versions/");
    http_escape(&rest, version);
    buf_adds(&rest, ":activate");
    AUTO_FREE char *path = app_path(r, app, rest.p);
    return tell(r, "POST", path, NULL, print_active);
}

static void print_removed(const bson_t *doc)
{
    (void)doc;
    puts("it is removed");
}

static int remove_version(struct remote *r, const char *app, const char *version)
{
    AUTO_BUF struct buf rest = {0};
    buf_adds(&rest, "/versions/");
    http_escape(&rest, version);
    AUTO_FREE char *path = app_path(r, app, rest.p);
    return tell(r, "DELETE", path, NULL, print_removed);
}

/* An instance by its id, or an app with all of its own. */
static int stop(struct remote *r, const char *what)
{
    AUTO_BUF struct buf path = {0};
    if (!home_valid_id(what))
        return app_order(r, what, ":stop", print_stopped);
    remote_path(r, &path, "instances/%s:stop", what);
    return tell(r, "POST", path.p, NULL, print_stopped);
}

/* Takes off what is behind the app, or behind "--": that is the instance's. */
static char **take_arguments(struct remote *r)
{
    int at = 0;
    while (at < r->argc && at < 2 && strcmp(r->argv[at], "--") != 0)
        at++;
    char **rest = r->argv + at;
    if (at < r->argc && !strcmp(r->argv[at], "--"))
        rest++;
    r->argc = at;
    return rest;
}

static const struct {
    const char *name;
    int n; /* of arguments behind it */
} known[] = {{"list", 0},   {"instances", 0}, {"push", 2},  {"versions", 1}, {"activate", 2}, {"rollback", 1},
             {"remove", 2}, {"scale", 2},     {"start", 1}, {"stop", 1},     {"run", 1}};

static int check(struct remote *r)
{
    for (size_t i = 0; r->argc && i < sizeof known / sizeof *known; i++)
        if (!strcmp(r->argv[0], known[i].name))
            return remote_args(r, known[i].n + 1, known[i].n + 1);
    return remote_usage(r, "say what about apps");
}

int verb_app(struct remote *r)
{
    char **arguments = r->argc && !strcmp(r->argv[0], "start") ? take_arguments(r) : NULL;
    bool at_once = remote_flag(r, "--activate"), no_wait = remote_flag(r, "--no-wait");
    int code = check(r);
    if (!code && r->argc && strcmp(r->argv[0], "push") && (at_once || no_wait))
        code = remote_usage(r, "--activate and --no-wait are for push");
    if (code)
        return code;
    const char *what = r->argv[0], *app = r->argv[1];
    if (!r->retry_for_ms && !strcmp(what, "push"))
        r->retry_for_ms = REMOTE_SEND_MS;
    if ((code = remote_open(r)))
        return code;
    return !strcmp(what, "list")        ? list(r)
           : !strcmp(what, "push")      ? push(r, app, r->argv[2], at_once, !no_wait)
           : !strcmp(what, "versions")  ? versions(r, app)
           : !strcmp(what, "activate")  ? activate(r, app, r->argv[2])
           : !strcmp(what, "rollback")  ? app_order(r, app, ":rollback", print_active)
           : !strcmp(what, "instances") ? instances(r)
           : !strcmp(what, "scale")     ? scale(r, app, r->argv[2])
           : !strcmp(what, "remove")    ? remove_version(r, app, r->argv[2])
           : !strcmp(what, "start")     ? start(r, app, arguments)
           : !strcmp(what, "stop")      ? stop(r, app)
                                        : app_order(r, app, ":run", print_released);
}
