/* err, clk, map, ids: the small things. */
#include "base/address.h"
#include "base/clk.h"
#include "base/err.h"
#include "base/map.h"
#include "check.h"
#include "host/home.h"
#include "run/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void errors_gather_context(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(err_sys(&e, -ENOENT, "cannot open %s", "x"), -ENOENT);
    err_context(&e, "tenant %s", "acme");
    assert_string_equal(e.msg, "tenant acme: cannot open x: No such file or directory");
    assert_int_equal(err_set(NULL, ERR_LIMIT, "ignored"), ERR_LIMIT);
    assert_string_equal(err_text(ERR_LIMIT), "limit exceeded");
    char big[3000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    err_set(&e, ERR_LIMIT, "%s", big);
    err_context(&e, "%s", big);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

static void stamps_go_both_ways(void **state)
{
    char text[CLK_RFC3339_SIZE];
    int64_t ms;
    (void)state;
    assert_string_equal(clk_rfc3339(1767225599999, text), "2025-12-31T23:59:59.999Z");
    assert_int_equal(clk_parse(text, &ms), 0);
    assert_int_equal(ms, 1767225599999);
    assert_int_equal(clk_parse("2026-01-01", &ms), 0);
    assert_int_equal(ms, 1767225600000);
    assert_int_equal(clk_parse("2026-01-01T01:00:00+01:00", &ms), 0);
    assert_int_equal(ms, 1767225600000);
    assert_int_equal(clk_parse("yesterday", &ms), ERR_FORMAT);
    assert_int_equal(clk_parse("2026-01-01T00:00:00Zx", &ms), ERR_FORMAT);
    assert_int_equal(clk_day(1767225599999) + 1, clk_day(1767225600000));
}

static void times_may_be_said_by_how_long_ago_they_were(void **state)
{
    static const struct {
        const char *text;
        int64_t ago_ms;
    } some[] = {{"0s", 0}, {"90s", 90000}, {"15m", 900000}, {"2h", 7200000}, {"7d", 604800000}};
    char text[CLK_RFC3339_SIZE];
    static const char *const none[] = {"", "d", "5", "5w", "5dd", "-1d", "5 d", "yesterday"};
    int64_t ms;
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        int64_t before = clk_wall_ms();
        assert_int_equal(clk_parse_since(some[i].text, &ms), 0);
        assert_in_range(ms + some[i].ago_ms, before, clk_wall_ms());
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(clk_parse_since(none[i], &ms), ERR_FORMAT);
    assert_int_equal(clk_parse_since("2026-01-01", &ms), 0);
    assert_int_equal(ms, 1767225600000);
    assert_int_equal(clk_parse_since("99999999999999999999d", &ms), 0);
    assert_int_equal(ms, 0);
    assert_int_equal(clk_parse_until("2h", &ms), 0);
    assert_in_range(clk_wall_ms() + 7200000 - ms, 0, 60000);
    assert_int_equal(clk_parse_until("99999999999999999999d", &ms), 0);
    assert_string_equal(clk_rfc3339(ms, text), "9999-12-31T23:59:59.999Z");
    assert_int_equal(clk_parse_until("-1d", &ms), ERR_FORMAT);
}

/* Random operations against an array. */
/* Whatever is removed while somebody iterates, each other entry is returned once. */
static void a_map_may_lose_entries_while_it_is_read(void **state)
{
    enum { N = 1000 };
    static int seen[N];
    static bool removed[N];
    (void)state;
    for (int round = 0; round < 3; round++) { /* the returned one; another; both */
        struct map m = {0};
        size_t i = 0, n = 0;
        char key[16];
        memset(seen, 0, sizeof seen);
        memset(removed, 0, sizeof removed);
        for (int k = 0; k < N; k++) {
            snprintf(key, sizeof key, "%d", k);
            map_put(&m, key, &seen[k]);
        }
        for (int *v; (v = map_next(&m, &i)); n++) {
            int k = (int)(v - seen), others[] = {round == 1 ? -1 : k, round ? (k * 7 + 3) % N : -1};
            assert_false(removed[k]);
            assert_int_equal(seen[k]++, 0);
            for (int j = 0; j < 2; j++) {
                snprintf(key, sizeof key, "%d", others[j]);
                if (others[j] >= 0 && n % 3)
                    removed[others[j]] |= map_remove(&m, key) != NULL;
            }
        }
        for (int k = 0; k < N; k++)
            assert_true(seen[k] || removed[k]);
        map_fini(&m);
    }
}

/* One that is put into and removed from for ever stays as small as what is in it. */
static void a_map_does_not_grow_with_what_is_gone(void **state)
{
    struct map m = {0};
    char key[16];
    (void)state;
    for (int k = 0; k < 100000; k++) {
        snprintf(key, sizeof key, "%d", k);
        map_put(&m, key, key);
        snprintf(key, sizeof key, "%d", k - 20);
        map_remove(&m, key);
    }
    assert_int_equal(m.n, 20);
    assert_int_equal(m.cap, 64);
    map_fini(&m);
}

static void map_agrees_with_an_array(void **state)
{
    enum { KEYS = 300 };
    struct map m = {0};
    int present[KEYS] = {0}, values[KEYS];
    unsigned seed = 1;
    (void)state;
    for (int step = 0; step < 20000; step++) {
        int k = rand_r(&seed) % KEYS;
        char key[16];
        snprintf(key, sizeof key, "k%d", k);
        if (rand_r(&seed) % 2) {
            map_put(&m, key, &values[k]);
            present[k] = 1;
        } else {
            assert_ptr_equal(map_remove(&m, key), present[k] ? &values[k] : NULL);
            present[k] = 0;
        }
    }
    size_t n = 0, i = 0, seen = 0;
    for (int k = 0; k < KEYS; k++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", k);
        assert_ptr_equal(map_get(&m, key), present[k] ? &values[k] : NULL);
        n += (size_t)present[k];
    }
    while (map_next(&m, &i))
        seen++;
    assert_int_equal(seen, n);
    assert_int_equal(m.n, n);
    map_fini(&m);
}

static void ids_are_unique_and_sorted(void **state)
{
    char last[ID_SIZE] = "", id[ID_SIZE], first[ID_SIZE], after[ID_SIZE];
    (void)state;
    home_first_id(clk_wall_ms(), first);
    for (int i = 0; i < 100000; i++) {
        home_new_id(id);
        assert_true(home_valid_id(id));
        assert_true(strcmp(last, id) < 0);
        memcpy(last, id, sizeof id);
    }
    home_first_id(clk_wall_ms() + 3600000, after);
    assert_true(home_valid_id(first) && strcmp(first, id) < 0 && strcmp(id, after) < 0);
    home_new_id(id);
    home_first_id(clk_wall_ms() - 1000, first);
    assert_true(strcmp(first, id) < 0);
    assert_false(home_valid_id("../../../../etc/passwd0000"));
    assert_false(home_valid_id(""));
}

static void takes_the_home_argument(void **state)
{
    char *argv[] = {"x", "a", "--home", "/h", "b", NULL};
    int argc = 5;
    (void)state;
    assert_string_equal(home_take_arg(&argc, argv), "/h");
    assert_int_equal(argc, 3);
    assert_string_equal(argv[2], "b");
    assert_null(argv[3]);
}

static void a_url_for_another_user_keeps_hosts_and_options(void **state)
{
    static const char *const v[][2] = {
        {"mongodb://h", "mongodb://u:s@h/d%20b?authSource=d%20b"},
        {"mongodb://h:1,[::1]:2/?replicaSet=r&tls=true", "mongodb://u:s@h:1,[::1]:2/d%20b?authSource=d%20b&replicaSet=r&tls=true"},
        {"mongodb://root:p%40w@h/admin?authSource=admin&w=2&AUTHMECHANISM=SCRAM-SHA-256",
         "mongodb://u:s@h/d%20b?authSource=d%20b&w=2"},
        {"mongodb+srv://x:y@name.example/?&retryWrites=true&",
         "mongodb+srv://u:s@name.example/d%20b?authSource=d%20b&retryWrites=true"},
        {"mongodb://h?w=1", "mongodb://u:s@h/d%20b?authSource=d%20b&w=1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        char *url = address_mongo_as(v[i][0], "u", "s", "d b");
        assert_string_equal(url, v[i][1]);
        free(url);
    }
    assert_null(address_mongo_as("http://h/", "u", "s", "d"));
    assert_null(address_mongo_as("", "u", "s", "d"));
}

static void a_zombie_is_not_alive(void **state)
{
    siginfo_t info;
    (void)state;
    assert_true(tree_is_alive(getpid()));
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(tree_is_alive(pid));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(tree_is_alive(pid));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_gather_context),
        cmocka_unit_test(stamps_go_both_ways),
        cmocka_unit_test(times_may_be_said_by_how_long_ago_they_were),
        cmocka_unit_test(map_agrees_with_an_array),
        cmocka_unit_test(a_map_may_lose_entries_while_it_is_read),
        cmocka_unit_test(a_map_does_not_grow_with_what_is_gone),
        cmocka_unit_test(ids_are_unique_and_sorted),
        cmocka_unit_test(takes_the_home_argument),
        cmocka_unit_test(a_url_for_another_user_keeps_hosts_and_options),
        cmocka_unit_test(a_zombie_is_not_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
