/* What is agreed, used and paid: whoami, agreement, usage, bill. */
#include "listing.h"

#include "base/mem.h"
#include "term/table.h"

#include <stdio.h>
#include <string.h>

int verb_whoami(struct remote *r)
{
    int code = remote_args(r, 0, 0);
    if (code || (code = remote_open_account(r)))
        return code;
    AUTO_BSON bson_t *me = remote_ask(r, "/v1/whoami");
    if (me && r->json)
        listing_object(me);
    else if (me)
        listing_members(me, NULL);
    return me ? REMOTE_DONE : REMOTE_FAILED;
}

/* GETs a tenant's object. NULL after a complaint; *ret_code is the exit code. */
static bson_t *object(struct remote *r, const char *rest, int *ret_code)
{
    AUTO_BUF struct buf path = {0};
    *ret_code = remote_open(r);
    if (*ret_code)
        return NULL;
    remote_path(r, &path, "%s", rest);
    bson_t *doc = remote_ask(r, path.p);
    *ret_code = doc ? REMOTE_DONE : REMOTE_FAILED;
    return doc;
}

/* ---- agreement ---- */

int verb_agreement(struct remote *r)
{
    int code = remote_args(r, 0, 0);
    AUTO_BSON bson_t *doc = code ? NULL : object(r, "agreement", &code);
    if (doc && r->json)
        listing_object(doc);
    else if (doc)
        object_agreement(doc);
    return code;
}

/* ---- usage ---- */

int verb_usage(struct remote *r)
{
    int code = remote_args(r, 0, 0);
    AUTO_BSON bson_t *doc = code ? NULL : object(r, "usage", &code);
    if (doc && r->json)
        listing_object(doc);
    else if (doc)
        object_usage(doc);
    return code;
}

int verb_bill(struct remote *r)
{
    int code = remote_args(r, 1, 1);
    AUTO_BUF struct buf rest = {0};
    if (code)
        return code;
    buf_adds(&rest, "bills/");
    http_escape(&rest, r->argv[0]);
    AUTO_BSON bson_t *doc = object(r, rest.p, &code);
    if (doc && r->json)
        listing_object(doc);
    else if (doc)
        listing_members(doc, NULL);
    return code;
}
