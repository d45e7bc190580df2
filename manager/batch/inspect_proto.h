/* Between batchmgr and its inspectors: fixed-size messages on a SOCK_SEQPACKET pair; a request carries descriptors.
 * Both ends are the same build, so the structs are the format. Replies are checked all the same: an inspector has read
 * a tenant's bytes and may be lying. */
#ifndef SIMBDP_INSPECT_PROTO_H
#define SIMBDP_INSPECT_PROTO_H

#include <stdint.h>

enum inspect_op {
    INSPECT_READ, /* one descriptor: the file */
    INSPECT_COPY, /* two: from, to; the copy is fsynced */
};

struct inspect_request {
    uint32_t op, format, compression; /* enum reader_format, enum src_compression */
    int64_t max_decompressed_bytes, max_rows, max_row_bytes, max_columns, max_rejects; /* -1: none */
};

enum inspect_status {
    INSPECT_OK,
    INSPECT_REFUSED, /* reason and detail say why */
    INSPECT_FAILED,  /* could not be read; detail says why */
};

#define INSPECT_HASH_BYTES 32

struct inspect_reply {
    uint32_t status;
    char reason[32];                                                     /* configuration key or code */
    char detail[256];                                                    /* for people */
    unsigned char hash[INSPECT_HASH_BYTES];                              /* BLAKE2b-256 of the raw bytes; only with INSPECT_OK */
    int64_t raw_bytes, bytes, rows, columns, longest_row_bytes, rejects; /* bytes: decompressed */
};

#endif
