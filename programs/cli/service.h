/* What a service manager is told of `up`, by the protocol of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
 * Without such a variable nothing is sent, and nothing fails. */
#ifndef SIMBDP_CLI_SERVICE_H
#define SIMBDP_CLI_SERVICE_H

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment: programs that are started later must not speak for
 * `up`. To be called once, before any of them. */
void service_take(void);

/* Assignments such as "READY=1\nSTATUS=…". Never blocks: what the manager's socket has no room for is lost. */
void service_tell(const char *assignments);

/* Says that this process lives, if that is due. To be called from every loop that may go on for long. */
void service_alive(void);
/* Milliseconds until it is due; -1: nobody asked. */
int service_due_ms(void);

#endif
