/* Questions about one file, one run, and the agreement. */
#include "query_home.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "front/public_conf.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_1 "01kdwgyr000000000000000001"
#define RUN_11 "01kdwgyr000000000000000011"
#define RUN_12 "01kdwgyr000000000000000012"

/* The names of a story's events, with what they say of it. */
static char *story_of(const bson_t *body)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    bson_t one;
    buf_add(&b, "", 0);
    assert_true(json_get_iter(body, "story", &it));
    while (json_next_doc(&it, &one)) {
        assert_int_equal(bson_count_keys(&one), 10);
        buf_addf(&b, "%s%s", b.n ? " " : "", json_get_str(&one, "event", ""));
        if (json_get_str(&one, "step", NULL))
            buf_addf(&b, ":%s", json_get_str(&one, "step", ""));
        if (json_get_str(&one, "outcome", NULL))
            buf_addf(&b, "=%s", json_get_str(&one, "outcome", ""));
    }
    return xstrdup(b.p);
}

static void its_story_is(const char *expected)
{
    AUTO_BSON bson_t *body = ask("file", "{'file_id':'" FILE_1 "'}");
    AUTO_FREE char *got = story_of(body);
    assert_string_equal(got, expected);
}

static void a_file_has_a_story(void **state)
{
    (void)state;
    put_file(1, "acme", "a", "received", "1");
    its_story_is("received");
    put(ledger, "UPDATE files SET hash='ab', state='queued'");
    its_story_is("received inspected queued");
    put(ledger, "UPDATE files SET released_at=1767225605000, state='running'");
    its_story_is("received inspected queued released");
    put_run(11, 1, "acme", "check", "ended");
    put_run(12, 1, "acme", "app", "running");
    its_story_is("received inspected queued released started:check ended:check=ok started:app");
    put(ledger, "UPDATE runs SET state='ended', outcome='temp_fail' WHERE run_id='" RUN_12 "'");
    put(ledger, "UPDATE files SET state='waiting', reason='temp_fail', not_before=1767225609000");
    its_story_is("received inspected queued released started:check ended:check=ok started:app ended:app=temp_fail waiting");
    put(ledger, "UPDATE files SET state='quarantined', ended_at=1767225609000, expired=1, run_id='" RUN_12 "'");
    its_story_is("received inspected queued released started:check ended:check=ok started:app ended:app=temp_fail "
                 "verdict=quarantined expired");
    AUTO_BSON bson_t *body = ask("file", "{'file_id':'" FILE_1 "'}");
    bson_iter_t it;
    bson_t run;
    assert_true(json_get_iter(body, "runs", &it) && json_next_doc(&it, &run));
    assert_string_equal(json_get_str(&run, "run_id", ""), RUN_11);
    assert_string_equal(json_get_str(&run, "kind", ""), "check");
    assert_true(json_next_doc(&it, &run) && !json_next_doc(&it, &(bson_t){0}));
    put(ledger, "UPDATE files SET state='rejected', hash='', rows=4; DELETE FROM runs");
    its_story_is("received inspected queued released verdict=rejected expired");
}

/* ---- files of a run ---- */

static void write_at(const char *path, const char *text, size_t n)
{
    AUTO_FREE char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    assert_int_equal(fd_mkdirs(home.dirfd, dir, 0755), 0);
    unlinkat(home.dirfd, path, 0);
    AUTO_FD int fd = openat(home.dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_all(fd, text, n), 0);
}

static void write_text(const char *path, const char *text)
{
    write_at(path, text, strlen(text));
}

static void a_run_with_a_file(void)
{
    put_file(1, "acme", "a", "ingested", "1");
    put_run(11, 1, "acme", "app", "ended");
    put(ledger, "UPDATE files SET run_id='" RUN_11 "'");
}

static char *rejects_are(const char *params, const char *body)
{
    struct query_answer a;
    AUTO_FREE char *text = xasprintf("{'file_id':'" FILE_1 "'%s}", params);
    ask_for("rejects", &acme, text, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body.p, body);
    char *head = xstrdup(a.head.p);
    query_answer_fini(&a);
    return head;
}

