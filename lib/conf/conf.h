/* The configuration of a home: conf/mysimbdp.conf, conf/profiles.conf, conf/tenants/<tenant>.conf. */
#ifndef SIMBDP_CONF_CONF_H
#define SIMBDP_CONF_CONF_H

#include "cfg.h"

#include "base/buf.h"
#include "read/spec.h"
#include "run/kinds.h"

/* Closed sets: a value's name here is its word in the files. */
#define CONF_ISOLATIONS(X)    X(full) X(basic)
#define CONF_SCRATCHES(X)     X(disk) X(memory)
#define CONF_ON_SUCCESS(X)    X(archive) X(delete)
#define CONF_ON_FAILURE(X)    X(quarantine) X(archive) X(delete)
#define CONF_INSPECTS(X)      X(full) X(structure)
#define CONF_ON_BREACH(X)     X(refuse) X(suspend)
#define CONF_DELIVERIES(X)    X(exactly_once) X(at_least_once) X(at_most_once)
#define CONF_LOGS(X)          X(file) X(syslog) X(journald)
#define CONF_LAUNCHERS(X)     X(local) X(slurm)
#define CONF_OWN_LAUNCHERS(X) X(platform) X(local) X(slurm)
#define CONF_STORES(X)        X(local) X(kafka)
#define X(name)               ISOLATION_##name,
enum conf_isolation { CONF_ISOLATIONS(X) };
#undef X
#define X(name) SCRATCH_##name,
enum conf_scratch { CONF_SCRATCHES(X) };
#undef X
#define X(name) ON_SUCCESS_##name,
enum conf_on_success { CONF_ON_SUCCESS(X) };
#undef X
#define X(name) ON_FAILURE_##name,
enum conf_on_failure { CONF_ON_FAILURE(X) };
#undef X
#define X(name) CONF_INSPECT_##name,
enum conf_inspect { CONF_INSPECTS(X) };
#undef X
#define X(name) ON_BREACH_##name,
enum conf_on_breach { CONF_ON_BREACH(X) };
#undef X
#define X(name) DELIVERY_##name,
enum conf_delivery { CONF_DELIVERIES(X) };
#undef X
#define X(name) LOG_TO_##name,
enum conf_log { CONF_LOGS(X) };
#undef X
#define X(name) LAUNCHER_##name,
enum conf_launcher { CONF_LAUNCHERS(X) };
#undef X
#define X(name) OWN_LAUNCHER_##name,
enum conf_own_launcher { CONF_OWN_LAUNCHERS(X) };
#undef X
#define X(name) CONF_STORE_##name,
enum conf_store { CONF_STORES(X) };
#undef X

struct conf_env {
    int line;
    char *name, *value;
};

struct conf_secret {
    int line;
    char *name, *file; /* file: absolute, or relative to HOME/keys/<tenant>/ */
};

struct conf_profile {
    int line;
    char *name;
    int64_t wall_s, grace_s, output_bytes;
    struct {
        double cpus;
        int64_t memory_bytes;
    } requests;
    struct {
        int64_t cpu_s, as_bytes, nofile, nproc, fsize_bytes, core_bytes, stack_bytes;
    } rlimits;
    struct {
        int64_t cpu_pct, memory_bytes, pids;
    } cgroup;
    enum conf_isolation isolation;
    enum conf_scratch scratch;
    enum conf_own_launcher launcher;                              /* conf_launcher_of */
    int64_t tmp_bytes, tmp_inodes, scratch_bytes, scratch_inodes; /* -1: no limit */
    struct strs network;                                          /* platform | none | host, or host:port */
    struct strs mounts;                                           /* absolute paths, with :rw to be written */
    struct cfg_list env;                                          /* struct conf_env */
    struct conf_slurm {
        char *partition, *account, *qos, *constraint; /* "": Slurm's own default */
        int64_t time_s, cpus, memory_bytes;           /* -1: of the limits above (conf_slurm_time_s and so on) */
        struct {
            int64_t nodes, time_s, memory_bytes, idle_s; /* nodes 0: each run is a job; -1: as conf_pilot has it */
            double cpus;
        } pilot;
    } slurm;
};

