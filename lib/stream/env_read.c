#include "env_read.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static int missing(const char *name, struct err *e)
{
    return err_set(e, ERR_CONFIG, "%s is not set; the platform sets it, or set it to try by hand", name);
}

int stream_env_read_for(const char *stream, struct stream_env *ret, struct err *e)
{
    const char *tenant = getenv("SIMBDP_TENANT_ID");
    *ret = (struct stream_env){
        .endpoint = getenv("ZMQ_STREAM_ENDPOINT"),
        .app = getenv("SIMBDP_APP"),
        .keys = {getenv("SIMBDP_CURVE_SERVER_KEY"), getenv("SIMBDP_CURVE_PUBLIC_KEY"), getenv("SIMBDP_CURVE_SECRET_KEY")}};
    if (!stream)
        stream = getenv("SIMBDP_STREAM");
    if (!ret->endpoint || !stream)
        return missing(ret->endpoint ? "SIMBDP_STREAM" : "ZMQ_STREAM_ENDPOINT", e);
    if (ret->keys.server && *ret->keys.server && (!ret->keys.public || !ret->keys.secret))
        return missing(ret->keys.public ? "SIMBDP_CURVE_SECRET_KEY" : "SIMBDP_CURVE_PUBLIC_KEY", e);
    ret->stream = strchr(stream, '/') || !tenant || !*tenant ? xstrdup(stream) : xasprintf("%s/%s", tenant, stream);
    return 0;
}

static int read_delivery(enum stream_delivery *ret, struct err *e)
{
    static const char *const names[] = {"exactly_once", "at_least_once", "at_most_once"};
    const char *is = getenv("SIMBDP_DELIVERY");
    *ret = DELIVERY_EXACTLY_ONCE;
    for (size_t i = 0; is && *is; i++) {
        if (i == sizeof names / sizeof *names)
            return err_set(e, ERR_CONFIG, "SIMBDP_DELIVERY is \"%s\"; it may be exactly_once, at_least_once or at_most_once", is);
        *ret = (enum stream_delivery)i;
        if (!strcmp(is, names[i]))
            break;
    }
    return 0;
}

int stream_env_read(struct stream_env *ret, struct err *e)
{
    int r = stream_env_read_for(NULL, ret, e);
    if (r < 0)
        return r;
    r = ret->app ? read_delivery(&ret->delivery, e) : missing("SIMBDP_APP", e);
    if (r < 0)
        stream_env_fini(ret);
    return r;
}

void stream_env_fini(struct stream_env *v)
{
    free(v->stream);
    v->stream = NULL;
}
