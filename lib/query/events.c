/* What happened to a tenant, from its journals (lib/host/tenant_events.h), merged by time.
 *
 * A position says of each journal how far it was read: <identity>-<offset> of the file, in hexadecimal, joined by dots. The file is
 * found again where it was renamed to <name>.1. Identity 0: there was none yet, so that its first one is read from its beginning.
 * Each line shown has the position behind it, so that reading goes on behind any of them, whatever order the lines of several
 * journals come in.
 *
 * Failure story: a line that a crash cut off runs into the next; both are no JSON together, and are passed over. A file that is
 * gone or became shorter than the offset is a gap, and is told. */
#include "parts.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/stream_log_files.h"
#include "host/tenant_events.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_POSITION = 36 * N_EVENTS_JOURNALS, CHUNK = 256 << 10, MAX_EVENTS = 1000, DEFAULT_EVENTS = 500, MAX_TEXT = 256 << 10 };

struct place {
    uint64_t identity;
    int64_t offset;
};

struct position {
    struct place v[N_EVENTS_JOURNALS];
};

struct part {
    int fd; /* -1: it is not there */
    uint64_t identity;
    int64_t bytes; /* to be read of it */
};

struct source {
    enum events_journal journal;
    struct part parts[2]; /* the older one, and the one that is written */
    int i;                /* which is read */
    int64_t at;           /* where the next line in it begins */
    struct buf chunk;     /* of parts[i], from chunk_at on */
    int64_t chunk_at;
    bool loaded, starved; /* starved: there is more than was read now */
    /* The next line for the tenant; line NULL: there is none. */
    const char *line;
    size_t n;
    int event;
    int64_t ms; /* its time */
};

struct reading {
    struct source v[N_EVENTS_JOURNALS];
    bool gap, ahead; /* ahead: `from` lies behind `to` */
};

/* ---- positions ---- */

static bool parse_place(const char **at, struct place *ret)
{
    int n = 0;
    if (strspn(*at, "0123456789abcdef") > 16 ||
        sscanf(*at, "%16" SCNx64 "-%16" SCNx64 "%n", &ret->identity, (uint64_t *)&ret->offset, &n) != 2 || ret->offset < 0)
        return false;
    *at += n;
    return true;
}

static int parse_position(struct asking *a, const char *key, struct position *ret, bool *ret_given)
{
    const char *text;
    *ret = (struct position){0};
    int r = param_text(a, key, MAX_POSITION, &text);
    *ret_given = r == 0 && text;
    if (r < 0 || !text || !strcmp(text, "0"))
        return r;
    bool ok = strspn(text, "0123456789abcdef-.") == strlen(text);
    for (int i = 0; ok && i < N_EVENTS_JOURNALS; i++)
        ok = (i == 0 || *text++ == '.') && parse_place(&text, &ret->v[i]);
    return ok && !*text ? 0 : refuse(a, 400, "parameter", "%s: is no position", key);
}

static struct place place_of(const struct source *s)
{
    const struct part *p = &s->parts[s->i];
    struct place none = {0}, here = {p->identity, s->at};
    return p->fd < 0 ? none : here;
}

static void add_position(const struct reading *k, struct buf *out)
{
    for (int i = 0; i < N_EVENTS_JOURNALS; i++) {
        const struct place p = place_of(&k->v[i]);
        buf_addf(out, "%s%" PRIx64 "-%" PRIx64, i ? "." : "", p.identity, (uint64_t)p.offset);
    }
}

/* ---- journals ---- */

static struct part open_part(const struct asking *a, const char *name)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s/%s", a->tenant, name);
    AUTO_FD int fd = beneath_open(a->home->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
    struct statx st;
    if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &st) < 0 || !S_ISREG(st.stx_mode))
        return (struct part){-1, 0, 0};
    return (struct part){fd_take(&fd), identity_of_file(&st), (int64_t)st.stx_size};
}

static struct part open_older_part(const struct asking *a, enum events_journal j)
{
    char closed[STREAM_LOG_NAME];
    if (j == EVENTS_OF_stream)
        return stream_log_newest_closed(a->home->dirfd, a->tenant, closed) ? open_part(a, closed) : (struct part){-1, 0, 0};
    AUTO_FREE char *name = xasprintf("%s.1", events_file(j));
    return open_part(a, name);
}

