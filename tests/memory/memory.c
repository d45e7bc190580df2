/* memory SCENARIO [STEP]: plays a scenario of libsimbdp's calls with its first allocation refused, then with the one STEP (1) after
 * it, and so on until none is left to refuse; and the same again, in four times these steps, with all refused from there on. Each
 * call whose allocation was refused must say so, what it had must be given back, and what is left must still close.
 * tests/system/test_memory.py gives it a database and a broker.
 *
 * Refused are the library's own allocations (the linker's --wrap), not those of the libraries it uses. */
#include "simbdp.h"

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *fmt, va_list ap);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap);
void __wrap_free(void *p);

static _Atomic long n_asked, n_live;
static _Atomic long refuse_at; /* 0: none */
static _Atomic bool and_all_after;
static _Atomic bool refused_any;
static _Thread_local bool refused; /* since the last call was checked */
static const char *scenario;
static const char *step = "";

#define CHECK(x)                                                                                                                   \
    do {                                                                                                                           \
        if (!(x)) {                                                                                                                \
            fprintf(stderr, "%s: allocation %ld%s: %s: not so: %s (line %d)\n", scenario, atomic_load(&refuse_at),                 \
                    and_all_after ? " and all after" : "", step, #x, __LINE__);                                                    \
            abort();                                                                                                               \
        }                                                                                                                          \
    } while (0)

static bool refuse(void)
{
    long n = atomic_fetch_add(&n_asked, 1) + 1, at = atomic_load(&refuse_at);
    bool no = at && (n == at || (n > at && and_all_after));
    refused |= no;
    if (no)
        atomic_store(&refused_any, true);
    return no;
}

static void *count(void *p)
{
    if (p)
        atomic_fetch_add(&n_live, 1);
    return p;
}

void *__wrap_malloc(size_t n)
{
    return refuse() ? NULL : count(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return refuse() ? NULL : count(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n)
{
    if (refuse())
        return NULL;
    return p ? __real_realloc(p, n) : count(__real_realloc(p, n));
}

char *__wrap_strdup(const char *s)
{
    return refuse() ? NULL : count(__real_strdup(s));
}

char *__wrap_strndup(const char *s, size_t n)
{
    return refuse() ? NULL : count(__real_strndup(s, n));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list ap)
{
    if (refuse())
        return -1;
    int n = __real_vasprintf(ret, fmt, ap);
    if (n >= 0)
        count(*ret);
    return n;
}

void __wrap_free(void *p)
{
    if (p)
        atomic_fetch_sub(&n_live, 1);
    __real_free(p);
}

/* --- calls --- */

/* The code of a call, which is SIMBDP_MEMORY when something was refused to it, or to an earlier one that ended the run. */
static int checked(int code)
{
    CHECK(!refused || code == SIMBDP_MEMORY);
    CHECK(code != SIMBDP_MEMORY || refused_any);
    refused = false;
    return code;
}
#define CALL(x) (step = #x, checked(x))

static const char *json_of(struct simbdp_row *row)
{
    step = "simbdp_row_json";
    const char *text = simbdp_row_json(row);
    CHECK(!refused == (text != NULL));
    refused = false;
    return text;
}

static struct simbdp_row *new_row(struct simbdp *run)
{
    step = "simbdp_row_new";
    struct simbdp_row *row = simbdp_row_new(run);
    CHECK(!refused == (row != NULL));
    refused = false;
    return row;
}

/* What a change of a row leaves when it is refused: what was there. */
static void changes(struct simbdp_row *row)
{
    const char *field;
    size_t n;
    static char large[70000];
    memset(large, 'x', sizeof large);
    bool set = CALL(simbdp_row_set_string(row, "s", large, sizeof large)) == SIMBDP_OK;
    CHECK(set == (simbdp_row_get_string(row, "s", &field, &n) == SIMBDP_OK && n == sizeof large));
    bool shorter = CALL(simbdp_row_set_string(row, "s", "y", 1)) == SIMBDP_OK;
    CHECK(shorter || !set == (simbdp_row_type(row, "s") == SIMBDP_NONE));
    CALL(simbdp_row_set_int(row, "i", 7));
    CALL(simbdp_row_set_int(row, "l", INT64_MAX));
    CALL(simbdp_row_set_double(row, "d", 0.5));
    CALL(simbdp_row_set_bool(row, "b", 1));
    CALL(simbdp_row_set_datetime(row, "t", 86400000));
    CALL(simbdp_row_set_null(row, "z"));
    int64_t l = 0;
    CHECK(simbdp_row_type(row, "l") == SIMBDP_NONE || (simbdp_row_get_int(row, "l", &l) == SIMBDP_OK && l == INT64_MAX));
    json_of(row);
    if (simbdp_row_type(row, "i") == SIMBDP_INTEGER && CALL(simbdp_row_remove(row, "i")) == SIMBDP_MEMORY)
        CHECK(simbdp_row_type(row, "i") == SIMBDP_INTEGER);
}

static struct simbdp *open_run(void)
{
    struct simbdp *run = NULL;
    char error[SIMBDP_ERROR_BYTES] = "";
    int code = CALL(simbdp_open(&run, error, sizeof error));
    CHECK((code == SIMBDP_OK) == (run != NULL));
    CHECK(code != SIMBDP_MEMORY || !strcmp(error, "out of memory"));
    if (code && code != SIMBDP_MEMORY) {
        fprintf(stderr, "%s\n", error);
        exit(1);
    }
    return run;
}

/* Finishes when it can; the run's first failure is told. A failed run stays one. */
static void end_run(struct simbdp *run, int code)
{
    struct simbdp_result result = {.size = sizeof result};
    step = "simbdp_finish";
    int finished = simbdp_finish(run, &result);
    CHECK(finished == SIMBDP_OK || finished == SIMBDP_MEMORY);
    CHECK(finished == SIMBDP_MEMORY ? refused_any : !refused);
    CHECK(code != SIMBDP_MEMORY || finished == SIMBDP_MEMORY);
    CHECK(finished == SIMBDP_OK || strstr(result.error, "memory"));
    refused = false;
    step = "simbdp_close";
    simbdp_close(run);
    refused = false;
}

/* --- scenarios --- */

static void play_rows(void)
{
    struct simbdp *run = open_run();
    if (!run)
        return;
    CALL(simbdp_set_collection(run, "memory"));
    struct simbdp_row *row = new_row(run);
    if (row) {
        static const char text[] = "{\"a\": {\"b\": [1, 2.5, null]}, \"s\": \"text\"}";
        changes(row);
        if (CALL(simbdp_row_set_json(row, text, sizeof text - 1)) == SIMBDP_OK) {
            const char *again = json_of(row);
            CHECK(!again || strstr(again, "2.5"));
        }
    }
    simbdp_row_free(row);
    step = "simbdp_close";
    simbdp_close(run);
}

static enum simbdp_verdict on_row(struct simbdp_row *row, void *arg)
{
    if (simbdp_row_line(row) % 3 == 0)
        return SIMBDP_STORE;
    simbdp_row_set_string(row, "more", "changed", 7);
    refused = false; /* it is the app's to do without */
    simbdp_row_reject(row, "not this one");
    return simbdp_row_line(row) % 5 ? SIMBDP_STORE : SIMBDP_REJECT;
}

/* Rows of files: the run's inputs, or one by name with a schema of its own. */
static void play_file(void)
{
    const char *path = getenv("FILE"), *schema = getenv("SCHEMA");
    struct simbdp *run = open_run();
    if (!run)
        return;
    int code = CALL(simbdp_ingest_file(run, path, schema, NULL, NULL));
    if (code == SIMBDP_OK && path)
        code = CALL(simbdp_ingest_file(run, path, schema, on_row, NULL));
    if (code && code != SIMBDP_MEMORY)
        fprintf(stderr, "%s\n", simbdp_error(run));
    CHECK(code == SIMBDP_OK || code == SIMBDP_MEMORY);
    end_run(run, code);
}

static void play_store(void)
{
    struct simbdp *run = open_run();
    if (!run)
        return;
    int code = SIMBDP_OK;
    for (int i = 0; i < 3; i++) {
        struct simbdp_row *row = new_row(run);
        if (!row)
            continue;
        changes(row);
        int r = CALL(simbdp_row_store(row));
        CHECK(code != SIMBDP_MEMORY || r == SIMBDP_MEMORY);
        code = r;
    }
    end_run(run, code);
}

static void publish(int n)
{
    struct simbdp_publisher *p = NULL;
    char error[SIMBDP_ERROR_BYTES] = "";
    int code = CALL(simbdp_publisher_open(&p, NULL, error, sizeof error));
    CHECK((code == SIMBDP_OK) == (p != NULL));
    if (!p)
        return;
    for (int i = 0; i < n; i++) {
        char text[80];
        snprintf(text, sizeof text, "{\"n\": %d, \"s\": \"message\"}", i);
        int r = CALL(simbdp_publish(p, text, strlen(text), 5000));
        CHECK(code != SIMBDP_MEMORY || r == SIMBDP_MEMORY);
        code = r;
    }
    int r = CALL(simbdp_publisher_flush(p, 5000));
    CHECK(r == SIMBDP_MEMORY || (r == SIMBDP_OK && code == SIMBDP_OK && simbdp_publisher_confirmed(p) == n));
    step = "simbdp_publisher_close";
    simbdp_publisher_close(p);
}

static void play_publish(void)
{
    publish(3);
}

static int take_message(struct simbdp *run, int i, const struct simbdp_message *m)
{
    struct simbdp_row *row;
    int code;
    switch (i) {
    case 0:
        code = CALL(simbdp_store_message(run, NULL, NULL));
        return code ? code : CALL(simbdp_done(run, m->sequence));
    case 1:
        code = CALL(simbdp_store_message(run, on_row, NULL));
        return code ? code : CALL(simbdp_done(run, m->sequence));
    case 2:
        row = new_row(run);
        code = row ? CALL(simbdp_row_store(row)) : SIMBDP_OK;
        return code ? code : CALL(simbdp_refuse(run, m->sequence, "not wanted"));
    default:
        return CALL(simbdp_retry(run, m->sequence, 60000, "later"));
    }
}

static void play_consume(void)
{
    long at = atomic_exchange(&refuse_at, 0);
    publish(4);
    n_asked = 0;
    refuse_at = at;
    struct simbdp *run = open_run();
    if (!run)
        return;
    int code = SIMBDP_OK;
    for (int i = 0; i < 4 && code == SIMBDP_OK; i++) {
        struct simbdp_message m = {.size = sizeof m};
        code = CALL(simbdp_next(run, 10000, &m));
        CHECK(code == 1 || code == SIMBDP_MEMORY);
        if (code == 1)
            code = take_message(run, i, &m);
    }
    if (code == SIMBDP_MEMORY) {
        struct simbdp_message m = {.size = sizeof m};
        CHECK(simbdp_next(run, 0, &m) == SIMBDP_MEMORY && simbdp_done(run, 1) == SIMBDP_MEMORY);
        CHECK(!strcmp(simbdp_error(run), "out of memory"));
    }
    end_run(run, code);
}

/* --- turns --- */

static int n_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* False: there was nothing to refuse any more. */
static bool play(void (*fn)(void), long at)
{
    long live = n_live;
    int fds = n_fds();
    n_asked = 0;
    refused = false;
    atomic_store(&refused_any, false);
    refuse_at = at;
    fn();
    long asked = n_asked;
    step = "afterwards";
    if (n_live != live || n_fds() != fds)
        fprintf(stderr, "%ld blocks of memory and %d descriptors too many\n", n_live - live, n_fds() - fds);
    CHECK(n_live == live && n_fds() == fds);
    refuse_at = 0;
    CHECK(refused_any || at == 0 || asked < at);
    return refused_any;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(void);
    } all[] = {
        {"rows", play_rows}, {"file", play_file}, {"store", play_store}, {"publish", play_publish}, {"consume", play_consume}};
    void (*fn)(void) = NULL;
    scenario = argc > 1 ? argv[1] : "";
    int by = argc > 2 ? atoi(argv[2]) : 1;
    if (by < 1)
        return 2;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i].name, scenario))
            fn = all[i].fn;
    if (!fn)
        return 2;
    fn(); /* what is made once and kept */
    play(fn, 0);
    for (int from = 0; from < 2; from++) {
        long at = 1;
        and_all_after = from;
        while (play(fn, at))
            at += from ? 4 * by : by; /* what has to work with none at all is much the same everywhere */
        printf("%s: %ld allocations refused, %s\n", scenario, at - 1, from ? "all after each too" : "one at a time");
    }
    return 0;
}