#define REJECT_2                                                                                                                   \
    "{\"line\":2,\"byte_offset\":4,\"column\":null,\"type\":\"ragged\",\"message\":\"m "                                           \
    "\\\"x\\\"\",\"raw\":\"a,\\nb\",\"repaired\":null}"
#define REJECT_3                                                                                                                   \
    "{\"line\":3,\"byte_offset\":null,\"column\":null,\"type\":null,\"message\":null,\"raw\":null,\"repaired\":\"pad\"}"

static void rejects_are_taken_apart(void **state)
{
    (void)state;
    a_run_with_a_file();
    free(rejects_are("", "{\"rejects\":[],\"next\":null}"));
    AUTO_BUF struct buf b = {0};
    buf_adds(&b, REJECT_2 "\n[1]\nno JSON\n\n{\"line\":");
    for (int i = 0; i < 300000; i++)
        buf_adds(&b, " ");
    buf_adds(&b, "9}\n{\"line\":3,\"repaired\":\"pad\",\"message\":{\"$gt\":1},\"raw\":7,\"column\":\"x\",\"more\":{\"a\":[1]}}\n{"
                 "\"line\":4}");
    write_at("runs/" RUN_11 "/rejects.jsonl", b.p, b.n);
    AUTO_FREE char *all =
        rejects_are("", "{\"rejects\":[" REJECT_2 "," REJECT_3 ",{\"line\":4,\"byte_offset\":null,\"column\":null,"
                        "\"type\":null,\"message\":null,\"raw\":null,\"repaired\":null}],\"next\":null}");
    assert_string_equal(all, "\"next\":null");
    AUTO_FREE char *first = rejects_are(",'limit':1", "{\"rejects\":[" REJECT_2 "],\"next\":1}");
    assert_string_equal(first, "\"next\":1");
    free(rejects_are(",'limit':1,'offset':1", "{\"rejects\":[" REJECT_3 "],\"next\":6}"));
    free(rejects_are(",'limit':1,'offset':7", "{\"rejects\":[],\"next\":null}"));
    free(rejects_are(",'format':'csv','limit':2", "line,byte_offset,column,type,message,raw,repaired\r\n"
                                                  "2,4,,\"ragged\",\"m \"\"x\"\"\",\"a,\nb\",\r\n3,,,,,,\"pad\"\r\n"));
    write_text("runs/" RUN_11 "/load/rejects.jsonl", "{\"line\":3,\"repaired\":\"pad\"}\n"); /* the loading step's come first */
    free(rejects_are("", "{\"rejects\":[" REJECT_3 "],\"next\":null}"));
    refused_in(&other, "rejects", "{'file_id':'" FILE_1 "'}", 404, "not_found");
    assert_int_equal(fd_remove_tree(home.dirfd, "runs"), 0);
    put(ledger, "UPDATE runs SET pruned=1");
    refused("rejects", "{'file_id':'" FILE_1 "'}", 410, "not_kept");
}

struct told {
    char *text, *position;
    size_t n;
    bool cut, ended;
};

static struct told log_of(const char *params)
{
    struct query_answer a;
    AUTO_FREE char *text = xasprintf("{'run_id':'" RUN_11 "'%s}", params);
    ask_for("log", &acme, text, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.type, "text/plain");
    AUTO_FREE char *head = xasprintf("{%s}", a.head.p);
    AUTO_BSON bson_t *doc = json_parse(head, strlen(head), NULL);
    struct told t = {xstrndup(a.body.p, a.body.n), xstrdup(json_get_str(doc, "position", NULL)), a.body.n,
                     json_get_bool(doc, "cut", false), json_get_bool(doc, "ended", false)};
    query_answer_fini(&a);
    return t;
}

