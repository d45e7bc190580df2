#include "completion.h"
#include "cli.h"
#include "remote.h"

#include "accounts/accounts.h"
#include "base/fd.h"
#include "base/mem.h"
#include "conf/explain.h"
#include "conf/history.h"
#include "conf/keys.h"
#include "conf/metric.h"
#include "query/ledger_view.h"
#include "query/records.h"
#include "term/table.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_WORD = 4 /* of argv, behind "completion words --" */, MAX_SECONDS = 2, MAX_IDS = 100 };
#define BEFORE_VERB "[--home HOME] [--help]"

/* ---- what the configuration has ---- */

static const char *home_of(const struct complete_place *p)
{
    const char *home = complete_option(p, "--home");
    return home ? home : getenv("MYSIMBDP_HOME");
}

/* The names of conf/<folder>/<name>.conf. */
static void offer_files_of(const struct complete_place *p, const char *folder, const char *behind, struct complete_offer *o)
{
    const char *home = home_of(p);
    AUTO_FREE char *path = xasprintf("%s/conf/%s", home ? home : "", folder);
    DIR *d = home ? opendir(path) : NULL;
    for (struct dirent *ent; d && (ent = readdir(d));) {
        size_t n = strlen(ent->d_name);
        AUTO_FREE char *id = n > 5 && !strcmp(ent->d_name + n - 5, ".conf") ? xstrndup(ent->d_name, n - 5) : NULL;
        AUTO_FREE char *word = id && conf_valid_id(id) ? xasprintf("%s%s", id, behind) : NULL;
        if (word)
            complete_add(o, word, NULL);
    }
    if (d)
        closedir(d);
}

static void offer_tenants(const struct complete_place *p, const char *behind, struct complete_offer *o)
{
    offer_files_of(p, "tenants", behind, o);
}

/* Of configurations that were accepted. */
static void offer_numbers(const struct complete_place *p, struct complete_offer *o)
{
    const char *home = home_of(p);
    AUTO_FD int dirfd = home ? open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    AUTO_FREE int64_t *v = NULL;
    int64_t n = dirfd < 0 ? 0 : history_numbers(dirfd, &v, NULL);
    for (int64_t i = 0; i < n; i++) {
        AUTO_FREE char *word = xasprintf("%lld", (long long)v[i]);
        complete_add(o, word, NULL);
    }
}

enum part { PART_APPS, PART_STREAM_APPS, PART_STREAMS, PART_DATASETS };

static void offer_part(const struct conf_tenant *t, enum part part, const char *before, struct complete_offer *o)
{
    const struct conf_batch *b = t->batch.v;
    const struct conf_stream_app *a = t->stream_apps.v;
    const struct conf_stream *s = t->streams.v;
    const struct conf_dataset *d = t->datasets.v;
    const size_t n[] = {t->batch.n, t->stream_apps.n, t->streams.n, t->datasets.n};
    for (size_t i = 0; i < n[part]; i++) {
        const char *names[] = {part == PART_APPS ? b[i].app : NULL, part == PART_STREAM_APPS ? a[i].app : NULL,
                               part == PART_STREAMS ? s[i].name : NULL, part == PART_DATASETS ? d[i].name : NULL};
        AUTO_FREE char *word = xasprintf("%s%s", before, names[part] ? names[part] : "");
        complete_add(o, word, NULL);
    }
}

/* Of the tenant's file, and of what it configures itself; what cannot be read offers nothing. */
static void offer_of_tenant(const struct complete_place *p, const char *tenant, const enum part *parts, size_t n_parts,
                            const char *before, struct complete_offer *o)
{
    static const char *const folders[] = {"tenants", "own"};
    const char *home = home_of(p);
    if (!home || !conf_valid_id(tenant))
        return;
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++) {
        const struct cfg_key *keys = k ? conf_own_keys : conf_tenant_keys;
        AUTO_FREE char *path = xasprintf("%s/conf/%s/%s.conf", home, folders[k], tenant);
        struct conf_tenant t = {0};
        struct err e;
        if (cfg_load(path, keys, &t, &e) == 0)
            for (size_t i = 0; i < n_parts; i++)
                offer_part(&t, parts[i], before, o);
        cfg_free(keys, &t);
    }
}

