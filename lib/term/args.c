#include "args.h"

#include <stddef.h>
#include <string.h>

static void take(int *argc, char **argv, int i, int n)
{
    memmove(argv + i, argv + i + n, (size_t)(*argc - i - n + 1) * sizeof *argv);
    *argc -= n;
}

/* What is behind "--" is somebody else's. */
static bool is_end(const char *arg)
{
    return !strcmp(arg, "--");
}

const char *args_opt(int *argc, char **argv, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < *argc && !is_end(argv[i]); i++) {
        const char *value = NULL;
        if (!strcmp(argv[i], name) && i + 1 < *argc) {
            value = argv[i + 1];
            take(argc, argv, i, 2);
        } else if (!strncmp(argv[i], name, n) && argv[i][n] == '=') {
            value = argv[i] + n + 1;
            take(argc, argv, i, 1);
        }
        if (value)
            return value;
    }
    return NULL;
}

bool args_flag(int *argc, char **argv, const char *name)
{
    for (int i = 0; i < *argc && !is_end(argv[i]); i++)
        if (!strcmp(argv[i], name)) {
            take(argc, argv, i, 1);
            return true;
        }
    return false;
}

const char *args_stray(int argc, char *const *argv)
{
    for (int i = 0; i < argc; i++)
        if (argv[i][0] == '-' && argv[i][1])
            return argv[i];
    return NULL;
}
