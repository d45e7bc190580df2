/* A key's partition is the one that Kafka's own clients choose: the hashes of Kafka's UtilsTest. */
#include "check.h"

#include "wire/murmur2.h"

static void test_hashes_are_kafkas(void **state)
{
    static const struct {
        const char *key;
        int32_t hash;
    } v[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        size_t n = strlen(v[i].key);
        assert_int_equal((int32_t)murmur2(v[i].key, n), v[i].hash);
        assert_int_equal(murmur2_partition(v[i].key, n, 1), 0);
        assert_in_range(murmur2_partition(v[i].key, n, 7), 0, 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hashes_are_kafkas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
