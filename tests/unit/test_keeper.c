/* A program's side of its keeper, with a keeper that is slow, mute, or gone: the other end of the socket is the test's. */
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "check.h"
#include "front/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { N_LONG = 8, TIMEOUT_S = 20 };

static int far = -1, n_wiped_passwords;
static struct event_base *base;
static struct keeper *k;
static const char password[] = "{\"password\":\"correct horse battery staple\"}";
static char said[256]; /* what askers were told, in order */

/* ---- instead of a process (linked with --wrap) ---- */

int __wrap_spawn_partner(char *const argv[], int *ret_fd, pid_t *ret_pid, struct err *e);
void __wrap_spawn_part(int fd, pid_t pid);
void __wrap_explicit_bzero(void *p, size_t n);

int __wrap_spawn_partner(char *const argv[], int *ret_fd, pid_t *ret_pid, struct err *e)
{
    int pair[2];
    (void)argv;
    (void)e;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *ret_fd = pair[0];
    *ret_pid = 0;
    far = pair[1];
    return 0;
}

void __wrap_spawn_part(int fd, pid_t pid)
{
    (void)pid;
    close(fd);
}

void __wrap_explicit_bzero(void *p, size_t n)
{
    n_wiped_passwords += n == strlen(password) && !memcmp(p, password, n);
    memset(p, 0, n);
}

static int make(void **state)
{
    struct home h = {.path = "/nowhere"};
    (void)state;
    *said = 0;
    n_wiped_passwords = 0;
    base = event_base_new();
    alarm(TIMEOUT_S); /* what blocks never returns */
    return keeper_start(base, &h, "gateway", &k, NULL);
}

static int drop(void **state)
{
    (void)state;
    keeper_stop(k);
    if (far >= 0)
        close(far);
    far = -1;
    event_base_free(base);
    return 0;
}

/* ---- the keeper ---- */

/* Takes a request; -1: there is none now. */
static int take(void)
{
    static struct {
        struct keeper_request rq;
        char text[KEEPER_MAX_TEXT];
    } in;
    ssize_t n = recv(far, &in, sizeof in, MSG_DONTWAIT);
    return n < (ssize_t)sizeof in.rq ? -1 : (int)in.rq.op;
}

static void say(int code, const char *text)
{
    struct keeper_answer a = {.code = code};
    AUTO_FD int fd = memfd_create("answer", MFD_CLOEXEC);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_true(fd_send(far, &a, sizeof a, &fd, code >= 0) >= 0);
}

static void go_on(void)
{
    event_base_loop(base, EVLOOP_NONBLOCK);
}

static void on_answer(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    size_t at = strlen(said);
    snprintf(said + at, sizeof said - at, "%s:%d:%s:%.*s ", (const char *)arg, code, head ? json_get_str(head, "v", "?") : "-",
             (int)n, body);
}

static void ask(const char *name)
{
    assert_int_equal(keeper_ask(k, KEEPER_QUERY, "{}", 2, on_answer, (void *)name), 0);
}

/* ---- tests ---- */

static void answers_come_in_order(void **state)
{
    (void)state;
    ask("a");
    ask("b");
    ask("c");
    say(0, "{\"v\":\"1\"}\nbody");
    say(-EIO, "");
    say(0, "no JSON");
    for (int i = 0; i < 3; i++)
        go_on();
    assert_string_equal(said, "a:0:1:body b:-5:-: c:-5:-: ");
}

/* The socket has room for few long questions: the loop goes on, and sends the rest when there is room. */
static void a_full_socket_does_not_block(void **state)
{
    (void)state;
    int n = 0;
    char *text = xcalloc(1, KEEPER_MAX_TEXT);
    memset(text, ' ', KEEPER_MAX_TEXT);
    for (int i = 0; i < N_LONG; i++)
        assert_int_equal(keeper_ask(k, KEEPER_QUERY, text, KEEPER_MAX_TEXT, on_answer, "x"), 0);
    while (take() >= 0)
        n++;
    assert_in_range(n, 1, N_LONG - 1);
    go_on(); /* there is room, and it is used without an answer to any */
    assert_true(take() >= 0);
    n++;
    for (int turn = 0; turn < 2 * N_LONG && n < N_LONG; turn++) {
        go_on();
        while (take() >= 0)
            n++;
    }
    assert_int_equal(n, N_LONG);
    free(text);
}

