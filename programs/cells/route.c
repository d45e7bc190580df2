#include "route.h"

#include "cells/map.h"

#include <string.h>
#include <strings.h>

static struct route refused(int status, const char *code, const char *detail)
{
    return (struct route){.kind = ROUTE_REFUSED, .why = {status, code, detail}};
}

/* The host without its port; n 0: it is none. */
static struct span host_of(struct span s)
{
    const struct span none = {0};
    const char *end = s.p + s.n, *close = s.n && *s.p == '[' ? memchr(s.p, ']', s.n) : NULL;
    const char *colon = close ? close + 1 : memchr(s.p, ':', s.n);
    const char *stop = close ? close + 1 : colon ? colon : end;
    if (s.n && *s.p == '[' && !close)
        return none;
    for (const char *c = s.p; c < stop; c++)
        if (!((*c >= '0' && *c <= '9') || ((*c | 32) >= 'a' && (*c | 32) <= 'z') || *c == '.' || *c == '-' || *c == '_' ||
              (close && strchr("[]:", *c))))
            return none;
    if (stop < end && *stop != ':')
        return none;
    for (const char *c = stop + 1; c < end; c++)
        if (*c < '0' || *c > '9')
            return none;
    return (struct span){s.p, (size_t)(stop - s.p)};
}

/* True: it is the domain or below it; *ret: the label before it, n 0 where there is none. */
static bool tenant_of_host(struct span host, const char *domain, struct span *ret)
{
    size_t n = strlen(domain);
    *ret = (struct span){0};
    if (host.n < n || strncasecmp(host.p + host.n - n, domain, n) != 0)
        return false;
    if (host.n == n)
        return true;
    *ret = (struct span){host.p, host.n - n - 1};
    return host.p[host.n - n - 1] == '.' && cells_valid_name(ret->p, ret->n);
}

static bool begins(struct span s, const char *text)
{
    return s.n >= strlen(text) && !memcmp(s.p, text, strlen(text));
}

static bool is(struct span s, const char *text)
{
    return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

/* No segment that another reader could take for another path: those that are empty, `.` or `..`, and escapes where it is decided
 * whose it is. */
static bool is_plain(struct span path)
{
    int segment = 0;
    for (const char *p = path.p, *end = path.p + path.n; p < end; segment++) {
        const char *from = p + 1, *stop = memchr(from, '/', (size_t)(end - from));
        struct span s = {from, (size_t)((stop ? stop : end) - from)};
        if ((!s.n && path.n > 1) || is(s, ".") || is(s, "..") || (segment < 3 && memchr(s.p, '%', s.n)))
            return false;
        p = stop ? stop : end;
    }
    return path.n == 1 || path.p[path.n - 1] != '/';
}

/* What is a tenant's, and is not named by the path. */
static bool is_anyones(struct span path)
{
    return is(path, "/") || begins(path, "/page/") || is(path, "/v1/openapi.yaml") || is(path, "/v1/whoami") ||
           is(path, "/v1/session");
}

static struct route not_here(void)
{
    return refused(404, "not_found", "there is no such resource here; what is the provider's is asked of a cell");
}

/* /v1/tenants/T/...; what is T:VERB is the provider's. */
static bool tenant_of_path(struct span path, struct span *ret)
{
    const size_t skip = strlen("/v1/tenants/");
    const char *from = path.p + skip, *stop = memchr(from, '/', path.n - skip);
    *ret = (struct span){from, (size_t)((stop ? stop : path.p + path.n) - from)};
    return stop && cells_valid_name(ret->p, ret->n);
}

static bool agree(struct span a, struct span b)
{
    return !a.n || !b.n || (a.n == b.n && !memcmp(a.p, b.p, a.n));
}

struct route route_of(const struct head *h, const char *domain)
{
    const char *query = memchr(h->target.p, '?', h->target.n);
    struct span path = {h->target.p, query ? (size_t)(query - h->target.p) : h->target.n}, by_path = {0}, by_host = {0};
    struct span host = host_of(head_field(h, "Host")), by_field = head_field(h, "Simbdp-Tenant");
    size_t n_said = 0;
    for (size_t i = 0; i < h->n_fields; i++)
        n_said += span_is(h->fields[i].name, "Simbdp-Tenant");
    if (!is_plain(path))
        return refused(400, "bad_request", "a part of the path is empty, a dot, or escaped where it says whose it is");
    if (is(path, "/healthz"))
        return (struct route){.kind = ROUTE_HEALTHZ};
    if (is(path, "/readyz"))
        return (struct route){.kind = ROUTE_READYZ};
    if (!host.n || n_said > 1 || (n_said && !cells_valid_name(by_field.p, by_field.n)))
        return refused(400, "bad_request", host.n ? "Simbdp-Tenant is no tenant's name, or is there twice" : "Host is none");
    if (*domain && !tenant_of_host(host, domain, &by_host))
        return refused(421, "misdirected", "this host is not served here");
    if (begins(path, "/v1/tenants/") ? !tenant_of_path(path, &by_path) : !is_anyones(path))
        return not_here();
    if (!agree(by_path, by_host) || !agree(by_path, by_field) || !agree(by_host, by_field))
        return refused(421, "misdirected", "path, host and Simbdp-Tenant name different tenants");
    struct span tenant = by_path.n ? by_path : by_host.n ? by_host : by_field;
    if (!tenant.n)
        return refused(404, "not_found",
                       *domain ? "whose? name the tenant by the host, TENANT.DOMAIN, or by the field Simbdp-Tenant"
                               : "whose? name the tenant by the field Simbdp-Tenant");
    return (struct route){.kind = ROUTE_TENANT, .tenant = tenant};
}
