/* Who logs in, with what and how often; what a ticket is worth. The clock is the test's. */
#include "accounts/parts.h"
#include "base/clk.h"
#include "base/json.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { S = 1000, N_FLOOD = 20000 };

static struct home home;
static struct accounts *a;
static int64_t now_ms;

int64_t __wrap_clk_wall_ms(void);
int64_t __wrap_clk_wall_ms(void)
{
    return now_ms;
}

static int make_home(void **state)
{
    char dir[] = "/tmp/simbdp-accounts-XXXXXX";
    (void)state;
    if (sodium_init() < 0 || !mkdtemp(dir))
        return -1;
    home.path = xstrdup(dir);
    home.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    now_ms = 1800000000000;
    return mkdirat(home.dirfd, "state", 0700) + mkdirat(home.dirfd, "keys", 0700) + accounts_open(&home, &a, NULL);
}

static int remove_home(void **state)
{
    (void)state;
    accounts_close(a);
    fd_remove_tree(AT_FDCWD, home.path);
    close(home.dirfd);
    free(home.path);
    return 0;
}

/* ---- steps ---- */

/* With a password that costs nothing to check beside the one that is nobody's. */
static void add(const char *name, enum role role, const char *tenant, char password[ACCOUNT_MADE_SIZE])
{
    char hash[ACCOUNT_HASH_SIZE], room[ACCOUNT_MADE_SIZE];
    struct err e = {0};
    assert_int_equal(account_make_password(password ? password : room, hash, &e), 0);
    if (accounts_user_add(a, name, role, tenant, hash, &e) < 0)
        fail_msg("%s", e.msg);
}

static int log_in(const char *user, const char *password, const char *address)
{
    AUTO_ACCOUNT struct account who = {0};
    int wait_s = 0, r = accounts_login_password(a, user, password, address, &who, &wait_s, NULL);
    return r == -EAGAIN ? wait_s : r;
}

static int show(const char *token, const char *address)
{
    AUTO_ACCOUNT struct account who = {0};
    int wait_s = 0, r = accounts_login_token(a, token, address, &who, &wait_s, NULL);
    return r == -EAGAIN ? wait_s : r;
}

static void token_of(const char *user, const struct account_scope *scope, char token[ACCOUNT_TOKEN_SIZE],
                     char id[ACCOUNT_TOKEN_ID_SIZE])
{
    struct err e = {0};
    char room[ACCOUNT_TOKEN_ID_SIZE];
    if (accounts_token_add(a, user, scope ? scope : &(struct account_scope){0}, token, id ? id : room, &e) < 0)
        fail_msg("%s", e.msg);
}

static int64_t value(const char *sql)
{
    AUTO_STATEMENT sqlite3_stmt *s = accounts_query(a, sql, "");
    assert_int_equal(accounts_step(a, s, NULL), 1);
    return sqlite3_column_int64(s, 0);
}