static void log_is(const char *params, const char *text, bool cut, bool ended)
{
    struct told t = log_of(params);
    assert_string_equal(t.text, text);
    assert_int_equal(t.cut, cut);
    assert_int_equal(t.ended, ended);
    free(t.text);
    free(t.position);
}

#define LOG "runs/" RUN_11 "/log"

static void a_log_is_what_was_printed_last(void **state)
{
    (void)state;
    a_run_with_a_file();
    log_is("", "", false, true);
    write_text(LOG, "newer\n");
    log_is("", "newer\n", false, true);
    write_text(LOG ".1", "older\n");
    write_text("runs/" RUN_11 "/load/log", "loaded\n");
    log_is("", "older\nnewer\nloaded\n", false, true);
    log_is(",'tail':9", "r\nloaded\n", true, true);
    log_is(",'tail':19", "older\nnewer\nloaded\n", false, true);
    put(ledger, "UPDATE runs SET state='running'");
    log_is("", "older\nnewer\nloaded\n", false, false);
    AUTO_FREE char *large = xmalloc(300 << 10);
    memset(large, 'x', 300 << 10);
    write_at(LOG, large, 300 << 10);
    struct told t = log_of(",'tail':262144");
    assert_int_equal(t.n, 256 << 10);
    assert_true(t.cut);
    free(t.text);
    free(t.position);
    put(ledger, "UPDATE runs SET pruned=1");
    refused("log", "{'run_id':'" RUN_11 "'}", 410, "not_kept");
}

/* What was asked for bit by bit, while the runner writes and turns its log over, is what it printed. */
static void a_log_is_followed_past_its_turns(void **state)
{
    enum { TURNS = 40, HALF = 300000 };
    AUTO_BUF struct buf printed = {0}, seen = {0};
    AUTO_FREE char *position = xstrdup("0-0");
    (void)state;
    a_run_with_a_file();
    put(ledger, "UPDATE runs SET state='running'");
    write_text(LOG, "");
    for (int i = 0; i < TURNS; i++) {
        AUTO_FD int fd = openat(home.dirfd, LOG, O_WRONLY | O_APPEND | O_CLOEXEC);
        for (int k = 0; k < HALF / 10; k++) {
            AUTO_FREE char *part = xasprintf("%04d \xf0\x9f\x98\x80\n", i * 7 + k % 1000);
            size_t n = strlen(part);
            if (k == HALF / 20)
                n -= 3; /* in the middle of a character */
            assert_int_equal(fd_write_all(fd, part, n), 0);
            buf_add(&printed, part, n);
        }
        for (bool more = true; more;) {
            AUTO_FREE char *params = xasprintf(",'from':'%s'", position);
            struct told t = log_of(params);
            assert_false(t.cut || t.ended);
            buf_add(&seen, t.text, t.n);
            more = t.n > 0;
            free(t.text);
            free(position);
            position = t.position;
            if (i % 3 == 0 && seen.n > (size_t)i * HALF + HALF / 3) /* turned over while it is read */
                break;
        }
        if (i % 2) {
            assert_int_equal(renameat(home.dirfd, LOG, home.dirfd, LOG ".1"), 0);
            write_text(LOG, "");
        }
    }
    assert_int_equal(fd_remove_tree(home.dirfd, LOG ".1"), 0);
    assert_true(seen.n > (size_t)(TURNS - 2) * HALF && seen.n <= printed.n);
    assert_memory_equal(seen.p, printed.p, seen.n);
}

static void who_missed_both_halves_is_told(void **state)
{
    (void)state;
    a_run_with_a_file();
    write_text(LOG, "one\n");
    struct told t = log_of("");
    AUTO_FREE char *params = xasprintf(",'from':'%s'", t.position);
    free(t.text);
    free(t.position);
    log_is(params, "", false, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(renameat(home.dirfd, LOG, home.dirfd, LOG ".1"), 0);
        write_text(LOG, i ? "three\n" : "two\n");
    }
    log_is(params, "two\nthree\n", true, true);
    log_is(",'from':'1-ffffffffffffff'", "two\nthree\n", true, true);
}

