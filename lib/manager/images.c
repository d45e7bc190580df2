#include "images.h"
#include "image_order.h"
#include "plan.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

enum { MAX_ANSWER_BYTES = 65536, MAX_TRIES = 3, MIN_PLACES = 2 };

/* What `image` of a tenant names. */
struct entry {
    struct images *images;
    char *tenant, *image;
    enum { UNKNOWN, QUEUED, ASKED, READY, FAILED } state;
    uint64_t number;   /* in the queue */
    struct turn *turn; /* its tenant's */
    int64_t identity;  /* of what lay at the path when this was answered */
    int tries;         /* that ended without an answer */
    char *root, *digest, *why;
    int fd; /* of who is asked, -1: nobody */
    struct job *job;
    struct event *ev;
    struct buf answer;
};

struct images {
    struct event_base *base;
    const struct home *home;
    const struct isolation_host *isolation;
    struct spawner *spawner;
    struct job *sweeping;
    void (*changed)(void *arg);
    void *arg;
    struct map entries; /* "tenant/image" */
    struct map turns;   /* by tenant */
    uint64_t last_number;
    int n_places, n_going;
    struct event *turn_ev; /* a tenant that has to wait may go on */
};

static void on_turn(evutil_socket_t fd, short what, void *arg);

struct images *images_new(struct event_base *base, const struct home *home, const struct isolation_host *isolation,
                          struct spawner *spawner, void (*changed)(void *arg), void *arg)
{
    struct images *x = xcalloc(1, sizeof *x);
    *x = (struct images){.base = base, .home = home, .isolation = isolation, .spawner = spawner, .changed = changed, .arg = arg};
    x->n_places = get_nprocs() > MIN_PLACES ? get_nprocs() : MIN_PLACES;
    x->turn_ev = event_new(base, -1, 0, on_turn, x);
    return x;
}

static void hang_up(struct entry *n)
{
    if (n->fd >= 0) {
        turn_end(n->turn, clk_now_ms());
        n->images->n_going--;
    }
    if (n->ev)
        event_free(n->ev);
    if (n->fd >= 0)
        close(fd_take(&n->fd));
    n->ev = NULL;
    buf_fini(&n->answer);
    n->answer = (struct buf){0};
}

void images_free(struct images *x)
{
    size_t i = 0;
    if (!x)
        return;
    for (struct entry *n; (n = map_next(&x->entries, &i));) {
        hang_up(n);
        job_free(n->job);
        char *texts[] = {n->tenant, n->image, n->root, n->digest, n->why};
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            free(texts[k]);
        free(n);
    }
    map_fini(&x->entries);
    i = 0;
    for (struct turn *t; (t = map_next(&x->turns, &i));)
        free(t);
    map_fini(&x->turns);
    event_free(x->turn_ev);
    job_free(x->sweeping);
    free(x);
}

/* Of a layout: its index, and the directory of the blobs, where one that was missing may appear. */
static int64_t look_at(const char *path, bool *ret_layout)
{
    struct stat st, blobs;
    AUTO_FD int fd = beneath_root(path, O_PATH | O_DIRECTORY);
    *ret_layout = false;
    if (fd < 0 || fstat(fd, &st) < 0)
        return 0;
    if (fstatat(fd, "oci-layout", &blobs, AT_SYMLINK_NOFOLLOW) < 0)
        return plan_identity(&st);
    *ret_layout = true;
    AUTO_FD int in = beneath_open(fd, "blobs/sha256", O_PATH | O_DIRECTORY, 0);
    int64_t identity = in >= 0 && fstat(in, &blobs) == 0 ? plan_identity(&blobs) << 1 : 0;
    return fstatat(fd, "index.json", &st, AT_SYMLINK_NOFOLLOW) == 0 ? identity ^ plan_identity(&st) : identity ^ 1;
}

int64_t images_identity(const struct home *h, const char *tenant, const char *image)
{
    const char *tag;
    bool layout;
    AUTO_FREE char *path = home_image(h, tenant, image, &tag);
    return look_at(path, &layout);
}

static void set_failed(struct entry *n, const char *why)
{
    n->state = FAILED;
    xstr_set(&n->why, why);
}

/* ---- asking ---- */

static void take_answer(struct entry *n)
{
    AUTO_BSON bson_t *doc = n->answer.n ? json_parse(n->answer.p, n->answer.n, NULL) : NULL;
    const char *root = doc ? json_get_str(doc, "root", NULL) : NULL, *why = doc ? json_get_str(doc, "why", NULL) : NULL;
    if (root) {
        n->state = READY;
        xstr_set(&n->root, root);
        xstr_set(&n->digest, json_get_str(doc, "digest", ""));
    } else if (!why && ++n->tries < MAX_TRIES) {
        n->state = UNKNOWN;
    } else {
        AUTO_FREE char *text = xasprintf("image %s: %s", n->image, why ? why : "simbdp-image ended without an answer");
        set_failed(n, text);
    }
}

static void go_on(struct images *x);

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct entry *n = arg;
    struct images *x = n->images;
    (void)what;
    buf_reserve(&n->answer, MAX_ANSWER_BYTES);
    ssize_t r = read(fd, n->answer.p + n->answer.n, MAX_ANSWER_BYTES - n->answer.n);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (r > 0) {
        n->answer.n += (size_t)r;
        return;
    }
    take_answer(n);
    hang_up(n);
    go_on(x);
    x->changed(x->arg);
}

