#include "confine.h"
#include "base/fd.h"
#include "base/privs.h"
#include "seccomp_install.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of Debian 12: rights that ABI 3 to 6 added. */
#define FS_TRUNCATE                (1ULL << 14)
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL               (1ULL << 1)

enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_SCOPE = 6 };

int confine_capabilities(void)
{
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return errno == EINVAL ? 0 : -errno; /* the kernel knows no more of them */
    return 0;
}

int confine_keep(int capability)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {0};
    if (capability >= 0)
        sets[CAP_TO_INDEX(capability)].effective = sets[CAP_TO_INDEX(capability)].permitted = CAP_TO_MASK(capability);
    return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

int confine_manager(void)
{
    /* Modules, devices, clocks, other's logs and packets: the host's administration. */
    static const int needless[] = {CAP_LINUX_IMMUTABLE,
                                   CAP_NET_BROADCAST,
                                   CAP_NET_RAW,
                                   CAP_IPC_LOCK,
                                   CAP_IPC_OWNER,
                                   CAP_SYS_MODULE,
                                   CAP_SYS_RAWIO,
                                   CAP_SYS_PACCT,
                                   CAP_SYS_BOOT,
                                   CAP_SYS_TIME,
                                   CAP_SYS_TTY_CONFIG,
                                   CAP_AUDIT_WRITE,
                                   CAP_AUDIT_CONTROL,
                                   CAP_MAC_OVERRIDE,
                                   CAP_MAC_ADMIN,
                                   CAP_SYSLOG,
                                   CAP_WAKE_ALARM,
                                   CAP_BLOCK_SUSPEND,
                                   CAP_AUDIT_READ,
                                   CAP_PERFMON,
                                   CAP_BPF,
                                   CAP_CHECKPOINT_RESTORE};
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    if (geteuid() != 0)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capget, &header, sets) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof needless / sizeof *needless; i++) {
        struct __user_cap_data_struct *s = &sets[CAP_TO_INDEX(needless[i])];
        const uint32_t others = ~(uint32_t)CAP_TO_MASK(needless[i]);
        if (prctl(PR_CAPBSET_DROP, needless[i], 0, 0, 0) < 0 && errno != EINVAL) /* EINVAL: the kernel does not know it */
            return -errno;
        s->effective &= others;
        s->permitted &= others;
        s->inheritable &= others;
    }
    return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

int confine_keyring(void)
{
    return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS ? -errno : 0;
}

struct ruleset { /* as of ABI 6 */
    uint64_t fs, net, scoped;
};

static int allow(int ruleset, const char *path, uint64_t rights)
{
    AUTO_FD int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

int confine_files(const char *const *writable, size_t n)
{
    const uint64_t reading = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    const uint64_t on_files =
        LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return 0;
    uint64_t all = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1; /* the rights of ABI 1 end there */
    if (abi >= ABI_REFER)
        all |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= ABI_TRUNCATE)
        all |= FS_TRUNCATE;
    struct ruleset attr = {all, 0, abi >= ABI_SCOPE ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0};
    size_t size = abi >= ABI_SCOPE ? sizeof attr : sizeof attr.fs;
    AUTO_FD int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    int r = ruleset < 0 ? -errno : allow(ruleset, "/", all & reading);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct stat st;
        if (stat(writable[i], &st) == 0)
            r = allow(ruleset, writable[i], S_ISDIR(st.st_mode) ? all : all & on_files);
    }
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    return r;
}

int confine_program(const struct confinement *c)
{
    int r = c->drop ? confine_capabilities() : 0;
    if (r == 0)
        r = privs_become(-1);
    if (r == 0)
        r = confine_files(c->writable, c->n_writable);
    if (r == 0 && c->uid >= 0)
        r = privs_become(c->uid);
    if (r == 0 && c->drop)
        r = confine_keep(c->capability);
#ifdef __SANITIZE_ADDRESS__ /* which looks for leaks with ptrace */
    return r < 0 || prctl(PR_SET_DUMPABLE, 1) == 0 ? r : -errno;
#else
    return r < 0 ? r : seccomp_install();
#endif
}
