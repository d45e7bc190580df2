#include "conf.h"
#include "buf.h"
#include "cron.h"
#include "mem.h"
#include "read/spec.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define NO_MAX             9.2e18
#define CONF_MAX_GROUP     1000
#define CONF_MAX_MESSAGE   16777216
#define CONF_MAX_INSTANCES 10000
#define OFF(type, field)   offsetof(struct type, field)
#define INT_ROW(type, field, key, def, lo, hi, help)                                                                               \
    {                                                                                                                              \
        key, CFG_INT, OFF(type, field), def, lo, hi, NULL, true, help, NULL, 0                                                     \
    }
#define STR_ROW(type, field, key, def, choices, help)                                                                              \
    {                                                                                                                              \
        key, CFG_STR, OFF(type, field), def, 0, 0, choices, true, help, NULL, 0                                                    \
    }
#define STRS_ROW(type, field, key, def, choices, help)                                                                             \
    {                                                                                                                              \
        key, CFG_STRS, OFF(type, field), def, 0, 0, choices, true, help, NULL, 0                                                   \
    }
#define GROUP_ROW(type, field, key, keys, help)                                                                                    \
    {                                                                                                                              \
        key, CFG_GROUP, OFF(type, field), NULL, 0, 0, NULL, true, help, keys, 0                                                    \
    }
/* A group whose keys' offsets already count from the outer struct. */
#define NEST_ROW(key, keys, help)                                                                                                  \
    {                                                                                                                              \
        key, CFG_GROUP, 0, NULL, 0, 0, NULL, true, help, keys, 0                                                                   \
    }
#define LIST_ROW(type, field, key, keys, item, help)                                                                               \
    {                                                                                                                              \
        key, CFG_LIST, OFF(type, field), NULL, 0, 0, NULL, true, help, keys, sizeof(struct item)                                   \
    }
#define F64_ROW(type, field, key, def, lo, hi, help)                                                                               \
    {                                                                                                                              \
        key, CFG_F64, OFF(type, field), def, lo, hi, NULL, true, help, NULL, 0                                                     \
    }
#define BOOL_ROW(type, field, key, def, help)                                                                                      \
    {                                                                                                                              \
        key, CFG_BOOL, OFF(type, field), def, 0, 0, NULL, true, help, NULL, 0                                                      \
    }
#define LATER_ROW(key, unused, help)                                                                                               \
    {                                                                                                                              \
        key, CFG_LATER, 0, unused, 0, 0, NULL, false, help, NULL, 0                                                                \
    }
#define END_ROW                                                                                                                    \
    {                                                                                                                              \
        NULL, CFG_INT, 0, NULL, 0, 0, NULL, false, NULL, NULL, 0                                                                   \
    }

static const struct cfg_key env_keys[] = {
    STR_ROW(conf_env, name, "name", NULL, NULL, "name of an environment variable"),
    STR_ROW(conf_env, value, "value", NULL, NULL, "its value"),
    END_ROW,
};

static const struct cfg_key requests_keys[] = {
    {"cpus", CFG_F64, OFF(conf_profile, requests.cpus), "1", 0.001, 4096, NULL, true, "cores charged while a run lasts", NULL, 0},
    INT_ROW(conf_profile, requests.memory_bytes, "memory_bytes", "268435456", 1, NO_MAX, "memory charged while a run lasts, bytes"),
    END_ROW,
};

static const struct cfg_key rlimit_keys[] = {
    INT_ROW(conf_profile, rlimits.cpu_s, "cpu_s", "-1", -1, 1e9, "RLIMIT_CPU of each process, seconds"),
    INT_ROW(conf_profile, rlimits.as_bytes, "as_bytes", "-1", -1, NO_MAX, "RLIMIT_AS of each process, bytes"),
    INT_ROW(conf_profile, rlimits.nofile, "nofile", "256", 8, 1048576, "RLIMIT_NOFILE, descriptors"),
    INT_ROW(conf_profile, rlimits.nproc, "nproc", "-1", -1, 4194304, "RLIMIT_NPROC, counts per uid"),
    INT_ROW(conf_profile, rlimits.fsize_bytes, "fsize_bytes", "-1", -1, NO_MAX, "RLIMIT_FSIZE, bytes"),
    INT_ROW(conf_profile, rlimits.core_bytes, "core_bytes", "0", -1, NO_MAX, "RLIMIT_CORE, bytes"),
    INT_ROW(conf_profile, rlimits.stack_bytes, "stack_bytes", "8388608", -1, NO_MAX, "RLIMIT_STACK, bytes"),
    END_ROW,
};

static const struct cfg_key cgroup_keys[] = {
    INT_ROW(conf_profile, cgroup.cpu_pct, "cpu_pct", "-1", -1, 1e6, "CPU time of the whole run, percent of one core"),
    INT_ROW(conf_profile, cgroup.memory_bytes, "memory_bytes", "-1", -1, NO_MAX, "memory of the whole run, bytes"),
    INT_ROW(conf_profile, cgroup.pids, "pids", "-1", -1, 4194304, "processes and threads of the whole run"),
    END_ROW,
};

static const struct cfg_key profile_keys[] = {
    STR_ROW(conf_profile, name, "name", NULL, NULL, "name that apps refer to"),
    INT_ROW(conf_profile, wall_s, "wall_s", "600", -1, 1e9, "a run's longest duration, seconds"),
    INT_ROW(conf_profile, grace_s, "grace_s", "10", 0, 86400, "seconds between SIGTERM and SIGKILL"),
    INT_ROW(conf_profile, output_bytes, "output_bytes", "10485760", 4096, NO_MAX,
            "kept output: the log, and what an output mode collects, bytes"),
    NEST_ROW("requests", requests_keys, "what the scheduler charges"),
    NEST_ROW("rlimits", rlimit_keys, "limits of each process"),
    NEST_ROW("cgroup", cgroup_keys, "limits of the whole run"),
    LIST_ROW(conf_profile, env, "env", env_keys, conf_env, "environment variables"),
    END_ROW,
};

