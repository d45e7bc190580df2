/* The images of apps, as their manager sees them: whether what `image` names is there for runs. A layout is unpacked by
 * simbdp-image, which is asked when an image is looked for the first time and whenever the layout has changed; meanwhile nothing
 * here waits. A directory that is no layout is taken as it is. */
#ifndef SIMBDP_MANAGER_IMAGES_H
#define SIMBDP_MANAGER_IMAGES_H

#include "spawner.h"

#include "host/home.h"
#include "host/isolation.h"

#include <event2/event.h>
#include <stdint.h>

struct images;

enum image_state { IMAGE_WAITS, IMAGE_READY, IMAGE_FAILED };

/* Texts are the images', until the next call. */
struct image {
    const char *root;   /* the directory; NULL: not ready */
    const char *digest; /* says what is in it; a directory's changes when that itself is another. NULL: not ready */
    const char *why;    /* NULL: not failed */
    int64_t identity;   /* changes when what is at the path does */
};

/* changed: one that waited does not any more. Borrows home, isolation and spawner. */
struct images *images_new(struct event_base *base, const struct home *home, const struct isolation_host *isolation,
                          struct spawner *spawner, void (*changed)(void *arg), void *arg);
void images_free(struct images *x); /* NULL is fine; what is being unpacked is given up */

/* A few system calls. A failure stays one until the identity changes, or images_retry. */
enum image_state images_look(struct images *x, const char *tenant, const char *image, struct image *ret);
void images_retry(struct images *x, const char *tenant); /* NULL: of all */

/* 0: there is nothing. */
int64_t images_identity(const struct home *h, const char *tenant, const char *image);

/* Has removed what no app of the configuration names and no run has. Starts a program and does not wait for it. */
void images_sweep(struct images *x);

#endif
