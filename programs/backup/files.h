/* The bytes of files that the ledger knows. */
#ifndef SIMBDP_BACKUP_FILES_H
#define SIMBDP_BACKUP_FILES_H

#include "pieces/copy.h"

/* Takes a copy of the ledger into the file `scratch`, and puts the bytes of all files that are not done there (place staging or
 * work), and what their runs kept to be loaded. What is done while that goes on is done in the copy, too, or its bytes are in the
 * backup. No ledger: -ENOENT. Blocks. */
int files_copy_unfinished(struct copying *k, const char *scratch, struct err *e);
/* Puts what done/ and quarantine/ have of the files that the copy knows there. Blocks. */
int files_copy_filed(struct copying *k, const char *scratch, struct err *e);

#endif
