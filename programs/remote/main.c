/* simbdp-remote: mysimbdp's verbs for a tenant's own machine, over HTTP. `mysimbdp` executes it where a gateway is meant
 * (programs/cli/remote.c), so that the command line of a home does not load libcurl. */
#include "profiles.h"
#include "remote.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/near.h"
#include "term/complete.h"
#include "term/output.h"
#include "term/progress.h"
#include "term/text.h"

#include <curl/curl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_WORD = 4 /* of a command line that is completed */ };
#define BEFORE_VERB "[--url URL] [--profile NAME] [--token-file F] [--ca FILE] [--tenant T] [--retry-for 15m] [--help]"

static const struct {
    const char *name;
    remote_verb run;
    const char *args, *help; /* lines after the first are for --help of the verb alone */
} verbs[] = {
    {"profile", verb_profile,
     "list [--json] | add NAME --url URL [--token-file F] [--ca FILE] [--tenant T] | use NAME | remove NAME",
     "gateways by name, in ~/.config/mysimbdp/config; use: the one that is meant when nothing else is said"},
    {"whoami", verb_whoami, "[--json]", "whose the token is, and what it may do"},
    {"upload", verb_upload, "PATH... --dataset D [--app A] [--force] [--parallel N] [--wait] [--quiet] [--json]",
     "send files, and directories with all below them; --wait: until each is done, exit code 1 unless all were ingested (also with "
     "rejected rows) or are duplicates\n\n"
     "What the agreement says against a file is said before anything of it is sent. Up to N (4) are sent at once. Files over 8 "
     "MiB\n"
     "go in pieces: when the connection is cut, or the program is ended, the same command goes on where it was. Of directories,\n"
     "links and what begins with a dot or ends in .part is left out."},
    {"files", verb_files, "[FILE_ID] [--dataset D] [--state S] [--since T] [--limit N] [--json] | --watch [FILTERS] [--json]",
     "what became of the files; --watch: each as its state changes, from now on"},
    {"file", verb_file, "FILE_ID [--json]", "a file with its whole story and its runs"},
    {"runs", verb_runs, "[RUN_ID] [--file FILE_ID] [--state S] [--since T] [--limit N] [--json] | --watch [FILTERS] [--json]",
     "each time an app was started; --watch: each as its state changes, from now on"},
    {"run", verb_run, "RUN_ID [--json]", "a run"},
    {"logs", verb_logs, "RUN_ID [-f] [--raw]", "what a run printed; -f: and what it prints, until it ends"},
    {"rejects", verb_rejects, "FILE_ID [--csv | --json]", "rows of a file that were not stored, or that were repaired, and why"},
    {"retry", verb_retry, "FILE_ID | --all", "try refused or failed files again"},
    {"delete", verb_delete, "FILE_ID", "remove what is kept of a refused or failed file"},
    {"stop", verb_stop, "RUN_ID", "end a run; its file is quarantined"},
    {"publish", verb_publish, "STREAM [FILE...] [--json]",
     "put lines into a stream, of files or of stdin; done when all are confirmed, each once in effect"},
    {"events", verb_events, "-f [--types TYPES] [--json]",
     "what happens, from now on, an event a line\n\n"
     "TYPES: names of events, or what is before their dot, with commas: file,run.ended. When the connection is lost, that is "
     "said,\n"
     "and it goes on where it was; nothing is told twice."},
    {"queue", verb_queue, "list [--json] | show STREAM [--json]", "the streams: what waits for whom"},
    {"dead", verb_dead, "list STREAM [--app A] [--json] | replay|drop STREAM [--app A] --seq N|--all [--json]",
     "messages that an app refused, or failed at too often: list them, deliver them again, or drop them"},
    {"configuration", verb_configuration, "[--json]", "what the tenant configures itself, as it was sent"},
    {"configure", verb_configure, "FILE [--if-match SHA256] [--json]",
     "replace it by FILE (- is stdin); with an error nothing changes\n\n"
     "As far as `own.allow` of the agreement goes. An empty FILE removes all of it. --if-match: only while it is still what\n"
     "`configuration --json` gave as sha256."},
    {"apps", verb_apps, "[--json]", "the tenant's apps"},
    {"app", verb_app,
     "list [--json] | push APP PATH [--activate] [--no-wait] | versions APP | activate APP VERSION | rollback APP | remove APP "
     "VERSION |\n"
     "           instances [--json] | start APP [[--] ARGUMENT...] | stop APP|INSTANCE | scale APP COUNT|auto | run APP",
     "apps, their versions and instances\n\n"
     "push: PATH is an executable, a directory (packed as tar.gz, without .git), or an archive (.tar.gz, .tar.zst, .zip). It is\n"
     "ready when it was looked at; --activate: runs and instances have it from then on. rollback: the one that was active before.\n"
     "start: a stream app that was stopped runs again; with arguments, one more instance, whose id is printed.\n"
     "run: the files that wait for the app's trigger go."},
    {"agreement", verb_agreement, "[--json]", "what is allowed: limits, datasets, streams"},
    {"usage", verb_usage, "[--json]", "what is used of it, and left of today"},
    {"bill", verb_bill, "MONTH [--json]", "what a month (2026-01) comes to"},
    {"tenant", verb_tenant, "suspend TENANT [--json] | resume TENANT [--json]",
     "for an operator: nothing of the tenant's is taken in or run until it is resumed"},
};

