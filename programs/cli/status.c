#include "cli.h"
#include "restored_note.h"
#include "term/table.h"

#include "base/fd.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const struct col tenant_cols[] = {
    {"tenant", COL_TEXT, 1}, {"state", COL_TEXT, 1},    {"unfinished", COL_COUNT, 2}, {"queued", COL_COUNT, 1},
    {"held", COL_COUNT, 2},  {"running", COL_COUNT, 1}, {"waits for", COL_LONG, 1},
};

static char *count_of(const bson_t *t, const char *key)
{
    return xasprintf("%lld", (long long)json_get_i64(t, key, 0));
}

static void print_tenants(const bson_t *doc)
{
    bson_iter_t it;
    bson_t t;
    struct table *table = table_new(tenant_cols, sizeof tenant_cols / sizeof *tenant_cols);
    if (json_get_iter(doc, "tenants", &it))
        while (json_next_doc(&it, &t))
            table_add(table, (char *[]){xstrdup(json_get_str(&t, "tenant_id", "")), xstrdup(json_get_str(&t, "state", "")),
                                        count_of(&t, "unfinished"), count_of(&t, "queued"), count_of(&t, "held"),
                                        count_of(&t, "running"), xstrdup(json_get_str(&t, "waits_for", NULL))});
    table_print(table);
    table_free(table);
}

static void print_parked(const bson_t *doc)
{
    bson_iter_t it;
    if (json_get_iter(doc, "parked_apps", &it))
        while (bson_iter_next(&it))
            printf("parked:   %s (cannot be executed; `mysimbdp runs` says why)\n", bson_iter_utf8(&it, NULL));
}

static void print_broker(const struct home *h)
{
    AUTO_BSON bson_t *doc = NULL;
    struct err e = {0};
    if (cli_request_now(h, "broker.sock", "{\"op\":\"status\"}", &doc, &e) < 0)
        printf("broker:   does not answer (logs/broker.log may say why)\n");
    else
        printf("broker:   pid %lld, %lld peers, publishing %s\n", (long long)json_get_i64(doc, "pid", 0),
               (long long)json_get_i64(doc, "peers", 0), json_get_str(doc, "publishing", ""));
    const char *kafka = doc ? json_get_str(doc, "kafka", NULL) : NULL;
    if (kafka)
        printf("kafka:    %s (`mysimbdp doctor` says what to do)\n", kafka);
}

static void print_streammgr(const struct home *h)
{
    AUTO_BSON bson_t *doc = NULL;
    struct err e = {0};
    if (cli_request_now(h, "streammgr.sock", "{\"op\":\"status\"}", &doc, &e) < 0)
        printf("streammgr: does not answer (logs/streammgr.log may say why)\n");
    else
        printf("streammgr: pid %lld, %lld instances, %lld apps parked (`mysimbdp app list` says why)\n",
               (long long)json_get_i64(doc, "pid", 0), (long long)json_get_i64(doc, "instances", 0),
               (long long)json_get_i64(doc, "parked", 0));
}

/* Where anything is exported to a collector of OpenTelemetry's. */
static void print_exports(const bson_t *status)
{
    bson_iter_t it;
    bson_t one;
    if (!json_get_iter(status, "otlp", &it))
        return;
    while (json_next_doc(&it, &one)) {
        AUTO_FREE char *error = table_plain(json_get_str(&one, "error", ""));
        printf("otlp:     %s, %lld sent, %lld rejected, %lld dropped, %lld wait%s%s\n", json_get_str(&one, "signal", ""),
               (long long)json_get_i64(&one, "sent", 0), (long long)json_get_i64(&one, "rejected", 0),
               (long long)json_get_i64(&one, "dropped", 0), (long long)json_get_i64(&one, "waiting", 0), *error ? ": " : "", error);
    }
}

