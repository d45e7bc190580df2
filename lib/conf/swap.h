/* The files of a configuration replaced by others, all or nothing, also when the machine stops in between.
 *
 * The new files are written first, as FILE.next, and what is there gets the name FILE.before, too; a full disk shows here, and
 * nothing has changed. When that is durable, state/configurations/swap says what is to be done (JSON:
 * {"v":1,"files":[{"path","kind"},…]}). Then, file by file, FILE.next takes its place; a file that the other configuration has not
 * goes. What undoes it needs no space: FILE.before takes its place again. Last, the journal is renamed to swap.done, and when that
 * is durable, FILE.before goes; of a tenant that the other configuration has not it becomes FILE.removed, as `mysimbdp tenant
 * remove` does. Who finds a swap that was cut short (conf_swap_recover) undoes it, or where it was done, ends it. No step relies on
 * the order in which a file system writes names of different directories, or two names of one. All of these names are not read as
 * configuration. */
#ifndef SIMBDP_CONF_SWAP_H
#define SIMBDP_CONF_SWAP_H

#include "history.h"

#define SWAP_JOURNAL HISTORY_DIR "/swap"
#define SWAP_DONE    SWAP_JOURNAL ".done"

/* Puts `wanted` in the place of what is there (`present`). To be followed by conf_swap_end or conf_swap_undo. On failure everything
 * is as it was. A file that is a link is refused: somebody else keeps it. */
int conf_swap_begin(int dirfd, const struct conf_texts *present, const struct conf_texts *wanted, struct err *e);
/* On failure it is not done, and to be undone. */
int conf_swap_end(int dirfd, struct err *e);
int conf_swap_undo(int dirfd, struct err *e);
/* What became of a swap that had been cut short; or a negative code. */
enum swap_recovered { SWAP_none /* there was none */, SWAP_undone, SWAP_ended };
int conf_swap_recover(int dirfd, struct err *e);

#endif
