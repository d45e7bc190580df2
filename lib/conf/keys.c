#include "keys.h"
#include "conf.h"

#include "metric.h"

#include <math.h>
#include <stddef.h>

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
#define CHOICE(name) "|" #name
/* `choices`: the X-macro that the enum is made of, too. */
#define ENUM_ROW(type, field, key, def, choices, help)                                                                             \
    {                                                                                                                              \
        key, CFG_ENUM, OFF(type, field), def, 0, 0, &(choices(CHOICE))[1], true, help, NULL, 0                                     \
    }
#define STRS_ROW(type, field, key, def, choices, help)                                                                             \
    {                                                                                                                              \
        key, CFG_STRS, OFF(type, field), def, 0, 0, choices, true, help, NULL, 0                                                   \
    }
#define GROUP_ROW(type, field, key, keys, help)                                                                                    \
    {                                                                                                                              \
        key, CFG_GROUP, OFF(type, field), NULL, 0, 0, NULL, true, help, keys, 0                                                    \
    }
/* A group whose keys' offsets count from the outer struct already. */
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

static const struct cfg_key pilot_keys[] = {
    INT_ROW(conf_profile, slurm.pilot.nodes, "nodes", "0", 0, 10000,
            "allocations that stay, at most, in which one run after another is started; 0: each run is a job"),
    {"cpus", CFG_F64, OFF(conf_profile, slurm.pilot.cpus), "1", 0.001, 4096, NULL, true,
     "cores of each; as many runs at once as requests.cpus has room for", NULL, 0},
    INT_ROW(conf_profile, slurm.pilot.memory_bytes, "memory_bytes", "-1", -1, NO_MAX,
            "memory of each, bytes; -1: what a job of a run would have, for each of the runs at once"),
    INT_ROW(conf_profile, slurm.pilot.time_s, "time_s", "-1", -1, 1e9,
            "time limit of each, seconds; -1: an hour and what a job of a run would have"),
    INT_ROW(conf_profile, slurm.pilot.idle_s, "idle_s", "60", 1, 1e9, "each ends after so many seconds without runs"),
    END_ROW,
};

static const struct cfg_key slurm_keys[] = {
    STR_ROW(conf_profile, slurm.partition, "partition", "", NULL, "its partition; empty: Slurm's default"),
    STR_ROW(conf_profile, slurm.account, "account", "", NULL, "the account that is charged; empty: the default"),
    STR_ROW(conf_profile, slurm.qos, "qos", "", NULL, "its quality of service; empty: the default"),
    STR_ROW(conf_profile, slurm.constraint, "constraint", "", NULL, "features that its node must have, as sbatch --constraint"),
    INT_ROW(conf_profile, slurm.time_s, "time_s", "-1", -1, 1e9,
            "the job's time limit, seconds; -1: wall_s, grace_s and two minutes; none where wall_s is -1"),
    INT_ROW(conf_profile, slurm.cpus, "cpus", "-1", -1, 4096, "cores of the job; -1: requests.cpus, rounded up"),
    INT_ROW(conf_profile, slurm.memory_bytes, "memory_bytes", "-1", -1, NO_MAX,
            "memory of the job, bytes; -1: the larger of cgroup.memory_bytes and requests.memory_bytes, and 64 MiB"),
    NEST_ROW("pilot", pilot_keys, "allocations that stay, for short runs (docs/cluster.md)"),
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
    ENUM_ROW(conf_profile, isolation, "isolation", "full", CONF_ISOLATIONS,
             "full: namespaces and a file system view of its own, system calls filtered; basic: limits and a uid only"),
    INT_ROW(conf_profile, tmp_bytes, "tmp_bytes", "134217728", -1, NO_MAX,
            "/tmp, /var/tmp and /dev/shm of an isolated run together, in its memory, bytes"),
    INT_ROW(conf_profile, tmp_inodes, "tmp_inodes", "100000", -1, NO_MAX, "files and directories in them"),
    INT_ROW(conf_profile, scratch_bytes, "scratch_bytes", "1073741824", -1, NO_MAX,
            "the working directory of a run, bytes on disk; looked at while it runs"),
    INT_ROW(conf_profile, scratch_inodes, "scratch_inodes", "100000", -1, NO_MAX, "files and directories in it"),
    ENUM_ROW(
        conf_profile, scratch, "scratch", "disk", CONF_SCRATCHES,
        "where the working directory of a run is; memory: a tmpfs of scratch_bytes, part of its cgroup's memory; what does not "
        "fit fails at once"),
    STRS_ROW(conf_profile, network, "network", "platform", NULL,
             "what an isolated run reaches: platform (MongoDB, its streams, the monitor), host:port, or alone none or host "
             "(everything)"),
    STRS_ROW(conf_profile, mounts, "mounts", "", NULL,
             "paths of the host that isolated runs see although they lie below /tmp, /run or another hidden directory; read-only "
             "unless PATH:rw"),
    LIST_ROW(conf_profile, env, "env", env_keys, conf_env, "environment variables"),
    ENUM_ROW(conf_profile, launcher, "launcher", "platform", CONF_OWN_LAUNCHERS,
             "where runs and instances are started: on this host, or as jobs of a Slurm cluster (docs/cluster.md); platform: as "
             "platform.launcher says"),
    NEST_ROW("slurm", slurm_keys, "what Slurm is asked for where the launcher is slurm"),
    END_ROW,
};