/* Limits are a struct of their own because tenants and datasets share them. */
#define LIMIT(field, help) INT_ROW(conf_limits, field, #field, "-1", -1, NO_MAX, help)
static const struct cfg_key limit_keys[] = {
    STRS_ROW(conf_limits, formats, "formats", "", "csv|json", "accepted formats (also .gz and .zst of these)"),
    LIMIT(max_file_bytes, "size of one file as delivered, bytes"),
    LIMIT(max_decompressed_bytes, "size of one file decompressed, bytes"),
    LIMIT(max_files_in_staging, "files not yet finished, at any time"),
    LIMIT(max_files_per_day, "files taken per UTC day"),
    LIMIT(max_bytes_per_day, "bytes taken per UTC day"),
    LIMIT(max_rows, "rows of one file"),
    LIMIT(max_row_bytes, "size of one row, bytes"),
    LIMIT(max_columns, "columns of one file"),
    LIMIT(max_rejects, "damaged rows of one file"),
    END_ROW,
};

static const struct cfg_key retention_keys[] = {
    INT_ROW(conf_tenant, retention.files_days, "files_days", "-1", -1, 36500, "days that archived files are kept"),
    INT_ROW(conf_tenant, retention.documents_days, "documents_days", "-1", -1, 36500,
            "days after loading that documents are kept which builtin:load, an output mode or libsimbdp stored"),
    INT_ROW(conf_tenant, retention.logs_days, "logs_days", "30", -1, 36500, "days that logs and rejects of ended runs are kept"),
    STR_ROW(conf_tenant, retention.on_success, "on_success", "archive", "archive|delete", "what becomes of ingested files"),
    STR_ROW(conf_tenant, retention.on_failure, "on_failure", "quarantine", "quarantine|archive|delete",
            "what becomes of refused and failed files"),
    END_ROW,
};

static const struct cfg_key csv_keys[] = {
    STR_ROW(conf_csv, delimiter, "delimiter", CONF_SNIFFED, NULL, "one to eight bytes between cells"),
    STR_ROW(conf_csv, quote, "quote", CONF_SNIFFED, NULL, "character around cells; \"\": none"),
    STR_ROW(conf_csv, escape, "escape", CONF_SNIFFED, NULL, "character before a quote in a cell; the quote itself: doubled"),
    STR_ROW(conf_csv, encoding, "encoding", CONF_SNIFFED, NULL, "utf-8, latin-1, windows-1252, utf-16, utf-16le or utf-16be"),
    STR_ROW(conf_csv, line_end, "line_end", CONF_SNIFFED, "auto|lf|cr|any", "lf (also CRLF), cr, or any of the three"),
    INT_ROW(conf_csv, skip_rows, "skip_rows", "-1", -1, 1000000, "lines before the header; -1: sniffed"),
    INT_ROW(conf_csv, header_rows, "header_rows", "-1", -1, 10,
            "rows of column names, joined with '_'; 0: columns are named by `columns`, in order; -1: sniffed"),
    INT_ROW(conf_csv, footer_rows, "footer_rows", "-1", -1, 100, "rows at the end that are none; -1: those that look like remarks"),
    STR_ROW(conf_csv, ragged, "ragged", "reject", "reject|pad|keep_extra",
            "rows with missing or extra cells: refused; missing ones null; extra ones also kept, in the field _extra"),
    STRS_ROW(conf_csv, null, "null", CONF_SNIFFED, NULL,
             "unquoted cells that are null; absent: empty ones, and NA and the like among numbers"),
    END_ROW,
};

static const struct cfg_key column_keys[] = {
    STR_ROW(conf_column, name, "name", NULL, NULL, "as in the header, or the member of a JSON object"),
    STR_ROW(conf_column, type, "type", "", "|string|int|long|double|decimal|bool|date|datetime|json",
            "empty: inferred, cell by cell"),
    BOOL_ROW(conf_column, required, "required", "false", "must be in the header and never null"),
    STR_ROW(conf_column, regex, "regex", "", NULL, "Perl-compatible; must match somewhere in the value"),
    F64_ROW(conf_column, min, "min", "nan", -INFINITY, INFINITY, "least number allowed"),
    F64_ROW(conf_column, max, "max", "nan", -INFINITY, INFINITY, "greatest number allowed"),
    STRS_ROW(conf_column, one_of, "enum", "", NULL, "the values allowed; empty: any"),
    BOOL_ROW(conf_column, unique, "unique", "false", "a unique index of the collection"),
    INT_ROW(conf_column, max_age_days, "max_age_days", "-1", -1, 1000000, "of dates, counted from the file's arrival, days"),
    STR_ROW(conf_column, as, "as", "", NULL, "field it is stored as; dots nest; empty: its name"),
    STR_ROW(conf_column, value, "value", "", NULL, "a constant for every row instead of a column of the file"),
    END_ROW,
};

static const struct cfg_key dataset_keys[] = {
    STR_ROW(conf_dataset, name, "name", NULL, NULL, "name of the dataset and of its staging directory"),
    STR_ROW(conf_dataset, format, "format", "csv", "csv|json", "format of its files"),
    STR_ROW(conf_dataset, collection, "collection", "", NULL, "MongoDB collection; empty: the dataset's name"),
    GROUP_ROW(conf_dataset, limits, "limits", limit_keys, "tighter than the tenant's"),
    STRS_ROW(conf_dataset, key, "key", "", NULL, "columns that identify a row: a unique index of the collection"),
    STR_ROW(conf_dataset, on_key_conflict, "on_key_conflict", "reject", "reject|keep|replace",
            "a row whose key is there already: refused, left out, or put in the place of its elder"),
    GROUP_ROW(conf_dataset, csv, "csv", csv_keys, "how its CSV files are written; what is absent is sniffed"),
    LIST_ROW(conf_dataset, columns, "columns", column_keys, conf_column, "types and rules of columns; others are inferred"),
    STR_ROW(conf_dataset, inspect, "inspect", "full", "full|structure",
            "full: types, rules, quality figures; structure: rows, columns, sizes and encoding only, for large files of apps that "
            "check themselves"),
    END_ROW,
};

