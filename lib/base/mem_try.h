/* Running out of memory as an error instead of the end: for a library, whose program is not ours to end.
 *
 * mem.h's calls never return NULL, and what uses them needs no branch for it. In mem_try a failing one unwinds the stack instead,
 * down to mem_try, as pthread_exit does: frames on the way run what their AUTO_ variables name (the whole tree is built with
 * -fexceptions for it) and go no further. So whatever runs below mem_try
 *   - holds what it owns in AUTO_ variables, or in objects that somebody else frees (TAKE hands it on);
 *   - allocates with no lock held;
 *   - links a new thing into such an object only when it is whole, and raises no count before the room for it is there.
 * Objects that a failed call was changing can be freed afterwards, and nothing else: mem_try's caller sees to that.
 *
 * What other libraries allocate is not ours to fail: libbson, libmongoc and libzmq end the program themselves. */
#ifndef SIMBDP_BASE_MEM_TRY_H
#define SIMBDP_BASE_MEM_TRY_H

#include <stdbool.h>

/* Runs fn(arg). False: memory ran out in it, and it did not get to its end. May be nested; the innermost takes it. Threads have
 * each their own. Only where mem_on_exhausted (mem.h) was given mem_unwind; the program ends elsewhere, as ever. */
bool mem_try(void (*fn)(void *arg), void *arg);

/* For mem_on_exhausted. Ends the calling thread's innermost mem_try; returns where there is none. */
void mem_unwind(void);

#endif
