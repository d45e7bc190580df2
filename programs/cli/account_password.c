/* Passwords that are typed, or come from a file or a pipe. */
#include "account_change.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

/* Bytes of memory that held a password. */
static void forget(struct buf *b)
{
    if (b->p)
        sodium_memzero(b->p, b->cap);
    buf_fini(b);
}

/* A file's or a pipe's bytes, up to one more than a password may have. */
static int read_some(int fd, struct buf *b, bool is_line)
{
    const size_t most = ACCOUNT_PASSWORD_MAX + 3; /* with its end of line */
    buf_reserve(b, most);                         /* at once, so that no copy of it stays in memory that was given back */
    while (b->n < most) {
        ssize_t n = read(fd, b->p + b->n, most - b->n);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        b->n += (size_t)n;
        if (is_line && b->p[b->n - 1] == '\n')
            break;
    }
    b->p[b->n] = 0;
    return 0;
}

/* Waits for a line, or for a signal; one that came before is noticed as well. */
static int wait_for_line(const sigset_t *open)
{
    struct pollfd p = {STDIN_FILENO, POLLIN, 0};
    return caught || ppoll(&p, 1, NULL, open) < 0 ? -EINTR : 0;
}

/* Without echo. A signal that would end us does so when the terminal is as it was. */
static int read_unseen(const char *prompt, struct buf *b)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    enum { N = sizeof signals / sizeof *signals };
    struct sigaction before[N], catch = {.sa_handler = on_signal};
    struct termios seen, unseen;
    sigset_t ending, open;
    if (tcgetattr(STDIN_FILENO, &seen) < 0)
        return -errno;
    unseen = seen;
    unseen.c_lflag &= ~(tcflag_t)ECHO;
    sigemptyset(&ending);
    for (int i = 0; i < N; i++)
        sigaddset(&ending, signals[i]);
    sigprocmask(SIG_BLOCK, &ending, &open);
    for (int i = 0; i < N; i++)
        sigaction(signals[i], &catch, &before[i]);
    int r = tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen) < 0 ? -errno : 0;
    fputs(prompt, stderr); /* not before: what is typed ahead would be seen, and is thrown away */
    fflush(stderr);
    if (r == 0)
        r = wait_for_line(&open);
    if (r == 0)
        r = read_some(STDIN_FILENO, b, true);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &seen);
    fputs("\n", stderr);
    for (int i = 0; i < N; i++)
        sigaction(signals[i], &before[i], NULL);
    sigprocmask(SIG_SETMASK, &open, NULL);
    if (caught)
        raise(caught);
    return r;
}

/* One end of line off. NUL bytes would hide what follows them. */
static char *text_of(struct buf *b, struct err *e)
{
    if (b->n && b->p[b->n - 1] == '\n')
        b->p[--b->n] = 0;
    if (b->n && b->p[b->n - 1] == '\r')
        b->p[--b->n] = 0;
    if (memchr(b->p, 0, b->n)) {
        err_set(e, ERR_REFUSED, "a password is one line of UTF-8");
        return NULL;
    }
    return xstrdup(b->p);
}

static char *ask_twice(const char *user, struct err *e)
{
    AUTO_FREE char *prompt = xasprintf("password of %s, at least %d characters: ", user, ACCOUNT_PASSWORD_MIN);
    struct buf first = {0}, second = {0};
    char *password = NULL;
    int r = read_unseen(prompt, &first);
    if (r == 0)
        r = read_unseen("again: ", &second);
    if (r < 0)
        err_sys(e, r, "cannot read the terminal");
    else if (first.n != second.n || sodium_memcmp(first.p, second.p, first.n) != 0)
        err_set(e, ERR_REFUSED, "these were two passwords");
    else
        password = text_of(&first, e);
    forget(&first);
    forget(&second);
    return password;
}

char *account_password_ask(const char *user, const char *file, struct err *e)
{
    struct buf b = {0};
    char *password = NULL;
    if (!file && isatty(STDIN_FILENO))
        return ask_twice(user, e);
    AUTO_FD int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
    int r = fd < 0 ? -errno : read_some(fd, &b, false);
    if (r < 0)
        err_sys(e, r, "cannot read the password from %s", file ? file : "stdin");
    else
        password = text_of(&b, e);
    forget(&b);
    return password;
}

void account_password_free(char *password)
{
    if (password)
        sodium_memzero(password, strlen(password));
    free(password);
}
