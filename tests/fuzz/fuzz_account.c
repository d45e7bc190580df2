/* What is shown to log in, and the audit log as it lies on the disk. The first byte chooses:
 *   0  a token's text: one that is taken has the right form, and its id
 *   1  a ticket, with the MAC that makes it ours: what it says is read, and no user is found
 *   2  an audit log, line by line: what fits counts up, the rest is counted as it is */
#include "accounts/audit_parts.h"
#include "accounts/parts.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_token(const char *text)
{
    char id[ACCOUNT_TOKEN_ID_SIZE];
    if (account_token_id(text, id))
        assert(strlen(text) == ACCOUNT_TOKEN_SIZE - 1 && !strncmp(text, "sbt_", 4) && !strncmp(text + 4, id, strlen(id)));
}

static void try_ticket(const char *text)
{
    static struct accounts none; /* without a database */
    unsigned char mac[crypto_auth_BYTES];
    char mac_text[64];
    struct account who = {0};
    crypto_auth(mac, (const unsigned char *)text, strlen(text), none.ticket_key);
    sodium_bin2base64(mac_text, sizeof mac_text, mac, sizeof mac, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    AUTO_FREE char *ticket = xasprintf("%s.%s", text, mac_text);
    assert(accounts_ticket_open(&none, ticket, &who, NULL) < 0 && !who.name);
    assert(accounts_ticket_open(&none, text, &who, NULL) < 0);
}

static void try_log(const char *text, size_t n)
{
    const struct audit_head zero = {.hash = AUDIT_ZEROS};
    struct audit_chain c;
    char subject[AUDIT_FIELD_MAX];
    audit_chain_init(&c, &zero);
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end ? (size_t)(end - text) + 1 - at : n - at;
        char *line = xmalloc(length); /* of its very size, and without a NUL */
        memcpy(line, text + at, length);
        audit_chain_line(&c, line, length);
        free(line);
        at += length;
        assert(c.last.bytes + c.n_cut == (int64_t)at && (!c.n_cut || c.open == !end));
    }
    audit_cut_subject(&c, subject);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] % 3 == 0)
        try_token(text);
    else if (data[0] % 3 == 1)
        try_ticket(text);
    else
        try_log(text, size - 1);
    free(text);
    return 0;
}