/* What Slurm is asked for: beyond what the run itself may use, so that the runner's limits come first. time_s -1: no limit. */
int64_t conf_slurm_time_s(const struct conf_profile *p);
int64_t conf_slurm_cpus(const struct conf_profile *p);
int64_t conf_slurm_memory_bytes(const struct conf_profile *p);

struct conf_capacity {
    double cpus;
    int64_t memory_bytes;
};

/* An allocation that stays, in which one run after another is started. */
struct conf_pilot {
    int64_t nodes;                      /* so many at most; 0: there are none */
    int64_t runs;                       /* at once in each, by the profile's requests */
    int64_t cpus, memory_bytes, time_s; /* of each, as Slurm is asked for them */
    int64_t needs_s;                    /* what must be left of its time for a run to begin */
    struct conf_capacity capacity;      /* of all together */
};
struct conf_pilot conf_pilot(const struct conf_profile *p);

struct conf_limits {                                                              /* -1: no limit */
    struct strs formats;                                                          /* empty: as the level above */
    int64_t max_file_bytes, max_decompressed_bytes, max_expansion, max_inspect_s; /* -1 of the last three: a default */
    int64_t max_files_in_staging, max_files_per_day, max_bytes_per_day, max_rows, max_row_bytes, max_columns, max_rejects;
    double max_reject_pct;
};

const char *conf_isolation_name(enum conf_isolation v);
const char *conf_delivery_name(enum conf_delivery v);

#define CONF_SNIFFED "auto" /* in a conf_csv: left to the sniffer; for numbers that is -1 */

struct conf_csv {
    char *delimiter, *quote, *escape, *encoding, *line_end, *ragged, *damaged;
    int64_t skip_rows, header_rows, footer_rows;
    struct strs null;
};

struct conf_column {
    int line;
    char *name, *type, *regex, *as, *value; /* empty: none */
    bool required, unique;
    double min, max; /* NaN: none */
    struct strs one_of;
    int64_t max_age_days;
};

struct conf_dataset {
    int line;
    char *name, *format, *collection;
    enum on_key_conflict on_key_conflict;
    enum conf_inspect inspect;
    struct conf_csv csv;
    struct cfg_list columns; /* struct conf_column */
    struct strs key;
    struct {
        struct strs key; /* empty: the collection is not sharded by us */
        char *hashed;    /* one of them; empty: none */
    } shard;
    struct conf_limits limits; /* as written; conf_effective_limits combines them with the tenant's */
};

struct conf_batch {
    int line;
    char *app, *exec, *image; /* image: home_image; empty: the host's root */
    struct strs args, datasets;
    char *pattern, *profile, *checker;
    enum run_output output;
    char *trigger, *timezone; /* trigger: CONF_ARRIVAL, CONF_MANUAL, or CONF_CRON and a schedule of lib/conf/cron.h */
    int64_t priority;
    struct {
        int64_t max_files, max_wait_ms;
    } group;
    struct cfg_list env;     /* struct conf_env */
    struct cfg_list secrets; /* struct conf_secret */
    struct {
        int64_t attempts, backoff_ms, max_backoff_ms, give_up_s;
    } retry;
};

struct conf_stream {
    int line;
    char *name;
    enum conf_on_breach on_breach;
    int64_t max_message_bytes, max_messages_per_s, max_bytes_per_s, max_messages_per_request, max_stored_bytes;
    int64_t retention_s, dead_retention_s, dedup_window_s, lease_ms, max_deliveries, breaches, breach_window_s, burst_ms;
    int64_t max_rows_per_s, replicas, partitions; /* replicas: of a topic */
    double max_reject_pct;
    enum conf_store store;
    bool shared; /* with other homes */
};

