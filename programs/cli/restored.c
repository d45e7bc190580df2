/* mysimbdp restored: to be called after state/ was put back from a backup. When files were copied, programs notice that by
 * themselves. They cannot when a disk or a machine was set back as a whole; this makes it look like a copy. */
#include "cli.h"
#include "restored_note.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

enum { MAX_MARKS = 256 << 20, MAX_NOTE = 65536 };

#define MARKS "state/broker.mark"

/* The broker takes a marks file that is a copy for one of another state, and begins new epochs (programs/broker/store/recover.c).
 */
static int copy_marks(const struct home *h, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = home_lock(h, "broker", 0, e);
    if (r == -EWOULDBLOCK)
        return err_set(e, ERR_REFUSED, "the broker is running: `mysimbdp down`, restore state/, then this, then `mysimbdp up`");
    if (r < 0)
        return r;
    r = fd_read_file(h->dirfd, MARKS, &b, MAX_MARKS, NULL);
    if (r == -ENOENT)
        return 0; /* no marks have the same effect */
    return r < 0 ? err_sys(e, r, "cannot read %s/" MARKS, h->path) : fd_write_file(h->dirfd, MARKS, b.p, b.n, 0600, e);
}

bson_t *restored_note(const struct home *h)
{
    AUTO_BUF struct buf b = {0};
    bson_t *note = fd_read_file(h->dirfd, HOME_RESTORED, &b, MAX_NOTE, NULL) < 0 ? NULL : json_parse(b.p ? b.p : "", b.n, NULL);
    if (note && json_get_i64(note, "seen", 0) > 0) {
        bson_destroy(note);
        return NULL;
    }
    return note;
}

char *restored_text(const bson_t *note)
{
    char when[CLK_RFC3339_SIZE], at[CLK_RFC3339_SIZE];
    return xasprintf("this home was restored at %s from the backup of %s (%s on %s); what came after that is not known to it. "
                     "`mysimbdp verify` compares it with MongoDB; `mysimbdp restored --seen` ends this notice",
                     clk_rfc3339(json_get_i64(note, "restored", 0), when), clk_rfc3339(json_get_i64(note, "at", 0), at),
                     json_get_str(note, "home", "?"), json_get_str(note, "host", "?"));
}

int restored_seen(const struct home *h, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *note = restored_note(h);
    if (!note)
        return 0;
    json_begin(&b, NULL, '{');
    json_str(&b, "point", json_get_str(note, "point", ""));
    json_i64(&b, "at", json_get_i64(note, "at", 0));
    json_i64(&b, "restored", json_get_i64(note, "restored", 0));
    json_str(&b, "home", json_get_str(note, "home", ""));
    json_str(&b, "host", json_get_str(note, "host", ""));
    json_i64(&b, "seen", clk_wall_ms());
    json_end(&b, '}');
    buf_adds(&b, "\n");
    int r = fd_write_file(h->dirfd, HOME_RESTORED, b.p, b.n, 0600, e);
    return r < 0 ? r : 1;
}

static int see(struct cli *c, const struct home *h)
{
    struct err e = {0};
    int r = restored_seen(h, &e);
    if (r < 0)
        return cli_fail(c, &e);
    puts(r ? "`up` and `status` say no more that this home was restored" : "nothing is to be said: no restore that is not known");
    return CLI_DONE;
}

int verb_restored(struct cli *c)
{
    const bool seen = cli_flag(c, "--seen");
    struct home h;
    struct err e = {0};
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    if (seen) {
        r = see(c, &h);
        home_close(&h);
        return r;
    }
    r = copy_marks(&h, &e);
    home_close(&h);
    if (r < 0)
        return cli_fail(c, &e);
    puts("streams begin new epochs with the next start: no message gets the _id of one that was published after the backup");
    return 0;
}
