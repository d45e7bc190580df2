/* The reader on whole inputs, at every size of read and with every kind of damage. */
#include "base/buf.h"
#include "check.h"
#include "read/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int fd_of(const char *text, size_t n)
{
    int fd = memfd_create("test", 0);
    assert_int_equal(write(fd, text, n), n);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static struct spec *spec_of(const char *json)
{
    struct spec *s = NULL;
    struct err e = {0};
    if (spec_parse(json, strlen(json), &s, NULL, &e) < 0)
        fail_msg("%s: %s", json, e.msg);
    return s;
}

static char *doc_json(const struct buf *fields)
{
    AUTO_BUF struct buf doc = {0};
    bson_t b;
    uint32_t n = (uint32_t)fields->n + 5;
    buf_add(&doc, &n, 4);
    buf_add(&doc, fields->p, fields->n);
    buf_add(&doc, "", 1);
    assert_true(bson_init_static(&b, (const uint8_t *)doc.p, doc.n));
    assert_true(bson_validate(&b, BSON_VALIDATE_UTF8, NULL));
    return bson_as_relaxed_extended_json(&b, NULL);
}

/* One line a record: "line:offset raw" or "line:offset !reason", what was repaired behind '~'; then "end" or the error, and what
 * was repaired in the header. */
static char *read_all(const char *text, size_t n, const char *json)
{
    struct buf out = {0};
    struct err e = {0};
    struct record rec;
    int fd = fd_of(text, n), r;
    struct spec *spec = spec_of(json);
    struct src *s = src_new(fd, SRC_PLAIN, -1, NULL, NULL);
    struct reader *rd = reader_new(s, spec);
    while ((r = reader_next(rd, &rec, &e)) > 0) {
        AUTO_BUF struct buf doc = {0};
        buf_addf(&out, "%lld:%lld ", (long long)rec.line, (long long)rec.offset);
        if (reader_row(rd, &rec, &doc) < 0) {
            buf_addf(&out, "!%s\n", rec.reject);
            assert_non_null(rec.rule);
            assert_true(rec.spot <= rec.n);
        } else {
            char *shown = doc_json(&doc);
            buf_addf(&out, "%s", shown);
            if (rec.repaired)
                buf_addf(&out, " ~%s %d %s", rec.rule, rec.column, rec.repaired);
            buf_adds(&out, "\n");
            bson_free(shown);
        }
    }
    buf_adds(&out, r < 0 ? e.msg : "end");
    int64_t line, offset;
    if (reader_header_repair(rd, &line, &offset))
        buf_addf(&out, " %lld:%lld %s", (long long)line, (long long)offset, reader_header_repair(rd, &line, &offset));
    reader_free(rd);
    src_free(s);
    spec_free(spec);
    close(fd);
    return out.p;
}

#define CSV  "{}"
#define JSON "{\"format\":\"json\"}"
#define READS(spec, text, expected)                                                                                                \
    do {                                                                                                                           \
        char *got_ = read_all(text, sizeof text - 1, spec);                                                                        \
        assert_string_equal(got_, expected);                                                                                       \
        free(got_);                                                                                                                \
    } while (0)

static void csv_of_every_line_end(void **state)
{
    (void)state;
    READS(CSV, "a,b\n1,2\n", "2:4 { \"a\" : 1, \"b\" : 2 }\nend");
    READS(CSV, "a,b\r\n1,2\r\n", "2:5 { \"a\" : 1, \"b\" : 2 }\nend");
    READS(CSV, "a,b\r1,2\r", "2:4 { \"a\" : 1, \"b\" : 2 }\nend");
    READS(CSV,
          "\xef\xbb\xbf"
          "a,b\n1,2",
          "2:7 { \"a\" : 1, \"b\" : 2 }\nend");
    READS(CSV, "a,b\n\n1,2\n\n\n3,4", "3:5 { \"a\" : 1, \"b\" : 2 }\n6:11 { \"a\" : 3, \"b\" : 4 }\nend");
    READS(CSV, "", "end");
    READS(CSV, "a,b\n", "end");
}

static void csv_quotes(void **state)
{
    (void)state;
    READS(CSV, "a,b\n\"x,y\",\"say \"\"hi\"\"\"\n", "2:4 { \"a\" : \"x,y\", \"b\" : \"say \\\"hi\\\"\" }\nend");
    READS(CSV, "a,b\n\"two\nlines\",2\n3,4\n", "2:4 { \"a\" : \"two\\nlines\", \"b\" : 2 }\n4:18 { \"a\" : 3, \"b\" : 4 }\nend");
    READS(CSV, "a,b\n\"\",\n", "2:4 { \"a\" : \"\", \"b\" : null }\nend");
    READS(CSV, "a,b\n\"x\"y,1\n2,3\n", "2:4 !characters behind a closing quote\n3:11 { \"a\" : 2, \"b\" : 3 }\nend");
    READS(CSV, "a,b\n1,\"open\n3,4\n", "2:4 !a quote is opened and never closed\n3:12 { \"a\" : 3, \"b\" : 4 }\nend");
    READS(CSV, "a,b\nit's 5\" long,1\n", "2:4 { \"a\" : \"it's 5\\\" long\", \"b\" : 1 }\nend");
}

static void csv_damage(void **state)
{
    (void)state;
    READS(CSV, "a,b\n1\n2,3,4\n5,6\n",
          "2:4 !fewer cells than the header has columns (1 of 2)\n"
          "3:6 !more cells than the header has columns (3 of 2)\n4:12 { \"a\" : 5, \"b\" : 6 }\nend");
    READS(CSV, "a,b\n\xff,1\nx\0y,2\n3,4\n",
          "2:4 !not valid UTF-8 (byte 0xff)\n3:8 !a NUL byte\n4:14 { \"a\" : 3, \"b\" : 4 }\nend");
    READS("{\"max_row_bytes\":8}", "a,b\n1,2345678901\n3,4\n",
          "2:4 !the row is longer than max_row_bytes\n3:17 { \"a\" : 3, \"b\" : 4 }\nend");
    READS(CSV, "a,a\n1,2\n", "the header names column 'a' twice (csv.damaged = \"repair\" would number the second)");
    READS(CSV, "a.b,$c,\n1,2,3\n", "2:8 { \"a_b\" : 1, \"_c\" : 2, \"column_3\" : 3 }\nend");
}

#define REPAIR "{\"csv\":{\"damaged\":\"repair\"}}"
#define FEWER  "fewer cells than the header has columns "
#define MORE   "more cells than the header has columns "

static void repaired_quotes(void **state)
{
    (void)state;
    READS(REPAIR, "a,b\n\"x\"y,1\n2,3\n",
          "2:4 { \"a\" : \"\\\"x\\\"y\", \"b\" : 1 } ~quote 1 a stray quote is text\n"
          "3:11 { \"a\" : 2, \"b\" : 3 }\nend");
    READS(REPAIR, "a,b\n1,\"open\n3,4\n",
          "2:4 { \"a\" : 1, \"b\" : \"\\\"open\" } ~quote 2 a stray quote is text\n"
          "3:12 { \"a\" : 3, \"b\" : 4 }\nend");
    /* a quote closes where a delimiter follows; those before are text, doubled ones are one */
    READS(REPAIR, "a,b\n\"say \"hi, you\" and \"\"bye\"\"\",1\n2,3\n",
          "2:4 { \"a\" : \"say \\\"hi, you\\\" and \\\"bye\\\"\", \"b\" : 1 } ~quote 1 a stray quote is text\n"
          "3:34 { \"a\" : 2, \"b\" : 3 }\nend");
    /* a cell that opens behind it says that the one before was never closed */
    READS(REPAIR, "a,b,c\n\"x,\"y,z\",1\n2,3,4\n",
          "2:6 { \"a\" : \"\\\"x\", \"b\" : \"y,z\", \"c\" : 1 } ~quote 1 a stray quote is text\n"
          "3:17 { \"a\" : 2, \"b\" : 3, \"c\" : 4 }\nend");
    /* a good cell over several lines stays one, and what is only damaged behind its first line costs that line alone */
    READS(REPAIR, "a,b\n\"x\"y,\"two\nlines\"\n2,3\n",
          "2:4 { \"a\" : \"\\\"x\\\"y\", \"b\" : \"two\\nlines\" } ~quote 1 a stray quote is text\n4:21 { \"a\" : 2, \"b\" : 3 "
          "}\nend");
    READS(REPAIR, "a,b\n1,\"x\n2,\"y\"\n3,4\n",
          "2:4 { \"a\" : 1, \"b\" : \"\\\"x\" } ~quote 2 a stray quote is text\n"
          "3:9 { \"a\" : 2, \"b\" : \"y\" }\n4:15 { \"a\" : 3, \"b\" : 4 }\nend");
    READS("{\"csv\":{\"damaged\":\"repair\",\"escape\":\"\\\\\",\"delimiter\":\"||\"}}", "a||b\n\"x\\\"\"y||\"1||\"\n",
          "2:5 { \"a\" : \"\\\"x\\\"\\\"y\", \"b\" : \"1||\" } ~quote 1 a stray quote is text\nend");
    /* as strict as ever elsewhere */
    READS(REPAIR, "a,b\n\xff\"x\"y,1\n3,\"4\"5\na,b\n",
          "2:4 !not valid UTF-8 (byte 0xff)\n"
          "3:12 { \"a\" : 3, \"b\" : \"\\\"4\\\"5\" } ~quote 2 a stray quote is text\n"
          "4:19 !the header row again\nend");
    READS("{\"max_row_bytes\":8,\"csv\":{\"damaged\":\"repair\"}}", "a,b\n\"1\"2345,678901\n3,4\n",
          "2:4 !the row is longer than max_row_bytes\n3:19 { \"a\" : 3, \"b\" : 4 }\nend");
}

static void repaired_rows(void **state)
{
    (void)state;
    READS(REPAIR, "a,b\n1\n2,3,4,x\n5,6\n",
          "2:4 { \"a\" : 1, \"b\" : null } ~ragged 2 " FEWER "(1 of 2): those that are missing are null\n"
          "3:6 { \"a\" : 2, \"b\" : 3, \"_extra\" : [ \"4\", \"x\" ] } ~ragged 3 " MORE "(4 of 2): further ones are in _extra\n"
          "4:14 { \"a\" : 5, \"b\" : 6 }\nend");
    READS(REPAIR, "a,b,c\n\"x\"y,1\n2,3,4\n",
          "2:6 { \"a\" : \"\\\"x\\\"y\", \"b\" : 1, \"c\" : null } ~quote 1 a stray quote is text; " FEWER
          "(2 of 3): those that are missing are null\n3:13 { \"a\" : 2, \"b\" : 3, \"c\" : 4 }\nend");
    /* null whatever else is, and what is refused is not repaired */
    READS("{\"csv\":{\"damaged\":\"repair\",\"header_rows\":1,\"null\":[\"-\"]},\"columns\":[{\"name\":\"b\",\"type\":\"int\","
          "\"max\":5},{\"name\":"
          "\"c\",\"required\":true}]}",
          "a,b,c\n-\n1,9,3,4\n,,,4\n",
          "2:6 !column 'c' is required and empty here\n3:8 !column 'b': 9 is above max 5\n4:16 !column 'b': expected int, got "
          "\"\"\nend");
    /* the configuration goes first: rows that it allows are not damaged */
    READS("{\"csv\":{\"damaged\":\"repair\",\"ragged\":\"pad\",\"null\":[\"-\"]}}", "a,b\n1\n2,3,4\n",
          "2:4 { \"a\" : 1, \"b\" : null }\n3:6 { \"a\" : 2, \"b\" : 3, \"_extra\" : [ \"4\" ] } ~ragged 3 " MORE
          "(3 of 2): further ones are in _extra\nend");
    READS("{\"csv\":{\"damaged\":\"repair\",\"ragged\":\"keep_extra\"}}", "a,b\n1\n2,3,4\n",
          "2:4 { \"a\" : 1, \"b\" : null }\n3:6 { \"a\" : 2, \"b\" : 3, \"_extra\" : [ 4 ] }\nend");
}

static void repaired_headers(void **state)
{
    (void)state;
    READS(REPAIR, "a,,a,a_3,b.c,b_c,_extra\n1,2,3,4,5,6,7,8\n",
          "2:24 { \"a\" : 1, \"column_2\" : 2, \"a_3_3\" : 3, \"a_3\" : 4, \"b_c\" : 5, \"b_c_6\" : 6, \"_extra_7\" : 7, "
          "\"_extra\" : [ \"8\" ] } ~ragged 8 " MORE "(8 of 7): further ones are in _extra\n"
          "end 1:0 column 2 has no name: read as 'column_2'; column 3, 'a', is named like another: read as 'a_3_3'; column 6, "
          "'b_c', is named "
          "like another: read as 'b_c_6'; column 7, '_extra', is named like the field of further cells: read as '_extra_7'");
    READS(REPAIR, "a,\xff,\"c\"d\n1,2,3\n",
          "2:9 { \"a\" : 1, \"column_2\" : 2, \"\\\"c\\\"d\" : 3 }\nend 1:0 a stray quote is text; the name of column 2 is "
          "no text; column 2 has no name: read as 'column_2'");
    READS("{\"csv\":{\"damaged\":\"repair\"},\"columns\":[{\"name\":\"a\",\"as\":\"x\"},{\"name\":\"a_2\",\"as\":\"y\"}],\"key\":["
          "\"a\"]}",
          "a,a,x\n1,2,3\n",
          "2:6 { \"x\" : 1, \"y\" : 2, \"x_3\" : 3 }\nend 1:0 column 2, 'a', is named like another: read as 'a_2'; column 3, 'x', "
          "is named like "
          "another: read as 'x_3'");
    READS(REPAIR, "a,a\n", "end 1:0 column 2, 'a', is named like another: read as 'a_2'");
}

static double cpu_s(const char *text, size_t n, const char *json, const char *word)
{
    clock_t from = clock();
    char *got = read_all(text, n, json);
    double s = (double)(clock() - from) / CLOCKS_PER_SEC;
    assert_non_null(strstr(got, word));
    assert_non_null(strstr(got, "{ \"a\" : 1, \"b\" : 2 }\nend"));
    free(got);
    return s;
}

/* Quotes without end: the cost stays linear where each could be searched for to the end of its long line. */
static void repair_is_linear(void **state)
{
    static const char *const patterns[] = {"\"a,", "\"\"b,", "\"\"\"b,", "\"a\"b,", "\"\"b,\"\"\"c,\"d,"};
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        AUTO_BUF struct buf text = {0};
        buf_adds(&text, "a,b\n\"x\"y,");
        for (int k = 0; k < 20000; k++)
            buf_adds(&text, patterns[i]);
        for (size_t k = 0; k < 1 << 20; k++)
            buf_add(&text, "z", 1);
        buf_adds(&text, "\n1,2\n");
        double strict = cpu_s(text.p, text.n, CSV, "!characters behind a closing quote\n");
        double repair = cpu_s(text.p, text.n, REPAIR, "~quote 1 a stray quote is text; more cells");
        assert_true(repair < 20 * strict + 1);
    }
}

