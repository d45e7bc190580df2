/* Stream apps of one cell while that fails and comes back: messages as a fluid, a step a second, the count of instances by the
 * monitor's own scaling law. While the cell is away publishers keep what they have (the broker confirms nothing), and hand it in
 * when it is back: so each app begins with a backlog of the whole outage, all at once. */
#include "fleet.h"

#include "base/mem.h"
#include "programs/monitor/scaling_law.h"

#include <math.h>

enum { WARM_UP_S = 300, LONGEST_S = 7200, START_S = 3 };
#define OLDEST_S 5.0

struct stream_app {
    struct scale_memory memory;
    double rate, backlog;
    int instances, wanted, starting, starts_at_s;
    double recovered_s;
};

static double arrivals(struct stream_app *a, struct rng *r)
{
    double n = a->rate + rng_normal(r) * sqrt(a->rate);
    return n > 0 ? n : 0;
}

/* One second of an app. */
static void step(struct stream_app *a, const struct stream_settings *s, struct rng *r, int64_t now_s, int64_t room)
{
    double came = arrivals(a, r), takes = a->instances * s->mu, had = a->backlog + came;
    double done = fmin(had, takes);
    a->backlog = had - done;
    double leased = fmin(had, a->instances);
    struct scale_input in = {
        .now_s = (double)now_s,
        .ingress_per_s = came,
        .ready = fmax(0, a->backlog - leased),
        .leased = leased,
        .acks_per_busy_s = a->instances ? s->mu : NAN,
        .average_s = NAN,
        .processing_per_s = NAN,
        .instances = a->instances,
        .min = 1,
        .max = room,
    };
    a->wanted = (int)scale_decide(&scale_defaults, &a->memory, &in).desired;
}

/* What may start does, up to the room that there is, in turns, so that no app takes it all. */
static int64_t adjust(struct stream_app *apps, const struct stream_settings *s, int64_t now_s, int64_t room)
{
    int64_t used = 0;
    bool more = true;
    for (int i = 0; i < s->apps; i++) {
        struct stream_app *a = &apps[i];
        if (a->starting && now_s >= a->starts_at_s) {
            a->instances += a->starting;
            a->starting = 0;
        }
        if (a->instances > a->wanted)
            a->instances = a->wanted;
        used += a->instances + a->starting;
    }
    while (more && used < room) {
        more = false;
        for (int i = 0; i < s->apps && used < room; i++) {
            struct stream_app *a = &apps[i];
            if (a->instances + a->starting >= a->wanted)
                continue;
            a->starting++;
            a->starts_at_s = (int)now_s + START_S;
            used++;
            more = true;
        }
    }
    return used;
}

static void look(const struct stream_settings *s, struct stream_app *apps, int64_t since_s, struct stream_figures *f)
{
    int fine = 0;
    for (int i = 0; i < s->apps; i++) {
        struct stream_app *a = &apps[i];
        bool late = a->backlog > OLDEST_S * a->rate;
        if (late)
            a->recovered_s = -1;
        else if (a->recovered_s < 0)
            a->recovered_s = (double)since_s;
        fine += !late;
        f->last_s = fmax(f->last_s, late ? (double)since_s : 0);
    }
    if (f->recovered_s < 0 && fine * 100 >= s->apps * 99)
        f->recovered_s = (double)since_s;
}

static bool all_recovered(const struct stream_settings *s, const struct stream_app *apps)
{
    for (int i = 0; i < s->apps; i++)
        if (apps[i].recovered_s < 0)
            return false;
    return true;
}

struct stream_figures streams_run(const struct stream_settings *s)
{
    struct rng r = {s->seed * 104729 + 5};
    struct stream_figures f = {.recovered_s = -1};
    struct stream_app *apps = xcalloc((size_t)s->apps, sizeof *apps);
    double need = 0;
    for (int i = 0; i < s->apps; i++) {
        apps[i].rate = s->rate_per_s * exp(rng_normal(&r) * 0.8 - 0.32);
        apps[i].instances = apps[i].wanted = (int)ceil(apps[i].rate / scale_defaults.utilisation / s->mu);
        need += apps[i].instances;
    }
    int64_t room = (int64_t)ceil(need * s->headroom), now_s = 0;
    for (; now_s < WARM_UP_S; now_s++) {
        for (int i = 0; i < s->apps; i++)
            step(&apps[i], s, &r, now_s, room);
        int64_t used = adjust(apps, s, now_s, room);
        f.over += used > room;
        f.normal = (double)used;
    }
    for (int i = 0; i < s->apps; i++) {
        apps[i].backlog += apps[i].rate * s->down_s;
        apps[i].recovered_s = -1;
    }
    now_s += (int64_t)s->down_s;
    for (int64_t since_s = 0; since_s < LONGEST_S && !all_recovered(s, apps); since_s++) {
        for (int i = 0; i < s->apps; i++)
            step(&apps[i], s, &r, now_s + since_s, room);
        int64_t used = adjust(apps, s, now_s + since_s, room);
        f.over += used > room;
        f.peak = fmax(f.peak, (double)used);
        look(s, apps, since_s, &f);
    }
    free(apps);
    return f;
}