static void print_monitor(const struct home *h)
{
    AUTO_BSON bson_t *doc = NULL;
    struct err e = {0};
    if (cli_request_now(h, "monitor.sock", "{\"op\":\"status\"}", &doc, &e) < 0)
        printf("monitor:  does not answer (logs/monitor.log may say why); counts hold\n");
    else
        printf("monitor:  pid %lld, %lld reports, %lld refused, %lld of %lld apps with issues (`mysimbdp top` shows them)\n",
               (long long)json_get_i64(doc, "pid", 0), (long long)json_get_i64(doc, "reports", 0),
               (long long)json_get_i64(doc, "refused", 0), (long long)json_get_i64(doc, "issues", 0),
               (long long)json_get_i64(doc, "apps", 0));
    if (doc)
        print_exports(doc);
}

static void print_gateway(const struct home *h)
{
    AUTO_BSON bson_t *doc = NULL;
    struct err e = {0};
    if (!cli_has_gateway(h))
        return;
    if (cli_request_now(h, "gateway.sock", "{\"op\":\"status\"}", &doc, &e) < 0)
        printf("gateway:  does not answer (logs/gateway.log may say why)\n");
    else
        printf("gateway:  pid %lld, %s%s%s\n", (long long)json_get_i64(doc, "pid", 0), json_get_str(doc, "url", ""),
               json_get_str(doc, "fingerprint", NULL) ? ", certificate SHA-256 " : "", json_get_str(doc, "fingerprint", ""));
}

/* It answers the provider without having been asked. */
static void print_desk(const struct home *h)
{
    AUTO_FREE char *path = home_socket(h, "desk.sock");
    AUTO_FD int fd = fd_unix_connect(path, true);
    struct timeval wait = {2, 0};
    char text[512];
    ssize_t n = -1;
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0)
        n = recv(fd, text, sizeof text, 0);
    AUTO_BSON bson_t *doc = n > 0 ? json_parse(text, (size_t)n, NULL) : NULL;
    if (!doc || !json_get_bool(doc, "ok", false))
        printf("desk:     does not answer (logs/desk.log may say why)\n");
    else
        printf("desk:     pid %lld, %lld connections, %lld served, %lld refused\n", (long long)json_get_i64(doc, "pid", 0),
               (long long)json_get_i64(doc, "serving", 0), (long long)json_get_i64(doc, "served", 0),
               (long long)json_get_i64(doc, "refused", 0));
}

int verb_status(struct cli *c)
{
    struct home h;
    struct err e = {0};
    bson_t *doc = NULL;
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    AUTO_BSON bson_t *note = restored_note(&h);
    AUTO_FREE char *restored = note ? restored_text(note) : NULL;
    r = cli_request_now(&h, "batchmgr.sock", "{\"op\":\"status\"}", &doc, &e);
    if (r < 0) {
        if (c->json)
            puts("{\"running\":false}");
        cli_fail(c, &e);
    } else if (c->json) {
        if (note)
            BSON_APPEND_DOCUMENT(doc, "restored", note);
        char *text = bson_as_relaxed_extended_json(doc, NULL);
        puts(text);
        bson_free(text);
    } else {
        const char *why = json_get_str(doc, "database_error", NULL);
        printf("home:     %s\nbatchmgr: pid %lld since %s\nintake:   %s\ndatabase: %s%s%s\n", h.path,
               (long long)json_get_i64(doc, "pid", 0), json_get_str(doc, "started_at", ""), json_get_str(doc, "intake", ""),
               json_get_str(doc, "database", ""), why ? ": " : "", why ? why : "");
        printf("files:    %lld unfinished, %lld being inspected, %lld queued, %lld held; %lld runs\n",
               (long long)json_get_i64(doc, "unfinished", 0), (long long)json_get_i64(doc, "inspecting", 0),
               (long long)json_get_i64(doc, "queued", 0), (long long)json_get_i64(doc, "held", 0),
               (long long)json_get_i64(doc, "running", 0));
        if (restored)
            printf("restored: %s\n", restored);
        print_parked(doc);
        print_broker(&h);
        print_streammgr(&h);
        print_monitor(&h);
        print_gateway(&h);
        print_desk(&h);
        print_tenants(doc);
    }
    if (doc)
        bson_destroy(doc);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
