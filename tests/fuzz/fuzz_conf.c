/* The configuration parser: any bytes give a configuration or an error with a message. */
#include "base/fd.h"
#include "conf/conf.h"
#include "host/home.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char home[64];

static void remove_home(void)
{
    fd_remove_tree(AT_FDCWD, home);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct conf *c = NULL;
    char path[128];
    if (!*home) {
        strcpy(home, "/tmp/simbdp-fuzz-XXXXXX");
        assert(mkdtemp(home) && home_init(home, &e) == 0);
        atexit(remove_home);
    }
    snprintf(path, sizeof path, "%s/conf/tenants/acme.conf", home);
    FILE *f = fopen(path, "wb");
    assert(f && fwrite(data, 1, size, f) == size);
    fclose(f);
    int r = conf_load(home, &c, &e);
    assert(r == 0 ? c && conf_tenant(c, "acme") : !c && strlen(e.msg) > 0);
    conf_free(c);
    return 0;
}
