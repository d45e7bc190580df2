/* One JSON object a line on stderr: ts level program event tenant run msg; and, where the environment says so (log_sink.h), a
 * record of the host's log. A program logs once, where it decides. */
#ifndef SIMBDP_BASE_LOG_H
#define SIMBDP_BASE_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* Before there are threads. `program` is kept, not copied. Debug lines appear when SIMBDP_DEBUG is set in the environment. */
void log_init(const char *program);

/* tenant and run may be NULL; the message is escaped. Safe to call from any thread. */
void log_line(enum log_level level, const char *event, const char *tenant, const char *run, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
