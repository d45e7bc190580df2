#include "database_health.h"
#include "base/clk.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/mem.h"
#include "database_identity.h"
#include "database_mark.h"
#include "database_users.h"
#include "load/mongo_uri.h"

#include <event2/event.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { PING_EVERY_MS = 500, WRITE_EVERY_MS = 5000, WRITE_ASKED_MS = 100, SELECT_MS = 1000, SOCKET_MS = 2000 };

struct health {
    char *url;
    void (*on_change)(void *arg, struct health *h);
    void *arg;
    struct event *ev;
    int fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool quit, up, known;
    char why[256];
    int64_t last_down_ms;
    uint64_t asked, checked;
    struct health_user *users;
    int n_users;
    bool users_pending, users_made, shared_ok;
    bool users_settled; /* it is known whether they can be made */
    bool users_news;    /* the loop has not been told of the outcome yet */
    char *admin, *admin_password;
    bool writes;
    struct dbmark mark;
    struct identities *identities; /* NULL: none are looked at */
    int64_t written_ms;            /* the last write that was taken; of the thread */
};

static mongoc_client_t *connect_to(const char *url)
{
    bson_error_t why;
    mongoc_uri_t *uri = mongo_uri(url, SELECT_MS, SOCKET_MS, &why);
    if (!uri)
        return NULL;
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, SELECT_MS);
    mongoc_client_t *c = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (c)
        mongoc_client_set_error_api(c, MONGOC_ERROR_API_VERSION_2);
    return c;
}

/* As nobody. */
static mongoc_client_t *connect_plain(const char *url)
{
    mongoc_uri_t *uri = mongoc_uri_new(url);
    const mongoc_host_list_t *host = uri ? mongoc_uri_get_hosts(uri) : NULL;
    AUTO_FREE char *plain = host ? xasprintf("mongodb://%s/", host->host_and_port) : NULL;
    mongoc_client_t *c = plain ? connect_to(plain) : NULL;
    if (uri)
        mongoc_uri_destroy(uri);
    return c;
}

static bool ping(mongoc_client_t *c, bson_error_t *be)
{
    bson_t *cmd = BCON_NEW("ping", BCON_INT32(1));
    bool ok = mongoc_client_command_simple(c, "admin", cmd, NULL, NULL, be);
    bson_destroy(cmd);
    return ok;
}

/* A server may answer and refuse every write: its disk is full, its store broke. asked: somebody failed there just now. */
static bool takes_writes(struct health *h, mongoc_client_t *c, bool asked, bson_error_t *be)
{
    int64_t now = clk_now_ms();
    if (h->written_ms && now - h->written_ms < (asked ? WRITE_ASKED_MS : WRITE_EVERY_MS))
        return true;
    bool ok = dbmark_write(&h->mark, c, HEALTH_DATABASE, be);
    h->written_ms = ok ? now : 0;
    if (!ok) {
        char text[sizeof be->message];
        snprintf(text, sizeof text, "it answers, and refuses to write: %s", be->message);
        memcpy(be->message, text, sizeof text);
    }
    return ok;
}

static void make_admin(struct health *h)
{
    mongoc_client_t *c = connect_plain(h->url);
    if (c)
        database_user_make_admin(c, h->admin, h->admin_password);
    if (c)
        mongoc_client_destroy(c);
}

static void free_users(struct health *h)
{
    for (int i = 0; i < h->n_users; i++) {
        free(h->users[i].name);
        free(h->users[i].password);
        free(h->users[i].database);
    }
    free(h->users);
    h->users = NULL;
    h->n_users = 0;
}

/* With the lock held; released while the server is asked. True when the users are as they should be. */
static bool make_users(struct health *h, mongoc_client_t *c)
{
    bson_error_t be = {0};
    bool ok = true;
    struct health_user *users = h->users;
    int n = h->n_users;
    h->users = NULL;
    h->n_users = 0;
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; ok && i < n; i++)
        ok = database_user_make(c, &users[i], &be);
    pthread_mutex_lock(&h->lock);
    if (!h->users) {
        h->users = users;
        h->n_users = n;
        h->users_pending = !ok && !h->shared_ok;
        h->users_made = ok && n > 0;
    }
    h->users_news = true;
    h->users_settled |= ok || h->shared_ok;
    if (!ok && !h->shared_ok)
        snprintf(h->why, sizeof h->why,
                 "its user may not create users (%.120s); give a URL that may, or set "
                 "allow_shared_credentials",
                 be.message);
    return ok || h->shared_ok;
}

static void report(struct health *h, uint64_t asked, bool up, bool identities_changed, const char *why)
{
    bool changed = !h->known || up != h->up;
    if (changed && !up && !h->known)
        log_info("database_wait", NULL, NULL, "MongoDB does not answer yet: %s", why);
    else if (changed && !up)
        log_warn("database_down", NULL, NULL, "MongoDB does not serve us: %s; dispatch pauses", why);
    else if (changed)
        log_info("database_up", NULL, NULL, "MongoDB answers");
    h->up = up;
    h->known = true;
    if (!up) {
        h->last_down_ms = clk_now_ms();
        if (why != h->why)
            snprintf(h->why, sizeof h->why, "%s", why);
    }
    bool answered = h->checked != asked;
    h->checked = asked;
    uint64_t one = 1;
    if ((changed || answered || identities_changed || h->users_news) && write(h->fd, &one, sizeof one) < 0) {
    }
    h->users_news = false;
}

