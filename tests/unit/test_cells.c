/* The map of a fleet: what it says is what was signed, and nothing else is taken for one. */
#include "check.h"

#include "cells/draft.h"
#include "cells/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DAY = 86400000 };
static unsigned char public[CELLS_PUBLIC_BYTES], secret[CELLS_SECRET_BYTES];
#define PIN "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct cells_draft *three(void)
{
    struct cells_draft *d = cells_draft_new();
    assert_int_equal(cells_draft_add(d, "b", "https://b.example", NULL, NULL), 0);
    assert_int_equal(cells_draft_add(d, "a", "https://10.0.0.1:8443", PIN, NULL), 0);
    assert_int_equal(cells_draft_assign(d, "acme", "a", false, NULL), 0);
    assert_int_equal(cells_draft_assign(d, "acme-2", "b", false, NULL), 0);
    assert_int_equal(cells_draft_assign(d, "beta", "b", true, NULL), 0);
    return d;
}

static struct buf signed_map(const struct cells_draft *d, uint64_t serial)
{
    struct buf b = {0};
    cells_draft_sign(d, serial, 1000, 1000 + DAY, secret, &b);
    return b;
}

static int parse(const char *p, size_t n, struct cells_map **ret, struct err *e)
{
    struct buf b = {0};
    buf_add(&b, p, n);
    return cells_map_parse(&b, public, ret, e);
}

/* Text as it is, with a signature that is right. */
static int parse_signed(const char *text, struct err *e)
{
    unsigned char signature[crypto_sign_BYTES];
    char base64[128];
    struct buf b = {0};
    struct cells_map *m = NULL;
    crypto_sign_detached(signature, NULL, (const unsigned char *)text, strlen(text), secret);
    sodium_bin2base64(base64, sizeof base64, signature, sizeof signature, sodium_base64_VARIANT_ORIGINAL);
    buf_addf(&b, "%ssignature %s\n", text, base64);
    int r = cells_map_parse(&b, public, &m, e);
    cells_map_free(m);
    return r;
}

static const char *cell_of(const struct cells_map *m, const char *tenant, bool *ret_moving)
{
    const struct cells_cell *c = cells_map_find(m, tenant, strlen(tenant), ret_moving);
    return c ? c->name : NULL;
}

static void what_was_signed_is_what_is_found(void **state)
{
    AUTO_CELLS_DRAFT struct cells_draft *d = three();
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    struct buf b = signed_map(d, 7);
    bool moving;
    (void)state;
    assert_int_equal(cells_map_parse(&b, public, &m, NULL), 0);
    assert_int_equal(cells_map_serial(m), 7);
    assert_string_equal(cell_of(m, "acme", &moving), "a");
    assert_false(moving);
    assert_string_equal(cell_of(m, "acme-2", &moving), "b");
    assert_string_equal(cell_of(m, "beta", &moving), "b");
    assert_true(moving);
    const char *const nobody[] = {"", "a", "acm", "acme-", "acme-22", "betb", "zzz", "ACME", "acme\n"};
    for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++)
        assert_null(cell_of(m, nobody[i], &moving));
    assert_null(cells_map_find(m, "acme\0x", 6, &moving));
    assert_string_equal(cells_map_cell(m, 0)->pin, PIN);
    assert_int_equal(cells_map_cell(m, 0)->at.at.port, 8443);
    assert_int_equal(cells_map_cell(m, 1)->at.at.port, 443);
}

static void one_byte_more_less_or_other_is_refused(void **state)
{
    AUTO_CELLS_DRAFT struct cells_draft *d = three();
    AUTO_BUF struct buf b = signed_map(d, 7);
    (void)state;
    for (size_t i = 0; i < b.n; i++) {
        struct cells_map *m = NULL;
        struct err e = {0};
        AUTO_FREE char *other = xmalloc(b.n + 1);
        assert_true(parse(b.p, i, &m, &e) < 0 && *e.msg); /* cut */
        memcpy(other, b.p, b.n);
        other[i] ^= 1;
        assert_true(parse(other, b.n, &m, &e) < 0); /* changed */
        memcpy(other, b.p, i);
        memcpy(other + i + 1, b.p + i, b.n - i);
        other[i] = 'a';
        if (b.p[i] != 'a')
            assert_true(parse(other, b.n + 1, &m, &e) < 0); /* more */
        assert_null(m);
    }
    struct cells_map *m = NULL;
    buf_adds(&b, "tenant zoo a\n");
    assert_int_equal(parse(b.p, b.n, &m, NULL), ERR_REFUSED);
}

