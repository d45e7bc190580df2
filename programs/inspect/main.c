/* simbdp-inspect: reads files it is handed and reports what they hold. It has read a tenant's bytes, so it is treated as
 * if it were the tenant's: another uid, an empty root, no network, no files but the descriptors it receives, and a
 * seccomp filter that leaves reading, memory and the one socket. A crash here costs one file's verdict. */
#include "constraints.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "read/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOCKET = 3, COPY_BYTES = 1 << 20, NICE = 5 /* who delivers, asks, or is answered goes first */ };

static void hash_raw(void *arg, const void *p, size_t n)
{
    crypto_generichash_update(arg, p, n);
}

static void say(struct inspect_reply *re, enum inspect_status s, const char *reason, const char *detail)
{
    re->status = s;
    snprintf(re->reason, sizeof re->reason, "%s", reason);
    snprintf(re->detail, sizeof re->detail, "%s", detail);
}

static _Noreturn void on_exhausted(void)
{
    static const struct inspect_reply re = {.status = INSPECT_EXHAUSTED};
    fd_send(SOCKET, &re, sizeof re, NULL, 0);
    _exit(1);
}

static int read_records(struct reader *r, const struct inspect_request *rq, bool csv, struct inspect_reply *re, struct err *e)
{
    struct record rec;
    AUTO_BUF struct buf row = {0};
    for (;;) {
        int n = reader_next(r, &rec, e);
        if (n > 0) {
            re->rows++;
            row.n = 0;
            if (rq->full)
                reader_row(r, &rec, &row);
            re->rejects += rec.reject != NULL;
            re->repaired += rec.repaired != NULL;
            if ((int64_t)rec.n > re->longest_row_bytes)
                re->longest_row_bytes = (int64_t)rec.n;
            if ((int64_t)rec.n_columns > re->columns && !rec.reject)
                re->columns = (int64_t)rec.n_columns;
        } else {
            rec = (struct record){0};
        }
        if (csv && n >= 0)
            re->columns = (int64_t)reader_n_columns(r);
        if (n < 0 || !constraints_hold(rq, re, &rec))
            return n;
        if (n == 0)
            return 0;
    }
}

static void describe(const struct reader *r, const struct spec *spec, const struct figures *f, struct buf *out)
{
    const struct dialect *d = reader_dialect(r);
    char one[2] = {0};
    json_begin(out, NULL, '{');
    json_str(out, "encoding", encoding_name(d->encoding));
    if (spec->format == READER_CSV && d->n_delimiter) {
        json_begin(out, "dialect", '{');
        json_strn(out, "delimiter", d->delimiter, d->n_delimiter);
        one[0] = d->quote == NO_CHAR ? 0 : (char)d->quote;
        json_str(out, "quote", one);
        one[0] = d->escape == NO_CHAR ? 0 : (char)d->escape;
        json_str(out, "escape", one);
        json_str(out, "line_end", d->line_end == LINE_LF ? "lf" : d->line_end == LINE_CR ? "cr" : "any");
        json_i64(out, "skip_rows", d->skip_rows);
        json_i64(out, "header_rows", d->header_rows);
        json_i64(out, "footer_rows", reader_footers(r));
        json_f64(out, "confidence", (int)(d->confidence * 100) / 100.0);
        json_str(out, "why", d->why);
        json_end(out, '}');
    }
    int64_t line, offset;
    const char *header = reader_header_repair(r, &line, &offset);
    if (header)
        json_str(out, "header_repaired", header);
    size_t n = out->n;
    if (f)
        figures_json(f, spec->now_ms, out);
    if (out->n >= INSPECT_JSON_MAX) { /* too large: columns have names of kilobytes */
        out->n = n;
        json_null(out, "by_column");
    }
    json_end(out, '}');
}