static void quickly(void)
{
    sqlite3_exec(a->db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
}

/* ---- what there is ---- */

static void files_are_ours_alone_and_a_newer_database_is_left(void **state)
{
    struct stat st;
    struct err e = {0};
    struct accounts *other = NULL;
    (void)state;
    static const char *const files[] = {"state/accounts.db", "state/accounts.db-wal", "keys/gateway.ticket"};
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            add("ann", ROLE_operator, NULL, NULL);
        assert_int_equal(fstatat(home.dirfd, files[i], &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    assert_int_equal(value("PRAGMA synchronous"), 2); /* FULL */
    assert_int_equal(accounts_open(&home, &other, &e), 0);
    assert_memory_equal(other->ticket_key, a->ticket_key, sizeof a->ticket_key);
    accounts_close(other);
    sqlite3_exec(a->db, "PRAGMA user_version=2", NULL, NULL, NULL);
    assert_int_equal(accounts_open(&home, &other, &e), ERR_VERSION);
}

/* Several programs make it at once. */
static void all_that_open_it_have_one_key(void **state)
{
    pid_t child[8];
    int status, p[2];
    unsigned char key[crypto_auth_KEYBYTES], first[crypto_auth_KEYBYTES];
    (void)state;
    accounts_close(a);
    a = NULL;
    unlinkat(home.dirfd, "state/accounts.db", 0);
    AUTO_FD int cut = openat(home.dirfd, "keys/gateway.ticket", O_WRONLY | O_TRUNC | O_CLOEXEC); /* as a crash left it */
    assert_int_equal(write(cut, "x", 1), 1);
    assert_int_equal(pipe(p), 0);
    for (int i = 0; i < 8; i++)
        if (!(child[i] = fork())) {
            struct accounts *mine = NULL;
            struct err e = {0};
            if (accounts_open(&home, &mine, &e) < 0)
                fprintf(stderr, "%s\n", e.msg);
            _exit(!mine || write(p[1], mine->ticket_key, sizeof mine->ticket_key) < 0);
        }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
        assert_int_equal(read(p[0], i ? key : first, sizeof key), sizeof key);
        assert_memory_equal(i ? key : first, first, sizeof key);
    }
    close(p[0]);
    close(p[1]);
}

static void users(void **state)
{
    struct err e = {0};
    AUTO_BUF struct buf b = {0};
    AUTO_ACCOUNT struct account who = {0};
    (void)state;
    add("ann", ROLE_tenant_writer, "acme", NULL);
    add("zoe@example.com", ROLE_operator, NULL, NULL);
    assert_int_equal(accounts_user_add(a, "ann", ROLE_operator, NULL, "", &e), -EEXIST);
    static const char *const names[] = {
        "", "Ann", "-a", "a:b", "a b", "\xc3\xa4", "a1234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(accounts_user_add(a, names[i], ROLE_operator, NULL, "", &e), ERR_USAGE);
    assert_int_equal(accounts_user_add(a, "bob", ROLE_operator, "acme", "", &e), ERR_USAGE);
    assert_int_equal(accounts_user_add(a, "bob", ROLE_tenant_reader, NULL, "", &e), ERR_USAGE);
    assert_int_equal(accounts_user(a, "ann", &who, &e), 0);
    assert_true(who.role == ROLE_tenant_writer && !strcmp(who.tenant, "acme") && !who.token_id);
    token_of("ann", NULL, (char[ACCOUNT_TOKEN_SIZE]){0}, NULL);
    assert_int_equal(accounts_user_disable(a, "ann", true, &e), 0);
    assert_int_equal(accounts_users(a, &b, &e), 0);
    assert_string_equal(
        b.p, "[{\"name\":\"ann\",\"role\":\"tenant-writer\",\"tenant_id\":\"acme\",\"state\":\"disabled\",\"tokens\":1,"
             "\"created_at\":\"2027-01-15T08:00:00.000Z\",\"password_at\":\"2027-01-15T08:00:00.000Z\","
             "\"disabled_at\":\"2027-01-15T08:00:00.000Z\"},"
             "{\"name\":\"zoe@example.com\",\"role\":\"operator\",\"tenant_id\":null,\"state\":\"active\",\"tokens\":0,"
             "\"created_at\":\"2027-01-15T08:00:00.000Z\",\"password_at\":\"2027-01-15T08:00:00.000Z\",\"disabled_at\":null}]");
    assert_int_equal(accounts_user_remove(a, "ann", &e), 0);
    assert_int_equal(value("SELECT count(*) FROM tokens"), 0);
    assert_int_equal(accounts_user_remove(a, "ann", &e), -ENOENT);
    assert_int_equal(accounts_user_disable(a, "ann", true, &e), -ENOENT);
    assert_int_equal(accounts_user_password(a, "ann", "", &e), -ENOENT);
    assert_int_equal(accounts_user(a, "ann", &who, &e), -ENOENT);
}

static void a_tenant_goes_with_its_users_and_their_tokens(void **state)
{
    struct err e = {0};
    char gone[ACCOUNT_TOKEN_SIZE], stays[ACCOUNT_TOKEN_SIZE];
    int n = -1;
    (void)state;
    add("ann", ROLE_tenant_writer, "acme", NULL);
    add("bob", ROLE_tenant_reader, "acme", NULL);
    add("cat", ROLE_tenant_reader, "other", NULL);
    token_of("ann", NULL, gone, NULL);
    token_of("cat", NULL, stays, NULL);
    assert_int_equal(accounts_begin(a, &e), 0);
    assert_int_equal(accounts_tenant_remove(a, "acme", &n, &e), 0);
    accounts_rollback(a);
    assert_int_equal(show(gone, "::1"), 0);
    assert_int_equal(accounts_begin(a, &e), 0);
    assert_int_equal(accounts_tenant_remove(a, "acme", &n, &e), 0);
    assert_int_equal(accounts_commit(a, &e), 0);
    assert_int_equal(n, 2);
    assert_int_equal(show(gone, "::1"), ERR_REFUSED);
    assert_int_equal(show(stays, "::1"), 0);
    assert_int_equal(value("SELECT count(*) FROM users"), 1);
}

/* ---- passwords ---- */

static void passwords_that_are_none(void **state)
{
    char hash[ACCOUNT_HASH_SIZE], text[ACCOUNT_PASSWORD_MAX + 2];
    struct err e = {0};
    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    assert_int_equal(account_hash(text, hash, &e), ERR_REFUSED);
    static const char *const bad[] = {"", "12345678901", "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4",
                                      "123456789012\n3", "123456789012\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(account_hash(bad[i], hash, &e), ERR_REFUSED);
    assert_int_equal(
        account_hash("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", hash, &e),
        0);
    assert_memory_equal(hash, "$argon2id$v=19$m=65536,t=2,p=1$", 31);
}

static void who_logs_in_with_a_password(void **state)
{
    char hash[ACCOUNT_HASH_SIZE], drawn[ACCOUNT_MADE_SIZE], text[ACCOUNT_PASSWORD_MAX + 2];
    AUTO_ACCOUNT struct account who = {0};
    struct err e = {0};
    int wait_s;
    (void)state;
    add("ann", ROLE_tenant_deployer, "acme", drawn);
    assert_int_equal(strlen(drawn), ACCOUNT_MADE_SIZE - 1);
    assert_int_equal(log_in("ann", drawn, "::1"), 0);
    assert_int_equal(account_hash("correct horse", hash, &e), 0);
    assert_int_equal(accounts_user_password(a, "ann", hash, &e), 0);
    assert_int_equal(log_in("ann", drawn, "::1"), ERR_REFUSED);
    assert_int_equal(accounts_login_password(a, "ann", "correct horse", "::1", &who, &wait_s, &e), 0);
    assert_true(!strcmp(who.name, "ann") && who.role == ROLE_tenant_deployer && !strcmp(who.tenant, "acme") && !who.token_id &&
                !who.datasets && !who.until_ms);
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    assert_int_equal(log_in("ann", text, "::2"), ERR_REFUSED);
    assert_int_equal(log_in("ann", "correct horse ", "::2"), ERR_REFUSED);
    assert_int_equal(log_in("ann'--", "correct horse", "::2"), ERR_REFUSED);
    assert_int_equal(log_in("nobody", "correct horse", "::2"), ERR_REFUSED);
    assert_int_equal(accounts_user_disable(a, "ann", true, &e), 0);
    assert_int_equal(log_in("ann", "correct horse", "::3"), ERR_REFUSED);
    assert_int_equal(accounts_user_disable(a, "ann", false, &e), 0);
    assert_int_equal(log_in("ann", "correct horse", "::3"), 0);
}

static double cost_of(const char *user, const char *password)
{
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    assert_int_equal(log_in(user, password, "192.0.2.77"), ERR_REFUSED);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    return (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
}

/* By what is computed, which does not depend on what else the machine does. */
static void nobody_learns_by_the_time_it_takes_who_there_is(void **state)
{
    char hash[ACCOUNT_HASH_SIZE];
    (void)state;
    add("drawn", ROLE_operator, NULL, NULL);
    assert_int_equal(account_hash("correct horse", hash, NULL), 0);
    assert_int_equal(accounts_user_add(a, "ann", ROLE_operator, NULL, hash, NULL), 0);
    double known = cost_of("ann", "wrong");
    static const char *const others[] = {"nobody", "drawn", "No Name", ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        double other = cost_of(others[i], "wrong");
        if (other < known / 2 || other > known * 2)
            fail_msg("%s: %.3f s, ann: %.3f s", others[i], other, known);
    }
}

/* ---- tokens ---- */

static void what_a_token_may(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], id[ACCOUNT_TOKEN_ID_SIZE], found[ACCOUNT_TOKEN_ID_SIZE];
    const char *const datasets[] = {"a", "b-2", NULL};
    AUTO_ACCOUNT struct account who = {0};
    int wait_s;
    (void)state;
    add("ann", ROLE_tenant_writer, "acme", NULL);
    token_of("ann", &(struct account_scope){1u << VERB_read | 1u << VERB_upload, datasets, now_ms + 60 * S, "a note"}, token, id);
    assert_int_equal(strlen(token), ACCOUNT_TOKEN_SIZE - 1);
    assert_true(account_token_id(token, found) && !strcmp(found, id));
    assert_int_equal(accounts_login_token(a, token, "::1", &who, &wait_s, NULL), 0);
    assert_true(!strcmp(who.token_id, id) && !strcmp(who.name, "ann") && who.until_ms == now_ms + 60 * S);
    assert_true(account_may(&who, VERB_read, "acme", "a") && account_may(&who, VERB_upload, "acme", "b-2"));
    assert_false(account_may(&who, VERB_upload, "acme", "c") || account_may(&who, VERB_read, "acme", "c"));
    assert_false(account_may(&who, VERB_retry, "acme", "a") || account_may(&who, VERB_upload, "other", "a"));
    assert_true(account_may(&who, VERB_read, "acme", NULL));
    assert_false(account_may(&who, VERB_upload, "acme", NULL) || account_may(&who, VERB_read, NULL, NULL));
    assert_int_equal(value("SELECT count(*) FROM tokens WHERE length(secret)=32"), 1);
    now_ms += 60 * S;
    assert_int_equal(show(token, "::1"), ERR_REFUSED);
}

static void scopes_that_are_none(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], id[ACCOUNT_TOKEN_ID_SIZE], note[ACCOUNT_NOTE_MAX + 2];
    const char *many[ACCOUNT_DATASETS_MAX + 2] = {NULL};
    const char *const bad[] = {"a,b", NULL}, *const none[] = {NULL};
    (void)state;
    for (int i = 0; i <= ACCOUNT_DATASETS_MAX; i++)
        many[i] = "d";
    memset(note, 'x', sizeof note);
    note[sizeof note - 1] = 0;
    add("ann", ROLE_tenant_reader, "acme", NULL);
    const struct account_scope scopes[] = {
        {.verbs = 1u << VERB_upload}, {.verbs = 1u << VERB_admin}, {.datasets = many}, {.datasets = bad},
        {.datasets = none},           {.until_ms = now_ms},        {.note = note},     {.note = "\xff"}};
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
        assert_int_equal(accounts_token_add(a, "ann", &scopes[i], token, id, NULL), ERR_USAGE);
    many[ACCOUNT_DATASETS_MAX] = NULL;
    note[ACCOUNT_NOTE_MAX] = 0;
    token_of("ann", &(struct account_scope){.datasets = many, .note = note}, token, id);
    assert_int_equal(accounts_token_add(a, "bob", &scopes[0], token, id, NULL), -ENOENT);
}

static void texts_that_are_no_token(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], changed[ACCOUNT_TOKEN_SIZE + 1];
    (void)state;
    quickly();
    add("ann", ROLE_operator, NULL, NULL);
    token_of("ann", NULL, token, NULL);
    for (size_t i = 0; i < sizeof token - 1; i++) {
        memcpy(changed, token, sizeof token);
        changed[i] = token[i] == 'b' ? 'c' : 'b';
        assert_int_equal(show(changed, "::1"), ERR_REFUSED);
        memcpy(changed, token, sizeof token);
        changed[i] = 0;
        assert_int_equal(show(changed, "::1"), ERR_REFUSED);
        now_ms += 400 * S; /* none of them came too early */
    }
    snprintf(changed, sizeof changed, "%sA", token);
    assert_int_equal(show(changed, "::1"), ERR_REFUSED);
    assert_int_equal(show(token, "::1"), 0);
}

static void what_ends_a_token_ends_it_at_once(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], id[ACCOUNT_TOKEN_ID_SIZE];
    AUTO_ACCOUNT struct account who = {0};
    struct err e = {0};
    (void)state;
    add("ann", ROLE_operator, NULL, NULL);
    token_of("ann", NULL, token, id);
    assert_int_equal(accounts_user_disable(a, "ann", true, &e), 0);
    assert_int_equal(show(token, "::1"), ERR_REFUSED);
    assert_int_equal(accounts_user_disable(a, "ann", false, &e), 0);
    assert_int_equal(show(token, "::1"), 0);
    struct accounts *other; /* the command line's */
    assert_int_equal(accounts_open(&home, &other, &e), 0);
    assert_int_equal(accounts_token_revoke(other, id, &e), 0);
    accounts_close(other);
    assert_int_equal(show(token, "::1"), ERR_REFUSED);
    assert_int_equal(accounts_token_revoke(a, token, &e), 0); /* again, by its text */
    assert_int_equal(accounts_token_revoke(a, "nosuch", &e), -ENOENT);
    assert_int_equal(accounts_token(a, id, &who, &e), 0);
    assert_string_equal(who.name, "ann");
    assert_int_equal(accounts_token(a, "nosuch", &who, &e), -ENOENT);
    now_ms += 91 * INT64_C(86400000); /* it is listed for 90 days */
    token_of("ann", NULL, token, NULL);
    assert_int_equal(value("SELECT count(*) FROM tokens"), 1);
}

static void the_last_use_is_noted_and_holds_nobody_up(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE];
    AUTO_BUF struct buf b = {0};
    struct accounts *other;
    (void)state;
    add("ann", ROLE_operator, NULL, NULL);
    token_of("ann", NULL, token, NULL);
    assert_int_equal(show(token, "192.0.2.1"), 0);
    assert_int_equal(accounts_tokens(a, NULL, &b, NULL), 0);
    assert_non_null(strstr(b.p, "\"used_at\":\"2027-01-15T08:00:00.000Z\",\"used_from\":\"192.0.2.1\""));
    int64_t first = now_ms;
    now_ms += 59 * S;
    assert_int_equal(show(token, "192.0.2.1"), 0);
    assert_int_equal(value("SELECT used_at FROM tokens"), first);
    now_ms += S;
    assert_int_equal(accounts_open(&home, &other, NULL), 0);
    assert_int_equal(accounts_begin(other, NULL), 0);
    int64_t began_ms = clk_now_ms();
    assert_int_equal(show(token, "192.0.2.1"), 0);
    assert_true(clk_now_ms() - began_ms < 4000);
    accounts_rollback(other);
    accounts_close(other);
    assert_int_equal(value("SELECT used_at FROM tokens"), first);
    assert_int_equal(show(token, "192.0.2.1"), 0);
    assert_int_equal(value("SELECT used_at FROM tokens"), now_ms);
}

