#include "manifest.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 65536 };

const char *manifest_state_text(enum manifest_state s)
{
#define STATE(name) #name,
    static const char *const names[] = {MANIFEST_STATES(STATE)};
#undef STATE
    return names[s];
}

void manifest_fini(struct manifest *m)
{
    free(m->reason);
    free(m->by);
    *m = (struct manifest){0};
}

int manifest_write(const struct home *h, const char *tenant, const char *app, const struct manifest *m, struct err *e)
{
    AUTO_FREE char *name = xasprintf("%s.json", m->version), *path = app_version_path(tenant, app, name);
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "version", m->version);
    json_str(&b, "sha256", m->sha256);
    json_str(&b, "state", manifest_state_text(m->state));
    json_str(&b, "reason", m->reason);
    json_str(&b, "by", m->by);
    json_i64(&b, "uploaded_bytes", m->uploaded_bytes);
    json_i64(&b, "bytes", m->bytes);
    json_i64(&b, "files", m->files);
    json_i64(&b, "created_ms", m->created_ms);
    json_bool(&b, "python", m->python);
    json_end(&b, '}');
    return fd_write_file(h->dirfd, path, b.p, b.n, 0640, e);
}

static bool state_of(const char *text, enum manifest_state *ret)
{
    for (int i = 0; i < N_MANIFEST_STATES; i++)
        if (!strcmp(text, manifest_state_text((enum manifest_state)i))) {
            *ret = (enum manifest_state)i;
            return true;
        }
    return false;
}

int manifest_read(const struct home *h, const char *tenant, const char *app, const char *version, struct manifest *ret,
                  struct err *e)
{
    AUTO_FREE char *name = xasprintf("%s.json", version), *path = app_version_path(tenant, app, name);
    AUTO_BUF struct buf text = {0};
    *ret = (struct manifest){0};
    if (!app_version_valid(version))
        return err_set(e, -ENOENT, "\"%s\" is no version: it has 16 hex digits", version);
    int r = fd_read_file(h->dirfd, path, &text, MAX_BYTES, e);
    if (r < 0)
        return r;
    AUTO_BSON bson_t *doc = json_parse(text.p ? text.p : "", text.n, NULL);
    const char *sha256 = doc ? json_get_str(doc, "sha256", "") : "";
    if (strlen(sha256) != sizeof ret->sha256 - 1 || strncmp(sha256, version, APP_VERSION_SIZE - 1) ||
        !state_of(json_get_str(doc, "state", ""), &ret->state))
        return err_set(e, ERR_FORMAT, "%s is damaged; upload the version again", path);
    memcpy(ret->version, version, APP_VERSION_SIZE);
    memcpy(ret->sha256, sha256, sizeof ret->sha256);
    ret->reason = xstrdup(json_get_str(doc, "reason", NULL));
    ret->by = xstrdup(json_get_str(doc, "by", ""));
    ret->uploaded_bytes = json_get_i64(doc, "uploaded_bytes", 0);
    ret->bytes = json_get_i64(doc, "bytes", 0);
    ret->files = json_get_i64(doc, "files", 0);
    ret->created_ms = json_get_i64(doc, "created_ms", 0);
    ret->python = json_get_bool(doc, "python", false);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct manifest *x = a, *y = b;
    return x->created_ms != y->created_ms ? (x->created_ms < y->created_ms) - (x->created_ms > y->created_ms)
                                          : strcmp(x->version, y->version);
}

int manifest_list(const struct home *h, const char *tenant, const char *app, struct manifest **ret, size_t *ret_n, struct err *e)
{
    AUTO_FREE char *path = app_version_dir(tenant, app);
    *ret = NULL;
    *ret_n = 0;
    DIR *d = fd_open_dir(h->dirfd, path);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot open %s", path);
    for (struct dirent *ent; *ret_n < MANIFEST_LIST_MAX && (ent = readdir(d));) {
        AUTO_FREE char *version = xstrndup(ent->d_name, APP_VERSION_SIZE - 1);
        struct manifest m;
        if (!app_version_valid(version) || strcmp(ent->d_name + APP_VERSION_SIZE - 1, ".json") != 0)
            continue;
        if (manifest_read(h, tenant, app, version, &m, NULL) < 0) {
            manifest_fini(&m);
            continue;
        }
        *ret = xgrow(*ret, *ret_n, sizeof **ret);
        (*ret)[(*ret_n)++] = m;
    }
    closedir(d);
    if (*ret_n)
        qsort(*ret, *ret_n, sizeof **ret, newest_first);
    return 0;
}

void manifest_list_free(struct manifest *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        manifest_fini(&v[i]);
    free(v);
}

void manifest_tell(const struct manifest *m, const char *active, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_str(out, "version", m->version);
    json_str(out, "state", manifest_state_text(m->state));
    json_bool(out, "active", !strcmp(m->version, active));
    json_time(out, "created_at", m->created_ms);
    json_str(out, "by", m->by);
    json_i64(out, "uploaded_bytes", m->uploaded_bytes);
    json_i64(out, "bytes", m->bytes);
    json_i64(out, "files", m->files);
    json_bool(out, "python", m->python);
    json_str(out, "sha256", m->sha256);
    json_str(out, "reason", m->reason);
    json_end(out, '}');
}
