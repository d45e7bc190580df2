#include "accept.h"

#include "base/clk.h"
#include "conf/history.h"
#include "conf/swap.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { TRIES = 3 };

int accept_lock(const struct home *h, int wait_ms, struct err *e)
{
    int lock = home_lock(h, "configuration", wait_ms, e);
    if (lock == -EWOULDBLOCK)
        return err_set(e, lock, "somebody else is changing the configuration of %s; try again when that is done", h->path);
    if (lock < 0)
        return lock;
    int r = conf_swap_recover(h->dirfd, e);
    if (r > 0)
        fprintf(stderr, "mysimbdp: a rollback of the configuration had been cut short; %s\n",
                r == SWAP_undone ? "what was there before it is back" : "it was done, but for its traces");
    if (r >= 0)
        return lock;
    close(lock);
    return r;
}

static void keep(const struct home *h, const char *who, const char *what, const struct conf_texts *texts)
{
    struct err e = {0};
    int64_t number;
    const struct conf_entry entry = {.at_wall_ms = clk_wall_ms(), .who = (char *)who, .what = (char *)what, .texts = *texts};
    if (history_add(h->dirfd, &entry, &number, &e) < 0)
        fprintf(stderr, "mysimbdp: warning: the configuration holds, but is not kept for `mysimbdp history`: %s\n", e.msg);
}

void accept_note(const struct home *h, const char *who, const char *what)
{
    struct conf_texts texts = {0};
    struct err e = {0};
    if (conf_texts_read(h->dirfd, &texts, &e) == 0)
        keep(h, who, what, &texts);
    conf_texts_fini(&texts);
}

/* 1: it is done; 0: batchmgr does not run. */
static int tell(const struct home *h, bool must_run, struct err *e)
{
    AUTO_BSON bson_t *answer = NULL;
    int fd = cli_connect_wait(h, "batchmgr.sock", e);
    if (fd < 0 && must_run)
        return fd;
    if (fd >= 0) {
        int r = cli_exchange(fd, "{\"op\":\"reload\"}", &answer, e);
        close(fd);
        if (r < 0)
            return r;
    }
    int r = cli_tell_others(h, "reload", e);
    return r < 0 ? r : fd >= 0;
}

int accept_reload(const struct home *h, const char *who, const char *what, bool must_run, struct err *e)
{
    for (int i = 0; i < TRIES; i++) {
        struct conf_texts before = {0}, after = {0};
        struct err unread = {0};
        const bool read = conf_texts_read(h->dirfd, &before, &unread) == 0;
        int r = tell(h, must_run, e);
        const bool same = read && r == 1 && conf_texts_read(h->dirfd, &after, &unread) == 0 && conf_texts_equal(&before, &after);
        if (same)
            keep(h, who, what, &after);
        else if (r == 1 && unread.code)
            fprintf(stderr, "mysimbdp: warning: the configuration holds, but is not kept for `mysimbdp history`: %s\n", unread.msg);
        conf_texts_fini(&before);
        conf_texts_fini(&after);
        if (r <= 0 || same || unread.code)
            return r < 0 ? r : 0;
    }
    return err_set(e, -EAGAIN, "the files below %s/conf change all the time; reload again when they are as they are to be",
                   h->path);
}

int accept_change(const struct home *h, const char *who, const char *what, bool must_run, struct err *e)
{
    int lock = accept_lock(h, ACCEPT_WAIT_MS, e);
    if (lock < 0)
        return lock;
    int r = accept_reload(h, who, what, must_run, e);
    close(lock);
    return r;
}