static void what_lists_say(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], id[3][ACCOUNT_TOKEN_ID_SIZE];
    const char *const datasets[] = {"a", "b", NULL};
    AUTO_BUF struct buf b = {0};
    (void)state;
    add("ann", ROLE_tenant_writer, "acme", NULL);
    add("bob", ROLE_operator, NULL, NULL);
    token_of("ann", &(struct account_scope){1u << VERB_run, datasets, now_ms + S, "\"n\""}, token, id[0]);
    token_of("ann", NULL, token, id[1]);
    now_ms += S;
    token_of("bob", NULL, token, id[2]);
    accounts_token_revoke(a, id[2], NULL);
    accounts_user_disable(a, "ann", true, NULL);
    assert_int_equal(accounts_tokens(a, NULL, &b, NULL), 0);
    bson_t *doc = NULL;
    AUTO_FREE char *text = xasprintf("{\"t\":%s}", b.p);
    doc = json_parse(text, strlen(text), NULL);
    assert_non_null(doc);
    bson_iter_t it;
    bson_t one;
    int n = 0, active = 0;
    assert_true(json_get_iter(doc, "t", &it));
    while (json_next_doc(&it, &one)) {
        const char *s = json_get_str(&one, "state", ""), *t = json_get_str(&one, "token_id", "");
        assert_string_equal(s, !strcmp(t, id[0]) ? "expired" : !strcmp(t, id[1]) ? "disabled" : "revoked");
        active += !strcmp(s, "active");
        n++;
    }
    assert_int_equal(n, 3);
    bson_destroy(doc);
    assert_non_null(strstr(b.p, "\"verbs\":[\"run\"],\"datasets\":[\"a\",\"b\"]"));
    assert_non_null(strstr(b.p, "\"note\":\"\\\"n\\\"\""));
    buf_reset(&b);
    assert_int_equal(accounts_tokens(a, "bob", &b, NULL), 0);
    assert_null(strstr(b.p, "ann"));
}

