/* What `mysimbdp preview` reads a file by: its options, over what a dataset is configured as. */
#ifndef SIMBDP_CLI_PREVIEW_SPEC_H
#define SIMBDP_CLI_PREVIEW_SPEC_H

#include "cli.h"

#include "read/spec.h"

struct preview_options {
    const char *delimiter, *quote, *escape, *encoding, *skip_rows, *header_rows, *ragged, *damaged, *types, *tenant, *dataset;
    bool no_header;
};

/* 0 and *ret, which spec_free frees; or the exit code after a complaint. */
int preview_spec(struct cli *c, const char *format, const struct preview_options *o, struct spec **ret);

#endif