static void inspect(int fd, const struct inspect_request *rq, const struct spec *spec, struct inspect_reply *re, struct buf *json)
{
    crypto_generichash_state hash;
    struct err e = {0};
    int64_t max;
    if (!constraints_expansion(fd, rq, re, &max))
        return;
    crypto_generichash_init(&hash, NULL, 0, INSPECT_HASH_BYTES);
    lseek(fd, 0, SEEK_SET);
    struct src *s = src_new(fd, rq->compression, max, hash_raw, &hash);
    struct reader *r = reader_new(s, spec);
    struct figures *f = rq->full ? figures_new() : NULL;
    if (f)
        reader_set_figures(r, f);
    int n = read_records(r, rq, spec->format == READER_CSV, re, &e);
    re->raw_bytes = src_raw_bytes(s);
    re->bytes = reader_offset(r);
    if (n == -ENOMEM)
        on_exhausted();
    if (n == ERR_LIMIT)
        constraints_refuse_bytes(rq, re, max, e.msg);
    else if (n == ERR_CONFIG)
        say(re, INSPECT_REFUSED, "columns", e.msg);
    else if (n == ERR_FORMAT)
        say(re, INSPECT_REFUSED, "format", e.msg);
    else if (n < 0)
        say(re, INSPECT_FAILED, INSPECT_NOT_READ, e.msg);
    else if (re->status == INSPECT_OK && constraints_reject_share(rq, re) && re->raw_bytes == 0)
        say(re, INSPECT_REFUSED, "empty", "the file is empty");
    /* What is known of it holds after a power cut, too, and so does where it is: its sender may not have synced it. */
    if (re->status == INSPECT_OK && fsync(fd) < 0)
        say(re, INSPECT_FAILED, INSPECT_NOT_SYNCED, strerror(errno));
    crypto_generichash_final(&hash, re->hash, INSPECT_HASH_BYTES);
    describe(r, spec, f, json);
    figures_free(f);
    reader_free(r);
    src_free(s);
}

static int copy_some(int from, int to, char *chunk, int64_t n)
{
    while (n > 0) {
        ssize_t got = read(from, chunk, n < COPY_BYTES ? (size_t)n : COPY_BYTES);
        if (got <= 0)
            return got < 0 ? -errno : 0; /* the file became shorter; that is noticed below */
        int r = fd_write_all(to, chunk, (size_t)got);
        if (r < 0)
            return r;
        n -= got;
    }
    return 0;
}

/* Copies a file with its holes: in staging/ it may be of any size and take no space. */
static int copy_data(int from, int to, char *chunk, int64_t size)
{
    int64_t at = 0, end;
    int r = 0;
    while (r == 0 && at < size) {
        int64_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0 || (end = lseek(from, data, SEEK_HOLE)) <= data) {
            data = at; /* this file system cannot do that */
            end = size;
        }
        if (lseek(from, data, SEEK_SET) < 0 || lseek(to, data, SEEK_SET) < 0)
            return -errno;
        r = copy_some(from, to, chunk, end - data);
        at = end;
    }
    return r < 0 ? r : ftruncate(to, size) < 0 ? -errno : 0;
}

static void copy(int from, int to, struct inspect_reply *re)
{
    struct stat before, after;
    struct err e = {0};
    char *chunk = malloc(COPY_BYTES);
    int r = !chunk ? -ENOMEM : fstat(from, &before) < 0 ? -errno : copy_data(from, to, chunk, before.st_size);
    free(chunk);
    if (r == 0 && (fsync(to) < 0 || fstat(from, &after) < 0))
        r = -errno;
    if (r < 0) {
        err_sys(&e, r, "cannot copy the file");
        say(re, INSPECT_FAILED, "copy", e.msg);
    } else if (before.st_size != after.st_size || before.st_mtim.tv_sec != after.st_mtim.tv_sec ||
               before.st_mtim.tv_nsec != after.st_mtim.tv_nsec) {
        say(re, INSPECT_FAILED, "changed", "the file changed while it was copied");
    }
}

/* The limit is counted from what the process has mapped by now, which in a build with sanitizers are terabytes. */
static int limit_memory(int64_t bytes)
{
    AUTO_BUF struct buf statm = {0};
    long long pages = 0;
    int r = fd_read_file(AT_FDCWD, "/proc/self/statm", &statm, 4096, NULL);
    if (r == 0 && sscanf(statm.p, "%*s %*s %*s %*s %*s %lld", &pages) != 1)
        r = -EPROTO;
    rlim_t max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (rlim_t)bytes;
    return r < 0 ? r : setrlimit(RLIMIT_DATA, &(struct rlimit){max, max}) < 0 ? -errno : 0;
}

#ifdef __SANITIZE_ADDRESS__ /* its malloc would end the process instead of returning NULL */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

