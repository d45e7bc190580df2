#include "sbatch.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* What programs of the platform's read of their environment. */
#define NEEDED "PATH,TZ,LANG,SIMBDP_DEBUG,SIMBDP_CRASH_AT,SIMBDP_CRASH_ONCE,ASAN_OPTIONS,UBSAN_OPTIONS,LSAN_OPTIONS"

void sbatch_add(struct sbatch *c, char *text)
{
    if (c->n < SBATCH_MAX_ARGS - 1)
        c->argv[c->n++] = text;
    else
        free(text);
}

void sbatch_begin(struct sbatch *c, const char *name, const char *comment, const char *out)
{
    sbatch_add(c, xstrdup("sbatch"));
    sbatch_add(c, xstrdup("--parsable"));
    sbatch_add(c, xstrdup("--no-requeue"));
    sbatch_add(c, xstrdup("--nodes=1"));
    sbatch_add(c, xstrdup("--ntasks=1"));
    sbatch_add(c, xstrdup("--chdir=/"));
    sbatch_add(c,
               xstrdup("--export=" NEEDED)); /* Slurm keeps it on its disk, and ours may have secrets; the app's is in the spec */
    sbatch_add(c, xstrdup("--input=/dev/null"));
    sbatch_add(c, xasprintf("--job-name=%s", name));
    sbatch_add(c, xasprintf("--comment=%s", comment));
    sbatch_add(c, xasprintf("--output=%s", out));
    sbatch_add(c, xstrdup("--open-mode=append"));
}

static bool begins(const char *line, const char *with)
{
    return !strncmp(line, with, strlen(with));
}

void sbatch_add_options(struct sbatch *c, const char *options, bool all)
{
    AUTO_FREE char *copy = xstrdup(options);
    for (char *save, *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (begins(line, "--") && (all || begins(line, "--partition=") || begins(line, "--account=") || begins(line, "--qos=")))
            sbatch_add(c, xstrdup(line));
}

void sbatch_end(struct sbatch *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->argv[i]);
}

bool command_succeeded(int status, bool late)
{
    return !late && status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

const char *command_first_line(struct buf *out)
{
    out->p[strcspn(out->p, "\n")] = 0;
    return *out->p ? out->p : "no reason is given";
}

bool sbatch_take_id(struct buf *out, char ret[32])
{
    for (char *save, *line = strtok_r(out->p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        size_t n = strspn(line, "0123456789");
        if (n && n < 20 && (!line[n] || line[n] == ';')) {
            snprintf(ret, 32, "%.*s", (int)n, line);
            return true;
        }
    }
    return false;
}