/* ---- roles ---- */

static void what_each_role_may(void **state)
{
    static const int allowed[N_VERBS] = {
        [VERB_read] = ROLE_tenant_reader,     [VERB_upload] = ROLE_tenant_writer,  [VERB_retry] = ROLE_tenant_writer,
        [VERB_delete] = ROLE_tenant_writer,   [VERB_publish] = ROLE_tenant_writer, [VERB_run] = ROLE_tenant_writer,
        [VERB_deploy] = ROLE_tenant_deployer, [VERB_admin] = ROLE_operator};
    (void)state;
    for (int role = 0; role < N_ROLES; role++)
        for (int verb = 0; verb < N_VERBS; verb++) {
            struct account who = {"x", (enum role)role, role == ROLE_operator ? NULL : "acme", NULL, ~0u, NULL, 0, NULL, 0};
            assert_int_equal(account_may(&who, (enum verb)verb, "acme", "d"), role >= allowed[verb]);
            assert_int_equal(account_may(&who, (enum verb)verb, NULL, NULL), role == ROLE_operator);
            assert_int_equal(account_may(&who, (enum verb)verb, "other", NULL), role == ROLE_operator);
            who.verbs = 0;
            assert_false(account_may(&who, (enum verb)verb, "acme", "d"));
        }
    assert_false(account_may(&(struct account){.verbs = ~0u, .role = ROLE_operator}, VERB_read, NULL, NULL)); /* nobody */
    enum role role;
    enum verb verb;
    assert_true(account_role_of("tenant-deployer", &role) && role == ROLE_tenant_deployer && !account_role_of("root", &role));
    assert_true(account_verb_of("deploy", &verb) && verb == VERB_deploy && !account_verb_of("read,upload", &verb));
}