/* Verbs that print rows. */
static const char *const listing[] = {"app", "apps", "dead", "files", "profile", "queue", "rejects", "runs"};

static bool lists(const char *verb)
{
    for (size_t i = 0; i < sizeof listing / sizeof *listing; i++)
        if (!strcmp(listing[i], verb))
            return true;
    return false;
}

static void print_usage(FILE *to)
{
    fputs("usage: mysimbdp [--url URL [--token-file F] [--ca FILE] | --profile NAME] [--tenant T] VERB [ARGUMENTS]\n\n", to);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(to, "  %-9s %.*s\n           %s\n", verbs[i].name, (int)strcspn(verbs[i].help, "\n"), verbs[i].help, verbs[i].args);
    fputs(
        "\nThe token is what `mysimbdp token add` printed, in a file that nobody else may read. --ca: the home's own certificate,\n"
        "where it is none that this system trusts. Or MYSIMBDP_URL, MYSIMBDP_TOKEN_FILE, MYSIMBDP_CA; or MYSIMBDP_PROFILE.\n"
        "--retry-for 30s, 15m, 2h: how long to go on when the connection is lost or the platform is busy (1m; to send: 15m).\n"
        "--since takes 2026-01-31, 2026-01-31T12:00:00Z, or 15m, 2h, 7d ago. Listings take\n"
        "--output table|wide|json|csv; --json is --output json: an object a line. A wide table has all columns, whole.\n"
        "What takes long shows how far it is on stderr, not with --quiet or where a program reads the rows.\n"
        "Exit: 0 done, 1 the thing asked for failed or was refused, 2 usage.\n",
        to);
}

/* Options may stand before the verb and after it, but not behind "--". */
static const char *take_option(int *argc, char **argv, const char *name)
{
    struct remote r = {0};
    int n = 0;
    while (n < *argc && strcmp(argv[n], "--") != 0)
        n++;
    const int before = n;
    char *kept = argv[n];
    argv[n] = NULL;
    r.argc = n;
    r.argv = argv;
    const char *value = remote_opt(&r, name);
    argv[before] = kept;
    if (r.argc < before)
        memmove(argv + r.argc, argv + before, (size_t)(*argc - before + 1) * sizeof *argv);
    *argc -= before - r.argc;
    return value;
}

/* 90s, 15m, 2h. False: it is no duration. */
static bool parse_duration(const char *text, int64_t *ret_ms)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    char *end;
    long long n = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (end != text && n > 0 && n < 10000000 && *end == units[i].unit && !end[1]) {
            *ret_ms = n * units[i].ms;
            return true;
        }
    return false;
}

static int run(struct remote *r, remote_verb verb)
{
    if (sodium_init() < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        fputs("error: libsodium or libcurl cannot be initialised\n", stderr);
        return REMOTE_FAILED;
    }
    int code = verb(r);
    remote_close(r);
    curl_global_cleanup();
    return code;
}

