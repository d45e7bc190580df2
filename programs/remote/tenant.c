/* mysimbdp tenant suspend, resume: for an operator. */
#include "listing.h"
#include "remote.h"

#include <stdio.h>
#include <string.h>

int verb_tenant(struct remote *r)
{
    AUTO_BUF struct buf path = {0};
    int code = remote_args(r, 2, 2);
    if (code)
        return code;
    const char *order = r->argv[0], *tenant = r->argv[1];
    if (strcmp(order, "suspend") && strcmp(order, "resume"))
        return remote_usage(r, "%s: there is suspend and resume over HTTP; the rest is done on the platform's machine", order);
    if ((code = remote_open_account(r)))
        return code;
    buf_adds(&path, "/v1/tenants/");
    http_escape(&path, tenant);
    buf_addf(&path, ":%s", order);
    AUTO_BSON bson_t *doc = remote_order(r, "POST", path.p, NULL);
    if (!doc)
        return REMOTE_FAILED;
    if (r->json)
        listing_object(doc);
    else
        printf("tenant %s is %s\n", json_get_str(doc, "tenant_id", tenant), json_get_str(doc, "state", ""));
    return REMOTE_DONE;
}