static void a_character_is_not_cut(void **state)
{
    (void)state;
    a_run_with_a_file();
    put(ledger, "UPDATE runs SET state='running'");
    write_text(LOG, "a\xe2\x82\xac\xe2\x82");
    log_is("", "a\xe2\x82\xac", false, false);
    log_is(",'tail':4", "", true, false); /* two bytes of one, and two of another */
    write_text(LOG, "\xff\xfe\xe2\x82\xac");
    log_is("", "\xff\xfe\xe2\x82\xac", false, false); /* no text: as it is */
    put(ledger, "UPDATE runs SET state='ended'");
    write_text(LOG, "a\xe2\x82");
    log_is("", "a\xe2\x82", false, true); /* no more will come */
}

/* In the place of a log somebody put something else. */
static void nothing_else_is_read(void **state)
{
    (void)state;
    a_run_with_a_file();
    write_text("keys/secret", "SECRET");
    write_text(LOG, "mine\n");
    assert_int_equal(linkat(home.dirfd, "keys/secret", home.dirfd, LOG ".1", 0), 0);
    log_is("", "mine\n", false, true);
    assert_int_equal(unlinkat(home.dirfd, LOG, 0), 0);
    assert_int_equal(symlinkat("../../keys/secret", home.dirfd, LOG), 0);
    assert_int_equal(symlinkat("../../keys/secret", home.dirfd, "runs/" RUN_11 "/rejects.jsonl"), 0);
    assert_int_equal(symlinkat("../../keys", home.dirfd, "runs/" RUN_11 "/load"), 0);
    write_text("keys/log", "SECRET");
    write_text("keys/rejects.jsonl", "{\"raw\":\"SECRET\"}");
    log_is("", "", false, true);
    free(rejects_are("", "{\"rejects\":[],\"next\":null}"));
    assert_int_equal(unlinkat(home.dirfd, LOG, 0), 0);
    assert_int_equal(mkfifoat(home.dirfd, LOG, 0600), 0); /* does not block */
    log_is("", "", false, true);
    assert_int_equal(fd_remove_tree(home.dirfd, "runs/" RUN_11), 0);
    assert_int_equal(symlinkat("../keys", home.dirfd, "runs/" RUN_11), 0);
    log_is("", "", false, true);
    free(rejects_are("", "{\"rejects\":[],\"next\":null}"));
}

/* ---- the configuration ---- */

static struct conf *configured(const char *tenant)
{
    AUTO_BUF struct buf b = {0};
    struct conf *c = NULL;
    struct err e = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "platform", "platform = { valid_formats = (\"csv\", \"json\"); };");
    json_begin(&b, "tenants", '[');
    json_begin(&b, NULL, '{');
    json_str(&b, "id", "acme");
    json_str(&b, "conf", tenant);
    json_end(&b, '}');
    json_end(&b, ']');
    json_end(&b, '}');
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    if (conf_told(doc, &c, &e) < 0)
        fail_msg("%s", e.msg);
    queries_set_conf(queries, c);
    return c;
}

static int64_t at(const bson_t *doc, const char *object, const char *key)
{
    bson_iter_t it;
    bson_t in;
    assert_true(bson_iter_init_find(&it, doc, object) && json_iter_doc(&it, &in));
    return json_get_i64(&in, key, -1);
}

static void element(const bson_t *doc, const char *array, int i, bson_t *ret)
{
    bson_iter_t it;
    assert_true(json_get_iter(doc, array, &it));
    for (int k = 0; k <= i; k++)
        assert_true(json_next_doc(&it, ret));
}

static int length(const bson_t *doc, const char *array)
{
    bson_iter_t it;
    int n = 0;
    for (assert_true(json_get_iter(doc, array, &it)); bson_iter_next(&it); n++) {
    }
    return n;
}

