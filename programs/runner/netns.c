#include "netns.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { BACKLOG = 128 };

union endpoint {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

int netns_new(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    AUTO_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
}

static int add_v4(const struct in_addr *address, int alias)
{
    AUTO_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {0};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = *address};
    snprintf(r.ifr_name, sizeof r.ifr_name, "lo:%d", alias);
    memcpy(&r.ifr_addr, &a, sizeof a);
    if (fd < 0 || ioctl(fd, SIOCSIFADDR, &r) < 0)
        return -errno;
    a.sin_addr.s_addr = INADDR_NONE; /* this address alone, without a route to its neighbours */
    memcpy(&r.ifr_netmask, &a, sizeof a);
    return ioctl(fd, SIOCSIFNETMASK, &r) < 0 ? -errno : 0;
}

static int add_v6(const struct in6_addr *address)
{
    AUTO_FD int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct in6_ifreq r = {.ifr6_addr = *address, .ifr6_prefixlen = 128, .ifr6_ifindex = 1};
    return fd < 0 || (ioctl(fd, SIOCSIFADDR, &r) < 0 && errno != EEXIST) ? -errno : 0;
}

static int listen_on(struct netns *n, const union endpoint *at, int target)
{
    int on = 1;
    if (n->n == NETNS_MAX_LISTENERS)
        return -E2BIG;
    AUTO_FD int fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    if (at->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0)
        return -errno;
    /* A freshly added IPv6 address is tentative: it may be bound to all the same. */
    if (setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on) < 0)
        return -errno;
    if (bind(fd, &at->any, at->any.sa_family == AF_INET ? sizeof at->v4 : sizeof at->v6) < 0)
        return errno == EADDRINUSE ? 0 : -errno; /* listed twice */
    if (listen(fd, BACKLOG) < 0)
        return -errno;
    int lifted = fcntl(fd, F_DUPFD_CLOEXEC, NETNS_FIRST_FD); /* above the numbers under which a relay will get them */
    if (lifted < 0)
        return -errno;
    n->listeners[n->n].target = target;
    n->listeners[n->n++].fd = lifted;
    return 0;
}

static int open_v4(struct netns *n, const char *address, int port, int target)
{
    union endpoint at = {.v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
    inet_pton(AF_INET, address, &at.v4.sin_addr);
    bool loopback = (ntohl(at.v4.sin_addr.s_addr) >> 24) == 127;
    int r = loopback ? 0 : add_v4(&at.v4.sin_addr, target + 1);
    return r < 0 ? r : listen_on(n, &at, target);
}

static int open_v6(struct netns *n, const char *address, int port, int target)
{
    union endpoint at = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
    inet_pton(AF_INET6, address, &at.v6.sin6_addr);
    int r = IN6_IS_ADDR_LOOPBACK(&at.v6.sin6_addr) ? 0 : add_v6(&at.v6.sin6_addr);
    return r < 0 ? r : listen_on(n, &at, target);
}

static int open_target(struct netns *n, const struct run_pair *t, int i, struct buf *hosts)
{
    unsigned char binary[16];
    int port = atoi(t->value);
    if (inet_pton(AF_INET, t->name, binary) == 1)
        return open_v4(n, t->name, port, i);
    if (inet_pton(AF_INET6, t->name, binary) == 1)
        return open_v6(n, t->name, port, i);
    if (!strcmp(t->name, "localhost")) {
        int r = open_v4(n, "127.0.0.1", port, i), v6 = r < 0 ? r : open_v6(n, "::1", port, i);
        return v6 == -EAFNOSUPPORT || v6 == -EADDRNOTAVAIL ? 0 : v6;
    }
    char address[32];
    snprintf(address, sizeof address, "127.64.%d.%d", (i + 1) / 256, (i + 1) % 256);
    buf_addf(hosts, "%s %s\n", address, t->name);
    return open_v4(n, address, port, i);
}

int netns_open(struct netns *ret, const struct run_spec *s, struct buf *hosts, char *what, size_t what_size)
{
    *ret = (struct netns){
        .counters = {open("/proc/self/net/snmp", O_RDONLY | O_CLOEXEC), open("/proc/self/net/snmp6", O_RDONLY | O_CLOEXEC)}};
    for (size_t i = 0; i < s->targets.n; i++) {
        int r = open_target(ret, &s->targets.v[i], (int)i, hosts);
        if (r < 0) {
            snprintf(what, what_size, "a listener for %s:%s", s->targets.v[i].name, s->targets.v[i].value);
            return r;
        }
    }
    return 0;
}

/* The n-th number after the line's name in the second of two lines "Ip: NAMES" and "Ip: NUMBERS" (RFC 1213 order, by name). */
static int64_t counter_v4(char *text, const char *group, const char *name)
{
    char *names = strstr(text, group), *numbers = names ? strstr(names + 1, group) : NULL, *save_a, *save_b;
    if (!numbers)
        return 0;
    names[strcspn(names, "\n")] = 0;
    numbers[strcspn(numbers, "\n")] = 0;
    int64_t value = 0;
    char *a = strtok_r(names, " ", &save_a), *b = strtok_r(numbers, " ", &save_b);
    for (; a && b; a = strtok_r(NULL, " ", &save_a), b = strtok_r(NULL, " ", &save_b))
        if (!strcmp(a, name))
            value = strtoll(b, NULL, 10);
    return value;
}

int64_t netns_refused(const struct netns *n)
{
    int64_t sum = 0;
    for (int i = 0; i < 2; i++) {
        AUTO_BUF struct buf b = {0};
        if (n->counters[i] < 0 || lseek(n->counters[i], 0, SEEK_SET) < 0 || fd_read_all(n->counters[i], &b, 1 << 16) < 0)
            continue;
        buf_add(&b, "", 0);
        const char *v6 = i ? strstr(b.p, "Ip6OutNoRoutes") : NULL;
        if (v6)
            sum += strtoll(v6 + strlen("Ip6OutNoRoutes"), NULL, 10);
        if (!i)
            sum += counter_v4(b.p, "Ip: ", "OutNoRoutes");
    }
    return sum;
}

void netns_close(struct netns *n)
{
    for (int i = 0; i < n->n; i++)
        close(n->listeners[i].fd);
    for (int i = 0; i < 2; i++)
        if (n->counters[i] >= 0)
            close(fd_take(&n->counters[i]));
    n->n = 0;
}