/* Limits have a struct of their own, since tenants and datasets share them. */
#define LIMIT(field, help) INT_ROW(conf_limits, field, #field, "-1", -1, NO_MAX, help)
static const struct cfg_key limit_keys[] = {
    STRS_ROW(conf_limits, formats, "formats", "", "csv|json", "accepted formats (also .gz and .zst of these)"),
    LIMIT(max_file_bytes, "size of one file as delivered, bytes"),
    LIMIT(max_decompressed_bytes, "size of one file decompressed, bytes; -1: 10 GiB, or its size on the disk if that is more"),
    LIMIT(max_expansion,
          "how many times the bytes that it takes on the disk a file may be when it is read (compressed or with holes), "
          "beyond 256 MiB; -1: 100"),
    LIMIT(max_inspect_s, "how long one file may be inspected, seconds; -1: 60, and one for each 4 MiB that it may have"),
    LIMIT(max_files_in_staging, "files not yet finished, at any time"),
    LIMIT(max_files_per_day, "files taken per UTC day"),
    LIMIT(max_bytes_per_day, "bytes taken per UTC day"),
    LIMIT(max_rows, "rows of one file, or of one message of a stream app with this dataset"),
    LIMIT(max_row_bytes, "size of one row, bytes"),
    LIMIT(max_columns, "columns of one file, or of one such message"),
    LIMIT(max_rejects, "damaged rows of one file"),
    F64_ROW(conf_limits, max_reject_pct, "max_reject_pct", "-1", -1, 100,
            "damaged rows of one file, percent of its rows; -1: any number"),
    END_ROW,
};