/* ---- tickets ---- */

static int open_ticket(const char *ticket)
{
    AUTO_ACCOUNT struct account who = {0};
    return accounts_ticket_open(a, ticket, &who, NULL);
}

static void ticket_of(const char *user, const char *token, char ticket[ACCOUNT_TICKET_MAX])
{
    AUTO_ACCOUNT struct account who = {0};
    int wait_s;
    assert_int_equal(token ? accounts_login_token(a, token, "::1", &who, &wait_s, NULL) : accounts_user(a, user, &who, NULL), 0);
    assert_int_equal(accounts_ticket(a, &who, ticket, NULL), 0);
}

static void a_ticket_says_who_somebody_is_and_what_he_may(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], ticket[ACCOUNT_TICKET_MAX], changed[ACCOUNT_TICKET_MAX];
    const char *const datasets[] = {"a", NULL};
    AUTO_ACCOUNT struct account who = {0};
    (void)state;
    add("ann", ROLE_tenant_writer, "acme", NULL);
    token_of("ann", &(struct account_scope){.verbs = 1u << VERB_upload, .datasets = datasets}, token, NULL);
    ticket_of("ann", token, ticket);
    assert_int_equal(accounts_ticket_open(a, ticket, &who, NULL), 0);
    assert_true(!strcmp(who.name, "ann") && account_may(&who, VERB_upload, "acme", "a") &&
                !account_may(&who, VERB_read, "acme", "a"));
    assert_null(strstr(ticket, "ann"));
    for (size_t i = 0; ticket[i]; i++) {
        memcpy(changed, ticket, sizeof ticket);
        changed[i] ^= 1;
        assert_int_equal(open_ticket(changed), ERR_REFUSED);
        changed[i] = 0;
        assert_int_equal(open_ticket(changed), ERR_REFUSED);
    }
    memset(changed, 'x', sizeof changed); /* without an end */
    assert_int_equal(open_ticket(changed), ERR_REFUSED);
    a->ticket_key[0] ^= 1;
    assert_int_equal(open_ticket(ticket), ERR_REFUSED);
    assert_int_equal(accounts_ticket(a, &(struct account){.name = "x"}, ticket, NULL), -EINVAL);
}