/* The newer part first: if it is renamed meanwhile, it is there twice and not missing. */
static void open_source(const struct asking *a, enum events_journal j, struct source *s)
{
    s->journal = j;
    s->parts[1] = open_part(a, events_file(j));
    s->parts[0] = open_older_part(a, j);
    if (s->parts[0].fd >= 0 && s->parts[0].identity == s->parts[1].identity)
        close(fd_take(&s->parts[0].fd));
    s->i = s->parts[0].fd < 0;
}

static void close_source(struct source *s)
{
    fd_cleanup(&s->parts[0].fd);
    fd_cleanup(&s->parts[1].fd);
    buf_fini(&s->chunk);
}

static int find_part(const struct source *s, const struct place *p)
{
    for (int i = 0; i < 2; i++)
        if (s->parts[i].fd >= 0 && s->parts[i].identity == p->identity && p->offset <= s->parts[i].bytes)
            return i;
    return -1;
}

/* An offset within a line is as good as one behind it: the rest of a line is no JSON. */
static void begin_at(struct reading *k, struct source *s, const struct place *from)
{
    int i = find_part(s, from);
    k->gap |= i < 0 && from->identity != 0;
    if (i < 0)
        return;
    s->i = i;
    s->at = from->offset;
}

/* Nothing is read from there on. */
static void end_at(struct reading *k, struct source *s, const struct place *to)
{
    int i = find_part(s, to);
    if (i >= 0 && (i < s->i || (i == s->i && to->offset < s->at)))
        k->ahead = true;
    for (int p = i + 1; p < 2; p++)
        if (s->parts[p].fd >= 0 && p > s->i)
            close(fd_take(&s->parts[p].fd));
    if (i >= 0)
        s->parts[i].bytes = to->offset;
    else
        s->parts[s->i].bytes = s->at;
    k->gap |= i < 0 && to->identity != 0;
}

static void go_to_end(struct source *s)
{
    char c = 0;
    s->i = s->parts[1].fd >= 0 || s->parts[0].fd < 0;
    s->at = s->parts[s->i].fd < 0 ? 0 : s->parts[s->i].bytes;
    while (s->at > 0 && pread(s->parts[s->i].fd, &c, 1, s->at - 1) == 1 && c != '\n') /* a line that is being written */
        s->at--;
}

/* ---- lines ---- */

static bool load(struct source *s)
{
    const struct part *p = &s->parts[s->i];
    int64_t left = p->fd < 0 ? 0 : p->bytes - s->at, n = left < CHUNK ? left : CHUNK;
    buf_reset(&s->chunk);
    s->chunk_at = s->at;
    if (n <= 0)
        return false;
    buf_reserve(&s->chunk, (size_t)n);
    ssize_t got = pread(p->fd, s->chunk.p, (size_t)n, s->at);
    s->chunk.n = got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* A whole line from s->at on, if there is one; else more is read once, and the next part begun. */
static bool next_line(struct source *s, const char **ret, size_t *ret_n)
{
    for (;;) {
        size_t skip = (size_t)(s->at - s->chunk_at), left = s->chunk.n > skip ? s->chunk.n - skip : 0;
        const char *p = left ? s->chunk.p + skip : NULL, *lf = p ? memchr(p, '\n', left) : NULL;
        if (lf) {
            *ret = p;
            *ret_n = (size_t)(lf - p);
            return true;
        }
        bool whole = s->loaded && s->chunk_at + (int64_t)s->chunk.n >= s->parts[s->i].bytes;
        if (s->loaded && !whole && s->parts[s->i].fd >= 0) {
            if (left == s->chunk.n && left) /* longer than any line of ours */
                s->at += (int64_t)left;
            s->starved = true;
            return false;
        }
        if (s->loaded && (s->i == 1 || s->parts[1].fd < 0))
            return false;
        if (s->loaded) {
            s->i = 1;
            s->at = 0;
        }
        s->loaded = true;
        if (!load(s) && s->i == 1)
            return false;
    }
}

static bool is_plain(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < 0x20)
            return false;
    return utf8_valid(p, n);
}

