/* simbdp-mongo: prepares a sandbox for the embedded MongoDB and becomes it (exec). As root it takes a uid of its own and a mount
 * namespace, in which its data, its users and its jars lie below /tmp. So it can reach them wherever home and platform are, and
 * nothing of either besides. Then no new privileges, and the system call filter of runs, which the JVM can live with. */
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "sandbox/seccomp_install.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEASH = 3, MAX_FILES = 65536 };

static const char usage[] = "usage: simbdp-mongo HOME UID JAVA DATA_DIRECTORY USERS_DIRECTORY JARS_DIRECTORY SOCKET_DIRECTORY\n"
                            "stdin: the listening socket; descriptor 3: a pipe with whose end it ends. UID -1: as whoever calls. "
                            "`mysimbdp up` starts it.\n";

struct place {
    const char *name; /* its name below /tmp of the namespace */
    char *path;       /* where the JVM finds it */
    int fd;
};

/* Mounts the places below a /tmp of this process's own. 0 or -errno; what is half done nobody else can see. */
static int gather(struct place *v, size_t n)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    for (size_t i = 0; i < n; i++)
        if ((v[i].fd = open(v[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            return -errno;
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m") < 0)
        return -errno;
    for (size_t i = 0; i < n; i++) {
        char from[64];
        snprintf(from, sizeof from, "/proc/self/fd/%d", v[i].fd);
        AUTO_FREE char *to = xasprintf("/tmp/%s", v[i].name);
        if (mkdir(to, 0755) < 0 || mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
            return -errno;
        v[i].path = to;
        to = NULL;
    }
    return 0;
}

int main(int argc, char **argv)
{
    log_init("simbdp-mongo");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc != 8) {
        fputs(usage, stderr);
        return 2;
    }
    int64_t uid = atoll(argv[2]);
    struct place v[] = {{"data", argv[4], -1}, {"users", argv[5], -1}, {"jars", argv[6], -1}, {"sockets", argv[7], -1}};
    if (uid >= 0) {
        int r = gather(v, sizeof v / sizeof *v);
        if (r == -EPERM) { /* in a container that may not be possible: it keeps its uid */
            log_warn("mongo", NULL, NULL, "no mount namespace can be had here: the embedded MongoDB runs as root");
            uid = -1;
        } else if (r < 0 || fchown(LEASH, (uid_t)uid, (gid_t)uid) < 0) {
            log_error("mongo", NULL, NULL, "cannot make the embedded MongoDB's place: %s", err_text(r < 0 ? r : -errno));
            return 1;
        }
    }
    struct rlimit files = {MAX_FILES, MAX_FILES}, none = {0, 0};
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        fd_raise_limit();
    setrlimit(RLIMIT_CORE, &none);
    AUTO_FREE char *users = xasprintf("%s/users", v[1].path);
    char *jvm[] = {argv[3],
                   "-XX:VMOptionsFile=jvm.options",
                   "-cp",
                   "EmbeddedMongo.jar",
                   "EmbeddedMongo",
                   "--home",
                   argv[1],
                   "--port",
                   "inherited",
                   "--data",
                   v[0].path,
                   "--users",
                   users,
                   "--socket-dir",
                   v[3].path,
                   "--leash",
                   "3",
                   NULL};
    /* The archive of loaded classes (jvm.options) holds for the class path by which it was made, which was a relative one. */
    int r = chdir(v[2].path) < 0 ? -errno : privs_become(uid);
    if (r == 0)
        r = seccomp_install();
    if (r == 0) {
        execv(argv[3], jvm);
        r = -errno;
    }
    log_error("mongo", NULL, NULL, "cannot start %s: %s", argv[3], err_text(r));
    return 1;
}