static void a_ticket_lasts_a_minute_and_no_longer_than_its_token(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], ticket[ACCOUNT_TICKET_MAX], shorter[ACCOUNT_TICKET_MAX];
    (void)state;
    add("ann", ROLE_operator, NULL, NULL);
    token_of("ann", &(struct account_scope){.until_ms = now_ms + 10 * S}, token, NULL);
    ticket_of("ann", NULL, ticket);
    ticket_of("ann", token, shorter);
    now_ms += 10 * S - 1;
    assert_int_equal(open_ticket(shorter), 0);
    now_ms++;
    assert_int_equal(open_ticket(shorter), ERR_REFUSED);
    now_ms += 50 * S - 1;
    assert_int_equal(open_ticket(ticket), 0);
    now_ms++;
    assert_int_equal(open_ticket(ticket), ERR_REFUSED);
    now_ms -= 60 * S + 1; /* the clock was set back */
    assert_int_equal(open_ticket(ticket), ERR_REFUSED);
}

static void a_ticket_ends_with_what_it_is_of(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], id[ACCOUNT_TOKEN_ID_SIZE], of_token[ACCOUNT_TICKET_MAX], of_password[ACCOUNT_TICKET_MAX],
        hash[ACCOUNT_HASH_SIZE], drawn[ACCOUNT_MADE_SIZE];
    (void)state;
    add("ann", ROLE_operator, NULL, NULL);
    token_of("ann", NULL, token, id);
    ticket_of("ann", token, of_token);
    ticket_of("ann", NULL, of_password);
    accounts_user_disable(a, "ann", true, NULL);
    assert_true(open_ticket(of_token) == ERR_REFUSED && open_ticket(of_password) == ERR_REFUSED);
    accounts_user_disable(a, "ann", false, NULL);
    assert_true(open_ticket(of_token) == 0 && open_ticket(of_password) == 0);
    assert_int_equal(account_make_password(drawn, hash, NULL), 0);
    accounts_user_password(a, "ann", hash, NULL); /* within the same millisecond */
    assert_true(open_ticket(of_token) == 0 && open_ticket(of_password) == ERR_REFUSED);
    accounts_token_revoke(a, id, NULL);
    assert_int_equal(open_ticket(of_token), ERR_REFUSED);
    ticket_of("ann", NULL, of_password);
    accounts_user_remove(a, "ann", NULL);
    add("ann", ROLE_operator, NULL, NULL); /* another one */
    assert_int_equal(open_ticket(of_password), ERR_REFUSED);
}

