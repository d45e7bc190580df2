#include "home.h"
#include "base/beneath.h"
#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { LOCK_RETRY_MS = 20 };

#define TMP_RUNTIME  "/tmp/mysimbdp-"
#define ROOT_RUNTIME "/run/mysimbdp-"

enum { TOOL_MAX_BYTES = 64 << 20 };

static const struct {
    const char *name;
    mode_t mode;
} dirs[] = {
    {"conf", 0750},       {"conf/tenants", 0750}, {"staging", 0711}, {"staging/.incoming", 0700}, {"work", 0711}, {"done", 0711},
    {"quarantine", 0711}, {"state", 0700},        {"logs", 0711},    {"logs/tenants", 0711},      {"runs", 0711}, {"apps", 0711},
    {"keys", 0700},
};

static const char platform_conf[] =
    "# Settings of the platform; `mysimbdp check --keys` lists every key with its range and default.\n"
    "platform = {\n"
    "  mongo_url = \"\";                       # empty: MONGO_URL, else mongod on PATH, else the embedded MongoDB\n"
    "  valid_formats = (\"csv\", \"json\");      # also .gz and .zst of these\n"
    "  capacity = { cpus = -1; memory_bytes = -1L; };   # -1: what this host has\n"
    "  min_free_bytes = 1073741824L;         # intake pauses below this\n"
    "  allow_missing_limits = %s;\n"
    "};\n";

static const char profiles_conf[] =
    "# Named sets of limits; an app names the one its runs get.\n"
    "profiles = (\n"
    "  { name = \"small\";\n"
    "    wall_s = 600; grace_s = 10; output_bytes = 10485760L;\n"
    "    requests = { cpus = 1.0; memory_bytes = 268435456L; };      # what the scheduler charges\n"
    "    rlimits = { cpu_s = 300; as_bytes = -1L; nofile = 256; nproc = -1; fsize_bytes = 1073741824L; core_bytes = 0L; "
    "stack_bytes = 8388608L; };\n"
    "    cgroup  = { cpu_pct = 100; memory_bytes = 536870912L; pids = 64; };\n"
    "    env = ( { name = \"TZ\"; value = \"UTC\"; } ); }\n"
    ");\n";

static char *program_dir(void)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    return xstrdup(exe);
}

static int check_version(struct home *h, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(h->dirfd, "state/home.json", &b, 65536, NULL);
    if (r == -ENOENT)
        return err_set(e, -ENOENT, "%s is not a home (no state/home.json); make one with `mysimbdp init %s`", h->path, h->path);
    if (r == -EACCES)
        return err_set(e, r, "%s: permission denied; use the user who made the home", h->path);
    if (r < 0)
        return err_sys(e, r, "cannot read %s/state/home.json", h->path);
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, e);
    if (!doc) {
        err_context(e, "%s/state/home.json", h->path);
        return ERR_FORMAT;
    }
    int64_t version = json_get_i64(doc, "version", -1);
    if (version > HOME_VERSION)
        return err_set(
            e, ERR_VERSION,
            "%s/state/home.json is of a newer version of mysimbdp (%lld; this one knows up to %d), and nothing of the home was "
            "changed; install that version again, or restore a backup of before the upgrade",
            h->path, (long long)version, HOME_VERSION);
    if (version < 1)
        return err_set(e, ERR_FORMAT, "%s/state/home.json names no version; restore it from a backup", h->path);
    return 0;
}

/* Makes the run-time directory if it is not there, changeable by us alone. Where others may make names (/tmp), one that somebody
 * else made is not accepted; one that we own, only we can move away. */
static int own_runtime(const char *path, struct err *e)
{
    struct stat st;
    if (mkdir(path, 0711) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make the run-time directory %s", path);
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); /* lint: the last part, which is no link */
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid())
        return err_set(e, -EPERM, "the run-time directory %s is somebody else's, or no directory; have it removed", path);
    if ((st.st_mode & 07777) != 0711 && fchmod(fd, 0711) < 0)
        return err_sys(e, -errno, "cannot open the run-time directory %s to tenants", path);
    return 0;
}

