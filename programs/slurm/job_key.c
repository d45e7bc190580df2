#include "job_key.h"

#include "host/run_key.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

#define PUBLIC "SIMBDP_CURVE_PUBLIC_KEY"

static bool is_to_have_one(const struct run_spec *s)
{
    return run_pairs_get(&s->env, "SIMBDP_CURVE_SERVER_KEY") || run_pairs_get(&s->env, "SIMBDP_MONITOR_SERVER_KEY");
}

int job_key_make(struct run_spec *s, struct err *e)
{
    char public[41], secret[41];
    if (!is_to_have_one(s))
        return 0;
    if (zmq_curve_keypair(public, secret) < 0)
        return err_sys(e, -errno, "cannot make CURVE keys");
    run_pairs_set(&s->env, PUBLIC, public);
    run_pairs_set(&s->env, "SIMBDP_CURVE_SECRET_KEY", secret);
    explicit_bzero(secret, sizeof secret);
    return 0;
}

static bool read_key(const struct run_spec *s, unsigned char ret[RUN_KEY_BYTES])
{
    const char *text = run_pairs_get(&s->env, PUBLIC);
    return text && strlen(text) == 40 && zmq_z85_decode(ret, text);
}

int job_key_publish(const struct home *h, const struct run_spec *s, struct err *e)
{
    unsigned char key[RUN_KEY_BYTES];
    return read_key(s, key) ? run_key_add(h, key, s->tenant, s->run_id, s->claim, e) : 0;
}

void job_key_forget(const struct home *h, const struct run_spec *s)
{
    unsigned char key[RUN_KEY_BYTES];
    if (read_key(s, key))
        run_key_remove(h, key);
}