static void on_end(void *arg, int status)
{
    struct entry *n = arg;
    (void)status; /* its answer is in the pipe */
    n->job = NULL;
}

static void ask(struct entry *n)
{
    struct images *x = n->images;
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        set_failed(n, "it cannot be asked for: no descriptors are left");
        return;
    }
    job_free(n->job); /* which has answered */
    n->job = job_start(x->spawner, WARDEN_IMAGE, n->tenant, n->image, pair[1], on_end, n);
    close(pair[1]);
    if (!n->job) {
        close(pair[0]);
        set_failed(n, "simbdp-image cannot be started");
        return;
    }
    n->state = ASKED;
    turn_begin(n->turn, clk_now_ms());
    x->n_going++;
    n->fd = pair[0];
    fd_set_nonblock(n->fd);
    n->ev = event_new(x->base, n->fd, EV_READ | EV_PERSIST, on_answer, n);
    event_add(n->ev, NULL);
}

/* Who is next; *ret_wait_ms: how long until another look is worth it (-1: not before something ends). */
static struct entry *next_of(struct images *x, int64_t now_ms, int64_t *ret_wait_ms)
{
    struct entry *best = NULL;
    size_t i = 0;
    *ret_wait_ms = -1;
    for (struct entry *n; (n = map_next(&x->entries, &i));) {
        int64_t wait_ms = n->state == QUEUED ? turn_wait_ms(n->turn, x->n_places, x->n_going, now_ms) : -1;
        if (wait_ms > 0 && (*ret_wait_ms < 0 || wait_ms < *ret_wait_ms))
            *ret_wait_ms = wait_ms;
        if (wait_ms == 0 && (!best || turn_before(n->turn, best->turn, now_ms) ||
                             (n->number < best->number && !turn_before(best->turn, n->turn, now_ms))))
            best = n;
    }
    return best;
}

static void go_on(struct images *x)
{
    int64_t now_ms = clk_now_ms(), wait_ms;
    for (struct entry *n; (n = next_of(x, now_ms, &wait_ms));)
        ask(n);
    event_del(x->turn_ev);
    if (wait_ms > 0)
        timer_set(x->turn_ev, wait_ms);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    go_on(arg);
}

static void queue(struct entry *n)
{
    if (n->state != QUEUED)
        n->number = ++n->images->last_number;
    n->state = QUEUED;
    go_on(n->images);
}

/* What changed at the path makes all that was known of it void. */
static void find_out(struct entry *n, const char *path, int64_t identity, bool layout)
{
    if (n->identity != identity)
        n->tries = 0;
    n->identity = identity;
    if (!n->images->isolation->full) {
        AUTO_FREE char *why =
            xasprintf("image %s: this host gives runs no view of their own: %s", n->image, n->images->isolation->why);
        set_failed(n, why);
    } else if (!identity) {
        AUTO_FREE char *why = xasprintf("image %s: there is no directory %s (no part of which may be a link)", n->image, path);
        set_failed(n, why);
    } else if (layout) {
        queue(n);
    } else {
        AUTO_FREE char *digest = xasprintf("directory %llx", (long long)identity);
        n->state = READY;
        xstr_set(&n->root, path);
        xstr_set(&n->digest, digest);
    }
}

static struct turn *turn_of(struct images *x, const char *tenant)
{
    struct turn *t = map_get(&x->turns, tenant);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        map_put(&x->turns, tenant, t);
    }
    return t;
}

enum image_state images_look(struct images *x, const char *tenant, const char *image, struct image *ret)
{
    const char *tag;
    bool layout;
    AUTO_FREE char *key = xasprintf("%s/%s", tenant, image), *path = home_image(x->home, tenant, image, &tag);
    int64_t identity = look_at(path, &layout);
    struct entry *n = map_get(&x->entries, key);
    if (!n) {
        n = xcalloc(1, sizeof *n);
        *n = (struct entry){.images = x, .tenant = xstrdup(tenant), .image = xstrdup(image), .fd = -1};
        n->turn = turn_of(x, tenant);
        map_put(&x->entries, key, n);
    }
    if (n->state == READY && !fd_exists(AT_FDCWD, n->root)) /* no app named it for a while, and it was removed */
        n->state = UNKNOWN;
    if (n->state != ASKED && (n->state == UNKNOWN || n->identity != identity))
        find_out(n, path, identity, layout);
    bool ready = n->state == READY, failed = n->state == FAILED;
    *ret = (struct image){ready ? n->root : NULL, ready ? n->digest : NULL, failed ? n->why : NULL, n->identity};
    return ready ? IMAGE_READY : failed ? IMAGE_FAILED : IMAGE_WAITS;
}

void images_retry(struct images *x, const char *tenant)
{
    size_t i = 0;
    for (struct entry *n; (n = map_next(&x->entries, &i));)
        if (n->state == FAILED && (!tenant || !strcmp(tenant, n->tenant)))
            n->state = UNKNOWN, n->tries = 0;
}

static void on_swept(void *arg, int status)
{
    struct images *x = arg;
    (void)status;
    x->sweeping = NULL;
}

void images_sweep(struct images *x)
{
    if (!x->sweeping && fd_exists(x->home->dirfd, "state/images"))
        x->sweeping = job_start(x->spawner, WARDEN_SWEEP, NULL, NULL, STDERR_FILENO, on_swept, x);
}
