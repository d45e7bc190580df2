#include "remote.h"
#include "cli.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What both have: with a home given it is the home's. */
static const char *const shared[] = {"agreement", "app",     "bill",  "dead", "events", "files", "logs",   "publish",
                                     "queue",     "rejects", "retry", "runs", "run",    "stop",  "upload", "usage"};
/* What only a gateway can be asked. */
static const char *const its_own[] = {"apps", "configuration", "configure", "delete", "file", "profile", "whoami"};

static bool is_among(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(word, words[i]))
            return true;
    return false;
}

static bool is_option(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return !strncmp(arg, name, n) && (!arg[n] || arg[n] == '=');
}

static bool is_set(const char *name)
{
    const char *v = getenv(name);
    return v && *v;
}

static bool has_profiles(void)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    AUTO_FREE char *path = xdg && *xdg == '/' ? xasprintf("%s/mysimbdp/config", xdg)
                                              : xasprintf("%s/.config/mysimbdp/config", home && *home ? home : "/nonexistent");
    return access(path, F_OK) == 0;
}

bool remote_is_shared(const char *verb)
{
    return is_among(verb, shared, sizeof shared / sizeof *shared);
}

bool remote_is_preferred(void)
{
    return is_set("MYSIMBDP_URL") || is_set("MYSIMBDP_PROFILE") || (!is_set("MYSIMBDP_HOME") && has_profiles());
}

bool remote_is_meant(int argc, char *const *argv)
{
    const char *verb = NULL;
    bool here = false;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (is_option(argv[i], "--url") || is_option(argv[i], "--profile"))
            return true;
        here |= is_option(argv[i], "--home");
        if (!verb && argv[i][0] != '-' && strcmp(argv[i - 1], "--home") != 0)
            verb = argv[i];
    }
    if (!verb || here)
        return false;
    if (is_among(verb, its_own, sizeof its_own / sizeof *its_own))
        return true;
    return remote_is_shared(verb) && remote_is_preferred();
}

int remote_execute(char **argv)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    AUTO_FREE char *program = xasprintf("%.*ssimbdp-remote", slash ? (int)(slash + 1 - self) : 0, self);
    execv(program, argv);
    fprintf(stderr, "mysimbdp: cannot execute %s: %s\n", program, strerror(errno));
    return CLI_FAILED;
}