struct conf_stream_app {
    int line;
    char *app, *stream, *exec, *image; /* stream empty: its messages come from elsewhere; exec empty: the platform starts none */
    struct strs args;
    char *profile, *dataset, *checker; /* checker empty: none */
    enum run_output output;
    enum conf_delivery delivery;
    int64_t checker_s;
    struct cfg_list env;     /* struct conf_env */
    struct cfg_list secrets; /* struct conf_secret */
    int64_t min_instances, max_instances, drain_s;
    bool on_demand;
    struct {
        double utilisation, min_processing_rate;
        int64_t drain_target_s, window_s, max_average_ingestion_ms;
    } scale;
};

struct conf_alert {
    int line;
    char *name, *when, *command; /* when: lib/conf/expr.h */
    char *webhook, *group;       /* webhook "": none; group "": the alert's name */
    char *runbook_url;           /* "": none; conf_runbook_url */
    int64_t for_s;
};

/* The platform's own alert, which is there unless one of that name is configured; it has an entry in docs/runbook.md. */
#define CONF_ALERT_SILENCE      "silence"
#define CONF_ALERT_SILENCE_WHEN "silent > 0"

/* Who is told of alerts over HTTP (programs/webhook/). */
struct conf_webhook {
    int line;
    char *name, *url, *secret_file, *ca_file;     /* files: absolute; secret_file "": unsigned; ca_file "": this host's */
    int64_t group_s, alive_s, timeout_s, retry_s; /* alive_s 0: no dead man's switch */
};

struct conf_tenant {
    char *id, *file; /* file: the path it was read from, for messages */
    bool broken;     /* while reading: the tenant's file has errors and cannot be used */
    char *display_name, *mongo_url, *database;
    int64_t weight, concurrency, max_database_bytes, max_image_bytes, max_image_files;
    int64_t max_streams; /* -1: no limit */
    int64_t max_app_bytes, max_app_files, max_app_versions, max_app_build_s;
    struct strs allow;        /* what the tenant may change itself: CONF_ALLOW_… */
    struct strs own_profiles; /* for its own apps */
    int64_t max_own_instances;
    char *own_error; /* not configured: why what it configures itself is left out (own.h); NULL: it is not */
    struct conf_limits limits;
    struct {
        int64_t files_days, documents_days, logs_days;
        enum conf_on_success on_success;
        enum conf_on_failure on_failure;
    } retention;
    struct cfg_list datasets;    /* struct conf_dataset */
    struct cfg_list batch;       /* struct conf_batch */
    struct cfg_list streams;     /* struct conf_stream */
    struct cfg_list stream_apps; /* struct conf_stream_app */
    struct strs curve_keys;      /* public keys (Z85) of the tenant's publishers and consumers on tcp */
};

