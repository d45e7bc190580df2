/* A tenant's app for tests: does what the lines of its input say, one action a line, "action,argument" below a header.
 *
 *   exit N          end with this code              signal N        end by this signal
 *   hang            sleep for ever                  deaf            ignore SIGTERM, then sleep for ever
 *   spin            use CPU for ever                leak N          touch N bytes of memory
 *   flood N         print N bytes in lines          oneline N       print one line of N bytes
 *   rows N          print N JSON documents          print TEXT      print TEXT
 *   complain TEXT   print TEXT on stderr
 *   file N          write a file of N bytes         out NAME        write a JSON row to SIMBDP_OUTPUT_DIR/NAME
 *   fork N          N children that sleep           bomb            fork without end
 *   daemon          double fork, setsid, sleep      fds N           open N descriptors
 *   result TEXT     write SIMBDP_RESULT_FILE        link PATH       make the result file a link to PATH
 *   until N CODE    exit CODE while SIMBDP_ATTEMPT is below N
 *   gate FILE       wait until FILE exists          touch FILE      make FILE
 *   once FILE CODE  make FILE and exit CODE; when it exists, go on
 *   env             print the environment           openfds         print the open descriptors
 *   read PATH       print whether PATH can be read  uid             print uid and gid
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void sleep_for_ever(void)
{
    for (;;)
        pause();
}

static void print_bytes(long long n, int width)
{
    static char chunk[65536];
    memset(chunk, 'x', sizeof chunk);
    for (size_t i = (size_t)width - 1; width && i < sizeof chunk; i += (size_t)width)
        chunk[i] = '\n';
    while (n > 0) {
        ssize_t w = write(1, chunk, n < (long long)sizeof chunk ? (size_t)n : sizeof chunk);
        if (w <= 0)
            exit(1);
        n -= w;
    }
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        exit(3);
}

static void write_bytes(long long n)
{
    static char chunk[65536];
    int fd = open("big", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while (n > 0) {
        ssize_t w = write(fd, chunk, n < (long long)sizeof chunk ? (size_t)n : sizeof chunk);
        if (w <= 0)
            exit(4);
        n -= w;
    }
}

static void leak(long long n)
{
    for (; n > 0; n -= 1 << 20) {
        char *p = malloc(1 << 20);
        if (!p)
            exit(5);
        memset(p, 1, 1 << 20);
    }
}

static void become_daemon(void)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            sleep_for_ever();
        _exit(0);
    }
}

static void list_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *ent; (ent = readdir(d));) {
        char target[4096];
        ssize_t n = readlinkat(dirfd(d), ent->d_name, target, sizeof target - 1);
        if (n < 0 || atoi(ent->d_name) == dirfd(d))
            continue;
        target[n] = 0;
        printf("fd %s %s\n", ent->d_name, target);
    }
    closedir(d);
}

static void wait_for_file(const char *path)
{
    while (access(path, F_OK) < 0)
        poll(NULL, 0, 10);
}

static void act(const char *what, char *arg)
{
    long long n = atoll(arg);
    const char *attempt = getenv("SIMBDP_ATTEMPT"), *result = getenv("SIMBDP_RESULT_FILE");
    char *second = strchr(arg, ' ');
    fflush(stdout);
    if (!strcmp(what, "exit"))
        exit((int)n);
    else if (!strcmp(what, "signal"))
        kill(getpid(), (int)n);
    else if (!strcmp(what, "hang"))
        sleep_for_ever();
    else if (!strcmp(what, "deaf")) {
        signal(SIGTERM, SIG_IGN);
        sleep_for_ever();
    } else if (!strcmp(what, "spin"))
        for (volatile unsigned long i = 0;; i++) {
        }
    else if (!strcmp(what, "leak"))
        leak(n);
    else if (!strcmp(what, "flood"))
        print_bytes(n, 80);
    else if (!strcmp(what, "oneline"))
        print_bytes(n, 0);
    else if (!strcmp(what, "rows"))
        for (long long i = 0; i < n; i++)
            printf("{\"n\":%lld}\n", i);
    else if (!strcmp(what, "print"))
        puts(arg);
    else if (!strcmp(what, "complain"))
        fprintf(stderr, "%s\n", arg);
    else if (!strcmp(what, "file"))
        write_bytes(n);
    else if (!strcmp(what, "out")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", getenv("SIMBDP_OUTPUT_DIR"), arg);
        write_text(path, "{\"from\":\"dir\"}\n");
    } else if (!strcmp(what, "fork")) {
        for (long long i = 0; i < n; i++) {
            pid_t pid = fork();
            if (pid == 0)
                sleep_for_ever();
            if (pid < 0)
                exit(6);
        }
    } else if (!strcmp(what, "bomb")) {
        for (;;)
            if (fork() < 0)
                poll(NULL, 0, 1);
    } else if (!strcmp(what, "daemon"))
        become_daemon();
    else if (!strcmp(what, "fds")) {
        for (long long i = 0; i < n; i++)
            if (open("/dev/null", O_RDONLY) < 0)
                exit(7);
    } else if (!strcmp(what, "result"))
        write_text(result, arg);
    else if (!strcmp(what, "link"))
        exit(symlink(arg, result) < 0 ? 8 : 0);
    else if (!strcmp(what, "until")) {
        if (attempt && atoi(attempt) < n)
            exit(second ? atoi(second) : 1);
    } else if (!strcmp(what, "gate"))
        wait_for_file(arg);
    else if (!strcmp(what, "touch"))
        write_text(arg, "");
    else if (!strcmp(what, "once")) {
        if (second)
            *second++ = 0;
        if (access(arg, F_OK) < 0) {
            write_text(arg, "");
            exit(second ? atoi(second) : 1);
        }
    } else if (!strcmp(what, "env"))
        for (char **e = environ; *e; e++)
            printf("env %s\n", *e);
    else if (!strcmp(what, "openfds"))
        list_fds();
    else if (!strcmp(what, "read")) {
        int fd = open(arg, O_RDONLY);
        printf("read %s %s\n", arg, fd < 0 ? strerror(errno) : "readable");
    } else if (!strcmp(what, "uid"))
        printf("uid %d gid %d\n", (int)getuid(), (int)getgid());
    else
        exit(9);
}

int main(void)
{
    char line[65536];
    if (!fgets(line, sizeof line, stdin))
        return 0;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        char *comma = strchr(line, ',');
        if (comma)
            *comma++ = 0;
        act(line, comma ? comma : line + strlen(line));
    }
    fflush(stdout);
    return 0;
}