static const struct cfg_key retry_keys[] = {
    INT_ROW(conf_batch, retry.attempts, "attempts", "3", 1, 1000, "tries in all"),
    INT_ROW(conf_batch, retry.backoff_ms, "backoff_ms", "1000", 0, 86400000, "wait before the second try, ms; doubles"),
    INT_ROW(conf_batch, retry.max_backoff_ms, "max_backoff_ms", "60000", 0, 86400000, "longest wait, ms"),
    INT_ROW(conf_batch, retry.give_up_s, "give_up_s", "86400", 0, 1e9, "how long exit code 75 may repeat, seconds"),
    END_ROW,
};

static const struct cfg_key group_keys[] = {
    INT_ROW(conf_batch, group.max_files, "max_files", "1", 1, CONF_MAX_GROUP, "files of one dataset that one run gets at most"),
    INT_ROW(conf_batch, group.max_wait_ms, "max_wait_ms", "0", 0, 86400000,
            "how long a file waits for others, ms; 0: a run takes those that wait anyway"),
    END_ROW,
};

static const struct cfg_key secret_keys[] = {
    STR_ROW(conf_secret, name, "name", NULL, NULL, "name of the file that the app sees"),
    STR_ROW(conf_secret, file, "file", NULL, NULL, "where it comes from: absolute, or relative to keys/<tenant>/ of the home"),
    END_ROW,
};

static const struct cfg_key batch_keys[] = {
    STR_ROW(conf_batch, app, "app", NULL, NULL, "name of the app"),
    STR_ROW(conf_batch, exec, "exec", NULL, NULL, "executable: builtin:load, relative to apps/<tenant>/, or absolute"),
    STRS_ROW(conf_batch, args, "args", "", NULL, "its arguments"),
    STRS_ROW(conf_batch, datasets, "datasets", "", NULL, "datasets it takes; empty: all"),
    STR_ROW(conf_batch, pattern, "pattern", "*", NULL, "file names it takes, as in a shell"),
    STR_ROW(conf_batch, profile, "profile", "small", NULL, "name of a profile of conf/profiles.conf"),
    INT_ROW(conf_batch, priority, "priority", "0", -1000, 1000, "files of apps with a higher one go first in a tenant"),
    STR_ROW(conf_batch, output, "output", "none", "none|stdout|dir", "what the platform loads for the app"),
    STR_ROW(conf_batch, checker, "checker", "", NULL,
            "executable that sees each file first and may refuse it with exit code 65; as exec; empty: none"),
    STR_ROW(conf_batch, trigger, "trigger", CONF_ARRIVAL, NULL,
            "when files are run: arrival, manual (`mysimbdp run`), or \"cron: */15 * * * *\""),
    STR_ROW(conf_batch, timezone, "timezone", "UTC", NULL, "of a cron trigger, as in Europe/Vienna"),
    NEST_ROW("group", group_keys, "several files in one run"),
    LIST_ROW(conf_batch, env, "env", env_keys, conf_env, "environment variables"),
    LIST_ROW(conf_batch, secrets, "secrets", secret_keys, conf_secret, "files that only its runs can read, in SIMBDP_SECRETS_DIR"),
    NEST_ROW("retry", retry_keys, "when a run fails"),
    END_ROW,
};

static const struct cfg_key stream_keys[] = {
    STR_ROW(conf_stream, name, "name", NULL, NULL, "name of the stream"),
    INT_ROW(conf_stream, max_message_bytes, "max_message_bytes", "65536", 1, CONF_MAX_MESSAGE, "size of one message, bytes"),
    INT_ROW(conf_stream, max_messages_per_s, "max_messages_per_s", "-1", -1, NO_MAX, "messages published a second"),
    INT_ROW(conf_stream, max_bytes_per_s, "max_bytes_per_s", "-1", -1, NO_MAX, "bytes published a second"),
    INT_ROW(conf_stream, max_messages_per_request, "max_messages_per_request", "1000", 1, 100000,
            "messages of one publish request"),
    INT_ROW(conf_stream, max_stored_bytes, "max_stored_bytes", "1073741824", -1, NO_MAX,
            "bytes on disk; above, publishing is refused"),
    INT_ROW(conf_stream, retention_s, "retention_s", "86400", -1, 1e9, "how long a message is kept at most, seconds"),
    INT_ROW(conf_stream, dead_retention_s, "dead_retention_s", "604800", -1, 1e9, "how long a dead letter is kept, seconds"),
    INT_ROW(conf_stream, dedup_window_s, "dedup_window_s", "600", 0, 1e9,
            "how long the numbers of a publisher are remembered that publishes no more, seconds"),
    INT_ROW(conf_stream, lease_ms, "lease_ms", "30000", 10, 86400000, "how long a consumer may take over a message, ms"),
    INT_ROW(conf_stream, max_deliveries, "max_deliveries", "5", 1, 250, "tries before a message becomes a dead letter"),
    STR_ROW(conf_stream, on_breach, "on_breach", "refuse", "refuse|suspend",
            "when publishers break limits: refuse what breaks them, or after `breaches` of them everything"),
    INT_ROW(conf_stream, breaches, "breaches", "10", 1, 100000, "refusals that suspend, in breach_window_s"),
    INT_ROW(conf_stream, breach_window_s, "breach_window_s", "5", 1, 86400, "in which breaches are counted, seconds"),
    END_ROW,
};

static const struct cfg_key scale_keys[] = {
    F64_ROW(conf_stream_app, scale.utilisation, "utilisation", "0.9", 0.05, 1, "how busy instances are to be, of 1"),
    INT_ROW(conf_stream_app, scale.drain_target_s, "drain_target_s", "10", 1, 86400, "how soon a backlog is to be gone, seconds"),
    INT_ROW(conf_stream_app, scale.window_s, "window_s", "30", 5, 3600, "over which the load is looked at, seconds"),
    INT_ROW(conf_stream_app, scale.max_average_ingestion_ms, "max_average_ingestion_ms", "-1", -1, 86400000,
            "more instances when messages take longer, ms; -1: never mind"),
    F64_ROW(conf_stream_app, scale.min_processing_rate, "min_processing_rate", "-1", -1, 1e9,
            "more instances when fewer messages a second are processed; -1: never mind"),
    END_ROW,
};