static void there_is_a_bound(void **state)
{
    (void)state;
    char *text = xcalloc(1, KEEPER_MAX_TEXT + 1);
    for (int i = 0; i < KEEPER_ASKS; i++)
        ask("x");
    assert_int_equal(keeper_ask(k, KEEPER_QUERY, "{}", 2, on_answer, "x"), -EAGAIN);
    assert_int_equal(keeper_ask(k, KEEPER_QUERY, text, KEEPER_MAX_TEXT + 1, on_answer, "x"), -EMSGSIZE);
    free(text);
}

static void passwords_are_overwritten(void **state)
{
    (void)state;
    assert_int_equal(keeper_ask(k, KEEPER_LOGIN, password, strlen(password), on_answer, "x"), 0);
    assert_int_equal(n_wiped_passwords, 1);
    for (int i = 0; i < 20; i++) /* more than are sent unanswered */
        ask("x");
    assert_int_equal(keeper_ask(k, KEEPER_LOGIN, password, strlen(password), on_answer, "x"), 0);
    assert_int_equal(n_wiped_passwords, 1);
    keeper_stop(k); /* it was never sent */
    assert_int_equal(n_wiped_passwords, 2);
    k = NULL;
}

/* What on_answer of a question does that is asked while others wait. */
static void on_answer_ask_more(void *arg, int code, const bson_t *head, const char *body, size_t n)
{
    on_answer(arg, code, head, body, n);
    ask("more");
}

static struct event *reloading;

static void on_reload(evutil_socket_t fd, short what, void *arg)
{
    struct tenant_state *v = NULL;
    size_t n = 0;
    struct err e = {0};
    (void)fd;
    (void)what;
    (void)arg;
    assert_int_equal(keeper_tenants(k, &v, &n, &e), 0);
    assert_int_equal(n, 0);
    tenant_states_free(v, n);
    assert_string_equal(said, ""); /* nobody is told in the middle of it */
}

/* In the same turn of the loop the socket is readable, and a callback before that takes all there is to read. */
static void asked_at_once_while_answers_come(void **state)
{
    (void)state;
    assert_int_equal(keeper_ask(k, KEEPER_QUERY, "{}", 2, on_answer_ask_more, "a"), 0);
    ask("b");
    say(0, "{\"v\":\"1\"}\n");
    say(0, "{\"v\":\"2\"}\n");
    say(0, "{\"tenants\":[]}");
    reloading = event_new(base, -1, 0, on_reload, NULL);
    event_active(reloading, 0, 0);
    for (int i = 0; i < 3; i++)
        go_on();
    assert_string_equal(said, "a:0:1: b:0:2: ");
    assert_false(event_base_got_break(base)); /* it did not look like the keeper's end */
    say(0, "{\"v\":\"3\"}\n");
    go_on();
    assert_string_equal(said, "a:0:1: b:0:2: more:0:3: ");
    event_free(reloading);
}

/* What was never sent is not waited for: the keeper answers what it has, and no more. */
static void asked_at_once_waits_for_what_is_under_way_only(void **state)
{
    (void)state;
    struct tenant_state *v = NULL;
    size_t n = 0, n_sent = 0;
    struct err e = {0};
    for (int i = 0; i < 100; i++)
        assert_int_equal(keeper_ask(k, KEEPER_QUERY, "{}", 2, on_answer, ""), 0);
    for (; take() >= 0; n_sent++)
        say(0, "{\"v\":\"1\"}\n");
    assert_in_range(n_sent, 1, 99);
    say(0, "{\"tenants\":[]}");
    assert_int_equal(keeper_tenants(k, &v, &n, &e), 0);
    tenant_states_free(v, n);
    assert_int_equal(take(), KEEPER_TENANTS);
    assert_int_equal(take(), KEEPER_QUERY); /* and the others go on */
}

static void its_end_is_an_error_and_ends_the_loop(void **state)
{
    (void)state;
    struct conf *c;
    struct err e = {0};
    ask("a");
    close(far);
    far = -1;
    assert_true(keeper_conf(k, &c, &e) < 0);
    assert_true(keeper_conf(k, &c, &e) < 0);
    ask("b");
    go_on();
    assert_string_equal(said, "");
}

static void its_end_ends_the_loop(void **state)
{
    (void)state;
    close(far);
    far = -1;
    event_base_dispatch(base);
    assert_true(event_base_got_break(base));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        T(answers_come_in_order),
        T(a_full_socket_does_not_block),
        T(there_is_a_bound),
        T(passwords_are_overwritten),
        T(asked_at_once_while_answers_come),
        T(asked_at_once_waits_for_what_is_under_way_only),
        T(its_end_is_an_error_and_ends_the_loop),
        T(its_end_ends_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
