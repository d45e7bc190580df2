/* Programs that go for the manager, each with the leash that came with its request (lib/manager/warden.h). */
#ifndef SIMBDP_WARDEN_JOBS_H
#define SIMBDP_WARDEN_JOBS_H

#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { JOBS_MAX = 128 };

struct jobs {
    size_t n;
    struct {
        pid_t pid;
        int leash;
    } v[JOBS_MAX];
};

/* Starts argv with `fd` as descriptor `as` (the other standard ones are ours; 0 is /dev/null where it is not `fd`). The leash is
 * TAKEN, and told when there is no process. */
void jobs_start(struct jobs *j, char *const argv[], char *const envp[], int fd, int as, int leash);
/* Says on the leash that no process was started (code: -errno or one of err.h), and closes it. */
void jobs_refuse(int leash, int code);
/* jobs_poll fills p with what is to be polled, jobs->n entries; after the poll, jobs_serve obeys the orders that came. */
void jobs_poll(const struct jobs *j, struct pollfd *p);
void jobs_serve(struct jobs *j, const struct pollfd *p);
/* Some child ended: true when it was one of these. */
bool jobs_ended(struct jobs *j, pid_t pid, int status);
void jobs_kill(struct jobs *j);

#endif
