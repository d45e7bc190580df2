#include "ask_request.h"
#include "instances_db.h"
#include "manual_instances.h"
#include "streammgr.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"

#include <string.h>

/* What tenants ask for by the gateway. Arguments are kept, and told again with each listing. */
enum { MAX_ARGS = 256, MAX_ARGS_BYTES = 16 << 10, MAX_ASKED = 30, MINUTE_MS = 60000 };

/* The arguments of a request, in the form in which an ask keeps them. Caller frees. */
static int read_args(const struct conf_stream_app *c, bool gateway, const bson_t *rq, char **ret, struct err *e)
{
    bson_iter_t args;
    AUTO_BUF struct buf b = {0};
    size_t n_args = 0, bytes = 0;
    if (!json_get_iter(rq, "args", &args))
        return err_set(e, ERR_USAGE, "args is a list of strings");
    if (!strcmp(c->exec, BUILTIN_LOAD))
        return err_refuse(e, "no_args", 0, "%s takes no arguments", BUILTIN_LOAD);
    if (gateway && !strncmp(c->exec, "builtin:", 8))
        return err_refuse(e, "no_args", 0, "the arguments of %s name what is executed; they are the configuration's", c->exec);
    json_begin(&b, NULL, '{');
    json_begin(&b, "args", '[');
    while (bson_iter_next(&args)) {
        uint32_t n = 0;
        const char *text = BSON_ITER_HOLDS_UTF8(&args) ? bson_iter_utf8(&args, &n) : NULL;
        if (!text || strlen(text) != n)
            return err_set(e, ERR_USAGE, "arguments are strings, without NUL");
        bytes += n + 1;
        if (gateway && (++n_args > MAX_ARGS || bytes > MAX_ARGS_BYTES))
            return err_set(e, ERR_USAGE, "there are %d arguments at most, of %d bytes in all, with one more for each", MAX_ARGS,
                           MAX_ARGS_BYTES);
        json_strn(&b, NULL, text, n);
    }
    json_end(&b, ']');
    json_end(&b, '}');
    *ret = xstrdup(b.p);
    return 0;
}

/* Each leaves a row and a log behind, so they are counted. */
static int take_turn(struct app *a, struct err *e)
{
    int64_t now = clk_now_ms(), age = now - a->asked_minute_ms;
    if (!a->n_asked || age >= MINUTE_MS) {
        a->asked_minute_ms = now;
        a->n_asked = 0;
        age = 0;
    }
    if (a->n_asked == MAX_ASKED)
        return err_refuse(e, "rate", (MINUTE_MS - age + 999) / 1000, "%d instances of %s/%s were started in this minute already",
                          MAX_ASKED, a->tenant, a->name);
    a->n_asked++;
    return 0;
}

/* 1: the same was asked for by this key, and ret_id is its instance; 0: it is new. */
static int find(struct app *a, const char *key, const char *args, char ret_id[ID_SIZE], struct err *e)
{
    bool same;
    if (!*key || strlen(key) > ASK_MAX_KEY)
        return err_refuse(e, "idempotency_key", 0, "a key has 1 to %d bytes", ASK_MAX_KEY);
    int r = instances_db_find_key(a->mgr->book, a, key, args, ret_id, &same, e);
    if (r > 0 && !same)
        return err_refuse(e, "idempotency_key", 0, "\"%s\" was used for other arguments or another app, instance %s", key, ret_id);
    return r;
}

int ask_request(struct app *a, const struct conf_stream_app *c, bool gateway, const bson_t *rq, char ret_id[ID_SIZE], struct err *e)
{
    const char *key = json_get_str(rq, "idempotency_key", NULL);
    const struct ask *k;
    AUTO_FREE char *args = NULL;
    int r = read_args(c, gateway, rq, &args, e);
    if (r == 0 && key)
        r = find(a, key, args, ret_id, e);
    if (r != 0)
        return r < 0 ? r : 0;
    if (c->max_instances < 1)
        return err_refuse(e, "max_instances", 0, "max_instances of %s/%s is 0", a->tenant, a->name);
    if (gateway && (r = take_turn(a, e)) < 0)
        return r;
    r = ask_start(a, args, key, &k, e);
    if (r < 0)
        return r;
    log_info("ask_started", a->tenant, k->id, "app %s: an instance with arguments of its own, by command", a->name);
    memcpy(ret_id, k->id, ID_SIZE);
    return 0;
}