static const struct cfg_key stream_app_keys[] = {
    STR_ROW(conf_stream_app, app, "app", NULL, NULL, "name of the app, and of its subscription"),
    STR_ROW(conf_stream_app, stream, "stream", NULL, NULL, "the stream it consumes"),
    STR_ROW(conf_stream_app, exec, "exec", "", NULL,
            "executable: builtin:load, relative to apps/<tenant>/, or absolute; empty: somebody else starts its instances"),
    STRS_ROW(conf_stream_app, args, "args", "", NULL, "its arguments"),
    STR_ROW(conf_stream_app, profile, "profile", "small", NULL, "name of a profile of conf/profiles.conf"),
    LIST_ROW(conf_stream_app, env, "env", env_keys, conf_env, "environment variables"),
    LIST_ROW(conf_stream_app, secrets, "secrets", secret_keys, conf_secret,
             "files that only its instances can read, in SIMBDP_SECRETS_DIR"),
    STR_ROW(conf_stream_app, dataset, "dataset", "", NULL, "whose columns, rules and collection hold for what is stored"),
    STR_ROW(conf_stream_app, output, "output", "none", "none|stdout|dir", "what the platform stores for the app"),
    INT_ROW(conf_stream_app, min_instances, "min_instances", "0", 0, CONF_MAX_INSTANCES, "instances that always run"),
    INT_ROW(conf_stream_app, max_instances, "max_instances", "1", 0, CONF_MAX_INSTANCES, "instances at most"),
    BOOL_ROW(conf_stream_app, on_demand, "on_demand", "true", "a message for an app without an instance starts one"),
    INT_ROW(conf_stream_app, drain_s, "drain_s", "10", 0, 86400,
            "how long an instance that is to go may finish what it holds, seconds"),
    NEST_ROW("scale", scale_keys, "how many instances"),
    END_ROW,
};

static const struct cfg_key tenant_keys[] = {
    STR_ROW(conf_tenant, display_name, "display_name", "", NULL, "name for people"),
    INT_ROW(conf_tenant, weight, "weight", "1", 1, 1000, "share when tenants compete"),
    INT_ROW(conf_tenant, concurrency, "concurrency", "4", 1, 100000, "batch runs at once"),
    STR_ROW(conf_tenant, mongo_url, "mongo_url", "", NULL, "the tenant's own MongoDB; empty: the platform's"),
    STR_ROW(conf_tenant, database, "database", "", NULL, "its database; empty: the tenant's id"),
    GROUP_ROW(conf_tenant, limits, "limits", limit_keys, "breaking one refuses the file and names the limit"),
    NEST_ROW("retention", retention_keys, "what becomes of files"),
    LIST_ROW(conf_tenant, datasets, "datasets", dataset_keys, conf_dataset, "what the tenant delivers"),
    LIST_ROW(conf_tenant, batch, "batch", batch_keys, conf_batch, "the tenant's batch apps"),
    LIST_ROW(conf_tenant, streams, "streams", stream_keys, conf_stream, "the tenant's queues of messages"),
    LIST_ROW(conf_tenant, stream_apps, "stream_apps", stream_app_keys, conf_stream_app, "who consumes them"),
    STRS_ROW(conf_tenant, curve_keys, "curve_keys", "", NULL, "CURVE public keys (Z85) of the tenant's peers on tcp"),
    END_ROW,
};

static const struct cfg_key capacity_keys[] = {
    {"cpus", CFG_F64, OFF(conf, platform.capacity.cpus), "-1", -1, 1e6, NULL, true,
     "cores to share out, never exceeded; -1: this host's, of which a tenant with nothing running may borrow", NULL, 0},
    INT_ROW(conf, platform.capacity.memory_bytes, "memory_bytes", "-1", -1, NO_MAX, "memory to share out, bytes; -1: this host's"),
    END_ROW,
};

static const struct cfg_key port_keys[] = {
    {"broker", CFG_INT, OFF(conf, platform.ports.broker), "0", 0, 65535, NULL, false, "of the broker", NULL, 0},
    LATER_ROW("monitor", "0", "of the monitor"),
    LATER_ROW("streammgr", "0", "of streammgr"),
    LATER_ROW("gateway", "0", "of the gateway"),
    END_ROW,
};

static const struct cfg_key platform_keys[] = {
    STR_ROW(conf, platform.mongo_url, "mongo_url", "", NULL,
            "empty: MONGO_URL of the environment, else mongod on PATH, else the embedded one"),
    STRS_ROW(conf, platform.valid_formats, "valid_formats", "csv json", "csv|json", "formats for every tenant"),
    NEST_ROW("capacity", capacity_keys, "what runs may use together"),
    INT_ROW(conf, platform.stream_pct, "stream_pct", "-1", -1, 100,
            "share of capacity that is kept for stream instances, percent; -1: 50 where a tenant has stream apps, else none"),
    {"uid_base", CFG_INT, OFF(conf, platform.uid_base), "60000", 1000, 4e9, NULL, false,
     "first of the uids given to tenants (kept in the ledger)", NULL, 0},
    INT_ROW(conf, platform.writer_wait_s, "writer_wait_s", "3600", 0, 1e9,
            "how long a claimed file may still have a writer, seconds"),
    INT_ROW(conf, platform.rescan_ms, "rescan_ms", "30000", 100, 86400000, "full scan of staging, every so many ms"),
    INT_ROW(conf, platform.min_free_bytes, "min_free_bytes", "1073741824", 0, NO_MAX,
            "intake pauses while the disk has less, bytes"),
    {"allow_missing_limits", CFG_BOOL, OFF(conf, platform.allow_missing_limits), "false", 0, 0, NULL, true,
     "start although this host cannot enforce a limit", NULL, 0},
    {"allow_shared_credentials", CFG_BOOL, OFF(conf, platform.allow_shared_credentials), "false", 0, 0, NULL, true,
     "give tenants the platform's MongoDB URL where it may not create users", NULL, 0},
    NEST_ROW("ports", port_keys, "of tcp endpoints; 0: picked once and kept"),
    {"listen", CFG_STR, OFF(conf, platform.listen), "", 0, 0, NULL, false, "address of the tcp endpoints; empty: there are none",
     NULL, 0},
    LATER_ROW("alerts", "", "alerts"),
    END_ROW,
};