struct conf {
    /* While it is read: */
    struct buf *all;                   /* where errors go */
    const char *own_tenant, *own_file; /* conf_load_with's */
    const char *dir;                   /* conf_load_dir's */
    struct {
        char *mongo_url;
        struct strs valid_formats;
        struct conf_capacity capacity;
        int64_t stream_pct;
        int64_t uid_base; /* after conf_load: the one that the home has (lib/host/uid_block.h) */
        int64_t n_uids;   /* not configured: how many ids from uid_base on are for inspectors and tenants */
        int64_t writer_wait_s, rescan_ms, inspector_memory_bytes, min_free_bytes, min_free_inodes;
        bool allow_missing_limits, allow_shared_credentials;
        char *listen; /* empty: no tcp */
        struct {
            int64_t broker, monitor, gateway;
        } ports; /* 0: the home picks one and keeps it */
        struct conf_http {
            char *listen; /* an address; "": there is no gateway */
            bool tls;
            char *certificate, *key; /* paths; "": a certificate that the home makes itself */
            int64_t connections, connections_per_address, idle_s, min_bytes_per_s;
            int64_t event_streams;                                      /* in all */
            int64_t requests_per_s, uploads, event_streams_per_account; /* of an account; negative: no limit */
            struct strs fronts;                                         /* addresses whose X-Forwarded-For is believed */
        } http;
        struct {
            char *textfile; /* "": none is written */
            int64_t interval_s;
        } metrics;
        enum conf_launcher launcher; /* of runs and instances */
        struct {
            struct conf_capacity capacity; /* of the cluster; -1: as conf_slurm_capacity has it */
            char *listen;                  /* where nodes find this machine; "": nowhere */
            int64_t port;                  /* 0: any */
            struct conf_shards {
                int64_t count, each; /* count 0: there are none */
                char *feature;       /* what a shard's name begins with */
            } shards;
        } slurm;
        enum conf_log log;
        char *log_socket; /* "": that of this host's log */
        struct conf_kafka {
            char *brokers, *prefix, *properties_file; /* brokers "": there is none; properties_file "": none */
            char *prefix_before;                      /* that may be given up; "": none */
            char *member;                             /* "": no stream is shared */
            int64_t session_s;
        } kafka;
        struct cfg_list alerts;   /* struct conf_alert */
        struct cfg_list webhooks; /* struct conf_webhook */
        struct {
            char *url, *ca_file, *headers_file; /* url "": nothing is exported; the others "": none */
            bool traces, metrics, logs, gzip;
            int64_t interval_s; /* of metrics */
        } otlp;
    } platform;
    struct cfg_list profiles; /* struct conf_profile */
    struct conf_tenant *tenants;
    size_t n_tenants;
};

#define BUILTIN_LOAD        "builtin:load"
#define BUILTIN_PIPE        "builtin:pipe" /* `exec` of stream apps: simbdp-pipe with the app's args */
#define CONF_NET_PLATFORM   "platform"
#define CONF_NET_NONE       "none"
#define CONF_NET_HOST       "host"
#define CONF_WRITABLE       ":rw" /* stands behind a path of `mounts` */
#define CONF_ALLOW_APPS     "apps"
#define CONF_ALLOW_DATASETS "datasets"
#define CONF_ALLOW_STREAMS  "streams"
#define CONF_ARRIVAL        "arrival"
#define CONF_MANUAL         "manual"
#define CONF_CRON           "cron:"

/* Reads and checks everything below HOME/conf; all or nothing. As root, a home that has no uids yet gets them here
 * (uid_block_of_home). conf_free accepts NULL. */
int conf_load(const char *home, struct conf **ret, struct err *e);
/* The same, but all errors are put into `all`, a line each, and ERR_CONFIG says CFG_TOLD. all NULL: as conf_load. */
int conf_load_all(const char *home, struct buf *all, struct conf **ret, struct err *e);
/* The same, with another file as what the tenant configures itself (own.h); absolute. */
int conf_load_with(const char *home, const char *tenant, const char *own_file, struct conf **ret, struct err *e);
/* As conf_load_all, but of another directory (absolute) than HOME/conf: mysimbdp.conf, profiles.conf and tenants/ there. What
 * tenants configure themselves is the home's. */
int conf_load_dir(const char *home, const char *dir, struct buf *all, struct conf **ret, struct err *e);
void conf_free(struct conf *c);

/* [a-z][a-z0-9_-]{0,31} */
bool conf_valid_id(const char *id);

const struct conf_tenant *conf_tenant(const struct conf *c, const char *id);
/* Where it says what to do about an alert of that name: as configured, else the entry of the platform's own. NULL: nowhere. */
const char *conf_runbook_url(const struct conf *c, const char *alert);
const struct conf_profile *conf_profile(const struct conf *c, const char *name);
const struct conf_dataset *conf_dataset(const struct conf_tenant *t, const char *name);
const struct conf_batch *conf_app(const struct conf_tenant *t, const char *app);
/* A batch app of which nothing is written: what holds for a run whose app is not configured any more. Static; the first call is
 * on the main thread. */
