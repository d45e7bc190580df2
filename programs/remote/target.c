#include "target.h"
#include "profiles.h"

#include "base/fd.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TOKEN = 4096 };

void target_fini(struct target *t)
{
    if (t->token)
        explicit_bzero(t->token, strlen(t->token));
    free(t->token);
    free(t->url);
    free(t->token_file);
    free(t->ca);
    free(t->tenant);
    *t = (struct target){0};
}

static bool is_here(const char *host)
{
    struct in_addr a;
    return !strcmp(host, "localhost") || !strcmp(host, "[::1]") ||
           (inet_pton(AF_INET, host, &a) == 1 && ntohl(a.s_addr) >> 24 == 127);
}

static int check_parts(CURLU *u, const char *url, struct err *e)
{
    static const CURLUPart none[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT};
    char *scheme = NULL, *host = NULL, *more = NULL;
    int r = 0;
    if (curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
        curl_url_get(u, CURLUPART_HOST, &host, 0))
        r = err_set(e, ERR_USAGE, "%s is no URL; it is https://HOST[:PORT]", url);
    for (size_t i = 0; r == 0 && i < sizeof none / sizeof *none; i++)
        if (curl_url_get(u, none[i], &more, 0) == CURLUE_OK) {
            curl_free(more);
            r = err_set(e, ERR_USAGE, "the URL is https://HOST[:PORT], without user, password or query");
        }
    if (r == 0 && strcmp(scheme, "https") && strcmp(scheme, "http"))
        r = err_set(e, ERR_USAGE, "%s: the URL is https://HOST[:PORT]", url);
    if (r == 0 && !strcmp(scheme, "http") && !is_here(host))
        r = err_set(e, ERR_USAGE, "%s: http:// is for this host itself; elsewhere the token would cross the network in the open",
                    url);
    curl_free(scheme);
    curl_free(host);
    return r;
}

int target_check_url(const char *url, struct err *e)
{
    CURLU *u = curl_url();
    int r = u ? check_parts(u, url, e) : err_set(e, -ENOMEM, "out of memory");
    curl_url_cleanup(u);
    return r;
}

/* Who can read the file is who it says he is. */
int target_read_token(const char *path, char **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct stat st;
    AUTO_FD int fd = fd_open_regular(path, &st);
    if (fd < 0)
        return err_sys(e, fd, "cannot read the token in %s", path);
    if (st.st_mode & 077)
        return err_set(e, ERR_CONFIG,
                       "the token in %s is open to others (mode %03o); chmod 600 %s, and have the provider replace it if somebody "
                       "may have read it",
                       path, st.st_mode & 0777, path);
    if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0)
        return err_set(e, ERR_CONFIG, "the token in %s belongs to another user; make a copy that is yours, with mode 600", path);
    int r = fd_read_all(fd, &b, MAX_TOKEN);
    if (r < 0)
        return err_sys(e, r, "cannot read the token in %s", path);
    while (b.n && isspace((unsigned char)b.p[b.n - 1]))
        b.p[--b.n] = 0;
    const char *text = b.n ? b.p : "";
    while (isspace((unsigned char)*text))
        text++;
    for (const char *c = text; *c; c++)
        if (*c < 33 || *c > 126)
            return err_set(e, ERR_CONFIG, "%s holds no token: it is one line, as `mysimbdp token add` printed it", path);
    if (!*text)
        return err_set(e, ERR_CONFIG, "%s is empty; a token is one line, as `mysimbdp token add` printed it", path);
    *ret = xstrdup(text);
    explicit_bzero(b.p, b.n);
    return 0;
}

static const char *env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* What a profile names relatively lies beside its file. */
static char *beside(const char *config, const char *path)
{
    return !path ? NULL : *path == '/' ? xstrdup(path) : xasprintf("%.*s/%s", (int)(strrchr(config, '/') - config), config, path);
}

static int from_profile(const char *name, struct target *t, struct err *e)
{
    struct profiles all;
    int r = profiles_read(&all, e);
    const char *which = name ? name : all.use;
    const struct profile *p = r == 0 && which ? profiles_find(&all, which) : NULL;
    if (r == 0 && !which)
        r = err_set(e, ERR_USAGE,
                    "which gateway? Give --url URL, or --profile NAME, or make a profile: `mysimbdp profile add NAME --url URL "
                    "--token-file FILE`");
    else if (r == 0 && !p)
        r = err_set(e, ERR_USAGE, "there is no profile %s in %s; `mysimbdp profile list` lists them", which, all.path);
    if (p) {
        t->url = xstrdup(p->url);
        t->token_file = beside(all.path, p->token_file);
        t->ca = beside(all.path, p->ca);
        t->tenant = xstrdup(p->tenant);
    }
    profiles_fini(&all);
    return r;
}

/* A profile's token goes where the profile says, and that of the environment to its gateway. */
static int find(const struct target_options *o, struct target *t, struct err *e)
{
    const char *profile = o->profile ? o->profile : o->url ? NULL : env("MYSIMBDP_PROFILE");
    const char *url = o->url ? o->url : profile ? NULL : env("MYSIMBDP_URL");
    if (o->url && o->profile)
        return err_set(e, ERR_USAGE, "--url or --profile, not both: a profile has its URL");
    if (!url)
        return from_profile(profile, t, e);
    t->url = xstrdup(url);
    if (!env("MYSIMBDP_URL") || !strcmp(url, env("MYSIMBDP_URL"))) {
        t->token_file = xstrdup(env("MYSIMBDP_TOKEN_FILE"));
        t->ca = xstrdup(env("MYSIMBDP_CA"));
    }
    return 0;
}

int target_find(const struct target_options *o, struct target *ret, struct err *e)
{
    *ret = (struct target){0};
    int r = find(o, ret, e);
    if (r < 0 || (r = target_check_url(ret->url, e)) < 0)
        return r;
    for (size_t n; (n = strlen(ret->url)) && ret->url[n - 1] == '/';)
        ret->url[n - 1] = 0;
    if (o->token_file)
        xstr_set(&ret->token_file, o->token_file);
    if (o->ca)
        xstr_set(&ret->ca, o->ca);
    if (o->tenant)
        xstr_set(&ret->tenant, o->tenant);
    if (ret->ca && !strncmp(ret->url, "http:", 5))
        return err_set(e, ERR_USAGE, "http:// has no certificate: --ca makes no sense with it");
    if (ret->ca && access(ret->ca, R_OK) < 0)
        return err_sys(e, -errno, "cannot read the certificate in %s", ret->ca);
    return ret->token_file ? target_read_token(ret->token_file, &ret->token, e) : 0;
}