static const struct cfg_key platform_file_keys[] = {
    {"platform", CFG_GROUP, 0, NULL, 0, 0, NULL, true, "the provider's settings", platform_keys, 0},
    END_ROW,
};

static const struct cfg_key profiles_file_keys[] = {
    LIST_ROW(conf, profiles, "profiles", profile_keys, conf_profile, "named sets of limits for runs"),
    END_ROW,
};

bool conf_valid_id(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= 32 && id[0] >= 'a' && id[0] <= 'z' && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

/* A name that becomes a directory below staging/. */
static bool valid_name(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= 64 && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == n;
}

static int check_env(const char *file, const struct cfg_list *env, struct err *e)
{
    static const char *const reserved[] = {"SIMBDP_", "MONGO_", "ZMQ_", "LD_"};
    const struct conf_env *v = env->v;
    for (size_t i = 0; i < env->n; i++) {
        if (!*v[i].name || strchr(v[i].name, '='))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'env.name': \"%s\" is no name of a variable", file, v[i].line, v[i].name);
        for (size_t k = 0; k < sizeof reserved / sizeof *reserved; k++)
            if (!strncmp(v[i].name, reserved[k], strlen(reserved[k])))
                return err_set(e, ERR_CONFIG, "%s:%d: key 'env.name': %s is reserved (names starting with %s are)", file, v[i].line,
                               v[i].name, reserved[k]);
    }
    return 0;
}

static void add_text(struct buf *b, const char *key, const char *value)
{
    if (strcmp(value, CONF_SNIFFED))
        json_str(b, key, value);
}

static void add_texts(struct buf *b, const char *key, const struct cfg_strs *l)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < l->n; i++)
        json_str(b, NULL, l->v[i]);
    json_end(b, ']');
}

static void add_column(struct buf *b, const struct conf_column *c)
{
    json_begin(b, NULL, '{');
    json_str(b, "name", c->name);
    if (*c->type)
        json_str(b, "type", c->type);
    if (c->required)
        json_bool(b, "required", true);
    if (*c->regex)
        json_str(b, "regex", c->regex);
    if (!isnan(c->min))
        json_f64(b, "min", c->min);
    if (!isnan(c->max))
        json_f64(b, "max", c->max);
    if (c->one_of.n)
        add_texts(b, "enum", &c->one_of);
    if (c->unique)
        json_bool(b, "unique", true);
    if (c->max_age_days >= 0)
        json_i64(b, "max_age_days", c->max_age_days);
    if (*c->as)
        json_str(b, "as", c->as);
    if (*c->value)
        json_str(b, "value", c->value);
    json_end(b, '}');
}

void conf_spec_json(const struct conf_dataset *d, bool keys, int64_t max_row_bytes, int64_t now_ms, struct buf *out)
{
    const struct conf_csv *c = &d->csv;
    const struct conf_column *columns = d->columns.v;
    bool nulls = c->null.n != 1 || strcmp(c->null.v[0], CONF_SNIFFED);
    json_begin(out, NULL, '{');
    json_str(out, "format", d->format);
    json_begin(out, "csv", '{');
    add_text(out, "delimiter", c->delimiter);
    add_text(out, "quote", c->quote);
    add_text(out, "escape", c->escape);
    add_text(out, "encoding", c->encoding);
    add_text(out, "line_end", c->line_end);
    json_i64(out, "skip_rows", c->skip_rows);
    json_i64(out, "header_rows", c->header_rows);
    json_i64(out, "footer_rows", c->footer_rows);
    json_str(out, "ragged", c->ragged);
    if (nulls)
        add_texts(out, "null", &c->null);
    json_end(out, '}');
    json_begin(out, "columns", '[');
    for (size_t i = 0; i < d->columns.n; i++)
        add_column(out, &columns[i]);
    json_end(out, ']');
    if (keys) {
        add_texts(out, "key", &d->key);
        json_str(out, "on_key_conflict", d->on_key_conflict);
    }
    json_i64(out, "max_row_bytes", max_row_bytes);
    if (now_ms)
        json_i64(out, "now_ms", now_ms);
    json_end(out, '}');
}

static const char *stored_as(const struct conf_dataset *d, const char *column)
{
    const struct conf_column *c = d->columns.v;
    for (size_t i = 0; i < d->columns.n; i++)
        if (!strcmp(c[i].name, column) && *c[i].as)
            return c[i].as;
    return column;
}

void conf_output_spec_json(const struct conf_dataset *d, int64_t max_row_bytes, struct buf *out)
{
    const struct conf_column *c = d->columns.v;
    json_begin(out, NULL, '{');
    json_begin(out, "columns", '[');
    for (size_t i = 0; i < d->columns.n; i++)
        if (c[i].unique) {
            json_begin(out, NULL, '{');
            json_str(out, "name", stored_as(d, c[i].name));
            json_str(out, "as", stored_as(d, c[i].name));
            json_bool(out, "unique", true);
            json_end(out, '}');
        }
    json_end(out, ']');
    json_begin(out, "key", '[');
    for (size_t i = 0; i < d->key.n; i++)
        json_str(out, NULL, stored_as(d, d->key.v[i]));
    json_end(out, ']');
    json_str(out, "on_key_conflict", d->on_key_conflict);
    json_i64(out, "max_row_bytes", max_row_bytes);
    json_end(out, '}');
}

/* The reader's own check of dialect, rules and keys, with the line of the column at fault. */
static int check_spec(const struct conf_tenant *t, const struct conf_dataset *d, struct err *e)
{
    AUTO_BUF struct buf json = {0};
    struct spec *spec = NULL;
    int rule = -1;
    conf_spec_json(d, true, -1, 0, &json);
    int r = json.n > SPEC_MAX_BYTES ? err_set(e, ERR_CONFIG, "more than 100 KiB of columns")
                                    : spec_parse(json.p, json.n, &spec, &rule, e);
    if (r < 0) {
        const struct conf_column *columns = d->columns.v;
        err_context(e, "%s:%d: dataset %s", t->file, rule >= 0 ? columns[rule].line : d->line, d->name);
    }
    spec_free(spec);
    return r;
}

