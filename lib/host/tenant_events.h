/* What happens to a tenant, for the tenant: events, each a line of JSON in one of its journals below logs/tenants/<tenant>/. Each
 * journal has one writer; one that grew beyond EVENTS_ROTATE_BYTES is renamed to <name>.1, over the older one. That of streams, by
 * which they are billed, is kept (stream_log.h). Who reads them (lib/query/events.c) merges them by `ts`. Nothing is in a line that
 * the tenant must not see. */
#ifndef SIMBDP_HOST_TENANT_EVENTS_H
#define SIMBDP_HOST_TENANT_EVENTS_H

#include <stddef.h>
#include <stdint.h>

enum { EVENTS_ROTATE_BYTES = 8 << 20 };

/* From: batchmgr, streammgr, the monitor's keeper, the broker's keeper. */
enum events_journal { EVENTS_OF_batch, EVENTS_OF_instances, EVENTS_OF_scaling, EVENTS_OF_stream, N_EVENTS_JOURNALS };
const char *events_file(enum events_journal j);

/* `event` of a line, and what it is called for tenants. The broker's are called otherwise in its own journal. */
enum tenant_event {
    EVENT_file_received,
    EVENT_file_inspected,
    EVENT_file_queued,
    EVENT_file_running,
    EVENT_file_waiting,
    EVENT_file_verdict,
    EVENT_run_started,
    EVENT_run_ended,
    EVENT_instance_started,
    EVENT_instance_draining,
    EVENT_instance_ended,
    EVENT_scale_decided,
    EVENT_alert_firing,
    EVENT_alert_over,
    EVENT_stream_breach,
    EVENT_stream_cut_off,
    EVENT_stream_resumed,
    EVENT_stream_lost,
    EVENT_stream_dead,
    N_TENANT_EVENTS
};
const char *tenant_event_name(enum tenant_event v);
/* Bits 1 << enum tenant_event: of the event of that name ("run.ended"), or of all of a group ("run"). 0: there is none. */
uint32_t tenant_events_of(const char *name, size_t n);
/* The event of which a journal's line says `event`; negative: it is not for tenants. */
int tenant_event_of_line(enum events_journal j, const char *event);

/* Appends whole lines; the tenant is one (conf_valid_id). 0 or -errno. Blocks as a write does. */
int tenant_events_add(int home_fd, const char *tenant, enum events_journal j, const char *lines, size_t n);

/* Spans of the tenant's messages (programs/broker/spans.h) for who exports traces: no events, and not for the tenant. The broker's
 * keeper writes them; renamed as journals are. */
#define TENANT_SPANS "spans.jsonl"
int tenant_spans_add(int home_fd, const char *tenant, const char *lines, size_t n);

#endif