static void *work(void *arg)
{
    struct health *h = arg;
    mongoc_client_t *c = NULL;
    pthread_mutex_lock(&h->lock);
    while (!h->quit) {
        uint64_t asked = h->asked;
        bson_error_t be = {0};
        bool admin = h->admin != NULL, writes = h->writes, somebody = asked != h->checked;
        struct identities *identities = h->identities;
        pthread_mutex_unlock(&h->lock);
        if (!c)
            c = connect_to(h->url);
        bool up = c && ping(c, &be) && (!writes || takes_writes(h, c, somebody, &be));
        if (!up && admin)
            make_admin(h);
        bool changed = up && identities && identities_look(identities, h->url, c, connect_to);
        if (!up && identities)
            identities_down(identities, h->url);
        if (!up && c) { /* a client that failed waits five seconds before it tries again; a new one does not */
            mongoc_client_destroy(c);
            c = NULL;
        }
        pthread_mutex_lock(&h->lock);
        bool ready = up && (!h->users_pending || make_users(h, c));
        report(h, asked, ready, changed, up ? h->why : be.message);
        if (h->quit || h->asked != asked)
            continue;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += PING_EVERY_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&h->wake, &h->lock, &until);
    }
    pthread_mutex_unlock(&h->lock);
    if (c)
        mongoc_client_destroy(c);
    return NULL;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct health *h = arg;
    uint64_t n;
    (void)what;
    if (read(fd, &n, sizeof n) > 0)
        h->on_change(h->arg, h);
}

struct health *health_new(struct event_base *base, const char *url, void (*on_change)(void *arg, struct health *h), void *arg)
{
    struct health *h = xcalloc(1, sizeof *h);
    *h = (struct health){.url = xstrdup(url), .on_change = on_change, .arg = arg, .last_down_ms = -1, .why = "not asked yet"};
    h->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->ev = event_new(base, h->fd, EV_READ | EV_PERSIST, on_event, h);
    event_add(h->ev, NULL);
    pthread_mutex_init(&h->lock, NULL);
    cond_init_monotonic(&h->wake);
    pthread_create(&h->thread, NULL, work, h);
    return h;
}

void health_free(struct health *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->quit = true;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    event_free(h->ev);
    close(h->fd);
    free_users(h);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h->url);
    free(h->admin);
    free(h->admin_password);
    free(h);
}

const char *health_url(const struct health *h)
{
    return h->url;
}

bool health_is_up(struct health *h, char *ret_why, int why_size)
{
    pthread_mutex_lock(&h->lock);
    bool early = h->up && h->users_pending && !h->users_settled, up = h->up && !early;
    if (ret_why)
        snprintf(ret_why, (size_t)why_size, "%s", up ? "" : early ? "the tenants' users are being made" : h->why);
    pthread_mutex_unlock(&h->lock);
    return up;
}

int64_t health_last_down_ms(struct health *h)
{
    pthread_mutex_lock(&h->lock);
    int64_t at = h->last_down_ms;
    pthread_mutex_unlock(&h->lock);
    return at;
}

bool health_is_known(struct health *h)
{
    pthread_mutex_lock(&h->lock);
    bool known = h->known;
    pthread_mutex_unlock(&h->lock);
    return known;
}

uint64_t health_check(struct health *h)
{
    pthread_mutex_lock(&h->lock);
    uint64_t n = ++h->asked;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
    return n;
}

uint64_t health_checked(struct health *h)
{
    pthread_mutex_lock(&h->lock);
    uint64_t n = h->checked;
    pthread_mutex_unlock(&h->lock);
    return n;
}

void health_set_users(struct health *h, struct health_user *users, int n, bool shared_ok)
{
    pthread_mutex_lock(&h->lock);
    free_users(h);
    h->users = users;
    h->n_users = n;
    h->shared_ok = shared_ok;
    h->users_pending = n > 0;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
}

void health_probe_writes(struct health *h, int dirfd)
{
    pthread_mutex_lock(&h->lock);
    if (!h->writes)
        h->mark.dirfd = dirfd;
    h->writes = true;
    pthread_mutex_unlock(&h->lock);
}

void health_look_at_identities(struct health *h, struct identities *x)
{
    pthread_mutex_lock(&h->lock);
    h->identities = x;
    pthread_mutex_unlock(&h->lock);
}

void health_set_admin(struct health *h, const char *user, const char *password)
{
    pthread_mutex_lock(&h->lock);
    if (!h->admin) { /* set once: the thread reads it without the lock */
        h->admin_password = xstrdup(password);
        h->admin = xstrdup(user);
    }
    pthread_mutex_unlock(&h->lock);
}

bool health_users_made(struct health *h)
{
    pthread_mutex_lock(&h->lock);
    bool made = h->users_made;
    pthread_mutex_unlock(&h->lock);
    return made;
}