static int check_dataset(const struct conf_tenant *t, struct conf_dataset *d, struct err *e)
{
    if (!valid_name(d->name))
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'datasets.name': \"%s\" must be 1 to 64 of A-Z a-z 0-9 _ - . and not "
                       "start with a dot",
                       t->file, d->line, d->name);
    if (conf_dataset(t, d->name) != d)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'datasets.name': \"%s\" stands twice", t->file, d->line, d->name);
    if (!*d->collection)
        xstr_set(&d->collection, d->name);
    if (strlen(d->collection) > 100 || strchr(d->collection, '$') || !strncmp(d->collection, "system.", 7))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'datasets.collection': \"%s\" is not a collection MongoDB accepts", t->file,
                       d->line, d->collection);
    return check_spec(t, d, e);
}

/* An executable: builtin:load where allowed, below apps/<tenant>/, or absolute. */
static int check_exec(const struct conf_tenant *t, int line, const char *key, const char *exec, bool builtins, struct err *e)
{
    bool builtin = !strncmp(exec, "builtin:", 8);
    if (!*exec || (builtin && (!builtins || strcmp(exec, BUILTIN_LOAD))) || (!builtin && exec[0] != '/' && strstr(exec, "..")))
        return err_set(e, ERR_CONFIG, "%s:%d: key '%s': \"%s\" must be %sa path below apps/%s/ without '..', or absolute", t->file,
                       line, key, exec, builtins ? "builtin:load, " : "", t->id);
    return 0;
}

static int check_trigger(const struct conf_tenant *t, const struct conf_batch *b, struct err *e)
{
    struct cron *cron = NULL;
    bool timed = !strncmp(b->trigger, CONF_CRON, strlen(CONF_CRON));
    if (!timed && strcmp(b->trigger, CONF_ARRIVAL) && strcmp(b->trigger, CONF_MANUAL))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.trigger': \"%s\" must be arrival, manual, or cron: and a schedule",
                       t->file, b->line, b->trigger);
    int r = cron_new(timed ? b->trigger + strlen(CONF_CRON) : "@daily", b->timezone, &cron, e);
    if (r < 0)
        err_context(e, "%s:%d: key 'batch.%s'", t->file, b->line, strstr(e->msg, "time zone") ? "timezone" : "trigger");
    cron_free(cron);
    return r;
}

static int check_secrets(const struct conf_tenant *t, const struct cfg_list *secrets, struct err *e)
{
    const struct conf_secret *v = secrets->v;
    for (size_t i = 0; i < secrets->n; i++) {
        if (!valid_name(v[i].name))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'secrets.name': \"%s\" must be 1 to 64 of A-Z a-z 0-9 _ - . and not start "
                           "with a dot",
                           t->file, v[i].line, v[i].name);
        if (!*v[i].file || (v[i].file[0] != '/' && strstr(v[i].file, "..")))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'secrets.file': \"%s\" must be absolute, or below keys/%s/ without '..'",
                           t->file, v[i].line, v[i].file, t->id);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(v[k].name, v[i].name))
                return err_set(e, ERR_CONFIG, "%s:%d: key 'secrets.name': \"%s\" stands twice", t->file, v[i].line, v[i].name);
    }
    return 0;
}

static int check_batch(const struct conf *c, const struct conf_tenant *t, const struct conf_batch *b, struct err *e)
{
    if (!conf_valid_id(b->app))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.app': \"%s\" must match [a-z][a-z0-9_-]{0,31}", t->file, b->line, b->app);
    if (conf_app(t, b->app) != b)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.app': \"%s\" stands twice", t->file, b->line, b->app);
    if (!conf_profile(c, b->profile))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.profile': no profile \"%s\" in conf/profiles.conf", t->file, b->line,
                       b->profile);
    bool builtin = !strcmp(b->exec, BUILTIN_LOAD);
    int r = check_exec(t, b->line, "batch.exec", b->exec, true, e);
    if (r == 0 && *b->checker)
        r = check_exec(t, b->line, "batch.checker", b->checker, false, e);
    if (r == 0)
        r = check_trigger(t, b, e);
    if (r == 0)
        r = check_secrets(t, &b->secrets, e);
    if (r < 0)
        return r;
    if (b->group.max_files > 1 && !strcmp(b->output, "stdout"))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.group': output = \"stdout\" takes one file a run; use output = \"dir\"",
                       t->file, b->line);
    if (builtin && strcmp(b->output, "none"))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.output': builtin:load loads by itself; use \"none\"", t->file, b->line);
    if (builtin && !*b->checker && (b->env.n || b->secrets.n))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.%s': builtin:load has no use for it", t->file, b->line,
                       b->env.n ? "env" : "secrets");
    if (builtin && b->args.n)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.args': builtin:load takes none", t->file, b->line);
    for (size_t i = 0; i < b->datasets.n; i++)
        if (!conf_dataset(t, b->datasets.v[i]))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.datasets': no dataset \"%s\" in this file", t->file, b->line,
                           b->datasets.v[i]);
    return check_env(t->file, &b->env, e);
}

static int check_stream(const struct conf_tenant *t, const struct conf_stream *s, struct err *e)
{
    if (!conf_valid_id(s->name))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.name': \"%s\" must match [a-z][a-z0-9_-]{0,31}", t->file, s->line,
                       s->name);
    if (conf_stream(t, s->name) != s)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.name': \"%s\" stands twice", t->file, s->line, s->name);
    return 0;
}

