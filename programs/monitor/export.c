/* What is exported to a collector of OpenTelemetry's: when, and what became of it. A keeper of its own does it, for the reasons
 * that another one writes the file of figures (textfile.c). Where nothing is configured it is asked once after each reload. */
#include "monitor.h"

#include "base/log.h"
#include "base/prom.h"

static void on_exported(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    struct monitor *m = arg;
    (void)body;
    (void)n;
    m->export_asked = false;
    if (code < 0)
        return; /* it is ending, which is told elsewhere */
    export_forget(m);
    m->export_off = !json_get_bool(head, "on", false);
    m->exported = m->export_off ? NULL : bson_copy(head);
}

void export_ask(struct monitor *m)
{
    if (!m->export_asked && !m->export_off)
        m->export_asked = keeper_ask(m->otlp, KEEPER_EXPORT, "{}", 2, on_exported, m) == 0;
}

void export_forget(struct monitor *m)
{
    if (m->exported)
        bson_destroy(m->exported);
    m->exported = NULL;
}

void export_status(const struct monitor *m, struct buf *out)
{
    bson_iter_t it;
    bson_t one;
    if (!m->exported || !json_get_iter(m->exported, "signals", &it))
        return;
    json_begin(out, "otlp", '[');
    while (json_next_doc(&it, &one)) {
        AUTO_BUF struct buf text = {0};
        json_from_bson(&one, &text);
        json_raw(out, NULL, text.p);
    }
    json_end(out, ']');
}

void export_figures(const struct monitor *m, struct prom *p)
{
    static const struct {
        struct prom_family family;
        const char *key;
    } counts[] = {
        {{"mysimbdp_otlp_sent_total", PROM_COUNTER, "Spans, data points and log records that the collector took."}, "sent"},
        {{"mysimbdp_otlp_rejected_total", PROM_COUNTER, "Those that it did not take, of requests that it took."}, "rejected"},
        {{"mysimbdp_otlp_dropped_total", PROM_COUNTER, "Those that could not be told for too long, or were too many."}, "dropped"},
        {{"mysimbdp_otlp_waiting", PROM_GAUGE, "Those that wait to be told."}, "waiting"},
    };
    static const struct prom_family up = {"mysimbdp_otlp_up", PROM_GAUGE, "Whether the collector takes what it is sent."};
    bson_iter_t it;
    bson_t one;
    for (size_t k = 0; m->exported && k <= sizeof counts / sizeof *counts; k++) {
        bool last = k == sizeof counts / sizeof *counts;
        prom_family(p, last ? &up : &counts[k].family);
        for (bool any = json_get_iter(m->exported, "signals", &it); any && json_next_doc(&it, &one);) {
            AUTO_BUF struct buf labels = {0};
            prom_label(&labels, "signal", json_get_str(&one, "signal", ""));
            prom_sample(p, labels.p, last ? !json_get_str(&one, "error", NULL) : (double)json_get_i64(&one, counts[k].key, 0));
        }
    }
}
