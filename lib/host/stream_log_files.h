/* The files that a tenant's journal of streams is made of, in order:
 *
 * - stream.days.jsonl: of files that were summed, a line for each UTC day, stream and app, and the last interval of each app as it
 *   was. Its first line says up to which number: {"event":"summed","through":N}
 * - stream.000000000001.jsonl, …: files that were closed when they were large (EVENTS_ROTATE_BYTES)
 * - stream.jsonl, which the broker's keeper writes */
#ifndef SIMBDP_HOST_STREAM_LOG_FILES_H
#define SIMBDP_HOST_STREAM_LOG_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define STREAM_LOG      "stream.jsonl"
#define STREAM_LOG_DAYS "stream.days.jsonl"
enum { STREAM_LOG_NAME = 32 };

struct stream_log_files {
    int dirfd;
    FILE *days, *current; /* NULL: there is none */
    uint64_t through;
    uint64_t *closed; /* rising; those that were summed are not listed */
    size_t n;
};

/* 0; -ENOENT: the tenant has no directory there; -errno. Blocks. A file that is closed meanwhile is read once, whole, as one that
 * was closed or as `current`. */
int stream_log_files_open(int home_fd, const char *tenant, struct stream_log_files *ret);
void stream_log_files_close(struct stream_log_files *f);

void stream_log_closed_name(uint64_t number, char out[STREAM_LOG_NAME]);
/* The number in such a name; 0: it is none. */
uint64_t stream_log_closed_number(const char *name);
/* For reading. NULL: errno; ENOENT also where it is the one that is open as `current`. */
FILE *stream_log_closed_open(const struct stream_log_files *f, uint64_t number);

/* Before a line is written: gives the file that is written another name when it has more than `max_bytes`. For its one writer. */
void stream_log_rotate(int home_fd, const char *tenant, int64_t max_bytes);
/* The name of the file that was closed last; false: there is none. */
bool stream_log_newest_closed(int home_fd, const char *tenant, char out[STREAM_LOG_NAME]);

#endif