static int check_instances(const struct conf *c, const struct conf_tenant *t, const struct conf_stream_app *a, struct err *e)
{
    const struct conf_dataset *d = *a->dataset ? conf_dataset(t, a->dataset) : NULL;
    bool builtin = !strcmp(a->exec, BUILTIN_LOAD), stores = builtin || strcmp(a->output, "none");
    int r = check_exec(t, a->line, "stream_apps.exec", a->exec, true, e);
    if (r == 0)
        r = check_secrets(t, &a->secrets, e);
    if (r == 0)
        r = check_env(t->file, &a->env, e);
    if (r < 0)
        return r;
    if (!conf_profile(c, a->profile))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.profile': no profile \"%s\" in conf/profiles.conf", t->file, a->line,
                       a->profile);
    if (*a->dataset && !d)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.dataset': no dataset \"%s\" in this file", t->file, a->line,
                       a->dataset);
    if (stores && !d)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.dataset': %s needs a dataset to store rows in", t->file, a->line,
                       builtin ? BUILTIN_LOAD : "an output mode");
    if (d && !strcmp(d->on_key_conflict, "replace"))
        return err_set(
            e, ERR_CONFIG,
            "%s:%d: key 'stream_apps.dataset': dataset %s has on_key_conflict = \"replace\", which is not for streams: a "
            "message that is delivered again comes behind younger ones",
            t->file, a->line, a->dataset);
    if (builtin && (strcmp(a->output, "none") || a->args.n || a->env.n || a->secrets.n))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.%s': builtin:load has no use for it", t->file, a->line,
                       strcmp(a->output, "none") ? "output"
                       : a->args.n               ? "args"
                       : a->env.n                ? "env"
                                                 : "secrets");
    if (a->min_instances > a->max_instances)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.min_instances': %lld is more than max_instances %lld", t->file,
                       a->line, (long long)a->min_instances, (long long)a->max_instances);
    return 0;
}

static int check_stream_app(const struct conf *c, const struct conf_tenant *t, size_t i, struct err *e)
{
    const struct conf_stream_app *v = t->stream_apps.v, *a = &v[i];
    if (!conf_valid_id(a->app))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.app': \"%s\" must match [a-z][a-z0-9_-]{0,31}", t->file, a->line,
                       a->app);
    for (size_t k = 0; k < i; k++)
        if (!strcmp(v[k].app, a->app))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.app': \"%s\" stands twice", t->file, a->line, a->app);
    if (conf_app(t, a->app))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.app': \"%s\" is a batch app already", t->file, a->line, a->app);
    if (!conf_stream(t, a->stream))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.stream': no stream \"%s\" in this file", t->file, a->line,
                       a->stream);
    return *a->exec ? check_instances(c, t, a, e) : 0;
}

static int check_curve_keys(const struct conf_tenant *t, struct err *e)
{
    static const char z85[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    for (size_t i = 0; i < t->curve_keys.n; i++)
        if (strlen(t->curve_keys.v[i]) != 40 || strspn(t->curve_keys.v[i], z85) != 40)
            return err_set(e, ERR_CONFIG, "%s: key 'curve_keys': \"%s\" is no CURVE public key (40 characters of Z85)", t->file,
                           t->curve_keys.v[i]);
    return 0;
}

static int check_tenant(const struct conf *c, struct conf_tenant *t, struct err *e)
{
    int r = 0;
    if (!*t->database)
        xstr_set(&t->database, t->id);
    if (!*t->display_name)
        xstr_set(&t->display_name, t->id);
    if (strlen(t->database) > 60 || strpbrk(t->database, "/\\. \"$*<>:|?") || !strcmp(t->database, "admin") ||
        !strcmp(t->database, "local") || !strcmp(t->database, "config"))
        return err_set(e, ERR_CONFIG, "%s: key 'database': \"%s\" is not a database a tenant can have", t->file, t->database);
    struct conf_dataset *d = t->datasets.v;
    const struct conf_batch *b = t->batch.v;
    for (size_t i = 0; r == 0 && i < t->datasets.n; i++) {
        r = check_dataset(t, &d[i], e);
        if (r == 0 && t->retention.documents_days >= 0 && !strcmp(d[i].on_key_conflict, "replace"))
            r = err_set(e, ERR_CONFIG,
                        "%s:%d: key 'retention.documents_days': dataset %s has on_key_conflict = \"replace\", and a row "
                        "that replaced another keeps no trace of when",
                        t->file, d[i].line, d[i].name);
    }
    for (size_t i = 0; r == 0 && i < t->batch.n; i++)
        r = check_batch(c, t, &b[i], e);
    const struct conf_stream *s = t->streams.v;
    for (size_t i = 0; r == 0 && i < t->streams.n; i++)
        r = check_stream(t, &s[i], e);
    for (size_t i = 0; r == 0 && i < t->stream_apps.n; i++)
        r = check_stream_app(c, t, i, e);
    return r < 0 ? r : check_curve_keys(t, e);
}

static int check_profiles(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_profile *p = c->profiles.v;
    for (size_t i = 0; i < c->profiles.n; i++) {
        if (!conf_valid_id(p[i].name))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.name': \"%s\" must match [a-z][a-z0-9_-]{0,31}", file, p[i].line,
                           p[i].name);
        if (conf_profile(c, p[i].name) != &p[i])
            return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.name': \"%s\" stands twice", file, p[i].line, p[i].name);
        double cpus = c->platform.capacity.cpus;
        int64_t memory = c->platform.capacity.memory_bytes;
        if ((cpus > 0 && p[i].requests.cpus > cpus) || (memory > 0 && p[i].requests.memory_bytes > memory))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.requests': \"%s\" requests more than "
                           "platform.capacity; its runs could never start",
                           file, p[i].line, p[i].name);
        int r = check_env(file, &p[i].env, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int load_tenant(struct conf *c, const char *dir, const char *name, struct err *e)
{
    size_t n = strlen(name);
    if (name[0] == '.' || n < 6 || strcmp(name + n - 5, ".conf"))
        return 0;
    c->tenants = xrealloc(c->tenants, (c->n_tenants + 1) * sizeof *c->tenants);
    struct conf_tenant *t = &c->tenants[c->n_tenants++];
    *t = (struct conf_tenant){.id = xstrndup(name, n - 5), .file = xasprintf("%s/%s", dir, name)};
    if (!conf_valid_id(t->id))
        return err_set(e, ERR_CONFIG, "%s: the file's name is the tenant's id and must match [a-z][a-z0-9_-]{0,31}", t->file);
    return cfg_load(t->file, tenant_keys, t, e);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct conf_tenant *)a)->id, ((const struct conf_tenant *)b)->id);
}

