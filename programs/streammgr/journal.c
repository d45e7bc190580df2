#include "journal.h"
#include "streammgr.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/log.h"
#include "host/tenant_events.h"

static void begin(struct buf *line, enum tenant_event event, int64_t wall_ms, const struct instance *i)
{
    json_begin(line, NULL, '{');
    json_time(line, "ts", wall_ms ? wall_ms : clk_wall_ms());
    json_str(line, "event", tenant_event_name(event));
    json_str(line, "tenant_id", i->app->tenant);
    json_str(line, "app", i->app->name);
    json_str(line, "run_id", i->run_id);
    json_i64(line, "attempt", i->attempt);
}

static void end(const struct instance *i, struct buf *line)
{
    const char *tenant = i->app->tenant;
    json_end(line, '}');
    buf_adds(line, "\n");
    int r = tenant_events_add(i->app->mgr->home.dirfd, tenant, EVENTS_OF_instances, line->p, line->n);
    if (r < 0)
        log_warn("journal", tenant, i->run_id, "cannot write logs/tenants/%s/%s: %s", tenant, events_file(EVENTS_OF_instances),
                 err_text(r));
}

void journal_started(const struct instance *i)
{
    AUTO_BUF struct buf line = {0};
    begin(&line, EVENT_instance_started, i->started_wall_ms, i);
    end(i, &line);
}

void journal_draining(const struct instance *i)
{
    AUTO_BUF struct buf line = {0};
    begin(&line, EVENT_instance_draining, 0, i);
    json_str(&line, "reason", i->stop);
    end(i, &line);
}

void journal_ended(const struct instance *i, const struct run_result *res)
{
    AUTO_BUF struct buf line = {0};
    begin(&line, EVENT_instance_ended, res->ended_wall_ms, i);
    json_str(&line, "outcome", run_outcome_name(res->outcome));
    json_i64_or_null(&line, "exit_code", res->exit_code);
    json_i64_or_null(&line, "signal", res->signal);
    json_str(&line, "limit", run_limit_name(res->limit));
    json_str(&line, "error", res->error);
    json_str(&line, "reason", i->stop);
    json_f64(&line, "wall_s", res->wall_s);
    json_f64(&line, "cpu_s", res->cpu_s);
    run_waited_write(&res->waited, &line);
    json_i64_or_null(&line, "max_rss_bytes", res->max_rss_bytes);
    end(i, &line);
}
