/* What differs between two configurations, key by key, and what follows from it when the second takes the place of the first. */
#ifndef SIMBDP_CONF_DIFF_H
#define SIMBDP_CONF_DIFF_H

#include "conf.h"

enum conf_change_kind { CONF_CHANGED, CONF_ADDED, CONF_REMOVED };

struct conf_change {
    enum conf_change_kind kind;
    const char *file;   /* where it stands: "conf/tenants/acme.conf" */
    const char *tenant; /* NULL: none's */
    /* "platform.http.listen", "stream_apps store.max_instances": the name of a list's element is behind the list's. Of an element
     * that was added or removed its name ends it: "datasets readings"; of a whole tenant it is "". */
    const char *key;
    /* CONF_CHANGED: as they are written in a file; "none" where there is no value. Passwords in URLs are left out. Else NULL. */
    const char *old_value, *new_value;
    bool on_reload;     /* else when the platform is started again */
    const char *help;   /* what the key is; "" */
    const char *effect; /* what happens; "" where that is what the key says */
};
typedef void (*conf_change_fn)(void *arg, const struct conf_change *change);

/* Tells each, file by file: platform, profiles, tenants by id. Elements of lists are told by their names; where only their order
 * differs that is told of `batch`, where it matters. What change points to is valid during the call. Returns how many. */
size_t conf_diff(const struct conf *from, const struct conf *to, conf_change_fn each, void *arg);

#endif
