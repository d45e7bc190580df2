/* What routes.c sends requests to. Each has a request whose account may do it. */
#ifndef SIMBDP_GATEWAY_HANDLERS_H
#define SIMBDP_GATEWAY_HANDLERS_H

#include <stddef.h>

struct request;

/* platform.c: about the platform itself. */
void get_healthz(struct request *rq);
void get_readyz(struct request *rq);
void get_metrics(struct request *rq);
void get_openapi(struct request *rq);
void get_whoami(struct request *rq);
void get_platform(struct request *rq);

/* page.c: the dashboard. sessions.c: how a browser stays logged in. */
void get_page(struct request *rq);
void session_begin(struct request *rq);
void session_end(struct request *rq);

/* upload.c: a file, streamed into the spool and handed to batchmgr. */
void upload_begin(struct request *rq);
void upload_body(struct request *rq, const char *p, size_t n);
void upload_end(struct request *rq);

/* form.c: files of a browser's form. */
void form_begin(struct request *rq);
void form_body(struct request *rq, const char *p, size_t n);
void form_end(struct request *rq);

/* tus.c: an upload that may be cut and gone on with. */
void tus_options(struct request *rq);
void tus_create(struct request *rq);
void tus_head(struct request *rq);
void tus_delete(struct request *rq);
void tus_patch_begin(struct request *rq);
void tus_patch_body(struct request *rq, const char *p, size_t n);
void tus_patch_end(struct request *rq);

/* messages.c: for a stream of the tenant's. */
void messages_begin(struct request *rq);
void messages_body(struct request *rq, const char *p, size_t n);
void messages_end(struct request *rq);

/* queries.c: what a keeper reads. */
void get_files(struct request *rq);
void get_file(struct request *rq);
void get_rejects(struct request *rq);
void get_runs(struct request *rq);
void get_run(struct request *rq);
void get_log(struct request *rq);
void get_agreement(struct request *rq);
void get_usage(struct request *rq);
void get_bill(struct request *rq);
void get_apps(struct request *rq);
void get_versions(struct request *rq);
void get_version(struct request *rq);
void get_configuration(struct request *rq);
void get_audit(struct request *rq);

/* store.c: versions of apps, and what a tenant configures itself. */
void version_begin(struct request *rq);
void configuration_begin(struct request *rq);
void store_body(struct request *rq, const char *p, size_t n); /* of either */
void store_end(struct request *rq);
void version_activate(struct request *rq);
void version_delete(struct request *rq);
void app_rollback(struct request *rq);

/* events.c: a stream of them. */
void get_events(struct request *rq);
void get_platform_events(struct request *rq);

/* orders.c: what a program does. */
void post_begin(struct request *rq); /* nothing before the body is there */
void retry_all(struct request *rq);
void retry_file(struct request *rq);
void delete_file(struct request *rq);
void stop_run(struct request *rq);
void run_app(struct request *rq);

/* operator.c: what the command line does, for an operator. */
void suspend_tenant(struct request *rq);
void resume_tenant(struct request *rq);
void get_audit_verification(struct request *rq);

/* streams.c: streams and their dead letters, of the broker. */
void get_streams(struct request *rq);
void get_stream(struct request *rq);
void get_dead_letters(struct request *rq);
void replay_dead_letters(struct request *rq);
void drop_dead_letters(struct request *rq);

/* instances.c: of stream apps, of streammgr. */
void get_instances(struct request *rq);
void start_instance(struct request *rq);
void stop_instance(struct request *rq);
void start_app(struct request *rq);
void stop_app(struct request *rq);
void scale_app(struct request *rq);
void get_history(struct request *rq); /* of the monitor */

#endif