static bool is_for_tenant(const struct asking *a, struct source *s, const char *p, size_t n)
{
    static const char interval[] = "\"event\":\"interval\"";
    if (!is_plain(p, n) || (s->journal == EVENTS_OF_stream && memmem(p, n, interval, sizeof interval - 1)))
        return false;
    AUTO_BSON bson_t *doc = json_parse(p, n, NULL);
    if (!doc || *p != '{' || strcmp(json_get_str(doc, "tenant_id", ""), a->tenant) != 0)
        return false;
    const char *dataset = json_get_str(doc, "dataset", NULL);
    s->event = tenant_event_of_line(s->journal, json_get_str(doc, "event", ""));
    if (s->event < 0 || (a->scope && (!dataset || !in_scope(a, dataset))))
        return false;
    int64_t ms;
    if (clk_parse(json_get_str(doc, "ts", ""), &ms) == 0)
        s->ms = ms;
    return true;
}

/* Goes on to the next line that the tenant may see. */
static void advance(struct asking *a, struct source *s)
{
    const char *p;
    size_t n;
    s->line = NULL;
    while (!s->starved && has_time(a) && next_line(s, &p, &n)) {
        if (is_for_tenant(a, s, p, n)) {
            s->line = p;
            s->n = n;
            return;
        }
        s->at += (int64_t)n + 1;
    }
}

static struct source *earliest(struct reading *k)
{
    struct source *first = NULL;
    for (int i = 0; i < N_EVENTS_JOURNALS; i++) {
        struct source *s = &k->v[i];
        if (!s->line && s->starved)
            return NULL; /* what it has next may be earlier */
        if (s->line && (!first || s->ms < first->ms))
            first = s;
    }
    return first;
}

static void show(struct reading *k, struct source *s, struct buf *out)
{
    s->at += (int64_t)s->n + 1;
    buf_addf(out, "%s ", tenant_event_name((enum tenant_event)s->event));
    add_position(k, out);
    buf_adds(out, " ");
    buf_add(out, s->line, s->n);
    buf_adds(out, "\n");
}

static bool read_lines(struct asking *a, struct reading *k, int64_t limit)
{
    struct buf *b = &a->out->body;
    struct source *s;
    int64_t n = 0;
    if (k->gap) {
        buf_adds(b, "gap ");
        add_position(k, b);
        buf_addf(b, " {\"event\":\"gap\",\"tenant_id\":\"%s\"}\n", a->tenant); /* an id needs no escaping */
    }
    for (int i = 0; i < N_EVENTS_JOURNALS; i++)
        advance(a, &k->v[i]);
    while ((s = earliest(k)) && n < limit && b->n < MAX_TEXT && has_time(a)) {
        show(k, s, b);
        advance(a, s);
        n++;
    }
    bool more = false;
    for (int i = 0; i < N_EVENTS_JOURNALS; i++)
        more |= k->v[i].line || k->v[i].starved;
    return more || !has_time(a);
}

static void answer(struct asking *a, struct reading *k, const struct position *from, const struct position *to, int64_t limit)
{
    for (int i = 0; i < N_EVENTS_JOURNALS; i++) {
        struct source *s = &k->v[i];
        if (!from)
            go_to_end(s);
        else
            begin_at(k, s, &from->v[i]);
        if (to)
            end_at(k, s, &to->v[i]);
        k->ahead |= from && to && !to->v[i].identity && find_part(s, &from->v[i]) >= 0;
    }
    AUTO_BUF struct buf position = {0};
    bool more = from && !k->ahead && read_lines(a, k, limit);
    add_position(k, &position);
    json_str(&a->out->head, "position", position.p);
    json_bool(&a->out->head, "more", more);
    json_bool(&a->out->head, "ahead", k->ahead);
    a->out->type = "text/plain";
    buf_add(&a->out->body, "", 0);
}

int ask_events(struct asking *a)
{
    struct position from, to;
    bool has_from, has_to = false;
    int64_t limit;
    struct reading k = {0};
    int r = parse_position(a, "from", &from, &has_from);
    if (r == 0)
        r = parse_position(a, "to", &to, &has_to);
    if (r == 0)
        r = param_count(a, "limit", 1, MAX_EVENTS, DEFAULT_EVENTS, &limit);
    if (r < 0)
        return r;
    for (int i = 0; i < N_EVENTS_JOURNALS; i++)
        open_source(a, (enum events_journal)i, &k.v[i]);
    answer(a, &k, has_from ? &from : NULL, has_to ? &to : NULL, limit);
    for (int i = 0; i < N_EVENTS_JOURNALS; i++)
        close_source(&k.v[i]);
    return 0;
}
