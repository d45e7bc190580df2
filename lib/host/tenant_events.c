#include "tenant_events.h"
#include "stream_log_files.h"

#include "base/fd.h"
#include "base/mem.h"

#include <string.h>

static const char *const files[] = {[EVENTS_OF_batch] = "events.batch.jsonl",
                                    [EVENTS_OF_instances] = "events.instances.jsonl",
                                    [EVENTS_OF_scaling] = "events.scaling.jsonl",
                                    [EVENTS_OF_stream] = "stream.jsonl"};

static const char *const names[] = {
    [EVENT_file_received] = "file.received",       [EVENT_file_inspected] = "file.inspected",
    [EVENT_file_queued] = "file.queued",           [EVENT_file_running] = "file.running",
    [EVENT_file_waiting] = "file.waiting",         [EVENT_file_verdict] = "file.verdict",
    [EVENT_run_started] = "run.started",           [EVENT_run_ended] = "run.ended",
    [EVENT_instance_started] = "instance.started", [EVENT_instance_draining] = "instance.draining",
    [EVENT_instance_ended] = "instance.ended",     [EVENT_scale_decided] = "scale.decided",
    [EVENT_alert_firing] = "alert.firing",         [EVENT_alert_over] = "alert.over",
    [EVENT_stream_breach] = "stream.breach",       [EVENT_stream_cut_off] = "stream.cut_off",
    [EVENT_stream_resumed] = "stream.resumed",     [EVENT_stream_lost] = "stream.lost",
    [EVENT_stream_dead] = "stream.dead",
};

const char *events_file(enum events_journal j)
{
    return files[j];
}

const char *tenant_event_name(enum tenant_event v)
{
    return names[v];
}

uint32_t tenant_events_of(const char *name, size_t n)
{
    uint32_t found = 0;
    for (int i = 0; n && i < N_TENANT_EVENTS; i++)
        if (!strncmp(names[i], name, n) && (!names[i][n] || names[i][n] == '.'))
            found |= 1u << i;
    return found;
}

int tenant_event_of_line(enum events_journal j, const char *event)
{
    static const char of_broker[] = "stream.";
    for (int i = 0; i < N_TENANT_EVENTS; i++) {
        bool of_stream = !strncmp(names[i], of_broker, sizeof of_broker - 1);
        if (of_stream == (j == EVENTS_OF_stream) && !strcmp(of_stream ? names[i] + sizeof of_broker - 1 : names[i], event))
            return i;
    }
    return -1;
}

int tenant_spans_add(int home_fd, const char *tenant, const char *lines, size_t n)
{
    AUTO_FREE char *dir = xasprintf("logs/tenants/%s", tenant);
    AUTO_FREE char *path = xasprintf("%s/" TENANT_SPANS, dir);
    fd_rotate(home_fd, path, EVENTS_ROTATE_BYTES);
    return fd_append_file(home_fd, dir, TENANT_SPANS, lines, n, 0640);
}

int tenant_events_add(int home_fd, const char *tenant, enum events_journal j, const char *lines, size_t n)
{
    AUTO_FREE char *dir = xasprintf("logs/tenants/%s", tenant);
    AUTO_FREE char *path = xasprintf("%s/%s", dir, files[j]);
    if (j != EVENTS_OF_stream)
        fd_rotate(home_fd, path, EVENTS_ROTATE_BYTES);
    else
        stream_log_rotate(home_fd, tenant, EVENTS_ROTATE_BYTES);
    return fd_append_file(home_fd, dir, files[j], lines, n, 0640);
}
