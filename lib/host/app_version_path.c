/* Apart from the rest, which runners do not have: it takes libsodium along. */
#include "app_version.h"

#include "base/mem.h"

#include <string.h>

bool app_version_valid(const char *version)
{
    return strlen(version) == APP_VERSION_SIZE - 1 && strspn(version, "0123456789abcdef") == APP_VERSION_SIZE - 1;
}

char *app_version_dir(const char *tenant, const char *app)
{
    return xasprintf("apps/%s/.versions/%s", tenant, app);
}

char *app_version_path(const char *tenant, const char *app, const char *rest)
{
    return xasprintf("apps/%s/.versions/%s/%s", tenant, app, rest);
}
