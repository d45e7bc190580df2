/* mysimbdp restored: to be called after state/ was put back from a backup. When files were copied, programs notice that by
 * themselves. They cannot when a disk or a machine was set back as a whole; this makes it look like a copy. */
#include "cli.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

enum { MAX_MARKS = 256 << 20 };

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

int verb_restored(struct cli *c)
{
    struct home h;
    struct err e = {0};
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    r = copy_marks(&h, &e);
    home_close(&h);
    if (r < 0)
        return cli_fail(c, &e);
    puts("streams begin new epochs with the next start: no message gets the _id of one that was published after the backup");
    return 0;
}
