/* The file for node_exporter's textfile collector: when it is written. A keeper of its own does it, since it asks all programs,
 * this one too, and adds up the ledger: the one that writes journals is not held up. */
#include "monitor.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

/* Said once, and that it is over. */
static void on_written(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    struct monitor *m = arg;
    const char *error = code < 0 ? "the keeper does not answer" : json_get_str(head, "error", NULL);
    (void)body;
    (void)n;
    m->textfile_asked = false;
    if (error && (!m->textfile_error || strcmp(error, m->textfile_error) != 0))
        log_warn("textfile", NULL, NULL,
                 "%s; it is tried again. Its directory has to be there, and to be configured before the monitor starts", error);
    else if (!error && m->textfile_error)
        log_info("textfile", NULL, NULL, "%s is written again", m->conf->platform.metrics.textfile);
    xstr_set(&m->textfile_error, error);
}

void textfile_write(struct monitor *m)
{
    bool due = !m->textfile_ms || m->now_ms - m->textfile_ms >= m->conf->platform.metrics.interval_s * 1000;
    if (!*m->conf->platform.metrics.textfile || m->textfile_asked || !due)
        return;
    m->textfile_ms = m->now_ms;
    m->textfile_asked = keeper_ask(m->textfile, KEEPER_FIGURES, "{}", 2, on_written, m) == 0;
}
