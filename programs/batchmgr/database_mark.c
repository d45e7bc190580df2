#include "database_mark.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH "state/mongo.mark"
enum { LINE_BYTES = ID_SIZE - 1 + 1 + 20 + 1 };

struct mark {
    char id[ID_SIZE];
    long long n;
};

static bool read_mark(int fd, struct mark *ret)
{
    char line[LINE_BYTES + 1] = "";
    return pread(fd, line, LINE_BYTES, 0) == LINE_BYTES && sscanf(line, "%26s %20lld", ret->id, &ret->n) == 2 &&
           home_valid_id(ret->id);
}

static void compare(const struct mark *had, const struct mark *has)
{
    static const char remedy[] =
        "what the ledger calls ingested may be gone: `mysimbdp verify` says which files' rows are, and how "
        "to load them again";
    if (!*has->id)
        log_error("database_emptied", NULL, NULL, "MongoDB lost what it had, or is another one than this home's; %s", remedy);
    else if (strcmp(has->id, had->id) != 0)
        log_error("database_another", NULL, NULL, "MongoDB is another one than this home had; %s", remedy);
    else if (has->n < had->n)
        log_error("database_older", NULL, NULL, "MongoDB is older than what this home had; %s", remedy);
}

static void remember(struct dbmark *m, const struct mark *before, const char *new_id)
{
    char line[LINE_BYTES + 1];
    struct mark had = {"", 0};
    AUTO_FD int fd = openat(m->dirfd, PATH, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_warn("database_mark", NULL, NULL, "cannot open " PATH ": %s", strerror(errno));
        return;
    }
    if (!m->compared && read_mark(fd, &had))
        compare(&had, before);
    m->compared = true;
    snprintf(line, sizeof line, "%s %020lld\n", *before->id ? before->id : new_id, before->n + 1);
    if (pwrite(fd, line, LINE_BYTES, 0) != LINE_BYTES)
        log_warn("database_mark", NULL, NULL, "cannot write " PATH ": %s", strerror(errno));
}

bool dbmark_write(struct dbmark *m, mongoc_client_t *c, const char *database, bson_error_t *be)
{
    struct mark before = {"", 0};
    char id[ID_SIZE];
    bson_iter_t it;
    bson_t reply, old;
    home_new_id(id);
    bson_t *cmd =
        BCON_NEW("findAndModify", BCON_UTF8("health"), "query", "{", "_id", BCON_UTF8("home"), "}", "update", "{", "$inc", "{", "n",
                 BCON_INT64(1), "}", "$setOnInsert", "{", "id", BCON_UTF8(id), "}", "}", "upsert", BCON_BOOL(true));
    bool ok = mongoc_client_write_command_with_opts(c, database, cmd, NULL, &reply, be);
    if (ok && bson_iter_init_find(&it, &reply, "value") && json_iter_doc(&it, &old)) {
        snprintf(before.id, sizeof before.id, "%s", json_get_str(&old, "id", ""));
        before.n = json_get_i64(&old, "n", 0);
    }
    if (ok)
        remember(m, &before, id);
    bson_destroy(&reply);
    bson_destroy(cmd);
    return ok;
}