static const struct cfg_key retention_keys[] = {
    INT_ROW(conf_tenant, retention.files_days, "files_days", "-1", -1, 36500, "days that archived files are kept"),
    INT_ROW(conf_tenant, retention.documents_days, "documents_days", "-1", -1, 36500,
            "days after loading that documents are kept which builtin:load, an output mode or libsimbdp stored"),
    INT_ROW(conf_tenant, retention.logs_days, "logs_days", "30", -1, 36500, "days that logs and rejects of ended runs are kept"),
    ENUM_ROW(conf_tenant, retention.on_success, "on_success", "archive", CONF_ON_SUCCESS, "what becomes of ingested files"),
    ENUM_ROW(conf_tenant, retention.on_failure, "on_failure", "quarantine", CONF_ON_FAILURE,
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
    INT_ROW(conf_csv, footer_rows, "footer_rows", "-1", -1, 100,
            "lines at the end that are no rows; -1: those that look like remarks"),
    STR_ROW(conf_csv, ragged, "ragged", "reject", "reject|pad|keep_extra",
            "rows with missing or extra cells: refused; missing ones null; extra ones also kept, in the field _extra"),
    STR_ROW(conf_csv, damaged, "damaged", "reject", "reject|repair",
            "rows with stray quotes, missing or extra cells, and headers: refused, or read as far as they go, and listed"),
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

static const struct cfg_key shard_keys[] = {
    STRS_ROW(conf_dataset, shard.key, "key", "", NULL,
             "the shard key: columns (or fields of the document), or _id; empty: the platform leaves the collection as it is"),
    STR_ROW(conf_dataset, shard.hashed, "hashed", "", NULL, "the one of them that is hashed, which spreads values that rise"),
    END_ROW,
};

static const struct cfg_key dataset_keys[] = {
    STR_ROW(conf_dataset, name, "name", NULL, NULL, "name of the dataset and of its staging directory"),
    STR_ROW(conf_dataset, format, "format", "csv", "csv|json", "format of its files"),
    STR_ROW(conf_dataset, collection, "collection", "", NULL, "MongoDB collection; empty: the dataset's name"),
    GROUP_ROW(conf_dataset, limits, "limits", limit_keys, "tighter than the tenant's"),
    STRS_ROW(conf_dataset, key, "key", "", NULL, "columns that identify a row: a unique index of the collection"),
    ENUM_ROW(conf_dataset, on_key_conflict, "on_key_conflict", "reject", KEY_CONFLICTS,
             "a row whose key is there already: refused, left out, or put in the place of its elder"),
    NEST_ROW("shard", shard_keys, "how the collection is spread over a sharded MongoDB (mongo_url of a mongos)"),
    GROUP_ROW(conf_dataset, csv, "csv", csv_keys, "how its CSV files are written; what is absent is sniffed"),
    LIST_ROW(conf_dataset, columns, "columns", column_keys, conf_column, "types and rules of columns; others are inferred"),
    ENUM_ROW(conf_dataset, inspect, "inspect", "full", CONF_INSPECTS,
             "full: types, rules, quality figures; structure: rows, columns, sizes and encoding only, for large files of apps that "
             "check themselves; of messages: with figures, or none"),
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

#define IMAGE_HELP                                                                                                                 \
    "the root that its runs see instead of the host's: an OCI image layout (PATH or PATH:TAG) or a directory, relative to "        \
    "apps/<tenant>/ or absolute; needs isolation = full; empty: none"

static const struct cfg_key batch_keys[] = {
    STR_ROW(conf_batch, app, "app", NULL, NULL, "name of the app"),
    STR_ROW(conf_batch, exec, "exec", NULL, NULL, "executable: builtin:load, relative to apps/<tenant>/, or absolute"),
    STR_ROW(conf_batch, image, "image", "", NULL, IMAGE_HELP),
    STRS_ROW(conf_batch, args, "args", "", NULL, "its arguments"),
    STRS_ROW(conf_batch, datasets, "datasets", "", NULL, "datasets it takes; empty: all"),
    STR_ROW(conf_batch, pattern, "pattern", "*", NULL, "file names it takes, as in a shell"),
    STR_ROW(conf_batch, profile, "profile", "small", NULL, "name of a profile of conf/profiles.conf"),
    INT_ROW(conf_batch, priority, "priority", "0", -1000, 1000, "files of apps with a higher one go first in a tenant"),
    ENUM_ROW(conf_batch, output, "output", "none", RUN_OUTPUTS, "what the platform loads for the app"),
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

const struct conf_batch *conf_batch_defaults(void)
{
    static struct conf_batch defaults;
    if (!defaults.trigger)
        cfg_defaults(batch_keys, &defaults);
    return &defaults;
}

static const struct cfg_key stream_keys[] = {
    STR_ROW(conf_stream, name, "name", NULL, NULL, "name of the stream"),
    INT_ROW(conf_stream, max_message_bytes, "max_message_bytes", "65536", 1, CONF_MAX_MESSAGE, "size of one message, bytes"),
    INT_ROW(conf_stream, max_messages_per_s, "max_messages_per_s", "-1", -1, NO_MAX, "messages published a second"),
    INT_ROW(conf_stream, max_bytes_per_s, "max_bytes_per_s", "-1", -1, NO_MAX, "bytes published a second"),
    INT_ROW(
        conf_stream, max_rows_per_s, "max_rows_per_s", "-1", -1, NO_MAX,
        "rows that one app makes of its messages a second (as it says with its acks; one a message where it does not); more waits"),
    F64_ROW(
        conf_stream, max_reject_pct, "max_reject_pct", "-1", -1, 100,
        "messages that an app refuses as no good, percent of the 20 or more that it settles within a minute; above, the stream is "
        "cut off as after too many breaches; -1: any number"),
    INT_ROW(conf_stream, burst_ms, "burst_ms", "1000", 1, 3600000,
            "how much of the rates may come at once, after as long a pause or in one request, ms of them; 1000: a second's worth"),
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
    ENUM_ROW(conf_stream, on_breach, "on_breach", "refuse", CONF_ON_BREACH,
             "when publishers break limits: refuse what breaks them, or after `breaches` of them everything"),
    INT_ROW(conf_stream, breaches, "breaches", "10", 1, 100000, "refusals that suspend, in breach_window_s"),
    INT_ROW(conf_stream, breach_window_s, "breach_window_s", "5", 1, 86400, "in which breaches are counted, seconds"),
    ENUM_ROW(conf_stream, store, "store", "local", CONF_STORES,
             "where its messages are kept: on this machine, or in Kafka (docs/kafka.md)"),
    BOOL_ROW(conf_stream, shared, "shared", "false",
             "whether other homes serve its partitions, too: those with the same kafka.prefix, tenant and stream"),
    INT_ROW(
        conf_stream, partitions, "partitions", "1", 1, CONF_MAX_PARTITIONS,
        "in how many parts its messages lie; those of one publisher are in one, and in order there. It can be raised, not lowered"),
    INT_ROW(conf_stream, replicas, "replicas", "3", 3, 15,
            "of Kafka's nodes, on how many each message is kept; two of them have it before it is confirmed"),
    END_ROW,
};

const struct conf_stream *conf_stream_defaults(void)
{
    static struct conf_stream defaults;
    if (!defaults.max_deliveries)
        cfg_defaults(stream_keys, &defaults);
    return &defaults;
}

static const struct cfg_key scale_keys[] = {
    F64_ROW(conf_stream_app, scale.utilisation, "utilisation", "0.95", 0.05, 1, "how busy instances are to be, of 1"),
    INT_ROW(conf_stream_app, scale.drain_target_s, "drain_target_s", "10", 1, 86400, "how soon a backlog is to be gone, seconds"),
    INT_ROW(conf_stream_app, scale.window_s, "window_s", "8", 5, 3600, "how far back a decision looks at the load, seconds"),
    INT_ROW(conf_stream_app, scale.max_average_ingestion_ms, "max_average_ingestion_ms", "-1", -1, 86400000,
            "more instances when messages take longer, ms; -1: no such goal"),
    F64_ROW(conf_stream_app, scale.min_processing_rate, "min_processing_rate", "-1", -1, 1e9,
            "more instances when fewer messages a second are processed; -1: no such goal"),
    END_ROW,
};

static const struct cfg_key stream_app_keys[] = {
    STR_ROW(conf_stream_app, app, "app", NULL, NULL, "name of the app, and of its subscription"),
    STR_ROW(conf_stream_app, stream, "stream", "", NULL,
            "the stream it consumes; empty: it gets its messages elsewhere, and is scaled by its reports alone"),
    STR_ROW(conf_stream_app, exec, "exec", "", NULL,
            "executable: builtin:load, builtin:pipe, relative to apps/<tenant>/, or absolute; empty: somebody else starts its "
            "instances"),
    STR_ROW(conf_stream_app, image, "image", "", NULL, IMAGE_HELP),
    STRS_ROW(conf_stream_app, args, "args", "", NULL, "its arguments"),
    STR_ROW(conf_stream_app, profile, "profile", "small", NULL, "name of a profile of conf/profiles.conf"),
    LIST_ROW(conf_stream_app, env, "env", env_keys, conf_env, "environment variables"),
    LIST_ROW(conf_stream_app, secrets, "secrets", secret_keys, conf_secret,
             "files that only its instances can read, in SIMBDP_SECRETS_DIR"),
    STR_ROW(conf_stream_app, dataset, "dataset", "", NULL, "whose columns, rules and collection hold for what is stored"),
    ENUM_ROW(conf_stream_app, output, "output", "none", RUN_OUTPUTS, "what the platform stores for the app"),
    STR_ROW(conf_stream_app, checker, "checker", "", NULL,
            "executable that sees the messages first, a line each, and prints ok or reject for each; with builtin:load and output "
            "modes; as exec; empty: none"),
    INT_ROW(conf_stream_app, checker_s, "checker_s", "10", 1, 3600, "how long it may take over those that it is given, seconds"),
    ENUM_ROW(conf_stream_app, delivery, "delivery", "exactly_once", CONF_DELIVERIES,
             "when an instance is killed, its messages' rows are stored once in effect; perhaps twice; perhaps not at all"),
    INT_ROW(conf_stream_app, min_instances, "min_instances", "0", 0, CONF_MAX_INSTANCES, "instances that always run"),
    INT_ROW(conf_stream_app, max_instances, "max_instances", "1", 0, CONF_MAX_INSTANCES, "instances at most"),
    BOOL_ROW(conf_stream_app, on_demand, "on_demand", "true", "a message for an app without an instance starts one"),
    INT_ROW(conf_stream_app, drain_s, "drain_s", "10", 0, 86400,
            "how long an instance that is to go may finish what it holds, seconds"),
    NEST_ROW("scale", scale_keys, "how many instances"),
    END_ROW,
};

const struct cfg_key conf_tenant_keys[] = {
    STR_ROW(conf_tenant, display_name, "display_name", "", NULL, "name for people"),
    INT_ROW(conf_tenant, weight, "weight", "1", 1, 1000, "share when tenants compete"),
    INT_ROW(conf_tenant, concurrency, "concurrency", "4", 1, 100000, "batch runs at once"),
    INT_ROW(conf_tenant, max_image_bytes, "max_image_bytes", "2147483648", 1, NO_MAX,
            "an image of its apps unpacked, bytes on disk"),
    INT_ROW(conf_tenant, max_image_files, "max_image_files", "200000", 1, NO_MAX, "files and directories of an image"),
    INT_ROW(conf_tenant, max_streams, "max_streams", "1000", -1, NO_MAX, "streams it may have; -1: any number"),
    STRS_ROW(conf_tenant, allow, "allow", "", "apps|datasets|streams",
             "what it may have of its own: apps (also: upload and activate versions of all of its apps), datasets, streams"),
    STRS_ROW(conf_tenant, own_profiles, "own_profiles", "", NULL,
             "profiles of its own apps; empty: those that its apps in this file have"),
    INT_ROW(conf_tenant, max_own_instances, "max_own_instances", "4", 0, CONF_MAX_INSTANCES,
            "max_instances of its own stream apps together"),
    INT_ROW(conf_tenant, max_app_bytes, "max_app_bytes", "268435456", 1, NO_MAX,
            "a version of an app that is uploaded, as it comes and unpacked, with what its requirements.txt brings, bytes"),
    INT_ROW(conf_tenant, max_app_files, "max_app_files", "10000", 1, NO_MAX, "files and directories of such a version"),
    INT_ROW(conf_tenant, max_app_versions, "max_app_versions", "20", 1, 500, "versions of an app that are kept"),
    INT_ROW(conf_tenant, max_app_build_s, "max_app_build_s", "300", 1, 86400,
            "how long unpacking one may take, and how long installing its requirements.txt, seconds"),
    STR_ROW(conf_tenant, mongo_url, "mongo_url", "", NULL, "the tenant's own MongoDB; empty: the platform's"),
    STR_ROW(conf_tenant, database, "database", "", NULL, "its database; empty: the tenant's id"),
    INT_ROW(conf_tenant, max_database_bytes, "max_database_bytes", "10737418240", -1, NO_MAX,
            "what its database in the embedded MongoDB may take on the disk, bytes; above, nothing is added"),
    GROUP_ROW(conf_tenant, limits, "limits", limit_keys, "breaking one refuses the file and names the limit"),
    NEST_ROW("retention", retention_keys, "what becomes of files"),
    LIST_ROW(conf_tenant, datasets, "datasets", dataset_keys, conf_dataset, "what the tenant delivers"),
    LIST_ROW(conf_tenant, batch, "batch", batch_keys, conf_batch, "the tenant's batch apps"),
    LIST_ROW(conf_tenant, streams, "streams", stream_keys, conf_stream, "the tenant's queues of messages"),
    LIST_ROW(conf_tenant, stream_apps, "stream_apps", stream_app_keys, conf_stream_app, "who consumes them"),
    STRS_ROW(conf_tenant, curve_keys, "curve_keys", "", NULL, "CURVE public keys (Z85) of the tenant's peers on tcp"),
    END_ROW,
};

/* What a tenant may write itself (own.h). */
const struct cfg_key conf_own_keys[] = {
    LIST_ROW(conf_tenant, datasets, "datasets", dataset_keys, conf_dataset, "what the tenant delivers"),
    LIST_ROW(conf_tenant, batch, "batch", batch_keys, conf_batch, "the tenant's batch apps"),
    LIST_ROW(conf_tenant, streams, "streams", stream_keys, conf_stream, "the tenant's queues of messages"),
    LIST_ROW(conf_tenant, stream_apps, "stream_apps", stream_app_keys, conf_stream_app, "who consumes them"),
    END_ROW,
};

static const struct cfg_key alert_keys[] = {
    STR_ROW(conf_alert, name, "name", NULL, NULL, "name of the alert"),
    STR_ROW(conf_alert, when, "when", NULL, NULL, "condition over the figures of a stream app, such as oldest_age_s > 60"),
    INT_ROW(conf_alert, for_s, "for_s", "0", 0, 86400, "how long it must hold, seconds"),
    STR_ROW(conf_alert, command, "command", "", NULL,
            "run when it begins and ends, with JSON on stdin: an absolute path and arguments, separated by blanks; empty: none"),
    STR_ROW(conf_alert, webhook, "webhook", "", NULL, "name of the webhook that is told, too; empty: none"),
    STR_ROW(conf_alert, group, "group", "", NULL,
            "alerts of one group are told to their webhook in one call; empty: each alert is a group"),
    STR_ROW(conf_alert, runbook_url, "runbook_url", "", NULL,
            "where it says what to do, told with the alert: an http, https or file URL; empty: none, or the platform's own entry"),
    END_ROW,
};

static const struct cfg_key webhook_keys[] = {
    STR_ROW(conf_webhook, name, "name", NULL, NULL, "name of the webhook"),
    STR_ROW(conf_webhook, url, "url", NULL, NULL, "http or https URL that JSON is posted to"),
    STR_ROW(conf_webhook, secret_file, "secret_file", "", NULL,
            "absolute path of a file whose content (without the line's end) signs calls; empty: they are not signed"),
    STR_ROW(conf_webhook, ca_file, "ca_file", "", NULL,
            "absolute path of the PEM file of who vouches for the receiver's certificate; empty: whom this host trusts"),
    INT_ROW(conf_webhook, group_s, "group_s", "0", 0, 3600,
            "how long a call waits for further alerts of its group, seconds; 0: it is made at once"),
    INT_ROW(conf_webhook, alive_s, "alive_s", "0", 0, 86400,
            "a call every so many seconds as long as all is well, whose absence is the alarm; 0: none"),
    INT_ROW(conf_webhook, timeout_s, "timeout_s", "10", 1, 300, "how long a call may take, seconds"),
    INT_ROW(conf_webhook, retry_s, "retry_s", "3600", 0, 86400,
            "how long a call that fails is tried again, seconds; then it is dropped, and counted"),
    END_ROW,
};

static const struct cfg_key otlp_keys[] = {
    STR_ROW(conf, platform.otlp.url, "url", "", NULL,
            "of an OpenTelemetry collector, to which /v1/traces and its like are added: http://127.0.0.1:4318; empty: nothing is "
            "exported"),
    STR_ROW(conf, platform.otlp.ca_file, "ca_file", "", NULL,
            "absolute path of the PEM file of who vouches for its certificate; empty: whom this host trusts"),
    STR_ROW(conf, platform.otlp.headers_file, "headers_file", "", NULL,
            "absolute path of a file with a header field of each request a line, NAME: VALUE, that not everybody may read; empty: "
            "none"),
    BOOL_ROW(conf, platform.otlp.traces, "traces", "true", "whether traces of files are exported"),
    BOOL_ROW(conf, platform.otlp.metrics, "metrics", "false", "whether the figures of /metrics are exported"),
    BOOL_ROW(conf, platform.otlp.logs, "logs", "false", "whether the platform's log is exported"),
    INT_ROW(conf, platform.otlp.interval_s, "interval_s", "60", 1, 86400, "how often metrics are, every so many seconds"),
    BOOL_ROW(conf, platform.otlp.gzip, "gzip", "false", "whether what is sent is compressed"),
    END_ROW,
};

static const struct cfg_key kafka_keys[] = {
    STR_ROW(conf, platform.kafka.brokers, "brokers", "", NULL,
            "some of its nodes, for streams with store = \"kafka\": \"HOST:PORT,HOST:PORT\"; empty: there is none"),
    STR_ROW(conf, platform.kafka.prefix, "prefix", "mysimbdp", NULL,
            "what the names of its topics begin with: PREFIX.TENANT.STREAM; another one for each home"),
    STR_ROW(conf, platform.kafka.prefix_before, "prefix_before", "", NULL,
            "the prefix that is given up for another one; without it topics of another prefix than before are not opened"),
    STR_ROW(
        conf, platform.kafka.member, "member", "", NULL,
        "this home's name among those that share streams (streams.shared), another one for each of them; empty: it shares none"),
    INT_ROW(conf, platform.kafka.session_s, "session_s", "10", 1, 300,
            "after so long a silence of a home its partitions of shared streams go to others, seconds; Kafka has bounds of its own "
            "(group.min.session.timeout.ms)"),
    STR_ROW(
        conf, platform.kafka.properties_file, "properties_file", "", NULL,
        "absolute path of a file, readable by its owner alone, with settings for TLS and SASL as librdkafka has them, NAME=VALUE a "
        "line; empty: none"),
    END_ROW,
};

static const struct cfg_key capacity_keys[] = {
    {"cpus", CFG_F64, OFF(conf, platform.capacity.cpus), "-1", -1, 1e6, NULL, true,
     "cores to share out, never exceeded; -1: this host's, of which a tenant with nothing running may borrow", NULL, 0},
    INT_ROW(conf, platform.capacity.memory_bytes, "memory_bytes", "-1", -1, NO_MAX, "memory to share out, bytes; -1: this host's"),
    END_ROW,
};

static const struct cfg_key cluster_capacity_keys[] = {
    {"cpus", CFG_F64, OFF(conf, platform.slurm.capacity.cpus), "-1", -1, 1e6, NULL, true,
     "cores that jobs may have together; -1: as platform.capacity, where no runs are on this host", NULL, 0},
    INT_ROW(conf, platform.slurm.capacity.memory_bytes, "memory_bytes", "-1", -1, NO_MAX,
            "memory that jobs may have together, bytes; -1: as platform.capacity, where no runs are on this host"),
    END_ROW,
};

static const struct cfg_key cluster_shard_keys[] = {
    INT_ROW(conf, platform.slurm.shards.count, "count", "0", 0, 1024,
            "how many shards its nodes are divided into; 0: there are none"),
    INT_ROW(conf, platform.slurm.shards.each, "each", "1", 1, 1024, "on how many of them a tenant's jobs may be"),
    STR_ROW(conf, platform.slurm.shards.feature, "feature", "shard", NULL,
            "what the shards' features of nodes begin with, a number from 0 on follows"),
    END_ROW,
};

static const struct cfg_key cluster_keys[] = {
    NEST_ROW("capacity", cluster_capacity_keys, "what of the cluster is this home's"),
    NEST_ROW("shards", cluster_shard_keys, "shuffle-sharding of tenants over its nodes (docs/cluster.md)"),
    {"listen", CFG_STR, OFF(conf, platform.slurm.listen), "", 0, 0, NULL, false,
     "address of this host's at which nodes find broker, monitor and, for pilots, the launcher of jobs; empty: platform.listen, "
     "and no pilots",
     NULL, 0},
    {"port", CFG_INT, OFF(conf, platform.slurm.port), "0", 0, 65535, NULL, false, "the launcher's port there; 0: any", NULL, 0},
    END_ROW,
};

static const struct cfg_key port_keys[] = {
    {"broker", CFG_INT, OFF(conf, platform.ports.broker), "0", 0, 65535, NULL, false, "of the broker", NULL, 0},
    {"monitor", CFG_INT, OFF(conf, platform.ports.monitor), "0", 0, 65535, NULL, false, "of the monitor", NULL, 0},
    LATER_ROW("streammgr", "0", "of streammgr"),
    {"gateway", CFG_INT, OFF(conf, platform.ports.gateway), "0", 0, 65535, NULL, false, "of the gateway", NULL, 0},
    END_ROW,
};

static const struct cfg_key http_keys[] = {
    {"listen", CFG_STR, OFF(conf, platform.http.listen), "", 0, 0, NULL, false,
     "address where the gateway listens (its port is ports.gateway); empty: there is no gateway", NULL, 0},
    {"tls", CFG_BOOL, OFF(conf, platform.http.tls), "true", 0, 0, NULL, false,
     "https; without it only an address of this host itself is listened at (for a proxy on it)", NULL, 0},
    STR_ROW(conf, platform.http.certificate, "certificate", "", NULL,
            "PEM file of the chain that is shown, read again by `reload`; empty: one that the home makes itself"),
    STR_ROW(conf, platform.http.key, "key", "", NULL, "PEM file of the certificate's key"),
    {"connections", CFG_INT, OFF(conf, platform.http.connections), "4096", 1, 100000, NULL, false,
     "connections at once; more wait to be taken", NULL, 0},
    {"connections_per_address", CFG_INT, OFF(conf, platform.http.connections_per_address), "512", 1, 100000, NULL, false,
     "of them from one address; more are closed", NULL, 0},
    {"idle_s", CFG_INT, OFF(conf, platform.http.idle_s), "30", 1, 86400, NULL, false,
     "how long a connection may be quiet, and how long a header may take, seconds", NULL, 0},
    {"min_bytes_per_s", CFG_INT, OFF(conf, platform.http.min_bytes_per_s), "1024", 0, 1e9, NULL, false,
     "slower bodies and readers are cut off after idle_s, bytes a second", NULL, 0},
    INT_ROW(conf, platform.http.requests_per_s, "requests_per_s", "200", -1, 1e9, "requests of an account; -1: no limit"),
    INT_ROW(conf, platform.http.uploads, "uploads", "64", -1, 1e6,
            "uploads of an account that are in flight at once; -1: no limit"),
    INT_ROW(conf, platform.http.event_streams, "event_streams", "1024", 0, 100000,
            "streams of events that are open at once; each is a connection, too"),
    INT_ROW(conf, platform.http.event_streams_per_account, "event_streams_per_account", "64", -1, 100000,
            "of them of one account; -1: no limit"),
    STRS_ROW(conf, platform.http.fronts, "fronts", "", NULL,
             "addresses of what stands in front (simbdp-cells): of a request from there, X-Forwarded-For says whose it is"),
    END_ROW,
};

static const struct cfg_key metrics_keys[] = {
    STR_ROW(conf, platform.metrics.textfile, "textfile", "", NULL,
            "absolute path of a file NAME.prom that the monitor writes for node_exporter's textfile collector; empty: none. Its "
            "directory is another one from the monitor's next start on"),
    INT_ROW(conf, platform.metrics.interval_s, "interval_s", "15", 1, 86400, "how often it is written, every so many seconds"),
    END_ROW,
};

static const struct cfg_key platform_keys[] = {
    STR_ROW(conf, platform.mongo_url, "mongo_url", "", NULL,
            "empty: MONGO_URL of the environment, else mongod on PATH, else the embedded one"),
    STRS_ROW(conf, platform.valid_formats, "valid_formats", "csv json", "csv|json", "formats for every tenant"),
    NEST_ROW("capacity", capacity_keys, "what runs on this host may use together"),
    NEST_ROW("slurm", cluster_keys, "the Slurm cluster, where a launcher is slurm (docs/cluster.md)"),
    INT_ROW(conf, platform.stream_pct, "stream_pct", "-1", -1, 100,
            "share of capacity that is kept for stream instances, percent; -1: 50 where a tenant has stream apps, else none"),
    {"uid_base", CFG_INT, OFF(conf, platform.uid_base), "-1", -1, 4e9, NULL, false,
     "first of the 65536 uids of this home, for tenants (kept in the ledger) and the platform's programs; -1: chosen once", NULL,
     0},
    INT_ROW(conf, platform.writer_wait_s, "writer_wait_s", "3600", 0, 1e9,
            "how long a claimed file may still have a writer, seconds"),
    INT_ROW(conf, platform.rescan_ms, "rescan_ms", "30000", 100, 86400000, "full scan of staging, every so many ms"),
    INT_ROW(conf, platform.inspector_memory_bytes, "inspector_memory_bytes", "536870912", 16777216, NO_MAX,
            "memory of a process that reads tenants' files, bytes; a file that takes more is refused"),
    INT_ROW(conf, platform.min_free_bytes, "min_free_bytes", "1073741824", 0, NO_MAX,
            "intake pauses while the disk has less, bytes"),
    INT_ROW(conf, platform.min_free_inodes, "min_free_inodes", "1024", 0, NO_MAX,
            "intake pauses while the disk has fewer inodes, on file systems that count them"),
    {"allow_missing_limits", CFG_BOOL, OFF(conf, platform.allow_missing_limits), "false", 0, 0, NULL, true,
     "start although this host cannot enforce a limit", NULL, 0},
    {"allow_shared_credentials", CFG_BOOL, OFF(conf, platform.allow_shared_credentials), "false", 0, 0, NULL, true,
     "give tenants the platform's MongoDB URL where it may not create users", NULL, 0},
    NEST_ROW("ports", port_keys, "of tcp endpoints; 0: picked once and kept"),
    {"listen", CFG_STR, OFF(conf, platform.listen), "", 0, 0, NULL, false,
     "address of the tcp endpoints; empty: slurm.listen, or there are none", NULL, 0},
    NEST_ROW("http", http_keys, "the gateway: HTTP for tenants"),
    NEST_ROW("metrics", metrics_keys, "figures for Prometheus where there is no gateway to be scraped"),
    {"launcher", CFG_ENUM, OFF(conf, platform.launcher), "local", 0, 0, &(CONF_LAUNCHERS(CHOICE))[1], true,
     "where runs and instances are started whose profile does not say: on this host, or as jobs of a Slurm cluster "
     "(docs/cluster.md)",
     NULL, 0},
    {"log", CFG_ENUM, OFF(conf, platform.log), "file", 0, 0, &(CONF_LOGS(CHOICE))[1], false,
     "where the programs' log goes beside logs/: file: nowhere; syslog (RFC 5424), journald", NULL, 0},
    {"log_socket", CFG_STR, OFF(conf, platform.log_socket), "", 0, 0, NULL, false,
     "absolute path of the datagram socket that takes it; empty: /dev/log, or journald's", NULL, 0},
    LIST_ROW(conf, platform.alerts, "alerts", alert_keys, conf_alert, "what is worth telling somebody; always logged"),
    LIST_ROW(conf, platform.webhooks, "webhooks", webhook_keys, conf_webhook, "who is told of alerts over HTTP"),
    NEST_ROW("otlp", otlp_keys, "traces, metrics and logs for OpenTelemetry, by OTLP/HTTP"),
    NEST_ROW("kafka", kafka_keys, "the Kafka of streams with store = \"kafka\""),
    END_ROW,
};

const struct cfg_key conf_platform_keys[] = {
    {"platform", CFG_GROUP, 0, NULL, 0, 0, NULL, true, "the provider's settings", platform_keys, 0},
    END_ROW,
};

const struct cfg_key conf_profiles_keys[] = {
    LIST_ROW(conf, profiles, "profiles", profile_keys, conf_profile, "named sets of limits for runs"),
    END_ROW,
};

void conf_help(struct buf *out)
{
    buf_adds(out, "conf/mysimbdp.conf\n");
    cfg_help(conf_platform_keys, 2, out);
    buf_adds(out, "conf/profiles.conf\n");
    cfg_help(conf_profiles_keys, 2, out);
    buf_adds(out, "conf/tenants/<tenant>.conf\n");
    cfg_help(conf_tenant_keys, 2, out);
    buf_adds(out, "columns of `mysimbdp top`, in conditions of alerts too\n");
    for (int m = 0; m < N_METRICS; m++)
        buf_addf(out, "  %-14s %s\n", metric_name((enum metric)m), metric_help((enum metric)m));
}
