#include "front.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cells/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define SEEN "map.seen"

void view_let_go(struct view *v)
{
    if (!v || atomic_fetch_sub(&v->users, 1) != 1)
        return;
    cells_map_free(v->map);
    if (v->certificate)
        gnutls_certificate_free_credentials(v->certificate);
    free(v);
}

struct view *front_view(struct front *f)
{
    pthread_mutex_lock(&f->lock);
    struct view *v = f->view;
    atomic_fetch_add(&v->users, 1);
    pthread_mutex_unlock(&f->lock);
    return v;
}

static int load_certificate(const struct front *f, struct view *v, struct err *e)
{
    if (!f->s.certificate)
        return 0;
    gnutls_certificate_allocate_credentials(&v->certificate);
    int r = gnutls_certificate_set_x509_key_file(v->certificate, f->s.certificate, f->s.certificate_key, GNUTLS_X509_FMT_PEM);
    return r < 0 ? err_set(e, ERR_CONFIG, "%s and %s are no certificate and its key: %s", f->s.certificate, f->s.certificate_key,
                           gnutls_strerror(r))
                 : 0;
}

int front_load(struct front *f, struct err *e)
{
    struct view *v = xcalloc(1, sizeof *v);
    struct stat st = {0};
    atomic_init(&v->users, 1);
    stat(f->s.map, &st); /* before it is read: one that comes meanwhile is looked at the next time */
    int r = cells_map_read(AT_FDCWD, f->s.map, f->key, &v->map, e);
    if (r == 0)
        r = cells_map_check_time(v->map, clk_wall_ms(), e);
    if (r == 0)
        r = cells_seen(f->state_fd, SEEN, v->map, e);
    if (r == 0)
        r = load_certificate(f, v, e);
    f->map_mtime = st.st_mtim;
    f->map_ino = st.st_ino;
    f->map_size = st.st_size;
    if (r < 0) {
        view_let_go(v);
        return r;
    }
    log_info("map", NULL, NULL, "serial %" PRIu64 ": %zu tenants in %zu cells", cells_map_serial(v->map),
             cells_map_n_tenants(v->map), cells_map_n_cells(v->map));
    pthread_mutex_lock(&f->lock);
    struct view *old = f->view;
    f->view = v;
    pthread_mutex_unlock(&f->lock);
    view_let_go(old);
    *f->said = 0;
    return 0;
}

void front_look(struct front *f)
{
    struct stat st;
    struct err e = {0};
    if (stat(f->s.map, &st) == 0 && st.st_ino == f->map_ino && st.st_size == f->map_size &&
        !memcmp(&st.st_mtim, &f->map_mtime, sizeof st.st_mtim))
        return;
    if (front_load(f, &e) < 0 && strcmp(e.msg, f->said) != 0) {
        memcpy(f->said, e.msg, sizeof f->said);
        log_error("map", NULL, NULL, "%s; what there was before goes on", e.msg);
    }
}