static void inference_loses_nothing(void **state)
{
    (void)state;
    READS(CSV, "v\n007\n+49\n-0\n1e5\n12345678901234567890\n2147483648\n0.10\n1.\n.5\ntrue\nFalse\n-3.25\n0\n",
          "2:2 { \"v\" : \"007\" }\n3:6 { \"v\" : \"+49\" }\n4:10 { \"v\" : \"-0\" }\n5:13 { \"v\" : \"1e5\" }\n"
          "6:17 { \"v\" : \"12345678901234567890\" }\n7:38 { \"v\" : 2147483648 }\n8:49 { \"v\" : 0.10000000000000000555 }\n"
          "9:54 { \"v\" : \"1.\" }\n10:57 { \"v\" : \".5\" }\n11:60 { \"v\" : true }\n12:65 { \"v\" : \"False\" }\n"
          "13:71 { \"v\" : -3.25 }\n14:77 { \"v\" : 0 }\nend");
}

static void json_lines_and_arrays(void **state)
{
    (void)state;
    READS(JSON, "{\"a\":1}\n\n  {\"a\":2}\r\n", "1:0 { \"a\" : 1 }\n3:9 { \"a\" : 2 }\nend");
    READS(JSON, " [ {\"a\":1},\n{\"a\":\"}],{\"} , {\"a\":[1,{}]} ]\n",
          "1:3 { \"a\" : 1 }\n2:12 { \"a\" : \"}],{\" }\n2:27 { \"a\" : [ 1, {  } ] }\nend");
    READS(JSON, "{\"a\":}\n{\"a\":2}\n[1]\n{\"_id\":1}\n",
          "1:0 !malformed JSON: Got parse error at \"}\", position 5: \"VALUE_EXPECTED\"\n2:7 { \"a\" : 2 }\n"
          "3:15 !not a JSON object\n4:19 !'_id' is set by the platform; name the field otherwise\nend");
    READS(JSON, "[1, {\"a\":1}, {\"a\":",
          "1:1 !not a JSON object\n1:4 { \"a\" : 1 }\n"
          "line 1: an element of the array begins here and is cut off");
    READS(JSON, "{\n\"a\": 1\n}\n{\"a\":2}{\"a\":3}\n", "1:0 { \"a\" : 1 }\n4:11 { \"a\" : 2 }\n4:18 { \"a\" : 3 }\nend");
    READS(JSON, "[]", "end");
    READS(JSON, "{\"a\":1,\"a\":2}\n{\"x\":[{\"b\":1,\"c\":2,\"b\":3}]}\n{\"a\":{\"a\":1}}\n",
          "1:0 !a key stands twice in one object\n2:14 !a key stands twice in one object\n3:42 { \"a\" : { \"a\" : 1 } }\nend");
}