/* The directory that state/runtime names, if it exists and can be used. */
static char *kept_runtime(const struct home *h)
{
    AUTO_BUF struct buf b = {0};
    char drawn[17], tag[17];
    if (fd_read_file(h->dirfd, "state/runtime", &b, PATH_MAX, NULL) < 0 ||
        sscanf(b.p, TMP_RUNTIME "%16[0-9a-f] of %16[0-9a-f]", drawn, tag) != 2 || strlen(drawn) != 16 || strcmp(tag, h->tag) != 0)
        return NULL; /* another tag: the home was moved or copied, and that directory is the other one's */
    AUTO_FREE char *path = xasprintf(TMP_RUNTIME "%s", drawn);
    return own_runtime(path, NULL) < 0 ? NULL : xstrdup(path);
}

/* In /tmp anybody can make a directory first, so the name must not be known. It is drawn at random and kept in state/, which only
 * the home's user can read. A name that was in use can be seen by others: if somebody takes it while it is not there (after a
 * reboot), another one is drawn. `old` is the name of versions before this; it is kept while the directory is there, since runs may
 * have their sockets in it. */
static int tmp_runtime(struct home *h, const char *old, struct err *e)
{
    struct stat st;
    if ((h->runtime = kept_runtime(h)))
        return 0;
    AUTO_FD int lock = openat(h->dirfd, "state/runtime.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return err_sys(e, -errno, "cannot lock %s/state/runtime.lock", h->path);
    if ((h->runtime = kept_runtime(h))) /* another process of this home drew one first */
        return 0;
    if (lstat(old, &st) == 0 && st.st_uid == geteuid()) {
        h->runtime = xstrdup(old);
        return own_runtime(old, e);
    }
    char drawn[17];
    unsigned char random[8];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(drawn, sizeof drawn, random, sizeof random);
    h->runtime = xasprintf(TMP_RUNTIME "%s", drawn);
    AUTO_FREE char *text = xasprintf("%s of %s\n", h->runtime, h->tag);
    int r = own_runtime(h->runtime, e);
    return r < 0 ? r : fd_write_file(h->dirfd, "state/runtime", text, strlen(text), 0600, e);
}

/* Socket paths must be short: /run for root, else the user's run-time directory, else /tmp. A user's own run-time directory is
 * closed to other uids, so tenants' could not use it. */
static int make_runtime(struct home *h, struct err *e)
{
    const char *user = getenv("XDG_RUNTIME_DIR");
    const int64_t owner = userns_owner(h->path);
    if (owner < 0 && geteuid() == 0)
        h->runtime = xasprintf(ROOT_RUNTIME "%s", h->tag);
    else if (owner < 0 && user && access(user, W_OK) == 0 && strlen(user) < 40)
        h->runtime = xasprintf("%s/mysimbdp-%s", user, h->tag);
    if (h->runtime)
        return own_runtime(h->runtime, e);
    AUTO_FREE char *old = xasprintf(TMP_RUNTIME "%lld-%s", (long long)(owner >= 0 ? owner : geteuid()), h->tag);
    return tmp_runtime(h, old, e);
}

static void make_tag(const char *real_path, char ret[17])
{
    unsigned char hash[8];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)real_path, strlen(real_path), NULL, 0);
    sodium_bin2hex(ret, 17, hash, sizeof hash);
}

static int open_parts(struct home *h, const char *path, bool enter, struct err *e)
{
    if (!path)
        path = getenv("MYSIMBDP_HOME");
    if (!path || !*path)
        return err_set(e, ERR_USAGE, "no home given: use --home DIR or set MYSIMBDP_HOME");
    char real[PATH_MAX];
    if (!realpath(path, real))
        return err_sys(e, -errno, "home %s", path);
    if (sodium_init() < 0)
        return err_set(e, -EIO, "libsodium cannot be initialised");
    h->path = xstrdup(real);
    h->bin = program_dir();
    make_tag(real, h->tag);
    h->dirfd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (h->dirfd < 0)
        return err_sys(e, -errno, "home %s", real);
    int r = check_version(h, e);
    if (r == 0)
        r = userns_admit(h->path, e);
    if (r == 0 && (enter || userns_owner(h->path) >= 0))
        r = userns_enter(h->path, e);
    return r < 0 ? r : make_runtime(h, e);
}

static int open_home(struct home *h, const char *path, bool enter, struct err *e)
{
    *h = (struct home){.dirfd = -1};
    int r = open_parts(h, path, enter, e);
    if (r < 0)
        home_close(h);
    return r;
}

int home_open(struct home *h, const char *path, struct err *e)
{
    return open_home(h, path, false, e);
}

int home_enter(struct home *h, const char *path, struct err *e)
{
    return open_home(h, path, true, e);
}

