/* mysimbdp VERB: the command line. Each verb has a file. */
#include "cli.h"
#include "completion.h"
#include "desk.h"
#include "remote.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/near.h"
#include "term/output.h"
#include "term/progress.h"
#include "term/text.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    cli_verb run;
    const char *args, *help; /* lines after the first are for --help of the verb alone */
} verbs[] = {
    {"init", verb_init, "HOME", "make a home directory"},
    {"up", verb_up, "", "run the platform in the foreground"},
    {"down", verb_down, "[--leave-runs]", "stop it; --leave-runs lets the tenants' runs go on"},
    {"upgrade", verb_upgrade, "",
     "have the running programs started again from what is installed now, one after the other; runs go on"},
    {"check", verb_check, "[--keys | --diff [--json]]",
     "check the configuration; --keys lists every key; --diff: what a reload would change, and what happens then\n\n"
     "--diff compares with what was accepted last (`mysimbdp history list`), key by key."},
    {"explain", verb_explain, "[KEY] [--json]",
     "a key of the configuration: type, default, range, when a change takes effect, an example; without KEY: all of them\n\n"
     "KEY is as it is written in its file, with dots (platform.http.listen, limits.max_rejects), or the end of that "
     "(max_rejects)."},
    {"completion", verb_completion, "bash|zsh|fish",
     "the script by which a shell completes what is typed\n\n"
     "An installed platform brings it along. By hand, where the shell starts:\n"
     "  bash  source <(mysimbdp completion bash)        in ~/.bashrc\n"
     "  zsh   source <(mysimbdp completion zsh)         in ~/.zshrc, behind compinit\n"
     "  fish  mysimbdp completion fish | source         in ~/.config/fish/config.fish\n"
     "Tenants, apps, datasets and streams are those of the home's configuration, ids those of its ledger; the platform need not "
     "run."},
    {"doctor", verb_doctor, "[--fix | --warn] [--json]",
     "what this host enforces of each limit, and whether all that is needed is there; --fix: remove cgroups that homes left which "
     "are gone;\n--warn: only what `up` warns of: users, executables and secrets that are out of reach, and space"},
    {"reload", verb_reload, "", "make the running platform take the changed configuration, all or nothing"},
    {"history", verb_history, "list [--json] | show NUMBER [--json] | diff NUMBER [NUMBER] [--json] | rollback NUMBER [--json]",
     "the configurations that were accepted, with who and when, and the way back to one\n\n"
     "diff: what differs from NUMBER to the second one, or to the files as they are. rollback: the files become those of NUMBER "
     "again,\n"
     "and the running platform takes them, all or nothing: where they cannot be accepted now nothing changes. A tenant that NUMBER "
     "has\n"
     "not is put aside as by `mysimbdp tenant remove`. What tenants configure themselves is not in it. The newest 100 are kept."},
    {"backup", verb_backup,
     "DIR|- [--files] [--keep N] [--rate BYTES] [--json] | DIR --list [--json] | DIR --verify [--point POINT|all] [--json]",
     "back the home up while it runs; each time only what changed takes room\n\n"
     "DIR is made, mode 0700, where it is not there; it has secrets in it. - writes one backup to stdout, as a tar archive.\n"
     "--files: what done/ and quarantine/ have, too. --keep N: only the newest N stay. --rate 20M: at most so many bytes a "
     "second.\n"
     "MongoDB is no part of it."},
    {"restore", verb_restore, "DIR|- NEW_HOME [--point POINT] [--json]",
     "make a home of a backup, the newest unless --point says which; - reads one from stdin. NEW_HOME is not there, or empty"},
    {"mongo", verb_mongo,
     "dump DIR [--tenant T] [--own | --url-file FILE] [--json] | restore DIR [--exact] [--tenant T] [--own | --url-file FILE] "
     "[--json]",
     "the documents of the home's MongoDB into a directory, and of a directory into a MongoDB: to grow out of the embedded one\n\n"
     "DIR is as mongodump and mongorestore have it: each reads what the other wrote. dump makes it, mode 0700, where it is not "
     "there.\n"
     "restore inserts what is missing, with its _id, and makes collections and indexes; it may be said again at any time. What "
     "the\n"
     "target has under the same _id with another content stays, and is told; --exact replaces it, and deletes what DIR has not.\n"
     "Whose MongoDB: the home's, also while it is down; --own: the one that the platform runs itself, although the configuration\n"
     "names another; --url-file: that of the URL in FILE. --tenant: only the tenant's database. The home's accounts in MongoDB and "
     "its\n"
     "mark there are not taken along."},
    {"cells", verb_cells,
     "init DIR | add NAME URL [--pin SHA256] | change NAME URL [--pin SHA256] | remove NAME | assign TENANT CELL [--moving] | "
     "assign --from FILE | forget TENANT | sign [--days N] | show [TENANT] [--json] | verify FILE --key FILE | "
     "stats --tokens DIR [--tenant T] [--deadline-s N] [--json] | files --tokens DIR [--tenant T] [--state S] [--since T] [--limit "
     "N] "
     "[--deadline-s N] [--json] | page --tokens DIR --out FILE [--deadline-s N]",
     "a fleet of homes: which tenant is in which cell; the map that fronts go by (docs/scale-out.md)\n\n"
     "DIR is named by --dir DIR, or MYSIMBDP_CELLS. What is changed is a draft; sign makes a map of it, with a serial that rises, "
     "valid\n"
     "for 30 days or --days N. --pin: the SHA-256 of the cell's certificate, as `mysimbdp status` shows it; without, the host's\n"
     "authorities vouch for it. assign --moving: nobody is let to the tenant until it is assigned again. A line of assign --from "
     "is\n"
     "TENANT CELL. stats, files: what all cells say of the month so far, and of files, within 10 s or --deadline-s; a cell that "
     "does\n"
     "not answer is said. --tokens: a directory with a file for each cell, of its name and mode 0600: an operator's token there.\n"
     "files shows the newest 20 of each tenant, or --limit. page: how all cells are, as HTML in FILE, whole at any time. verify: "
     "whether the map in FILE is signed by the key in the other one, "
     "and valid now."},
    {"restored", verb_restored, "[--seen]", "to be called before `up` when state/ was put back from a backup"},
    {"status", verb_status, "[--json]", "what the programs are doing"},
    {"clock", verb_clock, "[trust] [--json]",
     "whether retention follows the host's clock; trust: follow it from now on, although it leapt ahead"},
    {"top", verb_top, "[--once] [--json] [--sort COLUMN] [--issues] [--tenant T]",
     "what stream apps do, how many instances they need and why, and who waits for what; live, or --once\n\n"
     "Live, arrow keys select an app and Enter shows its limits, instances and last decisions; s sorts, r reverses, i shows "
     "issues\n"
     "only, q leaves. Curves are of the last five minutes, each as high as its largest value."},
    {"tenant", verb_tenant,
     "list [--json] | show T [--json] | add T [--from FILE | --template NAME] | configure T FILE [--json] | suspend T | resume T | "
     "remove T [--purge] [--quiet] | move T --to HOME [--cells DIR --cell NAME] [--purge] | move T --resume|--undo|--status "
     "[--json] | export T --to NAME "
     "[--no-documents] | import | move T --given | move T --arrived MOVE | move T --forget MOVE",
     "tenants\n\n"
     "add --template NAME: its file is HOME/conf/templates/NAME.conf, in which @TENANT@ stands for the tenant's id.\n"
     "configure takes FILE (- is stdin) as what the tenant configures itself, as far as `allow` of its agreement goes; with "
     "--if-match only\n"
     "where the present one has that SHA-256 (empty: there is none).\n"
     "move takes it to another home while both work; what was cut short goes on with --resume or back with --undo. export and "
     "import\n"
     "are its parts, a stream on stdout and stdin: docs/operations.md, \"Moving a tenant\"."},
    {"user", verb_user,
     "add NAME --role ROLE [--tenant T] [--password-file F] | list [--json] | passwd NAME [--password-file F] | disable NAME | "
     "enable "
     "NAME | remove NAME | role NAME --role ROLE",
     "who may log in over HTTP\n\n"
     "Roles; each may do what those before it may:\n"
     "  tenant-reader    look at what is the tenant's\n"
     "  tenant-writer    upload, retry, delete what was refused, publish, run and stop\n"
     "  tenant-deployer  bring apps, and change the tenant's configuration\n"
     "  operator         everything, for all tenants (no --tenant)\n"
     "A password has at least 12 characters. It is asked for, or read from stdin where that is no terminal, or from a file."},
    {"token", verb_token,
     "add USER [--verbs V,V] [--datasets D,D] [--expires 30d] [--note TEXT] [--json] | list [USER] [--json] | revoke ID",
     "what programs log in with over HTTP; add prints it, once\n\n"
     "Without --verbs a token may what its user's role may, without --datasets for all datasets; without --expires it has no end.\n"
     "Verbs: read upload retry delete publish run deploy admin. revoke takes the id, or the whole token."},
    {"audit", verb_audit, "[--since T] [--tenant T] [--limit N] [--json] | --verify [--json]",
     "who changed what; --verify: whether a record is missing or was changed"},
    {"upload", verb_upload, "TENANT DATASET FILE... [--app A] [--force] [--wait] [--quiet] [--json]",
     "hand files in; --wait: until each is done, exit code 1 unless all were ingested (also with rejected rows) or are duplicates"},
    {"files", verb_files,
     "[FILE_ID] [--tenant T] [--dataset D] [--state S] [--since T] [--limit N] [--json] | --watch [FILTERS] [--json]",
     "the ledger of files; --watch: each as its state changes, from now on, a line a change"},
    {"events", verb_events, "[--tenant T] [--types TYPE,...] [--since T] [-f] [--limit N] [--json]",
     "what happened, of all programs and tenants in the order of time; -f: what happens, until it is stopped\n\n"
     "A TYPE is an event's name (file.verdict) or its beginning (file, run, instance, scale, alert, stream). With -f and --since "
     "what\n"
     "was comes first; without either the newest are shown."},
    {"runs", verb_runs,
     "[RUN_ID] [--tenant T] [--file FILE_ID] [--state S] [--since T] [--limit N] [--json] | --watch [FILTERS] [--json]",
     "the ledger of runs; --watch: each as its state changes, from now on, a line a change"},
    {"describe", verb_describe, "FILE | RUN | TENANT/APP | TENANT [--json]",
     "everything known about one thing, and why it is not further\n\n"
     "FILE is its id or its name (the newest of that name), RUN an id; an id may be as short as listings show it. What it waits "
     "for\n"
     "comes from the programs, if they run: the scheduler's reason, a trigger's next time, a limit, a database that is away."},
    {"run", verb_run, "TENANT/APP", "run the files that wait for the app's trigger or for their group"},
    {"logs", verb_logs, "RUN [-f] [--raw]", "what a run printed"},
    {"rejects", verb_rejects, "FILE_ID [--json]", "rows of a file that were not stored, or that were repaired, and why"},
    {"preview", verb_preview,
     "FILE [--to json|csv] [--format csv|json] [--delimiter D] [--quote Q] [--escape E] [--encoding E] [--skip-rows N]\n"
     "           [--header-rows N] [--no-header] [--types all-string] [--ragged reject|pad|keep_extra] [--damaged reject|repair]\n"
     "           [--tenant T --dataset D] [--quiet]",
     "read a file as the platform would: dialect, columns, first rows, rejects; --to prints all of it"},
    {"publish", verb_publish, "TENANT/STREAM [--csv] [FILE...] [--json]",
     "put lines (--csv: rows, as JSON objects) into a stream; done when all are confirmed"},
    {"queue", verb_queue, "list [--tenant T] [--json]", "the streams: what waits for whom"},
    {"dead", verb_dead, "list [TENANT[/STREAM]] [--app A] [--json] | replay|drop TENANT/STREAM [--app A] --seq N|--all",
     "messages that no consumer could take"},
    {"app", verb_app,
     "list [--tenant T] [--json] | start TENANT/APP [[--] ARGUMENT...] | stop TENANT/APP | scale TENANT/APP COUNT|auto",
     "stream apps and their instances"},
    {"alerts", verb_alerts,
     "[list] [--json] | silence TENANT[/APP]|ALERT --for 2h [--alert A] [--why TEXT] | silences [--json] | unsilence ID",
     "alerts that fire; silence: nobody is told of them for a while, or until a time"},
    {"advise", verb_advise, "< FIGURES",
     "how many instances the monitor would want: a JSON object of figures a line, answered at once\n\n"
     "Figures, each line those of one moment of one app (what is null, missing or no number is not known):\n"
     "  now_s            seconds, of any clock that runs forward\n"
     "  ingress_per_s    messages that come in a second\n"
     "  ready, leased    messages that wait, and that instances hold\n"
     "  acks_per_busy_s  messages that one instance settles in a second in which it works\n"
     "  instances        that run\n"
     "  min, max         how many there may be\n"
     "  report_age_s     seconds since the last of these figures was measured; over 15 they count as not known\n"
     "Other keys are ignored: lines of HOME/logs/decisions.jsonl can be fed as they are, those of one app at a time. Answers are\n"
     "{\"now_s\",\"desired\",\"reason\"}, or {\"line\",\"error\"} for what is no JSON object. docs/scaling.md says how it "
     "decides."},
    {"retry", verb_retry, "FILE_ID | --tenant T", "try refused or failed files again"},
    {"stats", verb_stats, "[--streams] [--tenant T] [--since T] [--json]",
     "figures per tenant and for the platform; --streams: per stream app and UTC day, with the quality of what was read"},
    {"verify", verb_verify, "[--accept [--tenant TENANT]] [--json]",
     "whether ledger, directories, MongoDB and streams agree; --accept: the next start takes what is there, although\n"
     "something that the home had is missing; with --tenant only that tenant's database, at once"},
    {"agreement", verb_terms, "[--json]", "what is allowed: limits, datasets, streams; for a tenant's own user"},
    {"usage", verb_terms, "[--json]", "what is used of it, and left of today; for a tenant's own user"},
    {"bill", verb_terms, "MONTH [--json]", "what a month (2026-01) comes to; for a tenant's own user"},
    {"stop", verb_stop, "RUN [--node-is-off]",
     "end a run; its file is quarantined. --node-is-off: of a run on a cluster whose node is not heard: nothing of it is left\n"
     "there, since the machine is off; its file runs elsewhere"},
};

