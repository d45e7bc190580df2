#include "advice.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *code, *words;
} known[] = {
    {"agreement", "`mysimbdp agreement` and `mysimbdp apps` show what is allowed"},
    {"app_stopped", "`mysimbdp app start APP` lets it run again"},
    {"archive", "push an executable, a directory, or a .tar.gz, .tar.zst or .zip of one, without links and devices"},
    {"bad_request", "gateway and this program may be of different versions: compare `mysimbdp --version` with the provider's"},
    {"busy", "wait, and try again; --retry-for says for how long this is done by itself"},
    {"certificate", "give the certificate of the home, or of who signed the gateway's, with --ca FILE; ask the provider for it"},
    {"conflict", NULL},
    {"digest", "the file was changed while it was sent, or on its way; send it again"},
    {"disk_low", "the provider has to make room; try again later"},
    {"draining", "the platform is being stopped; try again later"},
    {"event_streams", "end other `events -f`, `files --watch`, `runs --watch` and `logs -f` of this account"},
    {"forbidden", "`mysimbdp whoami` shows what this token may do; the provider gives others (mysimbdp token add --verbs …)"},
    {"format", "`mysimbdp agreement` shows which formats a dataset takes; the ending of the name says the format"},
    {"formats", "`mysimbdp agreement` shows which formats a dataset takes; the ending of the name says the format"},
    {"full", "the stream's app has to take messages first, or the provider grants more (max_stored_bytes)"},
    {"idempotency_key", NULL},
    {"in_use", "`mysimbdp runs` shows when they have ended; `mysimbdp app stop` stops an instance"},
    {"internal", "tell the provider the request's id"},
    {"ledger", "wait, and try again; --retry-for says for how long this is done by itself"},
    {"max_app_bytes", "leave out what the app does not need, or ask the provider"},
    {"max_app_build_s", "what requirements.txt names has to be installed in less time; ship it with the app, or ask the provider"},
    {"max_app_files", "leave out what the app does not need, or ask the provider"},
    {"max_app_versions",
     "remove versions that are not active any more: `mysimbdp app versions APP`, `mysimbdp app remove APP VERSION`"},
    {"max_instances", "`mysimbdp app instances` lists them; stop one first, or ask the provider"},
    {"max_bytes_per_day", "`mysimbdp usage` shows what is left, and until when the day goes"},
    {"max_file_bytes", "split the file, or compress it (.gz, .zst); `mysimbdp agreement` shows the limits"},
    {"max_files_in_staging", "wait until some of those that are on their way are done (`mysimbdp files`)"},
    {"max_files_per_day", "`mysimbdp usage` shows what is left, and until when the day goes"},
    {"name", "give the file another name: at most 255 bytes of UTF-8 without control characters"},
    {"no_exec", "`mysimbdp apps` shows what the provider configured; the archive has to hold the app's `exec` at its path"},
    {"not_allowed", "ask the provider"},
    {"no_app", "`mysimbdp apps` lists the apps, and which datasets they take"},
    {"no_dataset", "`mysimbdp agreement` lists the datasets"},
    {"not_found", "what this token may see, `mysimbdp files`, `runs`, `apps` and `agreement` list"},
    {"not_kept", "it was kept as long as the agreement says (retention)"},
    {"quota", "`mysimbdp usage` shows what is left, and until when the day goes"},
    {"rate", "ask less often, or try again later"},
    {"size", "send smaller messages; `mysimbdp agreement` shows the stream's limits"},
    {"slow_down", "too many logins failed; wait, and look whether the token is the right one"},
    {"slowed", "too many files were refused; correct them first (`mysimbdp files --state rejected`)"},
    {"spool", "send it again"},
    {"state", NULL},
    {"moved", "ask the provider for the new address"},
    {"suspended", "ask the provider"},
    {"unauthorized",
     "the token is wrong, has expired or was revoked, or there is none: --token-file FILE; the provider makes others "
     "(mysimbdp token add)"},
    {"unavailable", "wait, and try again; --retry-for says for how long this is done by itself"},
    {"unreachable", "look at the URL, the network, and whether the gateway runs; --retry-for says for how long this is tried"},
    {"uploads", "send fewer at once (--parallel)"},
};

const char *advice_word(const char *code)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].code, code))
            return known[i].code;
    return "other";
}

const char *advice_of(const char *code)
{
    for (size_t i = 0; code && i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].code, code))
            return known[i].words;
    return NULL;
}
