/* Between batchmgr and its inspectors: messages on a SOCK_SEQPACKET pair: a struct, and behind it a JSON object; a request
 * carries descriptors. Both ends are the same build, so the structs are the format. Replies are checked all the same: an inspector
 * has read a tenant's bytes and may be lying. */
#ifndef SIMBDP_MANAGER_INSPECT_PROTO_H
#define SIMBDP_MANAGER_INSPECT_PROTO_H

#include <stdint.h>

enum inspect_op {
    INSPECT_READ, /* one descriptor: the file, which is fsynced */
    INSPECT_COPY, /* two: from, to; the copy is fsynced */
};

struct inspect_request {
    uint32_t op, compression; /* enum src_compression */
    uint32_t full;            /* types, rules and figures, not only the structure */
    int64_t max_decompressed_bytes, max_expansion;
    int64_t max_rows, max_row_bytes, max_columns, max_rejects; /* -1: none */
    double max_reject_pct;                                     /* -1: none */
    /* behind it: the spec of the file (lib/read/spec.h) */
};

/* Both JSON objects end here; with the structs they fit a socket's default buffer. */
enum { INSPECT_JSON_MAX = 128 << 10 };

/* What a file may expand to whatever its size on the disk is; beyond, max_expansion counts. */
#define INSPECT_FREE_BYTES (INT64_C(256) << 20)

enum inspect_status {
    INSPECT_OK,
    INSPECT_REFUSED,   /* reason and detail say why */
    INSPECT_FAILED,    /* could not be read; detail says why, and reason INSPECT_NOT_READ that the disk did not give its bytes,
                          INSPECT_NOT_SYNCED that it may never take them */
    INSPECT_EXHAUSTED, /* alone, without what follows: its memory has run out, and it ends */
};

#define INSPECT_HASH_BYTES 32

struct inspect_reply {
    uint32_t status;
    char reason[32];                        /* configuration key or code */
    char detail[256];                       /* for people */
    unsigned char hash[INSPECT_HASH_BYTES]; /* BLAKE2b-256 of the raw bytes; only with INSPECT_OK */
    int64_t raw_bytes, bytes, rows, columns, longest_row_bytes, rejects, repaired; /* bytes: decompressed */
    /* behind it: what becomes part of the file's `quality` */
};

#define INSPECT_NOT_READ   "read"
#define INSPECT_NOT_SYNCED "sync"

#endif