/* Verbs that print rows. */
static const char *const listing[] = {"alerts", "app",     "audit", "cells", "dead",   "explain", "files", "history",
                                      "queue",  "rejects", "runs",  "stats", "tenant", "token",   "user"};

static bool lists(const char *verb)
{
    for (size_t i = 0; i < sizeof listing / sizeof *listing; i++)
        if (!strcmp(listing[i], verb))
            return true;
    return false;
}

static void print_usage(FILE *to)
{
    fputs("usage: mysimbdp VERB [ARGUMENTS] [--home HOME]      (or MYSIMBDP_HOME)\n\n", to);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(to, "  %-8s %.*s\n           %s\n", verbs[i].name, (int)strcspn(verbs[i].help, "\n"), verbs[i].help, verbs[i].args);
    fputs("\nThe tenants' verbs from any machine, over HTTP: `mysimbdp --url URL help`.\n"
          "--since takes 2026-01-31, 2026-01-31T12:00:00Z, or 15m, 2h, 7d ago. Listings take --output table|wide|json|csv;\n"
          "--json is --output json: an object a line. A wide table has all columns, whole. What takes long shows how far it is on "
          "stderr,\n"
          "not with --quiet or where a program reads the rows.\n"
          "Exit: 0 done, 1 the thing asked for failed or was refused, 2 usage.\n",
          to);
}

