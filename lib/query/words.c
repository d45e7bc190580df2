#include "words.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A reason that is the name of a limit needs no other words. */
static const struct {
    const char *reason, *words;
} known[] = {
    {"checker", "the app's checker refused it"},
    {"columns", "its header is not what the dataset's columns say"},
    {"cancelled", "its job was cancelled on the cluster"},
    {"data_error", "the app refused its data"},
    {"database_down", "waits for the database"},
    {"directory", "it is a directory"},
    {"documents_days", "waits until old documents are deleted"},
    {"empty", "it holds nothing"},
    {"exec_error", "the app cannot be executed and is parked"},
    {"failed", "the app failed"},
    {"format", "it is not of the dataset's format"},
    {"give_up_s", "the app asked for a later try for longer than give_up_s"},
    {"group", "it came in a group"},
    {"hard_link", "it is a hard link"},
    {"inspect", "it could not be read"},
    {"killed", "the app was killed"},
    {"limit", "the app met a limit"},
    {"lost", "its run was lost"},
    {"no_app", "no app takes it"},
    {"no_dataset", "its dataset is not in the configuration"},
    {"node_lost", "the node that it ran on was lost"},
    {"not_regular", "it is no regular file"},
    {"not_started", "the host does not give its run what it needs"},
    {"oom", "the app needed more memory than it may have"},
    {"owner", "it is not of who handed it in"},
    {"preempted", "the cluster took its node for something else"},
    {"requeued", "its job was requeued on the cluster"},
    {"result_contradicts", "the app's result cannot be true"},
    {"same_content", "waits for a file of the same bytes"},
    {"stopped", "it was stopped by the provider"},
    {"symlink", "it is a symbolic link"},
    {"temp_fail", "the app asked for a later try"},
    {"tenant_removed", "its tenant was removed"},
    {"time_limit", "the cluster ended its job before its time"},
    {"timeout", "the app took longer than it may"},
    {"trigger", "waits for the app's trigger"},
    {"unreadable", "it cannot be read"},
    {"writer", "somebody kept it open"},
};

static const char *words_of_reason(const char *reason)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].reason, reason))
            return known[i].words;
    return reason;
}

char *words_of(const char *state, const char *reason, const char *detail, int64_t loaded, int64_t rejected)
{
    bool has = detail && *detail;
    if (!strcmp(state, "ingested"))
        return rejected > 0  ? xasprintf("%lld rows, %lld rejected", (long long)(loaded > 0 ? loaded : 0), (long long)rejected)
               : loaded >= 0 ? xasprintf("%lld rows", (long long)loaded)
                             : NULL;
    if (!reason || !*reason || !strcmp(reason, state)) /* for duplicate and vanished the detail tells of which file, and when */
        return has ? xstrdup(detail) : NULL;
    return xasprintf("%s%s%s", words_of_reason(reason), has ? ": " : "", has ? detail : "");
}
