#include "url.h"

#include <errno.h>
#include <string.h>

static bool is_here(const char *host)
{
    return !strncmp(host, "127.", 4) || !strcmp(host, "::1") || !strcmp(host, "localhost");
}

int cells_url_parse(const char *text, size_t n, struct cells_url *ret)
{
    static const char of_host[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:";
    struct cells_url u = {0};
    size_t skip = n > 8 && !strncmp(text, "https://", 8) ? 8 : n > 7 && !strncmp(text, "http://", 7) ? 7 : 0;
    u.tls = skip == 8;
    if (!skip || n > CELLS_URL_MAX || address_parse(text + skip, n - skip, u.tls ? 443 : 80, &u.at) < 0)
        return -EINVAL;
    if (!*u.at.host || u.at.host[strspn(u.at.host, of_host)] || (!u.tls && !is_here(u.at.host)))
        return -EINVAL;
    *ret = u;
    return 0;
}