/* The window moves and grows: rows of many sizes around the block size come out whole, and offsets stay right. */
static void rows_across_blocks(void **state)
{
    struct buf text = {0};
    struct err e = {0};
    struct record rec;
    unsigned seed = 7;
    int r;
    (void)state;
    buf_adds(&text, "a,b\n");
    for (int i = 0; i < 400; i++) {
        buf_addf(&text, "%d,\"", i);
        int n = rand_r(&seed) % (i % 50 == 0 ? 400000 : 3000);
        for (int k = 0; k < n; k++)
            buf_add(&text, k % 71 == 0 ? "\"\"" : k % 97 == 0 ? "\n" : "x", k % 71 == 0 ? 2 : 1);
        buf_adds(&text, "\"\n");
    }
    int fd = fd_of(text.p, text.n), rows = 0;
    struct src *s = src_new(fd, SRC_PLAIN, -1, NULL, NULL);
    struct spec *spec = spec_of(CSV);
    struct reader *rd = reader_new(s, spec);
    while ((r = reader_next(rd, &rec, &e)) > 0) {
        assert_null(rec.reject);
        assert_memory_equal(text.p + rec.offset, rec.raw, rec.n);
        assert_int_equal(atoi(rec.raw), rows++);
    }
    assert_int_equal(r, 0);
    assert_int_equal(rows, 400);
    assert_int_equal(reader_offset(rd), text.n);
    reader_free(rd);
    spec_free(spec);
    src_free(s);
    close(fd);
    buf_fini(&text);
}

