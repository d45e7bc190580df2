/* Names of collections as files of a dump, as mongodump makes them (mongo-tools, mongodump/prepare.go, outputPath; mongorestore
 * reads them back in mongorestore/filepath.go, getInfoFromFile): Go's url.QueryEscape of the name; where that is longer than 238
 * bytes, its first 208, "%24" and the SHA-1 of the name in unpadded base64url (27), and the metadata alone tell the name. */
#ifndef SIMBDP_MONGODUMP_NAMES_H
#define SIMBDP_MONGODUMP_NAMES_H

#include <stdbool.h>

#define NAMES_BSON     ".bson"
#define NAMES_METADATA ".metadata.json"
#define NAMES_GZ       ".gz"

/* The file's name without what it ends with. The caller frees. */
char *names_escape(const char *collection);
/* The collection of a file's name, without what it ends with. NULL: it is none. The caller frees. */
char *names_unescape(const char *file);
/* Whether the name is cut, so that the metadata have to tell the collection. */
bool names_is_cut(const char *file);

/* Whether a database may be called that, and a directory: MongoDB's own rule for servers on Unix. */
bool names_is_database(const char *name);
/* Databases that are a server's own (admin, config, local), or the platform's (its mark, which says which MongoDB a home has). */
bool names_is_nobodys(const char *database);
/* Collections of the server's own. */
bool names_is_systems(const char *collection);

#endif
