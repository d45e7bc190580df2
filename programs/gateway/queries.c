/* What a keeper reads for an account: its answer is passed on as it is. The keeper sees from the ticket what the account may see,
 * and asks nobody's word for it. */
#include "events.h"
#include "gateway.h"
#include "handlers.h"
#include "problem.h"
#include "request.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* What a page of a log or of rejects says of itself, as fields of the header: X-Position and so on. */
static void add_head(struct request *rq, const bson_t *head)
{
    static const struct {
        const char *key, *field;
    } known[] = {{"position", "X-Position"}, {"cut", "X-Cut"}, {"ended", "X-Ended"}, {"next", "X-Next"}, {"etag", "ETag"}};
    char text[24];
    bson_iter_t it;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!bson_iter_init_find(&it, head, known[i].key) || BSON_ITER_HOLDS_NULL(&it))
            continue;
        if (BSON_ITER_HOLDS_UTF8(&it)) {
            request_add_header(rq, known[i].field, bson_iter_utf8(&it, NULL));
            continue;
        }
        if (BSON_ITER_HOLDS_BOOL(&it))
            snprintf(text, sizeof text, "%s", bson_iter_bool(&it) ? "true" : "false");
        else
            snprintf(text, sizeof text, "%lld", (long long)bson_iter_as_int64(&it));
        request_add_header(rq, known[i].field, text);
    }
}

static void on_answer(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    struct request *rq = arg;
    const char *error = code < 0 ? "unavailable" : json_get_str(head, "code", NULL);
    if (code < 0 || (error && problem_status(error) == 503)) {
        request_refuse_for(rq, error, 1, "%s", code < 0 ? "the ledger cannot be read now" : json_get_str(head, "detail", ""));
    } else if (error) {
        request_refuse(rq, error, "%s", json_get_str(head, "detail", ""));
    } else {
        struct buf b = {0};
        buf_add(&b, body, n);
        request_answer(rq, MHD_HTTP_OK, json_get_str(head, "type", NULL), &b);
        add_head(rq, head);
    }
    request_go_on(rq);
}

static void begin(const struct request *rq, const char *query, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "ticket", rq->ticket);
    json_str(b, "query", query);
    json_str(b, "tenant_id", rq->tenant);
    json_begin(b, "params", '{');
}

static void ask_that(struct request *rq, enum gateway_keeper keeper, struct buf *b)
{
    json_end(b, '}');
    json_end(b, '}');
    if (keeper_ask(rq->g->keepers[keeper], KEEPER_QUERY, b->p, b->n, on_answer, rq) < 0)
        request_refuse_for(rq, "unavailable", 1, "too many queries wait");
    else
        request_wait(rq);
}

/* Keepers take turns: one that has much to read keeps the others' askers waiting no longer than its own. */
static void ask_keeper(struct request *rq, struct buf *b)
{
    ask_that(rq, KEEPER_OF_QUERIES + rq->g->next_query++ % (N_GATEWAY_KEEPERS - KEEPER_OF_QUERIES), b);
}

/* Passes on a field of the URL's query. */
static void add_field(const struct request *rq, const char *name, struct buf *b)
{
    const char *value = uri_field(&rq->uri, name);
    if (value)
        json_str(b, name, value);
}

/* The same for a number; false: it was answered. */
static bool add_number(struct request *rq, const char *name, int64_t def, int64_t min, int64_t max, struct buf *b)
{
    int64_t n;
    if (!uri_number(&rq->uri, name, def, min, max, &n)) {
        request_refuse(rq, "bad_request", "%s is a number from %lld to %lld", name, (long long)min, (long long)max);
        return false;
    }
    json_i64(b, name, n);
    return true;
}

static void ask(struct request *rq, const char *query, const char *key, const char *value)
{
    AUTO_BUF struct buf b = {0};
    begin(rq, query, &b);
    if (key)
        json_str(&b, key, value);
    ask_keeper(rq, &b);
}

static void list(struct request *rq, const char *query, const char *const *fields)
{
    AUTO_BUF struct buf b = {0};
    begin(rq, query, &b);
    for (; *fields; fields++)
        add_field(rq, *fields, &b);
    if (add_number(rq, "limit", 100, 1, 1000, &b))
        ask_keeper(rq, &b);
}

void get_files(struct request *rq)
{
    list(rq, "files", (const char *const[]){"dataset", "state", "since", "cursor", NULL});
}

void get_runs(struct request *rq)
{
    list(rq, "runs", (const char *const[]){"file_id", "state", "since", "cursor", NULL});
}

void get_file(struct request *rq)
{
    ask(rq, "file", "file_id", rq->file_id);
}

void get_run(struct request *rq)
{
    ask(rq, "run", "run_id", rq->run_id);
}

/* Of what Accept names, csv where it is preferred; json otherwise. */
void get_rejects(struct request *rq)
{
    const char *accept = request_header(rq, MHD_HTTP_HEADER_ACCEPT);
    bool csv = accept && strstr(accept, "text/csv") && !strstr(accept, "application/json");
    AUTO_BUF struct buf b = {0};
    begin(rq, "rejects", &b);
    json_str(&b, "file_id", rq->file_id);
    json_str(&b, "format", csv ? "csv" : "json");
    if (add_number(rq, "offset", 0, 0, INT64_C(1) << 40, &b) && add_number(rq, "limit", 1000, 1, 10000, &b))
        ask_keeper(rq, &b);
}

void get_log(struct request *rq)
{
    if (events_are_wanted(rq)) {
        follow_log(rq);
        return;
    }
    AUTO_BUF struct buf b = {0};
    begin(rq, "log", &b);
    json_str(&b, "run_id", rq->run_id);
    add_field(rq, "from", &b);
    if (add_number(rq, "tail", 65536, 1, 262144, &b))
        ask_keeper(rq, &b);
}

void get_agreement(struct request *rq)
{
    ask(rq, "agreement", NULL, NULL);
}

void get_usage(struct request *rq)
{
    ask(rq, "usage", NULL, NULL);
}

void get_bill(struct request *rq)
{
    ask(rq, "bill", "month", rq->month);
}

void get_apps(struct request *rq)
{
    ask(rq, "apps", NULL, NULL);
}

void get_versions(struct request *rq)
{
    ask(rq, "versions", "app", rq->app);
}

void get_version(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    begin(rq, "version", &b);
    json_str(&b, "app", rq->app);
    json_str(&b, "version", rq->version);
    ask_keeper(rq, &b);
}

void get_configuration(struct request *rq)
{
    ask(rq, "configuration", NULL, NULL);
}

/* Of the platform: no tenant's lists wait for it. */
void get_audit(struct request *rq)
{
    static const char *const fields[] = {"who", "what", "tenant", "cursor"};
    AUTO_BUF struct buf b = {0};
    begin(rq, "audit", &b);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        add_field(rq, fields[i], &b);
    if (add_number(rq, "limit", 100, 1, 1000, &b))
        ask_that(rq, KEEPER_OF_FIGURES, &b);
}
