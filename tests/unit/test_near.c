/* What was probably meant. */
#include "base/near.h"
#include "check.h"

#include <string.h>

static const char *near(const char *word)
{
    static const char *const words[] = {"files", "runs", "run", "rejects", "max_rows", "max_row_bytes", "wall_s", "x"};
    struct near n = {.word = word};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        near_try(&n, words[i]);
    return n.best ? n.best : "";
}

static void words(void **state)
{
    (void)state;
    assert_string_equal(near("fiels"), "files"); /* neighbours swapped */
    assert_string_equal(near("file"), "files");
    assert_string_equal(near("rejectss"), "rejects");
    assert_string_equal(near("max_row"), "max_rows");
    assert_string_equal(near("max_rwo_bytse"), "max_row_bytes");
    assert_string_equal(near("rum"), "run"); /* of two as near the first */
    assert_string_equal(near("upload"), "");
    assert_string_equal(near("q"), ""); /* anything is one change away */
    assert_string_equal(near(""), "");
    char big[200] = "";
    memset(big, 'a', sizeof big - 1);
    assert_string_equal(near(big), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