/* For the scripts of `mysimbdp completion`. */
static int complete(int argc, char **argv)
{
    struct complete_verb v[sizeof verbs / sizeof *verbs];
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        v[i] = (struct complete_verb){verbs[i].name, verbs[i].args, verbs[i].help,
                                      lists(verbs[i].name) ? "[--output table|wide|json|csv]" : NULL};
    return completion_answer(v, sizeof v / sizeof *v, argc, argv);
}

int main(int argc, char **argv)
{
    if (completion_is_asked(argc, argv))
        return complete(argc, argv);
    if (remote_is_meant(argc, argv))
        return remote_execute(argv);
    log_init("mysimbdp");
    crash_init();
    text_guard();
    text_fold(true);
    signal(SIGPIPE, SIG_DFL);
    const char *home = home_take_arg(&argc, argv);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? CLI_USAGE : CLI_DONE;
    }
    if (!strcmp(argv[1], "--version"))
        return puts("mysimbdp " SIMBDP_VERSION) < 0;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(argv[1], verbs[i].name))
            continue;
        struct cli c = {.verb = verbs[i].name, .usage = verbs[i].args, .home_arg = home, .argc = argc - 2, .argv = argv + 2};
        if (cli_flag(&c, "--help")) {
            printf("usage: mysimbdp %s %s [--home HOME]\n%s\n", c.verb, c.usage, verbs[i].help);
            return CLI_DONE;
        }
        const char *why = output_take(&c.argc, c.argv, lists(c.verb), &c.json, &c.csv);
        if (why)
            return cli_usage(&c, "%s", why);
        progress_set_quiet(cli_flag(&c, "--quiet") || cli_is_read_by_programs(&c));
        cli_verb run = cli_desk(&c) ? cli_verb_of_desk(c.verb) : NULL;
        int r = (run ? run : verbs[i].run)(&c);
        free(c.desk);
        return r;
    }
    struct near near = {.word = argv[1]};
    char meant[NEAR_TEXT_SIZE];
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        near_try(&near, verbs[i].name);
    fprintf(stderr, "mysimbdp: no verb \"%s\"%s; `mysimbdp help` lists all\n", argv[1], near_text(&near, meant));
    return CLI_USAGE;
}