static void anothers_signature_is_none(void **state)
{
    unsigned char other[CELLS_PUBLIC_BYTES], its[CELLS_SECRET_BYTES];
    AUTO_CELLS_DRAFT struct cells_draft *d = three();
    struct cells_map *m = NULL;
    struct buf b = {0};
    struct err e = {0};
    (void)state;
    crypto_sign_keypair(other, its);
    cells_draft_sign(d, 1, 1000, 2000, its, &b);
    assert_int_equal(cells_map_parse(&b, public, &m, &e), ERR_REFUSED);
    assert_string_equal(e.msg, "the map is not signed by this key, or was changed since");
    cells_draft_write(d, &b);
    assert_int_equal(cells_map_parse(&b, public, &m, &e), ERR_FORMAT);
}

#define HEAD "mysimbdp-cells 1\nserial 1\nfrom 1000\nuntil 2000\n"

static void what_is_signed_has_to_be_a_map_all_the_same(void **state)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {HEAD, 0},
        {HEAD "cell a https://h -\ntenant t a\n", 0},
        {"mysimbdp-cells 2\nserial 1\nfrom 1000\nuntil 2000\n", ERR_VERSION},
        {"mysimbdp-cells 1\nserial 0\nfrom 1000\nuntil 2000\n", ERR_FORMAT},
        {"mysimbdp-cells 1\nserial 01\nfrom 1000\nuntil 2000\n", ERR_FORMAT},
        {"mysimbdp-cells 1\nserial -1\nfrom 1000\nuntil 2000\n", ERR_FORMAT},
        {"mysimbdp-cells 1\nserial 1\nfrom 2000\nuntil 2000\n", ERR_FORMAT},
        {"mysimbdp-cells 1\nserial 1\nuntil 2000\nfrom 1000\n", ERR_FORMAT},
        {HEAD "cell b https://h -\ncell a https://h -\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ncell a https://h -\n", ERR_FORMAT},
        {HEAD "cell a https://h\n", ERR_FORMAT},
        {HEAD "cell a https://h/path -\n", ERR_FORMAT},
        {HEAD "cell a https://u@h -\n", ERR_FORMAT},
        {HEAD "cell a http://h -\n", ERR_FORMAT},
        {HEAD "cell a ftp://h -\n", ERR_FORMAT},
        {HEAD "cell a https://h:0 -\n", ERR_FORMAT},
        {HEAD "cell a https://h abc\n", ERR_FORMAT},
        {HEAD "cell A https://h -\n", ERR_FORMAT},
        {HEAD "cell a https://h - more\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant t b\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant t\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant t a gone\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant t/u a\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant ../t a\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant u a\ntenant t a\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant t a\ntenant t a\n", ERR_FORMAT},
        {HEAD "cell a https://h -\ntenant t a\ncell b https://h -\n", ERR_FORMAT},
        {HEAD "cell a  https://h -\n", ERR_FORMAT},
        {HEAD "cell a https://h - \n", ERR_FORMAT},
        {HEAD "cell a https://h -\r\n", ERR_FORMAT},
        {HEAD "cell a https://h\x80 -\n", ERR_FORMAT},
        {HEAD "\n", ERR_FORMAT},
        {HEAD "more 1\n", ERR_FORMAT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        int r = parse_signed(cases[i].text, &e);
        if (r != cases[i].code)
            fail_msg("%s gives %d (%s)", cases[i].text, r, e.msg);
    }
}

static void bounds_bite(void **state)
{
    struct buf b = {0};
    (void)state;
    for (int n = CELLS_MAX; n <= CELLS_MAX + 1; n++) {
        buf_reset(&b);
        buf_adds(&b, HEAD);
        for (int i = 0; i < n; i++)
            buf_addf(&b, "cell c%05d https://h -\n", i);
        assert_int_equal(parse_signed(b.p, NULL), n > CELLS_MAX ? ERR_LIMIT : 0);
    }
    for (int n = CELLS_TENANTS_MAX; n <= CELLS_TENANTS_MAX + 1; n++) {
        buf_reset(&b);
        buf_adds(&b, HEAD "cell a https://h -\n");
        for (int i = 0; i < n; i++)
            buf_addf(&b, "tenant t%07d a\n", i);
        assert_int_equal(parse_signed(b.p, NULL), n > CELLS_TENANTS_MAX ? ERR_LIMIT : 0);
    }
    buf_fini(&b);
}

