/* What the host's log is sent: the bytes of both protocols, what does not wait, and what is counted. */
#include "check.h"

#include "base/log.h"
#include "base/log_sink.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char path[64], spec[80];

static int receiver(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    strcpy(at.sun_path, path);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* The next record, or "". */
static const char *next(int fd)
{
    static char text[8192];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static void a_record_of_rfc_5424(void **state)
{
    unsigned long n;
    char tail[128];
    (void)state;
    AUTO_FREE char *p = log_sink_syslog(
        &(struct log_record){"warn", "broker", "over quota", "a\"b\\c]d", "01run", "two\nlines \x1b[1m \xff end", 1769860800123},
        &n);
    assert_int_equal(n, strlen(p));
    snprintf(tail, sizeof tail, " mysimbdp %d over?quota [", (int)getpid());
    assert_int_equal(strncmp(p, "<28>1 2026-01-31T12:00:00.123Z ", 31), 0); /* daemon.warning */
    assert_non_null(strstr(p, tail));
    assert_string_equal(strchr(p, '['),
                        "[mysimbdp@32473 program=\"broker\" tenant=\"a\\\"b\\\\c\\]d\" run=\"01run\"] two?lines ?[1m ? end");
    AUTO_FREE char *none = log_sink_syslog(&(struct log_record){"error", "broker", "", NULL, NULL, "", 1}, &n);
    assert_int_equal(strncmp(none, "<27>1 ", 6), 0);
    assert_non_null(strstr(none, " - [mysimbdp@32473 program=\"broker\"] "));
}

static void a_record_of_journald(void **state)
{
    unsigned long n;
    (void)state;
    AUTO_FREE char *p =
        log_sink_journal(&(struct log_record){"info", "monitor", "alert", "acme", NULL, "one\nMESSAGE_ID=x", 1}, &n);
    static const char end[] = "SIMBDP_PROGRAM=monitor\nSIMBDP_EVENT=alert\nSIMBDP_TENANT=acme\nMESSAGE\n"
                              "\x10\0\0\0\0\0\0\0one\nMESSAGE_ID=x\n";
    assert_int_equal(strncmp(p, "PRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=mysimbdp\nSYSLOG_PID=", 66), 0);
    assert_true(n > sizeof end - 1);
    assert_memory_equal(p + n - (sizeof end - 1), end, sizeof end - 1);
}

static void what_is_not_taken_is_counted_and_said(void **state)
{
    (void)state;
    int fd = receiver(), n = 0;
    log_sink_open(spec);
    while (n < 100000 && (log_info("full", NULL, NULL, "%d", n), log_sink_take_dropped() == 0)) /* nobody reads: it does not wait */
        n++;
    assert_in_range(n, 1, 99999);
    for (int i = 0; i < 7; i++)
        log_info("full", NULL, NULL, "more");
    for (int i = 0; i < n; i++)
        assert_non_null(strstr(next(fd), " full "));
    assert_string_equal(next(fd), "");
    log_info("room", "acme", NULL, "again");
    assert_non_null(strstr(next(fd), "tenant=\"acme\"] again"));
    assert_non_null(strstr(next(fd), " log_dropped "));
    assert_int_equal(log_sink_take_dropped(), 0);
    close(fd); /* it goes, and another one comes */
    log_info("gone", NULL, NULL, "lost");
    fd = receiver();
    log_info("new", NULL, NULL, "there");
    assert_non_null(strstr(next(fd), " new "));
    assert_int_equal(log_sink_take_dropped(), 1); /* said a moment ago: this one is said later */
    close(fd);
}

/* Descriptors that were all closed may be others' now. */
static void another_descriptor_gets_nothing(void **state)
{
    (void)state;
    int fd = receiver(), pair[2];
    log_sink_open(spec);
    int mine = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* the sink's is the one before it */
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(dup2(pair[1], mine - 1), mine - 1);
    log_info("secret", NULL, NULL, "of the log");
    assert_string_equal(next(pair[0]), "");
    assert_int_equal(log_sink_take_dropped(), 1);
    log_sink_open(NULL);
    assert_int_equal(fcntl(mine - 1, F_GETFD) >= 0, 1); /* and it is not closed either */
    assert_false(log_sink_is_open());
    close(mine - 1);
    close(mine);
    close(pair[0]);
    close(pair[1]);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_of_rfc_5424),
        cmocka_unit_test(a_record_of_journald),
        cmocka_unit_test(what_is_not_taken_is_counted_and_said),
        cmocka_unit_test(another_descriptor_gets_nothing),
    };
    snprintf(path, sizeof path, "/tmp/simbdp-test-log-%d", (int)getpid());
    snprintf(spec, sizeof spec, "syslog:%s", path);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int err = dup(STDERR_FILENO);
    dup2(null, STDERR_FILENO); /* thousands of lines */
    close(null);
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    dup2(err, STDERR_FILENO);
    unlink(path);
    return r;
}
