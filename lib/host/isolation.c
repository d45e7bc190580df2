#include "isolation.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "userns.h"

#include <stdio.h>
#include <unistd.h>

void isolation_probe(struct isolation_host *ret, const struct home *h)
{
    AUTO_FREE char *program = home_program(h, "simbdp-run");
    char *argv[] = {program, "--probe", NULL};
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    *ret = (struct isolation_host){0};
    int r = spawn_output(argv, environ, &out, 65536, NULL, &e);
    AUTO_BSON bson_t *doc = r < 0 ? NULL : json_parse(out.p, out.n, &e);
    if (!doc) {
        snprintf(ret->why, sizeof ret->why, "%s", e.msg);
        return;
    }
    ret->full = json_get_bool(doc, "full", false);
    ret->landlock = (int)json_get_i64(doc, "landlock", 0);
    ret->user_namespace = json_get_bool(doc, "user_namespace", false);
    struct userns_host host = {0};
    if (geteuid() != 0)
        userns_look(&host);
    snprintf(ret->why, sizeof ret->why, *host.why ? "%s, and %s" : "%s", json_get_str(doc, "why", ""), host.why);
}