/* "acme/", then "acme/load" */
static void offer_paths(const struct complete_place *p, const enum part *parts, size_t n_parts, struct complete_offer *o)
{
    const size_t n = strcspn(p->word, "/");
    AUTO_FREE char *tenant = xstrndup(p->word, n), *before = xasprintf("%s/", tenant);
    if (!p->word[n])
        offer_tenants(p, "/", o);
    else
        offer_of_tenant(p, tenant, parts, n_parts, before, o);
}

/* The tenant that was named already. The caller frees. */
static char *tenant_of(const struct complete_place *p)
{
    const char *named = complete_option(p, "--tenant"), *home = home_of(p);
    if (named)
        return xstrdup(named);
    for (size_t i = 0; home && i < p->n_words; i++) {
        AUTO_FREE char *tenant = xstrndup(p->words[i], strcspn(p->words[i], "/"));
        AUTO_FREE char *path = xasprintf("%s/conf/tenants/%s.conf", home, tenant);
        if (conf_valid_id(tenant) && access(path, F_OK) == 0)
            return xstrdup(tenant);
    }
    return xstrdup("");
}

static void offer_keys(struct complete_offer *o)
{
    AUTO_BUF struct buf lines = {0};
    if (conf_explain(NULL, &lines, NULL) < 0)
        return;
    for (char *save, *line = strtok_r(lines.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
        if (doc)
            complete_add(o, json_get_str(doc, "key", ""), json_get_str(doc, "help", ""));
    }
}

/* ---- what the ledger has ---- */

/* The newest ids that begin like the word, with what they are of. */
static void offer_ids(const struct complete_place *p, bool runs, struct complete_offer *o)
{
    static const char of_files[] = "SELECT file_id, name, tenant||'/'||dataset||' '||state FROM files WHERE file_id>=?1 AND "
                                   "file_id<?1||'~' ORDER BY file_id DESC LIMIT ?2";
    static const char of_runs[] = "SELECT run_id, tenant||'/'||app, state FROM runs WHERE run_id>=?1 AND run_id<?1||'~' UNION ALL "
                                  "SELECT run_id, tenant||'/'||app, state FROM streams.instances WHERE run_id>=?1 AND "
                                  "run_id<?1||'~' ORDER BY 1 DESC LIMIT ?2";
    struct home h;
    struct err e;
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    if (home_open(&h, home_of(p), &e) < 0)
        return;
    if (ledger_view_open(&h, 0, &db, &e) == 0 && sqlite3_prepare_v2(db, runs ? of_runs : of_files, -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, p->word, -1, SQLITE_STATIC);
        sqlite3_bind_int(s, 2, MAX_IDS);
        while (sqlite3_step(s) == SQLITE_ROW) {
            const char *name = (const char *)sqlite3_column_text(s, 1), *more = (const char *)sqlite3_column_text(s, 2);
            AUTO_FREE char *what = xasprintf("%s %s", name ? name : "", more ? more : ""), *line = table_plain(what);
            complete_add(o, (const char *)sqlite3_column_text(s, 0), line);
        }
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    home_close(&h);
}

/* ---- what a place takes ---- */

static void offer_words(const char *const *words, struct complete_offer *o)
{
    for (; *words; words++)
        complete_add(o, *words, NULL);
}

#define ROLE_TEXT(name, text) text,
#define VERB_TEXT(name)       #name,
static const char *const roles[] = {ACCOUNT_ROLES(ROLE_TEXT) NULL}, *const may[] = {ACCOUNT_VERBS(VERB_TEXT) NULL};
static const char *const event_types[] = {"alert", "file", "instance", "run", "scale", "stream", NULL};

static void offer_columns(struct complete_offer *o)
{
    for (int m = 0; m < N_METRICS; m++)
        complete_add(o, metric_name((enum metric)m), metric_help((enum metric)m));
}

static bool is(const struct complete_place *p, const char *kind, const char *option)
{
    return !strcmp(p->kind, kind) && (!p->option || !strcmp(p->option, option));
}

static void offer_of_configuration(const struct complete_place *p, struct complete_offer *o)
{
    static const enum part apps[] = {PART_APPS, PART_STREAM_APPS}, streams[] = {PART_STREAMS}, datasets[] = {PART_DATASETS};
    AUTO_FREE char *tenant = tenant_of(p);
    if (is(p, "TENANT", "--tenant") || is(p, "T", "--tenant"))
        offer_tenants(p, "", o);
    else if (!strcmp(p->kind, "TENANT/APP"))
        offer_paths(p, apps + !strcmp(p->verb, "app"), strcmp(p->verb, "app") ? 2 : 1, o);
    else if (!strcmp(p->kind, "TENANT/STREAM"))
        offer_paths(p, streams, 1, o);
    else if (is(p, "DATASET", "--dataset") || is(p, "D", "--dataset"))
        offer_of_tenant(p, tenant, datasets, 1, "", o);
    else if (is(p, "A", "--app"))
        offer_of_tenant(p, tenant, apps, 2, "", o);
}

static void offer_values(void *arg, const struct complete_place *p, struct complete_offer *o)
{
    static const char *const files[] = {"F", "FIGURES", "FILE", "HOME"};
    const bool describes = !strcmp(p->verb ? p->verb : "", "describe");
    if (!strcmp(p->kind, "FILE_ID") || (describes && !strcmp(p->kind, "FILE")))
        offer_ids(p, false, o);
    else if (!strcmp(p->kind, "RUN_ID") || !strcmp(p->kind, "RUN"))
        offer_ids(p, true, o);
    else if (!strcmp(p->kind, "ROLE"))
        offer_words(roles, o);
    else if (!strcmp(p->kind, "V,V"))
        offer_words(may, o);
    else if (!strncmp(p->kind, "TYPE", 4))
        offer_words(event_types, o);
    else if (!strcmp(p->kind, "COLUMN"))
        offer_columns(o);
    else if (!strcmp(p->kind, "KEY"))
        offer_keys(o);
    else if (!strcmp(p->kind, "NUMBER"))
        offer_numbers(p, o);
    else if (p->option && !strcmp(p->option, "--template"))
        offer_files_of(p, "templates", "", o);
    else if (is(p, "S", "--state"))
        offer_words(strcmp(p->verb, "runs") ? records_files.states : records_runs.states, o);
    else if (p->verb)
        offer_of_configuration(p, o);
    for (size_t i = 0; !describes && i < sizeof files / sizeof *files; i++)
        if (!strcmp(p->kind, files[i]))
            complete_files(o);
}

bool completion_is_asked(int argc, char *const *argv)
{
    return argc > FIRST_WORD && !strcmp(argv[1], "completion") && !strcmp(argv[2], "words") && !strcmp(argv[3], "--");
}

/* As main would be called with what was typed. */
static bool is_for_remote(int argc, char **argv)
{
    AUTO_FREE char **typed = xcalloc((size_t)argc, sizeof *typed);
    int n = 0;
    typed[n++] = argv[0];
    for (int i = FIRST_WORD; i + 1 < argc; i++)
        typed[n++] = argv[i];
    return remote_is_meant(n, typed);
}

/* Where a gateway is asked unless the verb is this machine's alone, verbs of both are to be chosen from. */
static bool may_be_both(int argc, char **argv)
{
    return argc == FIRST_WORD + 1 && argv[FIRST_WORD][0] != '-' && remote_is_preferred();
}

static void offer_own_verbs(const struct complete_verb *verbs, size_t n, const char *word)
{
    struct complete_offer o = {.word = word};
    for (size_t i = 0; i < n; i++)
        if (!remote_is_shared(verbs[i].name))
            complete_add(&o, verbs[i].name, verbs[i].help);
    fputs(o.lines.p ? o.lines.p : "", stdout);
    fflush(stdout);
    buf_fini(&o.lines);
}

int completion_answer(const struct complete_verb *verbs, size_t n_verbs, int argc, char **argv)
{
    struct complete_offer o = {0};
    alarm(MAX_SECONDS); /* the home may be on what does not answer any more */
    AUTO_FD int none = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (none >= 0)
        dup2(none, STDERR_FILENO); /* the prompt is no place for complaints */
    const bool both = may_be_both(argc, argv);
    if (both)
        offer_own_verbs(verbs, n_verbs, argv[FIRST_WORD]);
    if (both || is_for_remote(argc, argv))
        return remote_execute(argv);
    complete_line(verbs, n_verbs, BEFORE_VERB, argv + FIRST_WORD, (size_t)(argc - FIRST_WORD), offer_values, NULL, &o);
    fputs(o.lines.p ? o.lines.p : "", stdout);
    buf_fini(&o.lines);
    return CLI_DONE;
}
