/* The audit log: the chain, what breaks it, and what a crash leaves of it. */
#include "accounts/audit_parts.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define LOG  "logs/audit.jsonl"
#define HEAD "state/audit.head"

static int dirfd_;
static char dir[] = "/tmp/simbdp-audit-XXXXXX";

static int make_home(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/simbdp-audit-XXXXXX");
    if (sodium_init() < 0 || !mkdtemp(dir))
        return -1;
    dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return mkdirat(dirfd_, "state", 0700) + mkdirat(dirfd_, "logs", 0711);
}

static int remove_home(void **state)
{
    (void)state;
    fd_remove_tree(AT_FDCWD, dir);
    return close(dirfd_);
}

static int add(const char *what)
{
    return audit_add(dirfd_, &(struct audit_record){"ann", "192.0.2.1", what, "acme", "x", "ok"}, NULL);
}

static void add_n(int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(add("upload"), 0);
}

static void read_to(const char *path, struct buf *b)
{
    buf_reset(b);
    assert_int_equal(fd_read_file(dirfd_, path, b, 64 << 20, NULL), 0);
}

static void write_from(const char *path, const char *p, size_t n)
{
    AUTO_FD int fd = openat(dirfd_, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_all(fd, p, n), 0);
}

static void append(const char *text, size_t n)
{
    AUTO_FD int fd = openat(dirfd_, LOG, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(fd_write_all(fd, text, n), 0);
}

/* How many records there are; the chain is whole. */
static int64_t whole(void)
{
    struct err e = {0};
    int64_t first = -1, last = -1;
    if (audit_verify(dirfd_, &first, &last, &e) < 0)
        fail_msg("%s", e.msg);
    return last - first + 1;
}

static void broken(const char *why)
{
    struct err e = {0};
    int64_t first = -1, last = -1;
    assert_int_equal(audit_verify(dirfd_, &first, &last, &e), ERR_FORMAT);
    assert_int_equal(first + last, -2);
    if (!strstr(e.msg, why))
        fail_msg("%s", e.msg);
}

/* Where line i (from 0) begins. */
static size_t line_at(const struct buf *b, int i)
{
    const char *p = b->p;
    for (; i > 0; i--)
        p = strchr(p, '\n') + 1;
    return (size_t)(p - b->p);
}

static void a_record_has_what_it_should_and_its_hash_is_of_its_text(void **state)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    AUTO_BUF struct buf b = {0};
    char hex[65], head[AUDIT_HASH_SIZE];
    unsigned char hash[32];
    int64_t seq;
    struct stat st;
    (void)state;
    assert_int_equal(whole(), 0);
    assert_int_equal(audit_head(dirfd_, &seq, head, NULL), 0);
    assert_int_equal(seq, 0);
    assert_string_equal(head, zeros);
    assert_int_equal(audit_add(dirfd_, &(struct audit_record){"a\"nn\n", "local", "user_add", NULL, NULL, "ok"}, NULL), 0);
    read_to(LOG, &b);
    assert_memory_equal(b.p, "{\"seq\":1,\"ts\":\"20", 17);
    const char *rest = strstr(b.p, "Z\",") + 3;
    char expected[400];
    const char *cut = strstr(b.p, ",\"hash\":\"");
    crypto_generichash(hash, sizeof hash, (unsigned char *)b.p, (size_t)(cut - b.p), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(expected, sizeof expected,
             "\"who\":\"a\\\"nn\\n\",\"from\":\"local\",\"what\":\"user_add\",\"tenant_id\":null,\"subject\":null,\"outcome\":"
             "\"ok\",\"prev\":\"%s\","
             "\"hash\":\"%s\"}\n",
             zeros, hex);
    assert_string_equal(rest, expected);
    assert_int_equal(audit_head(dirfd_, &seq, head, NULL), 0);
    assert_int_equal(seq, 1);
    assert_string_equal(head, hex);
    assert_int_equal(fstatat(dirfd_, LOG, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(add("upload"), 0);
    read_to(LOG, &b);
    assert_non_null(strstr(b.p + line_at(&b, 1), hex));
    assert_int_equal(whole(), 2);
}

static void texts_are_bounded_and_its_own_names_are_refused(void **state)
{
    AUTO_BUF struct buf b = {0};
    char text[5001];
    (void)state;
    memset(text, 1, 5000);
    text[5000] = 0;
    assert_int_equal(add("audit_cut"), -EINVAL);
    assert_int_equal(add("audit_head"), -EINVAL);
    assert_int_equal(add("audit_begin"), -EINVAL);
    assert_int_equal(audit_add(dirfd_, &(struct audit_record){text, text, text, text, text, text}, NULL), 0);
    assert_int_equal(
        audit_add(dirfd_, &(struct audit_record){"\xff\xc3", "\",\"hash\":\"", "x", "\",\"prev\":\"", "\\", "ok"}, NULL), 0);
    read_to(LOG, &b);
    assert_true(line_at(&b, 1) < 6 * 6 * AUDIT_FIELD_MAX + 512);
    assert_int_equal(whole(), 2);
}

static void each_changed_byte_is_found(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    add_n(3);
    read_to(LOG, &b);
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] ^= 1;
        write_from(LOG, b.p, b.n);
        broken("");
        b.p[i] ^= 1;
    }
    b.p[line_at(&b, 2) - 80] ^= 1; /* of its text */
    write_from(LOG, b.p, b.n);
    broken("what stands behind record 1 was changed: its hash is another");
    b.p[line_at(&b, 2) - 80] ^= 1;
    write_from(LOG, b.p, b.n);
    assert_int_equal(whole(), 3);
}

static void removed_moved_and_added_records_are_found(void **state)
{
    AUTO_BUF struct buf b = {0}, other = {0};
    (void)state;
    add_n(4);
    read_to(LOG, &b);
    size_t at[5];
    for (int i = 0; i < 5; i++)
        at[i] = line_at(&b, i);
    buf_add(&other, b.p, at[1]);
    buf_add(&other, b.p + at[2], at[4] - at[2]);
    write_from(LOG, other.p, other.n);
    broken("record 3 follows 1: 1 are missing");
    write_from(LOG, b.p + at[1], at[4] - at[1]);
    broken("record 2 follows 0: 1 are missing");
    buf_reset(&other);
    buf_add(&other, b.p, at[2]);
    buf_add(&other, b.p + at[1], at[4] - at[1]);
    write_from(LOG, other.p, other.n);
    broken("record 2 follows 2: it was put there");
    write_from(LOG, b.p, at[3]);
    broken("ends with record 3: 1 behind it are missing");
    write_from(LOG, b.p, at[4] - 5);
    broken("ends with record 3: 1 behind it are missing");
    write_from(LOG, "", 0);
    broken("4 behind it are missing");
    unlinkat(dirfd_, LOG, 0);
    broken("4 behind it are missing");
}

/* A record in the place of another, with a hash that is right for its text. */
static void a_forged_record_is_of_another_chain(void **state)
{
    AUTO_BUF struct buf b = {0}, forged = {0};
    char hex[65];
    unsigned char hash[32];
    (void)state;
    add_n(3);
    read_to(LOG, &b);
    size_t at = line_at(&b, 2);
    buf_add(&forged, b.p, b.n);
    memcpy(strstr(forged.p + at, "\"x\""), "\"y\"", 3);
    char *cut = strstr(forged.p + at, ",\"hash\":\"");
    crypto_generichash(hash, sizeof hash, (unsigned char *)forged.p + at, (size_t)(cut - forged.p) - at, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    memcpy(cut + sizeof ",\"hash\":\"" - 1, hex, 64);
    write_from(LOG, forged.p, forged.n);
    broken("record 3 is another one than was written");
    assert_int_equal(add("upload"), 0);
    broken("of another chain");
}

static void after_a_loss_the_gap_stays(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    add_n(5);
    read_to(LOG, &b);
    for (int middle = 0; middle < 2; middle++) {
        write_from(LOG, b.p, line_at(&b, 3) + (middle ? 30 : 0));
        assert_int_equal(add("upload"), 0);
        broken(middle ? "follows 3" : "record 6 follows 3: 2 are missing");
        add_n(2);
        broken("follows 3: ");
    }
}

static void a_record_that_was_cut_short_is_closed_off(void **state)
{
    AUTO_BUF struct buf before = {0}, head = {0}, after = {0}, now = {0};
    (void)state;
    add_n(2);
    read_to(LOG, &before);
    read_to(HEAD, &head);
    add_n(1);
    read_to(LOG, &after);
    for (size_t n = before.n + 1; n <= after.n; n += n + 9 < after.n ? 7 : 1) {
        write_from(LOG, after.p, n);
        write_from(HEAD, head.p, head.n);
        assert_int_equal(whole(), n == after.n ? 3 : 2);
        assert_int_equal(add("delete"), 0);
        assert_int_equal(whole(), 4); /* its own and the one that closes, or the one that was whole */
        read_to(LOG, &now);
        assert_memory_equal(now.p, after.p, n);
        assert_int_equal(strstr(now.p, "\"what\":\"audit_cut\"") != NULL, n < after.n - 1); /* an end of line can be put */
    }
    write_from(LOG, after.p, before.n + 40);
    write_from(HEAD, head.p, head.n);
    add_n(1);
    read_to(LOG, &now);
    now.p[before.n + 20] ^= 1; /* what was closed off is vouched for as well */
    write_from(LOG, now.p, now.n);
    broken("what stands behind record 2 is no record");
}

static void closing_off_may_be_cut_short_too(void **state)
{
    AUTO_BUF struct buf head = {0}, closed = {0};
    (void)state;
    add_n(2);
    read_to(HEAD, &head);
    append("{\"seq\":3,\"ts", 11);
    add_n(1);
    read_to(LOG, &closed);
    size_t cut = line_at(&closed, 3);
    for (size_t n = cut + 1; n < line_at(&closed, 4); n += 11) {
        write_from(LOG, closed.p, n);
        write_from(HEAD, head.p, head.n);
        assert_int_equal(whole(), 2);
        add_n(1);
        assert_int_equal(whole(), 4);
    }
}

static void a_text_does_not_pass_for_what_closes_off(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    add_n(1);
    read_to(LOG, &b);
    append("garbage\n", 8);
    broken("what stands behind record 1 is no record");
    append(b.p, b.n);
    broken("record 1 follows 1");
    add_n(1); /* closes that off: 3 records, and the garbage is said */
    assert_int_equal(whole(), 3);
    char *much = xcalloc(1, 40000);
    memset(much, 'x', 39999);
    append(much, 39999);
    free(much);
    broken("is no record");
    add_n(1);
    broken("is no record"); /* no crash leaves so much */
}

static void who_is_killed_between_record_and_head_loses_nothing(void **state)
{
    AUTO_BUF struct buf head = {0};
    (void)state;
    add_n(1);
    read_to(HEAD, &head);
    add_n(3);
    write_from(HEAD, head.p, head.n);
    assert_int_equal(whole(), 4);
    add_n(1);
    assert_int_equal(whole(), 5);
}

static void that_the_head_was_removed_is_said_for_good(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        add_n(3);
        read_to(LOG, &b);
        write_from(LOG, b.p, line_at(&b, 2)); /* with the last record, nobody could tell */
        if (damaged)
            write_from(HEAD, "?", 1);
        else
            unlinkat(dirfd_, HEAD, 0);
        broken(damaged ? "state/audit.head is damaged" : "state/audit.head is gone");
        add_n(2);
        broken("record 3 says that state/audit.head was gone");
        unlinkat(dirfd_, LOG, 0); /* a new log: both are moved away */
        unlinkat(dirfd_, HEAD, 0);
        assert_int_equal(whole(), 0);
    }
}

/* ---- several files ---- */

enum { FEW_BYTES = 1500 /* five records, about */ };

static int make_small(void **state)
{
    audit_file_max = FEW_BYTES;
    return make_home(state);
}

static int remove_small(void **state)
{
    audit_file_max = 64 << 20;
    return remove_home(state);
}

/* The numbers of the last records of the files that were put aside. */
static size_t put_aside(int64_t ret[], size_t room)
{
    struct audit_list l;
    struct stat st;
    assert_int_equal(fstatat(dirfd_, LOG, &st, 0), 0);
    assert_int_equal(audit_list(dirfd_, &st, &l, NULL), 0);
    size_t n = l.n;
    assert_true(n <= room);
    for (size_t i = 0; i < n; i++)
        ret[i] = l.last[i];
    audit_list_fini(&l);
    return n;
}

static void two_processes_make_one_chain(void **state)
{
    enum { EACH = 100 };
    pid_t child[2];
    (void)state;
    for (int i = 0; i < 2; i++)
        if (!(child[i] = fork())) {
            for (int k = 0; k < EACH; k++)
                if (add(i ? "one" : "other") < 0)
                    _exit(1);
            _exit(0);
        }
    for (int i = 0; i < 2; i++) {
        int status;
        while (waitpid(child[i], &status, WNOHANG) == 0)
            whole(); /* also while they write */
        assert_int_equal(status, 0);
    }
    int64_t last[64], n = whole();
    assert_int_equal(n, 2 * EACH + (int64_t)put_aside(last, 64));
}

static void kills_leave_a_chain(void **state)
{
    (void)state;
    int64_t n = 0;
    for (int i = 0; i < 20; i++) {
        int p[2];
        char byte;
        assert_int_equal(pipe(p), 0);
        pid_t child = fork();
        if (!child)
            for (;;)
                if (add("upload") < 0 || write(p[1], "", 1) != 1)
                    _exit(1);
        for (int k = 0; k <= i % 4; k++)
            assert_int_equal(read(p[0], &byte, 1), 1);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(p[0]);
        close(p[1]);
        assert_true(whole() > n);
        add_n(1);
        n = whole();
    }
}

static void a_full_disk_takes_nothing(void **state)
{
    AUTO_BUF struct buf before = {0}, after = {0};
    (void)state;
    add_n(2);
    read_to(LOG, &before);
    pid_t child = fork();
    if (!child) {
        struct rlimit l = {before.n + 50, before.n + 50};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &l);
        _exit(add("upload") == -EFBIG ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    read_to(LOG, &after);
    assert_int_equal(before.n, after.n);
    add_n(1);
    assert_int_equal(whole(), 3);
}

static int count(void *arg, const bson_t *record, const char *line, size_t n)
{
    int64_t *sum = arg;
    *sum += json_get_i64(record, "seq", 0);
    assert_int_equal(line[n - 1], '}');
    return *sum >= 100;
}

static void records_can_be_read_whatever_lies_between(void **state)
{
    int64_t sum = 0, skipped;
    (void)state;
    assert_int_equal(audit_each(dirfd_, count, &sum, &skipped, NULL), 0);
    assert_int_equal(sum + skipped, 0);
    add_n(3);
    append("{\"seq\":4,", 9);
    assert_int_equal(audit_each(dirfd_, count, &sum, &skipped, NULL), 0);
    assert_int_equal(sum, 6);
    assert_int_equal(skipped, 1);
    sum = 99;
    assert_int_equal(audit_each(dirfd_, count, &sum, &skipped, NULL), 1);
    assert_int_equal(sum, 100);
}

struct newest {
    int64_t seqs[512];
    size_t n, stop; /* it ends with the stop-th from here; 0: never */
};

static int note(void *arg, const bson_t *record, const char *line, size_t n)
{
    struct newest *v = arg;
    assert_true(n && line[0] == '{' && line[n - 1] == '}');
    assert_true(v->n < sizeof v->seqs / sizeof *v->seqs);
    v->seqs[v->n++] = json_get_i64(record, "seq", 0);
    return v->stop && v->n % v->stop == 0;
}

/* All records by pages of that many records or bytes. between: called after the first page. */
static void by_pages(struct newest *v, int64_t max_bytes, int64_t *ret_skipped, void (*between)(void))
{
    struct audit_place at = {0, AUDIT_END};
    struct err e = {0};
    int64_t skipped;
    bool more = true;
    *ret_skipped = 0;
    for (int i = 0; more; i++) {
        assert_true(i < 2000);
        if (audit_newest(dirfd_, &at, max_bytes, note, v, &skipped, &more, &e) < 0)
            fail_msg("%s", e.msg);
        *ret_skipped += skipped;
        if (i == 0 && between)
            between();
    }
}

static void add_some(void)
{
    add_n(12);
}

static void newest_first_page_by_page(void **state)
{
    struct newest v = {0};
    int64_t skipped, last;
    char hash[AUDIT_HASH_SIZE];
    (void)state;
    by_pages(&v, 1 << 20, &skipped, NULL);
    assert_int_equal(v.n + (size_t)skipped, 0);
    for (size_t page = 0; page < 8; page++) { /* the log goes on, and is put aside, between pages */
        add_n(30);
        assert_int_equal(audit_head(dirfd_, &last, hash, NULL), 0);
        v = (struct newest){.stop = page};
        by_pages(&v, page % 2 ? 1 << 20 : 400, &skipped, add_some);
        assert_int_equal(v.n, last);
        assert_int_equal(skipped, 0);
        for (size_t i = 0; i < v.n; i++)
            assert_int_equal(v.seqs[i], last - (int64_t)i);
    }
    struct audit_place nowhere[] = {{1, INT64_C(1) << 40}, {-1, 0}, {3, -1}};
    bool more;
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        assert_int_equal(audit_newest(dirfd_, &nowhere[i], 1000, note, &v, &skipped, &more, NULL), ERR_USAGE);
}

static void newest_first_whatever_lies_between(void **state)
{
    struct newest v = {0};
    int64_t skipped;
    (void)state;
    add_n(3);
    append("no record\n\n{\"seq\":", 18);
    add_n(2); /* it is closed off by a record of its own */
    AUTO_FREE char *long_line = xmalloc(1 << 20);
    memset(long_line, 'x', 1 << 20);
    append(long_line, 1 << 20);
    by_pages(&v, 1, &skipped, NULL);
    assert_int_equal(v.n, 6);
    for (size_t i = 0; i < v.n; i++)
        assert_int_equal(v.seqs[i], 6 - (int64_t)i);
    assert_true(skipped >= 3);
}

static void path_of(int64_t last, char out[AUDIT_NAME_SIZE])
{
    snprintf(out, AUDIT_NAME_SIZE, AUDIT_OLD, last);
}

static void what_is_long_is_put_aside_and_the_chain_goes_on(void **state)
{
    int64_t last[64], sum = -1000000, skipped, first, end; /* count() ends it at 100 */
    char path[AUDIT_NAME_SIZE];
    struct stat st;
    struct err e = {0};
    (void)state;
    add_n(40);
    size_t n = put_aside(last, 64);
    assert_true(n >= 5);
    assert_int_equal(whole(), 40 + (int64_t)n); /* each but the first has a record audit_begin */
    for (size_t i = 0; i < n; i++) {
        path_of(last[i], path);
        assert_int_equal(fstatat(dirfd_, path, &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_in_range(st.st_size, FEW_BYTES, FEW_BYTES + 500);
    }
    assert_int_equal(audit_each(dirfd_, count, &sum, &skipped, NULL), 0);
    assert_int_equal(skipped, 0);
    assert_int_equal(sum + 1000000, (40 + (int64_t)n) * (41 + (int64_t)n) / 2);

    path_of(last[0], path); /* the oldest may be kept elsewhere, */
    unlinkat(dirfd_, path, 0);
    assert_int_equal(audit_verify(dirfd_, &first, &end, &e), 0);
    assert_int_equal(first, last[0] + 1);
    assert_int_equal(end, 40 + (int64_t)n);
    path_of(last[2], path); /* one in between may not */
    unlinkat(dirfd_, path, 0);
    broken("are missing");
}

static void what_was_put_aside_is_looked_at(void **state)
{
    AUTO_BUF struct buf b = {0};
    int64_t last[64];
    char path[AUDIT_NAME_SIZE];
    (void)state;
    add_n(20);
    assert_true(put_aside(last, 64) > 1);
    path_of(last[1], path);
    read_to(path, &b);
    b.p[b.n / 2] ^= 1;
    write_from(path, b.p, b.n);
    broken(path);
    b.p[b.n / 2] ^= 1;
    write_from(path, b.p, line_at(&b, 2)); /* its end is gone */
    broken("are missing");
    write_from(path, b.p + line_at(&b, 1), b.n - line_at(&b, 1)); /* its beginning */
    broken("are missing");
    write_from(path, b.p, b.n);
    whole();
}

/* The head and the names as a kill leaves them. */
static void who_is_killed_while_it_is_put_aside_loses_nothing(void **state)
{
    AUTO_BUF struct buf head = {0};
    int64_t last[64];
    char path[AUDIT_NAME_SIZE];
    (void)state;
    add_n(1);
    while (put_aside(last, 64) == 0) {
        read_to(HEAD, &head);
        add_n(1);
    }
    int64_t n = whole();
    write_from(HEAD, head.p, head.n); /* before the head of the new one was written */
    assert_int_equal(whole(), n);
    add_n(1);
    assert_int_equal(whole(), n + 1);

    for (bool grew = true; grew; n = whole()) { /* until the next one would be put aside */
        struct stat before, after;
        assert_int_equal(fstatat(dirfd_, LOG, &before, 0), 0);
        add_n(1);
        assert_int_equal(fstatat(dirfd_, LOG, &after, 0), 0);
        grew = after.st_size < FEW_BYTES;
    }
    path_of(n, path);
    assert_int_equal(linkat(dirfd_, LOG, dirfd_, path, 0), 0); /* with both names */
    write_from(LOG ".new", "garbage", 7);
    assert_int_equal(whole(), n);
    add_n(1);
    assert_int_equal(whole(), n + 2);
    assert_int_equal(put_aside(last, 64), 2);
    assert_int_equal(last[1], n);
}

static void a_name_that_is_taken_stops_nothing(void **state)
{
    int64_t last[64];
    char path[AUDIT_NAME_SIZE];
    (void)state;
    for (int64_t n = 1; n < 9; n++) {
        path_of(n, path);
        assert_int_equal(mkdirat(dirfd_, path, 0700), 0);
    }
    add_n(8);
    for (int64_t n = 1; n < 9; n++) {
        path_of(n, path);
        assert_int_equal(unlinkat(dirfd_, path, AT_REMOVEDIR), 0);
    }
    assert_int_equal(put_aside(last, 64), 0);
    assert_int_equal(whole(), 8);
    add_n(1);
    assert_int_equal(put_aside(last, 64), 1);
    assert_int_equal(whole(), 10);
}

static void a_head_that_is_lost_of_one_that_goes_on_is_said(void **state)
{
    (void)state;
    add_n(20);
    unlinkat(dirfd_, HEAD, 0);
    add_n(1);
    broken("says that state/audit.head was gone");
    int64_t seq;
    char hash[AUDIT_HASH_SIZE];
    assert_int_equal(audit_head(dirfd_, &seq, hash, NULL), 0);
    assert_true(seq > 21); /* not from 1 */
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, make_home, remove_home)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, make_small, remove_small)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_record_has_what_it_should_and_its_hash_is_of_its_text),
        TEST(texts_are_bounded_and_its_own_names_are_refused),
        TEST(each_changed_byte_is_found),
        TEST(removed_moved_and_added_records_are_found),
        TEST(a_forged_record_is_of_another_chain),
        TEST(after_a_loss_the_gap_stays),
        TEST(a_record_that_was_cut_short_is_closed_off),
        TEST(closing_off_may_be_cut_short_too),
        TEST(a_text_does_not_pass_for_what_closes_off),
        TEST(who_is_killed_between_record_and_head_loses_nothing),
        TEST(that_the_head_was_removed_is_said_for_good),
        TEST(two_processes_make_one_chain),
        TEST(kills_leave_a_chain),
        TEST(a_full_disk_takes_nothing),
        TEST(records_can_be_read_whatever_lies_between),
        TEST(newest_first_page_by_page),
        TEST(newest_first_whatever_lies_between),
        SMALL(what_is_long_is_put_aside_and_the_chain_goes_on),
        SMALL(what_was_put_aside_is_looked_at),
        SMALL(newest_first_page_by_page),
        SMALL(who_is_killed_while_it_is_put_aside_loses_nothing),
        SMALL(a_name_that_is_taken_stops_nothing),
        SMALL(a_head_that_is_lost_of_one_that_goes_on_is_said),
        SMALL(two_processes_make_one_chain),
        SMALL(kills_leave_a_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
