/* Waves of moves. What a tenant has is copied while it works; then nothing more of it is started, its runs end, the rest is copied
 * (move_pause_s), and it goes on in the other cell. Of a cell that failed, what it has comes out of a backup. So many moves at once
 * share one line. */
#include "world.h"

#include <math.h>

static int emptiest_cell(const struct world *w, int but)
{
    int best = -1;
    for (int i = 0; i < w->s->cells; i++)
        if (i != but && w->cells[i].up && (best < 0 || w->cells[i].n_tenants < w->cells[best].n_tenants))
            best = i;
    return best;
}

static void begin_next(struct world *w)
{
    while (w->n_moving < w->s->moves_at_once && w->next_move < w->n_wave) {
        struct tenant *t = &w->tenants[w->wave[w->next_move]];
        t->to = emptiest_cell(w, t->from);
        if (t->to < 0)
            return;
        w->next_move++;
        w->cells[t->to].n_tenants++;
        w->cells[t->from].n_tenants--;
        t->moving = true;
        w->n_moving++;
        w->f.moved_bytes += t->bytes;
        /* All that go on at once share the line. */
        post(w, w->t + t->bytes * w->s->moves_at_once / w->s->move_bytes_per_s, COPIED, (int)(t - w->tenants), 0, NULL);
    }
}

void wave_begin(struct world *w, int cell)
{
    w->n_wave = w->next_move = 0;
    w->wave_at = w->t;
    w->waves = true;
    for (int i = 0; i < w->s->tenants; i++)
        if (w->tenants[i].shard[0] == cell && w->tenants[i].n_shard == 1) {
            w->tenants[i].from = cell;
            w->wave[w->n_wave++] = i;
        }
    begin_next(w);
}

void on_tenant_idle(struct world *w, struct tenant *t)
{
    post(w, w->t + w->s->move_pause_s, PAUSED, (int)(t - w->tenants), 0, NULL);
}

void on_copied(struct world *w, int tenant)
{
    struct tenant *t = &w->tenants[tenant];
    t->stopped = true;
    t->stopped_at = w->t;
    hold_queued(w, t, t->from);
    if (!t->n_running)
        on_tenant_idle(w, t);
}

void on_paused(struct world *w, int tenant)
{
    struct tenant *t = &w->tenants[tenant];
    t->shard[0] = t->to;
    t->moving = t->stopped = false;
    w->pauses[w->n_pauses++] = w->t - t->stopped_at;
    w->n_moving--;
    w->f.moved++;
    w->f.wave_s = w->t - w->wave_at;
    look_for_down(w, t);
    if (w->s->breakage == STARVES)
        fair_queue_block_tenant(w->cells[t->to].q, t->id, true);
    submit_held(w, t);
    begin_next(w);
}