/* ---- failures ---- */

static void who_fails_waits_longer_each_time(void **state)
{
    static const int waits_s[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300};
    char drawn[ACCOUNT_MADE_SIZE];
    (void)state;
    quickly();
    add("ann", ROLE_operator, NULL, drawn);
    for (int i = 0; i < 5; i++)
        assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), ERR_REFUSED);
    for (size_t i = 0; i < sizeof waits_s / sizeof *waits_s; i++) {
        assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), waits_s[i]);
        assert_int_equal(log_in("ann", drawn, "192.0.2.1"), waits_s[i]); /* nor is the right one looked at, and neither counts */
        assert_int_equal(log_in("ann", drawn, "192.0.2.2"), 0);          /* nobody else is kept out */
        assert_int_equal(failures_wait_s(a, "bob", "192.0.2.1", NULL), 0);
        now_ms += waits_s[i] * S - 1;
        assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), 1);
        now_ms -= waits_s[i] * S - 1;
        assert_int_equal(failures_add(a, "ann", "192.0.2.1", NULL), 0); /* as a login that fails does */
    }
    now_ms += 300 * S;
    assert_int_equal(log_in("ann", drawn, "192.0.2.1"), 0);
    assert_int_equal(failures_wait_s(a, "ann", "192.0.2.1", NULL), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), ERR_REFUSED); /* that login took all of it back */
    assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), 1);
    now_ms += 300 * S;
    assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), ERR_REFUSED);
    assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), 1);
    now_ms += 20 * 300 * S;
    for (int i = 0; i < 5; i++)
        assert_int_equal(log_in("ann", "wrong", "192.0.2.1"), ERR_REFUSED); /* all of it was forgotten */
}

/* Somebody who tries again as soon as he may, with one account, or with another each time. */
static void guesses_of_a_day_are_few(void **state)
{
    (void)state;
    quickly();
    for (int many = 0; many < 2; many++) {
        const int64_t end_ms = now_ms + INT64_C(86400000);
        int n = 0;
        while (now_ms < end_ms) {
            AUTO_FREE char *name = xasprintf("user%d", many ? n : 0);
            int wait_s = failures_wait_s(a, name, "192.0.2.1", NULL);
            if (wait_s == 0 && ++n)
                assert_int_equal(failures_add(a, name, "192.0.2.1", NULL), 0);
            now_ms += wait_s * S;
        }
        assert_true(n > 288 && n < (many ? 420 : 360));
        now_ms += INT64_C(86400000);
    }
}

static void an_address_is_slowed_as_a_whole(void **state)
{
    char token[ACCOUNT_TOKEN_SIZE], drawn[ACCOUNT_MADE_SIZE], name[20];
    (void)state;
    quickly();
    add("ann", ROLE_operator, NULL, drawn);
    token_of("ann", NULL, token, NULL);
    for (int i = 0; i < 49; i++) {
        snprintf(name, sizeof name, "user%d", i);
        assert_int_equal(failures_add(a, name, "2001:db8:1:2:3::1", NULL), 0);
    }
    assert_int_equal(failures_wait_s(a, "ann", "2001:db8:1:2:3::1", NULL), 0);
    assert_int_equal(show("sbt_wrong", "2001:db8:1:2::9"), ERR_REFUSED); /* of the same /64 */
    assert_int_equal(log_in("ann", drawn, "2001:db8:1:2:ffff::"), 1);
    assert_int_equal(show("sbt_wrong", "2001:db8:1:2:ffff::"), 1);
    assert_int_equal(show(token, "2001:db8:1:2:ffff::"), 0); /* what is right is never slowed */
    assert_int_equal(log_in("ann", drawn, "2001:db8:1:3::1"), 0);
    now_ms += S;
    assert_int_equal(log_in("ann", drawn, "2001:db8:1:2:ffff::"), 0);
    assert_int_equal(log_in("ann", "wrong", "2001:db8:1:2:ffff::"), ERR_REFUSED);
    assert_int_equal(log_in("ann", drawn, "2001:db8:1:2:ffff::"), 2); /* a login of one's own took nothing back */
    now_ms -= 1000000 * S;                                            /* the clock was set back: no wait without end */
    assert_int_equal(log_in("ann", drawn, "2001:db8:1:2:ffff::"), 2);
}