static const char agreed[] =
    "limits = { max_file_bytes = 100; max_rows = 10; max_files_per_day = 5; max_bytes_per_day = 20; formats = (\"csv\"); };"
    "datasets = ( { name = \"a\"; limits = { max_file_bytes = 50; max_rows = 20; max_files_per_day = 2; }; "
    "columns = ( { name = \"n\"; type = \"int\"; min = 0.0; } ); key = (\"n\"); }, { name = \"b\"; } );"
    "streams = ( { name = \"events\"; max_messages_per_s = 7; } );"
    "batch = ( { app = \"load\"; exec = \"SECRET\"; args = (\"SECRET\"); env = ( { name = \"X\"; value = \"SECRET\"; } ); } );"
    "stream_apps = ( { app = \"pipe\"; exec = \"SECRET\"; stream = \"events\"; max_instances = 3; } ); mongo_url = \"SECRET\";";

static void the_agreement_is_what_holds(void **state)
{
    (void)state;
    refused("agreement", "{}", 503, "unavailable"); /* without a configuration */
    struct conf *c = configured(agreed);
    AUTO_BSON bson_t *body = ask("agreement", "{}");
    bson_t a, b, s, batch, stream;
    element(body, "datasets", 0, &a);
    element(body, "datasets", 1, &b);
    element(body, "streams", 0, &s);
    assert_int_equal(at(body, "limits", "max_file_bytes"), 100);
    assert_int_equal(at(&a, "limits", "max_file_bytes"), 50); /* the tighter one */
    assert_int_equal(at(&a, "limits", "max_rows"), 10);
    assert_int_equal(at(&a, "limits", "max_files_per_day"), 2); /* each level counts for itself */
    assert_int_equal(at(&b, "limits", "max_files_per_day"), -1);
    assert_int_equal(length(&a, "formats"), 1);
    assert_int_equal(json_get_i64(&s, "max_messages_per_s", 0), 7);
    AUTO_BSON bson_t *apps = ask("apps", "{}");
    element(apps, "apps", 0, &batch);
    element(apps, "apps", 1, &stream);
    assert_string_equal(json_get_str(&batch, "app", ""), "load");
    assert_string_equal(json_get_str(&stream, "kind", ""), "stream");
    assert_int_equal(json_get_i64(&stream, "running", -1), 0);
    put_instance(11, "acme", "running");
    put_instance(12, "other", "running");
    put_run(13, 1, "acme", "app", "running");
    AUTO_BSON bson_t *busy = ask("apps", "{}");
    element(busy, "apps", 0, &batch);
    element(busy, "apps", 1, &stream);
    assert_int_equal(json_get_i64(&stream, "running", -1), 1);
    assert_int_equal(json_get_i64(&batch, "running", -1), 1);
    const char *of[] = {"agreement", "apps", "usage"};
    for (int i = 0; i < 3; i++) {
        struct query_answer ret;
        ask_for(of[i], &acme, "{}", &ret);
        assert_null(strstr(ret.body.p, "SECRET"));
        query_answer_fini(&ret);
        refused_in(&gone, of[i], "{}", 404, "not_found");
    }
    int status;
    const char *code;
    AUTO_BSON bson_t *scoped = ask_in("agreement", &acme_a, "{}", &status, &code),
                     *used = ask_in("usage", &acme_a, "{}", &status, &code);
    assert_int_equal(length(scoped, "datasets"), 1);
    assert_int_equal(length(used, "datasets"), 1);
    queries_set_conf(queries, NULL);
    conf_free(c);
}

