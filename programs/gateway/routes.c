#include "routes.h"
#include "handlers.h"
#include "request.h"

#include "base/mem.h"

#include <string.h>

#define TENANT "/v1/tenants/{tenant}"

static const char *const no_fields[] = {NULL};
static const char *const of_upload[] = {"app", "force", NULL};
static const char *const of_files[] = {"dataset", "state", "since", "limit", "cursor", NULL};
static const char *const of_runs[] = {"state", "since", "limit", "cursor", "file_id", NULL};
static const char *const of_rejects[] = {"offset", "limit", NULL};
static const char *const of_messages[] = {"publisher", "number", NULL};
static const char *const of_version[] = {"activate", NULL};
static const char *const of_log[] = {"tail", "from", NULL};
static const char *const of_dead_letters[] = {"app", "limit", "cursor", NULL};
static const char *const of_settling[] = {"app", "id", NULL};
static const char *const of_instances[] = {"app", NULL};
static const char *const of_audit[] = {"who", "what", "tenant", "limit", "cursor", NULL};
static const char *const of_history[] = {"since", NULL};
static const char *const of_events[] = {"types", NULL};

static const struct route routes[] = {
    {"GET", "/healthz", VERB_read, ROUTE_OPEN, no_fields, get_healthz, NULL, NULL},
    {"GET", "/readyz", VERB_read, ROUTE_OPEN, no_fields, get_readyz, NULL, NULL},
    {"GET", "/metrics", VERB_admin, 0, no_fields, get_metrics, NULL, NULL},
    {"GET", "/v1/openapi.yaml", VERB_read, ROUTE_OPEN, no_fields, get_openapi, NULL, NULL},
    {"GET", "/", VERB_read, ROUTE_OPEN, no_fields, get_page, NULL, NULL},
    {"GET", "/page/{name}", VERB_read, ROUTE_OPEN, no_fields, get_page, NULL, NULL},
    {"POST", "/v1/session", VERB_read, ROUTE_OPEN | ROUTE_KEEPS, no_fields, post_begin, NULL, session_begin},
    {"DELETE", "/v1/session", VERB_read, ROUTE_KEEPS, no_fields, post_begin, NULL, session_end},
    {"GET", "/v1/platform", VERB_admin, 0, no_fields, get_platform, NULL, NULL},
    {"GET", "/v1/platform/events", VERB_admin, 0, no_fields, get_platform_events, NULL, NULL},
    {"GET", "/v1/audit", VERB_admin, 0, of_audit, get_audit, NULL, NULL},
    {"GET", "/v1/audit/verification", VERB_admin, 0, no_fields, get_audit_verification, NULL, NULL},
    {"POST", TENANT ":suspend", VERB_admin, ROUTE_KEEPS, no_fields, post_begin, NULL, suspend_tenant},
    {"POST", TENANT ":resume", VERB_admin, ROUTE_KEEPS, no_fields, post_begin, NULL, resume_tenant},
    {"GET", "/v1/whoami", VERB_read, 0, no_fields, get_whoami, NULL, NULL},
    {"PUT", TENANT "/datasets/{dataset}/files/{name}", VERB_upload, 0, of_upload, upload_begin, upload_body, upload_end},
    {"POST", TENANT "/datasets/{dataset}/files", VERB_upload, 0, of_upload, form_begin, form_body, form_end},
    {"OPTIONS", TENANT "/uploads", VERB_upload, ROUTE_OPEN, no_fields, tus_options, NULL, NULL},
    {"POST", TENANT "/uploads", VERB_upload, ROUTE_OF_DATASET, no_fields, tus_create, NULL, NULL},
    {"HEAD", TENANT "/uploads/{upload_id}", VERB_upload, ROUTE_OF_DATASET, no_fields, tus_head, NULL, NULL},
    {"PATCH", TENANT "/uploads/{upload_id}", VERB_upload, ROUTE_OF_DATASET, no_fields, tus_patch_begin, tus_patch_body,
     tus_patch_end},
    {"DELETE", TENANT "/uploads/{upload_id}", VERB_upload, ROUTE_OF_DATASET, no_fields, tus_delete, NULL, NULL},
    {"GET", TENANT "/files", VERB_read, 0, of_files, get_files, NULL, NULL},
    {"POST", TENANT "/files:retry", VERB_retry, ROUTE_KEEPS, no_fields, post_begin, NULL, retry_all},
    {"GET", TENANT "/files/{file_id}", VERB_read, 0, no_fields, get_file, NULL, NULL},
    {"DELETE", TENANT "/files/{file_id}", VERB_delete, ROUTE_KEEPS, no_fields, post_begin, NULL, delete_file},
    {"POST", TENANT "/files/{file_id}:retry", VERB_retry, ROUTE_KEEPS, no_fields, post_begin, NULL, retry_file},
    {"GET", TENANT "/files/{file_id}/rejects", VERB_read, 0, of_rejects, get_rejects, NULL, NULL},
    {"GET", TENANT "/runs", VERB_read, 0, of_runs, get_runs, NULL, NULL},
    {"GET", TENANT "/runs/{run_id}", VERB_read, 0, no_fields, get_run, NULL, NULL},
    {"GET", TENANT "/runs/{run_id}/log", VERB_read, 0, of_log, get_log, NULL, NULL},
    {"POST", TENANT "/runs/{run_id}:stop", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, stop_run},
    {"GET", TENANT "/events", VERB_read, 0, of_events, get_events, NULL, NULL},
    {"GET", TENANT "/agreement", VERB_read, 0, no_fields, get_agreement, NULL, NULL},
    {"GET", TENANT "/configuration", VERB_read, 0, no_fields, get_configuration, NULL, NULL},
    {"PUT", TENANT "/configuration", VERB_deploy, 0, no_fields, configuration_begin, store_body, store_end},
    {"GET", TENANT "/usage", VERB_read, 0, no_fields, get_usage, NULL, NULL},
    {"GET", TENANT "/bills/{month}", VERB_read, 0, no_fields, get_bill, NULL, NULL},
    {"GET", TENANT "/apps", VERB_read, 0, no_fields, get_apps, NULL, NULL},
    {"PUT", TENANT "/apps/{app}/versions", VERB_deploy, 0, of_version, version_begin, store_body, store_end},
    {"GET", TENANT "/apps/{app}/versions", VERB_read, 0, no_fields, get_versions, NULL, NULL},
    {"GET", TENANT "/apps/{app}/versions/{version}", VERB_read, 0, no_fields, get_version, NULL, NULL},
    {"DELETE", TENANT "/apps/{app}/versions/{version}", VERB_deploy, ROUTE_KEEPS, no_fields, post_begin, NULL, version_delete},
    {"POST", TENANT "/apps/{app}/versions/{version}:activate", VERB_deploy, ROUTE_KEEPS, no_fields, post_begin, NULL,
     version_activate},
    {"POST", TENANT "/apps/{app}:rollback", VERB_deploy, ROUTE_KEEPS, no_fields, post_begin, NULL, app_rollback},
    {"POST", TENANT "/streams/{stream}/messages", VERB_publish, 0, of_messages, messages_begin, messages_body, messages_end},
    {"GET", TENANT "/streams", VERB_read, 0, no_fields, get_streams, NULL, NULL},
    {"GET", TENANT "/streams/{stream}", VERB_read, 0, no_fields, get_stream, NULL, NULL},
    {"GET", TENANT "/streams/{stream}/dead-letters", VERB_read, 0, of_dead_letters, get_dead_letters, NULL, NULL},
    {"DELETE", TENANT "/streams/{stream}/dead-letters", VERB_delete, ROUTE_KEEPS, of_settling, post_begin, NULL, drop_dead_letters},
    {"POST", TENANT "/streams/{stream}/dead-letters:replay", VERB_retry, ROUTE_KEEPS, of_settling, post_begin, NULL,
     replay_dead_letters},
    {"GET", TENANT "/instances", VERB_read, 0, of_instances, get_instances, NULL, NULL},
    {"POST", TENANT "/instances/{instance_id}:stop", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, stop_instance},
    {"POST", TENANT "/apps/{app}/instances", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, start_instance},
    {"GET", TENANT "/apps/{app}/history", VERB_read, 0, of_history, get_history, NULL, NULL},
    {"POST", TENANT "/apps/{app}:start", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, start_app},
    {"POST", TENANT "/apps/{app}:stop", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, stop_app},
    {"POST", TENANT "/apps/{app}:scale", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, scale_app},
    {"POST", TENANT "/apps/{app}:run", VERB_run, ROUTE_KEEPS, no_fields, post_begin, NULL, run_app},
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static const char **parameter(struct request *rq, const char *name, size_t n)
{
    const struct {
        const char *name, **at;
    } all[] = {{"tenant", &rq->tenant},   {"dataset", &rq->dataset},        {"name", &rq->name},
               {"file_id", &rq->file_id}, {"run_id", &rq->run_id},          {"app", &rq->app},
               {"stream", &rq->stream},   {"upload_id", &rq->upload_id},    {"month", &rq->month},
               {"version", &rq->version}, {"instance_id", &rq->instance_id}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strlen(all[i].name) == n && !strncmp(all[i].name, name, n))
            return all[i].at;
    return NULL;
}

/* One segment; *ret_value: what stands for {…}, and how long it is. */
static bool segment_fits(const char *pattern, size_t n, const char *segment, size_t *ret_value)
{
    const char *close = pattern[0] == '{' ? memchr(pattern, '}', n) : NULL;
    size_t len = strlen(segment);
    *ret_value = 0;
    if (!close)
        return len == n && !strncmp(pattern, segment, n);
    size_t n_suffix = n - (size_t)(close + 1 - pattern);
    if (len <= n_suffix || strncmp(segment + len - n_suffix, close + 1, n_suffix))
        return false;
    *ret_value = len - n_suffix;
    return true;
}

/* take: the parameters, too. */
static bool fits(const struct route *r, struct request *rq, bool take)
{
    const char *at = r->pattern;
    size_t i = 0;
    if (!at[1]) /* the root */
        return rq->uri.n_segments == 0;
    for (; *at && i < rq->uri.n_segments; i++) {
        size_t n = strcspn(++at, "/"), value;
        if (!segment_fits(at, n, rq->uri.segments[i], &value))
            return false;
        if (take && value) {
            rq->uri.segments[i][value] = 0;
            *parameter(rq, at + 1, strcspn(at, "}") - 1) = rq->uri.segments[i];
        }
        at += n;
    }
    return !*at && i == rq->uri.n_segments;
}

static bool is_method(const struct route *r, const char *method)
{
    return !strcmp(r->method, method) || (!strcmp(r->method, "GET") && !strcmp(method, "HEAD"));
}

static void answer_method(struct request *rq, const char *allowed)
{
    if (!strcmp(rq->method, "OPTIONS"))
        request_answer(rq, MHD_HTTP_NO_CONTENT, NULL, &(struct buf){0});
    else
        request_refuse(rq, "method_not_allowed", "there is %s", allowed);
    request_add_header(rq, MHD_HTTP_HEADER_ALLOW, allowed);
}

bool routes_find(struct request *rq)
{
    AUTO_BUF struct buf allowed = {0};
    const char *other;
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (!fits(&routes[i], rq, false))
            continue;
        if (is_method(&routes[i], rq->method)) {
            rq->route = &routes[i];
            break;
        }
        buf_addf(&allowed, "%s%s", allowed.n ? ", " : "", routes[i].method);
    }
    if (!rq->route && allowed.n)
        answer_method(rq, allowed.p);
    else if (!rq->route)
        request_refuse(rq, "not_found", "there is no such resource; /v1/openapi.yaml describes those that are");
    else if (!uri_knows(&rq->uri, rq->route->fields, &other))
        request_refuse(rq, "bad_request", "\"%s\" is no field of the query here, or is there twice", other);
    else
        fits(rq->route, rq, true);
    return !rq->answered;
}

bool routes_let_in(struct request *rq)
{
    const struct account *a = &rq->who;
    struct account any = *a;
    if (rq->route->flags & ROUTE_OF_DATASET)
        any.datasets = NULL;
    if (!rq->tenant && rq->route->verb == VERB_read) /* of nobody's in particular */
        return true;
    bool own = a->role == ROLE_operator || !rq->tenant || (a->tenant && !strcmp(a->tenant, rq->tenant));
    if (account_may(&any, rq->route->verb, rq->tenant, rq->dataset))
        return true;
    if (own && account_may(a, VERB_read, rq->tenant, NULL))
        request_refuse(rq, "forbidden", "%s may not do this%s", a->name, a->token_id ? " with this token" : "");
    else
        request_refuse(rq, "not_found", "%s", "");
    return false;
}

void routes_print(FILE *to)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        fprintf(to, "%s %s\n", routes[i].method, routes[i].pattern);
}