static void addresses_that_are_the_same(void **state)
{
    (void)state;
    quickly();
    for (int i = 0; i < 5; i++)
        assert_int_equal(failures_add(a, "ann", "192.0.2.1", NULL), 0);
    assert_int_equal(failures_wait_s(a, "ann", "::ffff:192.0.2.1", NULL), 1);
    assert_int_equal(failures_wait_s(a, "ann", "::ffff:192.0.2.2", NULL), 0);
    assert_int_equal(failures_wait_s(a, "ann", "192.0.2.1 ", NULL), 0); /* any text will do */
    assert_int_equal(failures_wait_s(a, "ann1", "92.0.2.1", NULL), 0);
}

static void a_flood_of_addresses_takes_no_room(void **state)
{
    (void)state;
    quickly();
    sqlite3_exec(a->db,
                 "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<30000) INSERT INTO failures SELECT "
                 "randomblob(16), 5, 1800000000000-i FROM n",
                 NULL, NULL, NULL);
    assert_int_equal(failures_add(a, "ann", "192.0.2.1", NULL), 0);
    assert_int_equal(value("SELECT count(*) FROM failures"), N_FLOOD);
    assert_int_equal(value("SELECT min(at) FROM failures"), now_ms - N_FLOOD + 2); /* the oldest went */
    now_ms += INT64_C(86400000);
    assert_int_equal(failures_add(a, "ann", "192.0.2.1", NULL), 0);
    assert_int_equal(value("SELECT count(*) FROM failures"), 2);
}

static void what_was_typed_is_not_kept(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    assert_int_equal(show("sbt_my-secret-password", "192.0.2.1"), ERR_REFUSED);
    assert_int_equal(log_in("my-secret-password", "my-secret-password", "192.0.2.1"), ERR_REFUSED);
    assert_int_equal(fd_read_file(home.dirfd, "state/accounts.db-wal", &b, 64 << 20, NULL), 0);
    assert_null(memmem(b.p, b.n, "my-secret", 9));
}

static void a_database_that_cannot_be_read_lets_nobody_in(void **state)
{
    char drawn[ACCOUNT_MADE_SIZE], token[ACCOUNT_TOKEN_SIZE], ticket[ACCOUNT_TICKET_MAX];
    (void)state;
    add("ann", ROLE_operator, NULL, drawn);
    token_of("ann", NULL, token, NULL);
    ticket_of("ann", token, ticket);
    sqlite3_exec(a->db, "UPDATE users SET role='emperor'", NULL, NULL, NULL);
    assert_true(log_in("ann", drawn, "::1") == -EIO && show(token, "::1") == -EIO && open_ticket(ticket) == -EIO);
    sqlite3_exec(a->db, "UPDATE users SET role='operator', tenant='acme'", NULL, NULL, NULL);
    assert_true(log_in("ann", drawn, "::1") == -EIO && show(token, "::1") == -EIO && open_ticket(ticket) == -EIO);
    sqlite3_exec(a->db, "PRAGMA foreign_keys=OFF; DROP TABLE users; DROP TABLE failures", NULL, NULL, NULL);
    assert_true(log_in("ann", drawn, "::1") == -EIO && show(token, "::1") == -EIO && open_ticket(ticket) == -EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_ours_alone_and_a_newer_database_is_left),
        TEST(all_that_open_it_have_one_key),
        TEST(users),
        TEST(a_tenant_goes_with_its_users_and_their_tokens),
        TEST(passwords_that_are_none),
        TEST(who_logs_in_with_a_password),
        TEST(nobody_learns_by_the_time_it_takes_who_there_is),
        TEST(what_a_token_may),
        TEST(scopes_that_are_none),
        TEST(texts_that_are_no_token),
        TEST(what_ends_a_token_ends_it_at_once),
        TEST(the_last_use_is_noted_and_holds_nobody_up),
        TEST(what_lists_say),
        TEST(what_each_role_may),
        TEST(a_ticket_says_who_somebody_is_and_what_he_may),
        TEST(a_ticket_lasts_a_minute_and_no_longer_than_its_token),
        TEST(a_ticket_ends_with_what_it_is_of),
        TEST(who_fails_waits_longer_each_time),
        TEST(guesses_of_a_day_are_few),
        TEST(an_address_is_slowed_as_a_whole),
        TEST(addresses_that_are_the_same),
        TEST(a_flood_of_addresses_takes_no_room),
        TEST(what_was_typed_is_not_kept),
        TEST(a_database_that_cannot_be_read_lets_nobody_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