static int load_tenants(struct conf *c, const char *home, struct err *e)
{
    AUTO_FREE char *dir = xasprintf("%s/conf/tenants", home);
    DIR *d = opendir(dir);
    if (!d)
        return err_sys(e, -errno, "cannot open %s", dir);
    int r = 0;
    for (struct dirent *ent; r == 0 && (ent = readdir(d));)
        r = load_tenant(c, dir, ent->d_name, e);
    closedir(d);
    if (c->n_tenants)
        qsort(c->tenants, c->n_tenants, sizeof *c->tenants, by_id);
    for (size_t i = 0; r == 0 && i < c->n_tenants; i++) {
        r = check_tenant(c, &c->tenants[i], e);
        for (size_t k = 0; r == 0 && k < i; k++)
            if (!strcmp(c->tenants[i].database, c->tenants[k].database) &&
                !strcmp(c->tenants[i].mongo_url, c->tenants[k].mongo_url))
                r = err_set(e, ERR_CONFIG, "%s: key 'database': \"%s\" is already the database of tenant %s", c->tenants[i].file,
                            c->tenants[i].database, c->tenants[k].id);
    }
    return r;
}

int conf_load(const char *home, struct conf **ret, struct err *e)
{
    struct conf *c = xcalloc(1, sizeof *c);
    AUTO_FREE char *platform = xasprintf("%s/conf/mysimbdp.conf", home);
    AUTO_FREE char *profiles = xasprintf("%s/conf/profiles.conf", home);
    int r = cfg_load(platform, platform_file_keys, c, e);
    if (r == 0)
        r = cfg_load(profiles, profiles_file_keys, c, e);
    if (r == 0)
        r = check_profiles(profiles, c, e);
    if (r == 0)
        r = load_tenants(c, home, e);
    if (r < 0) {
        conf_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    cfg_free(platform_file_keys, c);
    cfg_free(profiles_file_keys, c);
    for (size_t i = 0; i < c->n_tenants; i++) {
        cfg_free(tenant_keys, &c->tenants[i]);
        free(c->tenants[i].id);
        free(c->tenants[i].file);
    }
    free(c->tenants);
    free(c);
}

const struct conf_tenant *conf_tenant(const struct conf *c, const char *id)
{
    struct conf_tenant key = {.id = (char *)id};
    return c->n_tenants ? bsearch(&key, c->tenants, c->n_tenants, sizeof key, by_id) : NULL;
}

const struct conf_profile *conf_profile(const struct conf *c, const char *name)
{
    const struct conf_profile *p = c->profiles.v;
    for (size_t i = 0; i < c->profiles.n; i++)
        if (!strcmp(p[i].name, name))
            return &p[i];
    return NULL;
}

const struct conf_dataset *conf_dataset(const struct conf_tenant *t, const char *name)
{
    const struct conf_dataset *d = t->datasets.v;
    for (size_t i = 0; i < t->datasets.n; i++)
        if (!strcmp(d[i].name, name))
            return &d[i];
    return NULL;
}

const struct conf_batch *conf_app(const struct conf_tenant *t, const char *app)
{
    const struct conf_batch *b = t->batch.v;
    for (size_t i = 0; i < t->batch.n; i++)
        if (!strcmp(b[i].app, app))
            return &b[i];
    return NULL;
}

const struct conf_stream_app *conf_stream_app(const struct conf_tenant *t, const char *app)
{
    const struct conf_stream_app *a = t->stream_apps.v;
    for (size_t i = 0; i < t->stream_apps.n; i++)
        if (!strcmp(a[i].app, app))
            return &a[i];
    return NULL;
}

const struct conf_stream *conf_stream(const struct conf_tenant *t, const char *name)
{
    const struct conf_stream *s = t->streams.v;
    for (size_t i = 0; i < t->streams.n; i++)
        if (!strcmp(s[i].name, name))
            return &s[i];
    return NULL;
}

const struct conf_batch *conf_route(const struct conf_tenant *t, const char *app, const char *dataset, const char *file)
{
    const struct conf_batch *b = t->batch.v;
    for (size_t i = 0; i < t->batch.n; i++) {
        if (app && strcmp(b[i].app, app))
            continue;
        bool takes = b[i].datasets.n == 0;
        for (size_t k = 0; k < b[i].datasets.n; k++)
            takes |= !strcmp(b[i].datasets.v[k], dataset);
        if (takes && (app || fnmatch(b[i].pattern, file, 0) == 0))
            return &b[i];
    }
    return NULL;
}

static int64_t tighter(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

struct conf_limits conf_effective_limits(const struct conf_tenant *t, const struct conf_dataset *d)
{
    struct conf_limits l = t->limits;
    /* Files and bytes in staging and per day are counted for each level on its own. */
#define TIGHTER(field) l.field = tighter(l.field, d->limits.field)
    TIGHTER(max_file_bytes);
    TIGHTER(max_decompressed_bytes);
    TIGHTER(max_rows);
    TIGHTER(max_row_bytes);
    TIGHTER(max_columns);
    TIGHTER(max_rejects);
#undef TIGHTER
    l.formats = (struct cfg_strs){0};
    return l;
}

static bool listed(const struct cfg_strs *l, const char *format)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i], format))
            return true;
    return l->n == 0;
}

const char *conf_format_refusal(const struct conf *c, const struct conf_tenant *t, const struct conf_dataset *d, const char *format)
{
    if (strcmp(format, "csv") && strcmp(format, "json"))
        return "format";
    if (!listed(&c->platform.valid_formats, format))
        return "valid_formats";
    if (!listed(&t->limits.formats, format) || !listed(&d->limits.formats, format))
        return "formats";
    return strcmp(d->format, format) ? "format" : NULL;
}

void conf_help(struct buf *out)
{
    buf_adds(out, "conf/mysimbdp.conf\n");
    cfg_help(platform_file_keys, 2, out);
    buf_adds(out, "conf/profiles.conf\n");
    cfg_help(profiles_file_keys, 2, out);
    buf_adds(out, "conf/tenants/<tenant>.conf\n");
    cfg_help(tenant_keys, 2, out);
}
