/* The front as a whole: its settings, and what it goes by now. */
#ifndef SIMBDP_CELLS_FRONT_H
#define SIMBDP_CELLS_FRONT_H

#include "base/map.h"
#include "cells/map.h"

#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

struct front_settings {
    const char *map, *key, *state, *listen, *certificate, *certificate_key, *domain;
    int64_t connections, connections_per_address, requests_per_cell, idle_s, answer_s;
};

/* A map and a certificate, as somebody goes by them: they stay until the last one has let them go. */
struct view {
    atomic_int users;
    struct cells_map *map;
    gnutls_certificate_credentials_t certificate; /* NULL: no TLS */
};

struct front {
    struct front_settings s;
    unsigned char key[CELLS_PUBLIC_BYTES];
    int state_fd; /* directory */
    pthread_mutex_t lock;
    struct view *view;           /* under the lock, as all below */
    struct map addresses, cells; /* how many connections of an address, requests at a cell's URL, there are */
    pthread_cond_t fewer;
    int64_t n_connections;
    bool stopping;
    /* of the main thread alone */
    struct timespec map_mtime;
    ino_t map_ino;
    off_t map_size;
    char said[1024];                              /* why the map was not taken, so that it is said once */
    gnutls_certificate_credentials_t authorities; /* for cells without a pin */
    gnutls_datum_t tickets;
};

/* views.c */
/* Reads map and certificate; what cannot be taken leaves what there was. ERR_…: as cells_map_read and cells_seen say. */
int front_load(struct front *f, struct err *e);
/* The same, where the map is another file than before; called a few times a second. */
void front_look(struct front *f);
struct view *front_view(struct front *f); /* to be let go */
void view_let_go(struct view *v);

/* counts.c */
/* One more of that name, unless there are `most`. */
bool count_enter(struct front *f, struct map *m, const char *name, int64_t most);
void count_leave(struct front *f, struct map *m, const char *name);

/* serve.c */
/* Listens, and serves each connection by a thread, until SIGTERM. -errno. */
int front_serve(struct front *f, struct err *e);

/* connection.c: all requests of a connection; closes fd. Any number of threads at once. */
void connection_serve(struct front *f, int fd, const char *address);

#endif
