/* The two formats.
 *
 * syslog: RFC 5424, a datagram a record (as syslog daemons read /dev/log; RFC 3339 time in UTC, facility 3, daemon):
 *   <PRI>1 TIME HOST mysimbdp PID EVENT [mysimbdp@32473 program="…" tenant="…" run="…"] MSG
 * Absent tenants and runs are left out. In values, `"`, `\` and `]` have a backslash before them (6.3.3). 32473 is the number for
 * examples (RFC 5612): the platform has none of its own.
 *
 * journald: its native protocol (systemd, JOURNAL_NATIVE_PROTOCOL): KEY=VALUE and a line feed for each field; or, when the
 * value has a line feed, KEY, a line feed, 64 bits of length (little endian), the value, a line feed. */
#include "log_sink.h"
#include "buf.h"
#include "clk.h"
#include "le.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FACILITY = 3, MAX_MSGID = 32 };

static struct {
    int fd; /* -1: there is no sink */
    ino_t ino;
    bool journal;
    struct sockaddr_un to;
    socklen_t n_to;
    char host[256];
    atomic_llong n_dropped;
} sink = {.fd = -1};

static int severity(const char *level)
{
    return *level == 'e' ? 3 : *level == 'w' ? 4 : *level == 'i' ? 6 : 7;
}

/* Of printable ASCII without blanks, as header fields are (6.2). */
static void add_name(struct buf *b, const char *name, size_t max)
{
    size_t from = b->n;
    for (; *name && b->n - from < max; name++)
        buf_add(b, *name > ' ' && *name <= '~' ? name : "?", 1);
    buf_adds(b, b->n == from ? "-" : "");
}

static void add_param(struct buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    buf_addf(b, " %s=\"", name);
    size_t from = b->n;
    for (; *value; value++) {
        if (*value == '"' || *value == '\\' || *value == ']')
            buf_adds(b, "\\");
        buf_add(b, value, 1);
    }
    buf_make_plain(b, from);
    buf_adds(b, "\"");
}

char *log_sink_syslog(const struct log_record *r, unsigned long *ret_n)
{
    struct buf b = {0};
    char at[CLK_RFC3339_SIZE];
    buf_addf(&b, "<%d>1 %s ", FACILITY * 8 + severity(r->level), clk_rfc3339(r->wall_ms, at));
    add_name(&b, sink.host, sizeof sink.host);
    buf_addf(&b, " mysimbdp %d ", (int)getpid());
    add_name(&b, r->event, MAX_MSGID);
    buf_adds(&b, " [mysimbdp@32473");
    add_param(&b, "program", r->program);
    add_param(&b, "tenant", r->tenant);
    add_param(&b, "run", r->run);
    buf_adds(&b, "] ");
    size_t from = b.n;
    buf_adds(&b, r->msg);
    buf_make_plain(&b, from);
    *ret_n = b.n;
    return b.p;
}

static void add_field(struct buf *b, const char *key, const char *value)
{
    if (!value)
        return;
    size_t n = strlen(value);
    buf_adds(b, key);
    if (memchr(value, '\n', n)) {
        uint64_t length;
        le_set_u64(&length, n);
        buf_adds(b, "\n");
        buf_add(b, &length, sizeof length);
    } else {
        buf_adds(b, "=");
    }
    buf_add(b, value, n);
    buf_adds(b, "\n");
}

char *log_sink_journal(const struct log_record *r, unsigned long *ret_n)
{
    struct buf b = {0};
    buf_addf(&b, "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=mysimbdp\nSYSLOG_PID=%d\n", severity(r->level), FACILITY,
             (int)getpid());
    add_field(&b, "SIMBDP_PROGRAM", r->program);
    add_field(&b, "SIMBDP_EVENT", r->event);
    add_field(&b, "SIMBDP_TENANT", r->tenant);
    add_field(&b, "SIMBDP_RUN", r->run);
    add_field(&b, "MESSAGE", r->msg);
    *ret_n = b.n;
    return b.p;
}

/* ---- the socket ---- */

/* Whoever closed all descriptors may have another one in its place. */
static bool is_ours(void)
{
    struct stat st;
    return sink.fd >= 0 && fstat(sink.fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == sink.ino;
}

static void attach(void)
{
    (void)!connect(sink.fd, (struct sockaddr *)&sink.to, sink.n_to); /* of a datagram socket: it never waits */
}

void log_sink_open(const char *spec)
{
    const char *path = spec ? strchr(spec, ':') : NULL;
    struct stat st;
    if (is_ours())
        close(sink.fd);
    sink.fd = -1;
    if (!path || strlen(path + 1) >= sizeof sink.to.sun_path)
        return;
    sink.journal = !strncmp(spec, "journald:", 9);
    sink.to.sun_family = AF_UNIX;
    strcpy(sink.to.sun_path, path + 1);
    sink.n_to = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path + 1) + 1);
    if (gethostname(sink.host, sizeof sink.host - 1) < 0)
        sink.host[0] = 0;
    sink.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sink.ino = sink.fd >= 0 && fstat(sink.fd, &st) == 0 ? st.st_ino : 0;
    if (sink.fd >= 0)
        attach();
}

/* A receiver that was started anew has another socket at the path. */
static bool send_bytes(const char *p, size_t n)
{
    if (send(sink.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS || errno == EMSGSIZE)
        return false;
    attach();
    return send(sink.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

bool log_sink_is_open(void)
{
    return sink.fd >= 0;
}

bool log_sink_send(const struct log_record *r)
{
    unsigned long n;
    AUTO_BUF struct buf bytes = {0};
    bytes.p = sink.journal ? log_sink_journal(r, &n) : log_sink_syslog(r, &n);
    bool taken = is_ours() && send_bytes(bytes.p, n);
    atomic_fetch_add(&sink.n_dropped, taken ? 0 : 1);
    return taken;
}

int64_t log_sink_take_dropped(void)
{
    return atomic_exchange(&sink.n_dropped, 0);
}

void log_sink_give_back(int64_t n)
{
    atomic_fetch_add(&sink.n_dropped, n);
}