static void it_has_a_time(void **state)
{
    AUTO_CELLS_DRAFT struct cells_draft *d = three();
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    struct buf b = {0};
    (void)state;
    cells_draft_sign(d, 1, DAY, 2 * (int64_t)DAY, secret, &b);
    assert_int_equal(cells_map_parse(&b, public, &m, NULL), 0);
    assert_int_equal(cells_map_check_time(m, DAY, NULL), 0);
    assert_int_equal(cells_map_check_time(m, 2 * (int64_t)DAY - 1, NULL), 0);
    assert_int_equal(cells_map_check_time(m, 2 * (int64_t)DAY, NULL), ERR_REFUSED);
    assert_int_equal(cells_map_check_time(m, DAY - CELLS_AHEAD_MS, NULL), 0);
    assert_int_equal(cells_map_check_time(m, DAY - CELLS_AHEAD_MS - 1, NULL), ERR_REFUSED);
}

static int see(int dirfd, const struct cells_draft *d, uint64_t serial, struct err *e)
{
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    struct buf b = signed_map(d, serial);
    assert_int_equal(cells_map_parse(&b, public, &m, NULL), 0);
    return cells_seen(dirfd, "seen", m, e);
}

static void an_older_one_is_not_taken_again(void **state)
{
    char dir[] = "/tmp/simbdp-test-cells-XXXXXX";
    AUTO_CELLS_DRAFT struct cells_draft *d = three();
    struct err e = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    int dirfd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(see(dirfd, d, 5, NULL), 0);
    assert_int_equal(see(dirfd, d, 5, NULL), 0);
    assert_int_equal(see(dirfd, d, 4, &e), ERR_REFUSED);
    assert_int_equal(see(dirfd, d, 6, NULL), 0);
    assert_int_equal(see(dirfd, d, 5, NULL), ERR_REFUSED);
    assert_int_equal(cells_draft_forget(d, "acme", NULL), 0);
    assert_int_equal(see(dirfd, d, 6, &e), ERR_REFUSED);
    assert_string_equal(e.msg, "there are two maps of serial 6: it was signed in two places");
    assert_int_equal(ftruncate(openat(dirfd, "seen", O_WRONLY), 5), 0);
    assert_int_equal(see(dirfd, d, 7, &e), ERR_FORMAT);
    unlinkat(dirfd, "seen", 0);
    close(dirfd);
    rmdir(dir);
}

static void a_draft_refuses_what_no_map_has(void **state)
{
    AUTO_CELLS_DRAFT struct cells_draft *d = three();
    (void)state;
    assert_int_equal(cells_draft_add(d, "a", "https://h", NULL, NULL), -EEXIST);
    assert_int_equal(cells_draft_add(d, "A", "https://h", NULL, NULL), ERR_USAGE);
    assert_int_equal(cells_draft_add(d, "c", "https://h\ntenant x a", NULL, NULL), ERR_USAGE);
    assert_int_equal(cells_draft_add(d, "c", "https://h", "xyz", NULL), ERR_USAGE);
    assert_int_equal(cells_draft_add(d, "c", "http://localhost:8", PIN, NULL), ERR_USAGE);
    assert_int_equal(cells_draft_change(d, "c", "https://h", NULL, NULL), -ENOENT);
    assert_int_equal(cells_draft_remove(d, "b", NULL), ERR_REFUSED);
    assert_int_equal(cells_draft_assign(d, "x y", "a", false, NULL), ERR_USAGE);
    assert_int_equal(cells_draft_assign(d, "x", "nowhere", false, NULL), -ENOENT);
    assert_int_equal(cells_draft_forget(d, "x", NULL), -ENOENT);
    assert_int_equal(cells_draft_assign(d, "acme-2", "a", false, NULL), 0);
    assert_int_equal(cells_draft_forget(d, "beta", NULL), 0);
    assert_int_equal(cells_draft_remove(d, "b", NULL), 0);
}

static int make_keys(void **state)
{
    (void)state;
    return sodium_init() < 0 || crypto_sign_keypair(public, secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_signed_is_what_is_found),
        cmocka_unit_test(one_byte_more_less_or_other_is_refused),
        cmocka_unit_test(anothers_signature_is_none),
        cmocka_unit_test(what_is_signed_has_to_be_a_map_all_the_same),
        cmocka_unit_test(bounds_bite),
        cmocka_unit_test(it_has_a_time),
        cmocka_unit_test(an_older_one_is_not_taken_again),
        cmocka_unit_test(a_draft_refuses_what_no_map_has),
    };
    return cmocka_run_group_tests(tests, make_keys, NULL);
}
