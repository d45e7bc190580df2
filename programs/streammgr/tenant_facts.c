#include "tenant_facts.h"
#include "streammgr.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/privs.h"
#include "db/tenants.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_BYTES = 16 << 20 };

static void clear(struct streammgr *m)
{
    size_t i = 0;
    for (struct tenant_facts *f; (f = map_next(&m->facts, &i));) {
        free(f->tenant);
        free(f->mongo_url);
        free(f->database_why);
        free(f);
    }
    map_fini(&m->facts);
}

static int read_databases(struct streammgr *m, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    int r = fd_read_file(m->home.dirfd, "state/databases.json", &b, MAX_BYTES, e);
    if (r < 0)
        return r;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, e);
    if (!doc || !bson_iter_init(&it, doc))
        return ERR_FORMAT;
    while (bson_iter_next(&it)) {
        struct tenant_facts *f = map_get(&m->facts, bson_iter_key(&it));
        bson_t one;
        if (!f || !json_iter_doc(&it, &one))
            continue;
        xstr_set(&f->mongo_url, json_get_str(&one, "url", NULL));
        xstr_set(&f->database_why, json_get_str(&one, "why", NULL));
        f->database_looking = json_get_bool(&one, "looking", false);
        f->database_up = f->mongo_url && json_get_bool(&one, "up", false);
    }
    return 0;
}

int tenant_facts_read(struct streammgr *m, struct err *e)
{
    struct tenant_state *v;
    size_t n;
    int r = tenant_states(&m->home, &v, &n, e);
    if (r < 0)
        return r;
    clear(m);
    m->version++;
    for (size_t i = 0; i < n; i++) {
        struct tenant_facts *f = xcalloc(1, sizeof *f);
        f->tenant = xstrdup(v[i].id);
        f->uid = privs_is_root() ? v[i].uid : -1;
        f->suspended = v[i].suspended;
        f->removed = v[i].removed;
        f->held = v[i].held;
        f->moved = v[i].moved;
        f->database_looking = true; /* until batchmgr says otherwise */
        map_put(&m->facts, v[i].id, f);
    }
    tenant_states_free(v, n);
    return read_databases(m, e);
}

int tenant_facts_look(struct streammgr *m, struct err *e)
{
    struct stat st;
    if (fstatat(m->home.dirfd, "state/databases.json", &st, 0) < 0)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "state/databases.json");
    /* Two may be written within the clock's grain. */
    if (st.st_ino == m->facts_ino && !memcmp(&st.st_mtim, &m->facts_mtime, sizeof st.st_mtim))
        return 0;
    int r = tenant_facts_read(m, e);
    if (r == 0) { /* what is written from before the read on is read by the next look */
        m->facts_ino = st.st_ino;
        m->facts_mtime = st.st_mtim;
    }
    return r;
}

const struct tenant_facts *tenant_facts_of(const struct streammgr *m, const char *tenant)
{
    return map_get(&m->facts, tenant);
}

void tenant_facts_free(struct streammgr *m)
{
    clear(m);
}