/* An empty root and a uid of its own when we are root. Without privilege the filter alone has to do. */
static int drop_privileges(uid_t uid)
{
    if (geteuid() == 0) {
        if (chroot("/proc/self/fdinfo") < 0 || chdir("/") < 0 || setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
            setresuid(uid, uid, uid) < 0)
            return -errno;
    }
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int filter(void)
{
    static const int allowed[] = {
        SCMP_SYS(read),        SCMP_SYS(pread64),       SCMP_SYS(write),           SCMP_SYS(lseek),          SCMP_SYS(fstat),
        SCMP_SYS(newfstatat),  SCMP_SYS(fsync),         SCMP_SYS(close),           SCMP_SYS(recvmsg),        SCMP_SYS(sendmsg),
        SCMP_SYS(sendto),      SCMP_SYS(munmap),        SCMP_SYS(mremap),          SCMP_SYS(madvise),        SCMP_SYS(brk),
        SCMP_SYS(futex),       SCMP_SYS(rt_sigreturn),  SCMP_SYS(rt_sigaction),    SCMP_SYS(rt_sigprocmask), SCMP_SYS(exit),
        SCMP_SYS(exit_group),  SCMP_SYS(clock_gettime), SCMP_SYS(restart_syscall), SCMP_SYS(gettid),         SCMP_SYS(getpid),
        SCMP_SYS(sched_yield), SCMP_SYS(sigaltstack),   SCMP_SYS(getrandom),       SCMP_SYS(tgkill),         SCMP_SYS(fcntl),
        SCMP_SYS(ftruncate),
    };
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = ctx ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < sizeof allowed / sizeof *allowed; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    /* Memory may be mapped, but never executable, and only of the kinds that RLIMIT_DATA counts. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                             SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_SHARED | MAP_GROWSDOWN, 0));
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r;
}

static int serve(void)
{
    static char message[sizeof(struct inspect_request) + INSPECT_JSON_MAX];
    for (;;) {
        struct inspect_request rq;
        struct inspect_reply re = {0};
        struct spec *spec = NULL;
        AUTO_BUF struct buf answer = {0}, json = {0};
        int fds[2] = {-1, -1};
        size_t n_fds = 0;
        ssize_t n = fd_recv(SOCKET, message, sizeof message, fds, 2, &n_fds);
        if (n <= 0)
            return n < 0;
        if ((size_t)n < sizeof rq)
            return 1;
        memcpy(&rq, message, sizeof rq);
        if (n_fds != (rq.op == INSPECT_COPY ? 2u : 1u))
            return 1;
        if (rq.op == INSPECT_COPY)
            copy(fds[0], fds[1], &re);
        else if (spec_parse(message + sizeof rq, (size_t)n - sizeof rq, &spec, NULL, NULL) == 0)
            inspect(fds[0], &rq, spec, &re, &json);
        else
            return 1;
        spec_free(spec);
        for (size_t i = 0; i < n_fds; i++)
            close(fds[i]);
        buf_add(&answer, &re, sizeof re);
        buf_add(&answer, json.p, json.n);
        if (fd_send(SOCKET, answer.p, answer.n, NULL, 0) < 0)
            return 1;
    }
}

int main(int argc, char **argv)
{
    log_init("simbdp-inspect");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return puts("usage: simbdp-inspect UID MEMORY_BYTES --home HOME   started by batchmgr, with its socket on descriptor 3") <
               0;
    if (argc != 5)
        return fputs("usage: simbdp-inspect UID MEMORY_BYTES --home HOME\n", stderr), 2;
    (void)setpriority(PRIO_PROCESS, 0, NICE);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    mem_on_exhausted(on_exhausted);
    bson_mem_set_vtable(&(const bson_mem_vtable_t){.malloc = xmalloc, .calloc = xcalloc, .realloc = xrealloc, .free = free});
    clk_now_ms(); /* let libraries map what they need before mapping is forbidden */
    /* No sodium_init: it would choose BLAKE2b's AVX2 code, which is half as fast as the portable one on recent processors
     * (0.74 against 1.37 GB/s measured); hashing needs nothing else of it. */
    int r = limit_memory(strtoll(argv[2], NULL, 10));
    if (r == 0)
        r = drop_privileges((uid_t)strtoul(argv[1], NULL, 10));
    if (r == 0)
        r = filter();
    if (r < 0) {
        log_error("sandbox", NULL, NULL, "cannot lock itself in: %s", strerror(-r));
        return 1;
    }
    r = serve();
    _exit(r);
}