static int no_verb(const char *word)
{
    struct near near = {.word = word};
    char meant[NEAR_TEXT_SIZE];
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        near_try(&near, verbs[i].name);
    fprintf(stderr, "mysimbdp: no verb \"%s\" over HTTP%s; `mysimbdp --url URL help` lists all\n", word, near_text(&near, meant));
    return REMOTE_USAGE;
}

/* Nothing is asked over the network while somebody types. */
static void offer_values(void *arg, const struct complete_place *p, struct complete_offer *o)
{
    static const char *const files[] = {"F", "FILE", "PATH"};
    const bool profile = (p->option && !strcmp(p->option, "--profile")) || (p->verb && !strcmp(p->verb, "profile") && !p->option);
    struct profiles all = {0};
    struct err e;
    if (profile && !strcmp(p->kind, "NAME") && profiles_read(&all, &e) == 0)
        for (size_t i = 0; i < all.n; i++)
            complete_add(o, all.v[i].name, all.v[i].url);
    profiles_fini(&all);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strcmp(p->kind, files[i]))
            complete_files(o);
}

/* `mysimbdp completion words -- WORD...`, which mysimbdp hands on (programs/cli/completion.h). */
static int complete(int argc, char **argv)
{
    struct complete_verb v[sizeof verbs / sizeof *verbs];
    struct complete_offer o = {0};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        v[i] = (struct complete_verb){verbs[i].name, verbs[i].args, verbs[i].help, NULL};
    complete_line(v, sizeof v / sizeof *v, BEFORE_VERB, argv, (size_t)argc, offer_values, NULL, &o);
    fputs(o.lines.p ? o.lines.p : "", stdout);
    buf_fini(&o.lines);
    return REMOTE_DONE;
}

int main(int argc, char **argv)
{
    struct remote r = {0};
    if (argc > FIRST_WORD && !strcmp(argv[1], "completion") && !strcmp(argv[2], "words") && !strcmp(argv[3], "--"))
        return complete(argc - FIRST_WORD, argv + FIRST_WORD);
    log_init("mysimbdp");
    text_guard();
    text_fold(true);
    signal(SIGPIPE, SIG_IGN); /* of a connection; who reads us no more is seen by ferror */
    argc--;
    argv++;
    r.options = (struct target_options){take_option(&argc, argv, "--url"), take_option(&argc, argv, "--profile"),
                                        take_option(&argc, argv, "--token-file"), take_option(&argc, argv, "--ca"),
                                        take_option(&argc, argv, "--tenant")};
    const char *retry_for = take_option(&argc, argv, "--retry-for"), *home = take_option(&argc, argv, "--home");
    if (argc < 1 || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h") || !strcmp(argv[0], "help")) {
        print_usage(argc < 1 ? stderr : stdout);
        return argc < 1 ? REMOTE_USAGE : REMOTE_DONE;
    }
    if (!strcmp(argv[0], "--version"))
        return puts("mysimbdp " SIMBDP_VERSION) < 0;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(argv[0], verbs[i].name))
            continue;
        r.verb = verbs[i].name;
        r.usage = verbs[i].args;
        r.argc = argc - 1;
        r.argv = argv + 1;
        if (remote_flag(&r, "--help")) {
            printf("usage: mysimbdp %s %s [--url URL | --profile NAME]\n%s\n", r.verb, r.usage, verbs[i].help);
            return REMOTE_DONE;
        }
        if (home)
            return remote_usage(&r, "--home is for a platform of this machine; leave it out, or --url and --profile");
        if (retry_for && !parse_duration(retry_for, &r.retry_for_ms))
            return remote_usage(&r, "--retry-for %s is no duration, as 30s, 15m or 2h", retry_for);
        const char *why = output_take(&r.argc, r.argv, lists(r.verb), &r.json, &r.csv);
        if (why)
            return remote_usage(&r, "%s", why);
        progress_set_quiet(remote_flag(&r, "--quiet") || r.json || r.csv);
        return run(&r, verbs[i].run);
    }
    return no_verb(argv[0]);
}