void home_close(struct home *h)
{
    free(h->path);
    free(h->bin);
    free(h->runtime);
    if (h->dirfd >= 0)
        close(h->dirfd);
    *h = (struct home){.dirfd = -1};
}

static bool is_empty(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return d && n <= 2;
}

int home_init(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st) == 0 && !(S_ISDIR(st.st_mode) && is_empty(path)))
        return err_set(e, -EEXIST, "%s exists and is not an empty directory; nothing was changed", path);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", path);
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s", path);
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        if ((mkdirat(fd, dirs[i].name, dirs[i].mode) < 0 && errno != EEXIST) ||
            beneath_own_dir(fd, dirs[i].name, -1, -1, dirs[i].mode) < 0)
            return err_sys(e, -errno, "cannot make %s/%s", path, dirs[i].name);
    AUTO_BUF struct buf conf = {0}, version = {0};
    buf_addf(&conf, platform_conf, geteuid() == 0 ? "false" : "true");
    buf_addf(&version, "{\"version\": %d}\n", HOME_VERSION);
    int r = fd_write_file(fd, "conf/mysimbdp.conf", conf.p, conf.n, 0644, e);
    if (r == 0)
        r = fd_write_file(fd, "conf/profiles.conf", profiles_conf, sizeof profiles_conf - 1, 0644, e);
    if (r == 0)
        r = fd_write_file(fd, "state/home.json", version.p, version.n, 0600, e);
    return r;
}

void home_narrow(const struct home *h)
{
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        int r = beneath_narrow_dir(h->dirfd, dirs[i].name, dirs[i].mode | 0070); /* the provider's own group stays */
        if (r < 0 && r != -ENOENT)
            log_warn("modes", NULL, NULL, "%s/%s: %s", h->path, dirs[i].name, err_text(r));
    }
}

int home_mend(const struct home *h, struct err *e)
{
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        if (mkdirat(h->dirfd, dirs[i].name, dirs[i].mode) < 0) {
            if (errno != EEXIST)
                return err_sys(e, -errno, "cannot make %s/%s", h->path, dirs[i].name);
            continue;
        }
        int r = beneath_own_dir(h->dirfd, dirs[i].name, -1, -1, dirs[i].mode);
        if (r < 0)
            return err_sys(e, r, "cannot make %s/%s", h->path, dirs[i].name);
        log_warn("made_again", NULL, NULL, "%s/%s was gone and was made again, empty", h->path, dirs[i].name);
    }
    return 0;
}

