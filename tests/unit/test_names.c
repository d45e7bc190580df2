/* Names as tenants give them. */
#include "check.h"

#include "programs/batchmgr/names.h"

#include <stdlib.h>
#include <string.h>

static void expect(char *(*f)(const char *), const char *raw, const char *wanted)
{
    char *got = f(raw);
    assert_string_equal(got, wanted);
    free(got);
}

static void people_see_utf8(void **state)
{
    (void)state;
    expect(names_shown, "a b.csv", "a b.csv");
    expect(names_shown,
           "stra\xc3\x9f"
           "e.csv",
           "stra\xc3\x9f"
           "e.csv");
    expect(names_shown, "\xff\xc3.csv", "\\xff\\xc3.csv");
    expect(names_shown, "", "");
}

static void work_sees_bare_names(void **state)
{
    char longest[256], *got;
    (void)state;
    expect(names_safe, "a b;$(x)/..csv", "a_b___x__..csv");
    expect(names_safe, ".hidden", "_hidden");
    expect(names_safe, "..", "_.");
    expect(names_safe, "reason.json", "_eason.json");
    expect(names_safe,
           "stra\xc3\x9f"
           "e.csv",
           "stra__e.csv");
    memset(longest, 'x', 255);
    memcpy(longest + 248, ".csv.gz", 8);
    got = names_safe(longest);
    assert_int_equal(strlen(got), 100);
    assert_string_equal(got + 93, ".csv.gz");
    free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(people_see_utf8),
        cmocka_unit_test(work_sees_bare_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
