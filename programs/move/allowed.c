#include "move.h"

#include "host/move_record.h"

#include "base/mem.h"

#include <string.h>

static bool is_below(const char *path, const char *dir)
{
    const size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

/* DIR/ID, or what is in it. */
static bool is_of_an_id(const char *path, const char *dir)
{
    char id[ID_SIZE];
    const size_t n = strlen(dir);
    if (strncmp(path, dir, n) != 0 || path[n] != '/' || strlen(path + n + 1) < ID_SIZE - 1)
        return false;
    snprintf(id, sizeof id, "%s", path + n + 1);
    return home_valid_id(id) && (path[n + ID_SIZE] == '/' || !path[n + ID_SIZE]);
}

enum place place_of(const char *tenant, const struct entry *v, const char **ret_name)
{
    static const char *const above[] = {"conf", "conf/tenants", "conf/own", "apps", "keys", "logs",  "logs/tenants",
                                        "done", "quarantine",   "staging",  "work", "runs", "state", MOVES_DIR};
    static const char *const of_tenant[] = {"apps", "keys", "logs/tenants", "done", "quarantine", "staging"};
    AUTO_FREE char *out = xasprintf(MOVES_DIR "/%s.out", tenant), *conf = xasprintf("conf/tenants/%s.conf", tenant),
                   *own = xasprintf("conf/own/%s.conf", tenant);
    for (size_t i = 0; v->type == 'd' && i < sizeof above / sizeof *above; i++)
        if (!strcmp(v->path, above[i]))
            return PLACE_above;
    if (!strcmp(v->path, out))
        return v->type == 'd' ? PLACE_above : PLACE_none;
    if (is_below(v->path, out) && v->type != 'l') {
        *ret_name = v->path + strlen(out) + 1;
        return PLACE_aside;
    }
    if (!strcmp(v->path, conf) && v->type == 'f') {
        *ret_name = "conf";
        return PLACE_aside;
    }
    if (!strcmp(v->path, own) && v->type == 'f')
        return PLACE_home;
    for (size_t i = 0; i < sizeof of_tenant / sizeof *of_tenant; i++) {
        AUTO_FREE char *dir = xasprintf("%s/%s", of_tenant[i], tenant);
        if (is_below(v->path, dir) && (v->path[strlen(dir)] || v->type == 'd'))
            return PLACE_home;
    }
    return is_of_an_id(v->path, "work") || is_of_an_id(v->path, "runs") ? PLACE_home : PLACE_none;
}