int home_put_tools(const struct home *h, struct err *e)
{
    static const char tool[] = HOME_TOOLS "/simbdp-pipe";
    AUTO_BUF struct buf ours = {0}, there = {0};
    AUTO_FREE char *from = home_program(h, "simbdp-pipe");
    int r = fd_read_file(AT_FDCWD, from, &ours, TOOL_MAX_BYTES, e);
    if (r < 0)
        return r;
    if (mkdirat(h->dirfd, HOME_TOOLS, 0711) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s/%s", h->path, HOME_TOOLS);
    r = beneath_own_dir(h->dirfd, HOME_TOOLS, -1, -1, 0711);
    if (r < 0)
        return err_sys(e, r, "cannot open %s/%s to all", h->path, HOME_TOOLS);
    if (fd_read_file(h->dirfd, tool, &there, TOOL_MAX_BYTES, NULL) == 0 && there.n == ours.n && !memcmp(there.p, ours.p, ours.n))
        return 0;
    return fd_write_file(h->dirfd, tool, ours.p, ours.n, 0755, e);
}

bool home_is_roots(const struct home *h)
{
    struct stat st;
    return privs_is_root() && fstat(h->dirfd, &st) == 0 && st.st_uid == 0;
}

char *home_path(const struct home *h, const char *rel)
{
    return xasprintf("%s/%s", h->path, rel);
}

char *home_socket(const struct home *h, const char *name)
{
    return xasprintf("%s/%s", h->runtime, name);
}

char *home_socket_for_others(const char *path, const char *name)
{
    char real[PATH_MAX], tag[17];
    path = path ? path : getenv("MYSIMBDP_HOME");
    if (!path || !*path || !realpath(path, real) || sodium_init() < 0)
        return NULL;
    AUTO_FREE char *state = xasprintf("%s/state/home.json", real);
    if (access(state, R_OK) == 0 || errno != EACCES)
        return NULL;
    make_tag(real, tag);
    AUTO_FREE char *socket = xasprintf(ROOT_RUNTIME "%s/%s", tag, name);
    return access(socket, W_OK) == 0 ? xstrdup(socket) : NULL;
}

char *home_exec(const struct home *h, const char *tenant, const char *exec)
{
    return exec[0] == '/' ? xstrdup(exec) : xasprintf("%s/apps/%s/%s", h->path, tenant, exec);
}

char *home_image(const struct home *h, const char *tenant, const char *image, const char **ret_tag)
{
    const char *slash = strrchr(image, '/'), *colon = strchr(slash ? slash : image, ':');
    AUTO_FREE char *path = xstrndup(image, colon ? (size_t)(colon - image) : strlen(image));
    *ret_tag = colon ? colon + 1 : "";
    return home_exec(h, tenant, path);
}

char *home_purge_mark(const char *tenant)
{
    return xasprintf("state/warden/purge-%s", tenant);
}

char *home_secret(const struct home *h, const char *tenant, const char *file)
{
    return file[0] == '/' ? xstrdup(file) : xasprintf("%s/keys/%s/%s", h->path, tenant, file);
}

char *home_program(const struct home *h, const char *name)
{
    return xasprintf("%s/%s", h->bin, name);
}

int home_lock(const struct home *h, const char *name, int wait_ms, struct err *e)
{
    int64_t until = clk_now_ms() + wait_ms;
    AUTO_FREE char *rel = xasprintf("state/%s.lock", name);
    int fd = openat(h->dirfd, rel, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s/%s", h->path, rel);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int r = -errno;
        if (r == -EINTR || (r == -EWOULDBLOCK && clk_now_ms() < until && poll(NULL, 0, LOCK_RETRY_MS) == 0))
            continue;
        close(fd);
        return err_set(e, r, "another %s already works on %s; stop it first with `mysimbdp down --home %s`", name, h->path,
                       h->path);
    }
    return fd;
}

int home_kept_port(const struct home *h, const char *program)
{
    AUTO_FREE char *rel = xasprintf("state/%s.port", program);
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(h->dirfd, rel, &b, 64, NULL) < 0)
        return 0;
    char *end;
    long port = strtol(b.p, &end, 10);
    return port > 0 && port < 65536 && *end == '\n' ? (int)port : 0;
}

int home_keep_port(const struct home *h, const char *program, int port, struct err *e)
{
    /* Each program has a file of its own. They start side by side, and would overwrite each other's number in a common one. */
    AUTO_FREE char *rel = xasprintf("state/%s.port", program);
    AUTO_FREE char *text = xasprintf("%d\n", port);
    return fd_write_file(h->dirfd, rel, text, strlen(text), 0600, e);
}

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

void home_new_id(char out[ID_SIZE])
{
    /* 48 bits of milliseconds, then 80 random bits, 5 bits a character. Ids of one millisecond made by one thread stay
     * in order: the random part counts up. */
    static _Thread_local uint64_t last_ms, high, low;
    uint64_t ms = (uint64_t)clk_wall_ms();
    if (ms <= last_ms) {
        ms = last_ms;
        if (++low == 0)
            high++;
    } else {
        last_ms = ms;
        randombytes_buf(&low, sizeof low);
        high = randombytes_uniform(1 << 15);
    }
    unsigned __int128 v = ((unsigned __int128)ms << 80) | ((unsigned __int128)(high & 0xffff) << 64) | low;
    for (int i = 25; i >= 0; i--, v >>= 5)
        out[i] = alphabet[v & 31];
    out[26] = 0;
}

void home_first_id(int64_t wall_ms, char out[ID_SIZE])
{
    uint64_t v = (uint64_t)(wall_ms > 0 ? wall_ms : 0);
    memset(out, alphabet[0], 26);
    for (int i = 9; i >= 0; i--, v >>= 5) /* as home_new_id: 50 bits before the 80 random ones */
        out[i] = alphabet[v & 31];
    out[26] = 0;
}

bool home_valid_id(const char *id)
{
    return strlen(id) == 26 && strspn(id, alphabet) == 26;
}

const char *home_take_arg(int *argc, char **argv)
{
    const char *value = NULL;
    int out = 1;
    for (int i = 1; i < *argc; i++) {
        if (!strcmp(argv[i], "--home") && i + 1 < *argc)
            value = argv[++i];
        else if (!strncmp(argv[i], "--home=", 7))
            value = argv[i] + 7;
        else
            argv[out++] = argv[i];
    }
    argv[out] = NULL;
    *argc = out;
    return value;
}
