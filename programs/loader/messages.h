/* A stream into a collection (simbdp-load --stream): builtin:load, and the output modes of stream apps. */
#ifndef SIMBDP_LOADER_MESSAGES_H
#define SIMBDP_LOADER_MESSAGES_H

/* argv: what follows --stream. Returns the exit code. */
int messages_main(int argc, char **argv);

#endif