const struct conf_batch *conf_batch_defaults(void);
/* The same of a stream. */
const struct conf_stream *conf_stream_defaults(void);
const struct conf_stream *conf_stream(const struct conf_tenant *t, const char *name);
const struct conf_stream_app *conf_stream_app(const struct conf_tenant *t, const char *app);
enum { CONF_MAX_KAFKA_MESSAGE = 8 << 20, CONF_MAX_PARTITIONS = 64, CONF_MAX_SHARED_APPS = 32 };
/* Whether topics of that stream's names can be told apart and so on is checked with the rest. What a properties_file holds, as
 * lines NAME=VALUE: those that may be set. ERR_CONFIG: which may not. */
int conf_kafka_settings(const char *path, const char *text, struct buf *out, struct err *e);
/* The app for a file: the named one (NULL: any) whose datasets and pattern match the file. NULL: there is none. */
const struct conf_batch *conf_route(const struct conf_tenant *t, const char *app, const char *dataset, const char *file);

/* Where runs of the profile are started: its own launcher, or else the platform's. */
enum conf_launcher conf_launcher_of(const struct conf *c, const struct conf_profile *p);
/* Which `each` of `count` shards are a tenant's, from 0 on, in order; each <= count. */
void conf_shards_of(int64_t count, int64_t each, const char *tenant, int64_t *ret);
/* What sbatch is given as --constraint for a tenant's job where there are shards; NULL: there are none. Caller frees. */
char *conf_shards_constraint(const struct conf *c, const struct conf_profile *p, const char *tenant);
/* Whether that is so for any profile. */
bool conf_has_launcher(const struct conf *c, enum conf_launcher l);
/* Where broker and monitor listen on tcp: platform.listen, else platform.slurm.listen; "": nowhere. */
const char *conf_listen(const struct conf *c);
/* The address at which nodes of the cluster reach them, without brackets; "": none that is known. Caller frees. */
char *conf_listen_for_nodes(const struct conf *c);
/* Whether any tenant has a stream app whose instances the platform starts there. */
bool conf_has_instances_on(const struct conf *c, enum conf_launcher l);
/* Without what pilots may have: what of the cluster is this home's, as configured or, where all runs are jobs, by
 * platform.capacity; a number that is nowhere is this host's. */
struct conf_capacity conf_slurm_capacity(const struct conf *c);

/* Whether `allow` of the tenant has that word. */
bool conf_allows(const struct conf_tenant *t, const char *what);
/* Whether `network` has that word. */
bool conf_network_has(const struct conf_profile *p, const char *word);
/* Whether runs may write below that entry of `mounts`. */
bool conf_mount_is_writable(const char *mount);

/* The tighter of tenant's and dataset's limit on a single file, key by key. `formats` is not combined. */
struct conf_limits conf_effective_limits(const struct conf_tenant *t, const struct conf_dataset *d);
/* What the reader has to know of the dataset's files, as lib/read/spec.h has it. keys: also the collection's key and unique
 * columns, where the files' own columns are stored. now_ms 0: none. */
void conf_spec_json(const struct conf_dataset *d, bool keys, int64_t max_row_bytes, int64_t now_ms, struct buf *out);
/* The same with all that there is to check. */
void conf_whole_spec_json(const struct conf_dataset *d, struct buf *out);

/* The same for the output of an app of the dataset: the columns are the app's; only the key and unique columns are the dataset's
 * (as fields). */
void conf_output_spec_json(const struct conf_dataset *d, int64_t max_row_bytes, struct buf *out);

/* Why a file of this format is refused: "format", "formats" or "valid_formats"; NULL when it is accepted. */
const char *conf_format_refusal(const struct conf *c, const struct conf_tenant *t, const struct conf_dataset *d,
                                const char *format);

/* All tables as text. */
void conf_help(struct buf *out);

#endif