static void use_is_of_today(void **state)
{
    (void)state;
    struct conf *c = configured(agreed);
    put_file(1, "acme", "a", "ingested", "1"); /* of another day */
    for (int i = 2; i < 10; i++) {
        static const char *const states[] = {"ingested", "rejected",    "vanished",  "queued",
                                             "waiting",  "quarantined", "duplicate", "received"};
        put_file(i, i == 9 ? "other" : "acme", i % 2 ? "a" : "b", states[i - 2], "x");
    }
    AUTO_FREE char *now = xasprintf("UPDATE files SET received_at=%lld WHERE file_id>'" FILE_1 "'", (long long)clk_wall_ms());
    put(ledger, now);
    AUTO_BSON bson_t *body = ask("usage", "{}");
    bson_t a, b;
    element(body, "datasets", 0, &a);
    element(body, "datasets", 1, &b);
    assert_int_equal(at(body, "files_today", "used"), 5);
    assert_int_equal(at(body, "files_today", "left"), 0);
    assert_int_equal(at(body, "bytes_today", "used"), 35);
    assert_int_equal(at(body, "bytes_today", "left"), 0);
    assert_int_equal(at(body, "unfinished_files", "used"), 2);
    assert_int_equal(at(body, "unfinished_files", "limit"), -1);
    assert_int_equal(at(&a, "files_today", "used"), 2);
    assert_int_equal(at(&a, "files_today", "left"), 0);
    assert_int_equal(at(&b, "files_today", "used"), 3);
    assert_int_equal(at(&b, "unfinished_files", "used"), 1);
    queries_set_conf(queries, NULL);
    conf_free(c);
}

/* ---- the bill ---- */

static void bill_is(const struct query_scope *scope, const char *month, int64_t files, int64_t rows, int64_t messages,
                    double instance_s)
{
    AUTO_FREE char *params = xasprintf("{'month':'%s'}", month);
    const char *code;
    int status;
    AUTO_BSON bson_t *body = ask_in("bill", scope, params, &status, &code);
    assert_non_null(body);
    assert_int_equal(json_get_i64(body, "files", -1), files);
    assert_int_equal(json_get_i64(body, "rows", -1), rows);
    assert_int_equal(json_get_i64(body, "messages", -1), messages);
    assert_true(json_get_f64(body, "instance_s", -1) == instance_s);
}

static void a_bill_is_of_a_month(void **state)
{
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    put_file(2, "other", "a", "ingested", "1");
    put(ledger, "UPDATE files SET rows_loaded=10");
    put_instance(11, "acme", "ended"); /* from the last second of December to the first of January, and ten more */
    put(book, "UPDATE instances SET started_at=1767225599000, ended_at=1767225610000");
    write_text(
        "logs/tenants/acme/stream.jsonl",
        "{\"ts\":\"2025-12-31T23:59:59.999Z\",\"event\":\"interval\",\"stream\":\"s\",\"app\":null,\"line\":\"1\",\"messages\":5}\n"
        "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"event\":\"interval\",\"stream\":\"s\",\"app\":null,\"line\":\"2\",\"messages\":7}"
        "\n");
    put(ledger, "INSERT INTO bills "
                "VALUES('gone',20453,'files',3),('gone',20454,'files',4),('gone',20484,'rows',9),('gone',20485,'rows',1)");
    bill_is(&acme, "2025-12", 0, 0, 5, 1);
    bill_is(&acme, "2026-01", 1, 10, 7, 10);
    bill_is(&acme, "2026-02", 0, 0, 0, 0);
    bill_is(&gone, "2025-12", 3, 0, 0, 0); /* kept after the purge */
    bill_is(&gone, "2026-01", 4, 9, 0, 0);
    AUTO_BSON bson_t *past = ask("bill", "{'month':'2025-12'}"), *future = ask("bill", "{'month':'9998-12'}");
    assert_true(json_get_bool(past, "complete", false));
    assert_false(json_get_bool(future, "complete", true));
    assert_string_equal(json_get_str(past, "until", ""), "2026-01-01T00:00:00.000Z");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_has_a_story),
        TEST(rejects_are_taken_apart),
        TEST(a_log_is_what_was_printed_last),
        TEST(a_log_is_followed_past_its_turns),
        TEST(who_missed_both_halves_is_told),
        TEST(a_character_is_not_cut),
        TEST(nothing_else_is_read),
        TEST(the_agreement_is_what_holds),
        TEST(use_is_of_today),
        TEST(a_bill_is_of_a_month),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
