/* A line of the log fits behind another when
 *   - it begins with {"seq":N, and N is one more than the other's,
 *   - it ends with ,"prev":"P","hash":"H"} and P is the other's hash,
 *   - H is the hash of all before ,"hash".
 * A record audit_begin fits at the very beginning, too: what was before it is in other files.
 * A record audit_cut fits as well when lines that do not fit are before it, AUDIT_CUT_MAX bytes at most, and its subject says how
 * many bytes and what their hash is. So what a crash cut short (or a failure to close that off) may lie in the log, where a record
 * vouches for it. Texts cannot pass for such a subject, since their quotes are escaped. */
#include "audit_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEQ_MAX (INT64_MAX / 2) /* of a number to begin with: what follows can be counted */

enum {
    HASH_BYTES = 32,
    HEX = AUDIT_HASH_SIZE - 1,
    TAIL = sizeof ",\"hash\":\"\"}" - 1 + HEX,
    PREV = sizeof ",\"prev\":\"\"" - 1 + HEX,
};

void audit_hash(const void *p, size_t n, char out[AUDIT_HASH_SIZE])
{
    unsigned char hash[HASH_BYTES];
    crypto_generichash(hash, sizeof hash, p, n, NULL, 0);
    sodium_bin2hex(out, AUDIT_HASH_SIZE, hash, sizeof hash);
}

static void begin_cut(struct audit_chain *c)
{
    c->n_cut = 0;
    c->open = c->lacks_end = false;
    *c->why = 0;
    crypto_generichash_init(&c->cut, NULL, 0, HASH_BYTES);
}

void audit_chain_init(struct audit_chain *c, const struct audit_head *from)
{
    *c = (struct audit_chain){.last = *from};
    begin_cut(c);
}

void audit_cut_subject(const struct audit_chain *c, char out[AUDIT_FIELD_MAX])
{
    unsigned char hash[HASH_BYTES];
    char hex[AUDIT_HASH_SIZE];
    crypto_generichash_state s = c->cut;
    crypto_generichash_final(&s, hash, sizeof hash);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(out, AUDIT_FIELD_MAX, "%" PRId64 " bytes, %s", c->n_cut, hex);
}

/* Whether the line without its end, as a record, fits behind the last one. Else `why`, which is empty where it is no record. */
static bool fits(const struct audit_chain *c, const char *line, size_t n, int64_t *ret_seq, char ret_hash[AUDIT_HASH_SIZE],
                 char *why, size_t room)
{
    static const char seq_key[] = "{\"seq\":", prev_key[] = ",\"prev\":\"", hash_key[] = "\",\"hash\":\"";
    static const char begin[] = "\"what\":\"audit_begin\"";
    const char *hash = n > TAIL + PREV ? line + n - TAIL + sizeof ",\"hash\":\"" - 1 : NULL;
    const char *prev = hash ? line + n - TAIL - PREV + sizeof prev_key - 1 : NULL;
    *why = 0;
    if (!hash || strncmp(line, seq_key, sizeof seq_key - 1) != 0 ||
        strncmp(prev - sizeof prev_key + 1, prev_key, sizeof prev_key - 1) != 0 ||
        strncmp(prev + HEX, hash_key, sizeof hash_key - 1) != 0 || memcmp(hash + HEX, "\"}", 2) != 0)
        return false;
    const int64_t seq = *ret_seq = strtoll(line + sizeof seq_key - 1, NULL, 10);
    audit_hash(line, n - TAIL, ret_hash);
    if (strncmp(ret_hash, hash, HEX) != 0)
        snprintf(why, room, "what stands behind record %" PRId64 " was changed: its hash is another", c->last.seq);
    else if (!c->last.seq && seq > 1 && seq < SEQ_MAX && memmem(line, n, begin, sizeof begin - 1))
        return true;
    else if (seq <= c->last.seq)
        snprintf(why, room, "record %" PRId64 " follows %" PRId64 ": it was put there", seq, c->last.seq);
    else if (seq - 1 > c->last.seq)
        snprintf(why, room, "record %" PRId64 " follows %" PRId64 ": %" PRId64 " are missing", seq, c->last.seq,
                 seq - c->last.seq - 1);
    else if (strncmp(prev, c->last.hash, HEX) != 0)
        snprintf(why, room, "record %" PRId64 " is of another chain: it does not have the hash of the one before it", seq);
    return !*why;
}

static bool closes_cut(const struct audit_chain *c, const char *line, size_t n)
{
    char subject[AUDIT_FIELD_MAX], expected[AUDIT_FIELD_MAX + 100];
    audit_cut_subject(c, subject);
    int length = snprintf(expected, sizeof expected, "\"what\":\"audit_cut\",\"tenant_id\":null,\"subject\":\"%s\",", subject);
    return c->n_cut <= AUDIT_CUT_MAX && memmem(line, n, expected, (size_t)length) != NULL;
}

void audit_chain_line(struct audit_chain *c, const char *line, size_t n)
{
    static const char lost[] = "\"what\":\"audit_head\"";
    char hash[AUDIT_HASH_SIZE] = "", why[sizeof c->why] = "";
    bool ends = n && line[n - 1] == '\n';
    int64_t seq = 0;
    bool is_next = fits(c, line, ends ? n - 1 : n, &seq, hash, why, sizeof why);
    if (is_next && c->n_cut && !closes_cut(c, line, n)) {
        is_next = false;
        snprintf(why, sizeof why, "what stands behind record %" PRId64 " is no record", c->last.seq);
    }
    if (is_next && ends) {
        c->last.seq = seq;
        if (!c->first)
            c->first = seq;
        c->last.bytes += c->n_cut + (int64_t)n;
        memcpy(c->last.hash, hash, sizeof hash);
        if (!c->head_lost_at && memmem(line, n, lost, sizeof lost - 1))
            c->head_lost_at = c->last.seq;
        begin_cut(c);
        return;
    }
    if (!*c->why)
        memcpy(c->why, why, sizeof why);
    c->open = !ends;
    c->lacks_end = is_next;
    c->n_cut += (int64_t)n;
    crypto_generichash_update(&c->cut, (const unsigned char *)line, n);
}

int audit_chain_read(struct audit_chain *c, FILE *f, int64_t max_bytes, int (*each)(void *arg, const struct audit_chain *c),
                     void *arg)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int r = 0;
    errno = 0;
    while (r == 0 && max_bytes > 0 && (n = getline(&line, &room, f)) > 0) {
        int64_t seq = c->last.seq;
        size_t used = n < max_bytes ? (size_t)n : (size_t)max_bytes;
        audit_chain_line(c, line, used);
        max_bytes -= (int64_t)used;
        if (each && c->last.seq != seq)
            r = each(arg, c);
        errno = 0;
    }
    if (r == 0 && max_bytes > 0 && errno)
        r = -errno;
    free(line);
    return r;
}
