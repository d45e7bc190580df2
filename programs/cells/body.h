/* Where the body of a message ends. Its bytes are passed on as they are; of a chunked one only such as can be read in one way:
 * no extensions, no trailer, CR LF alone. Pure. */
#ifndef SIMBDP_CELLS_BODY_H
#define SIMBDP_CELLS_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct body {
    enum { BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE } kind;
    int64_t left; /* of it, or of the chunk */
    enum { SIZE, SIZE_LF, DATA, DATA_CR, DATA_LF, END_CR, END_LF } at;
    int digits;
    bool done, bad;
};

struct body body_of_length(int64_t n);
struct body body_chunked(void);
struct body body_until_close(void);

/* How many of the n bytes at p belong to it; `done` and `bad` say whether it is over. */
size_t body_take(struct body *b, const char *p, size_t n);

#endif