/* Rows of a given footer are looked for over many windows, and long rows are no longer than they are. */
static void footers_behind_long_rows(void **state)
{
    struct buf text = {0};
    struct err e = {0};
    struct record rec;
    int rows = 0, r;
    (void)state;
    buf_adds(&text, "a,b\n");
    for (int i = 0; i < 300; i++) {
        buf_addf(&text, "%d,", i);
        for (int k = 0; k < 60000; k++)
            buf_add(&text, "x", 1);
        buf_adds(&text, "\n");
    }
    int fd = fd_of(text.p, text.n);
    struct src *s = src_new(fd, SRC_PLAIN, -1, NULL, NULL);
    struct spec *spec = spec_of("{\"csv\":{\"footer_rows\":20},\"max_row_bytes\":65536}");
    struct reader *rd = reader_new(s, spec);
    while ((r = reader_next(rd, &rec, &e)) > 0) {
        assert_null(rec.reject);
        assert_int_equal(atoi(rec.raw), rows++);
    }
    assert_int_equal(rows, 280);
    assert_int_equal(reader_footers(rd), 20);
    reader_free(rd);
    spec_free(spec);
    src_free(s);
    close(fd);
    buf_fini(&text);
}

static void compression_by_name(void **state)
{
    size_t stem;
    (void)state;
    assert_int_equal(src_compression_of("x.csv.gz", &stem), SRC_GZIP);
    assert_int_equal(stem, 5);
    assert_int_equal(src_compression_of("x.json.zst", &stem), SRC_ZSTD);
    assert_int_equal(stem, 6);
    assert_int_equal(src_compression_of(".gz", &stem), SRC_PLAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_of_every_line_end),
        cmocka_unit_test(csv_quotes),
        cmocka_unit_test(csv_damage),
        cmocka_unit_test(repaired_quotes),
        cmocka_unit_test(repaired_rows),
        cmocka_unit_test(repaired_headers),
        cmocka_unit_test(repair_is_linear),
        cmocka_unit_test(inference_loses_nothing),
        cmocka_unit_test(json_lines_and_arrays),
        cmocka_unit_test(rows_across_blocks),
        cmocka_unit_test(footers_behind_long_rows),
        cmocka_unit_test(compression_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
