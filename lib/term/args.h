/* A command line: options are taken out of it wherever they stand; what is left are the positional arguments. */
#ifndef SIMBDP_TERM_ARGS_H
#define SIMBDP_TERM_ARGS_H

#include <stdbool.h>

/* The value of --name V or --name=V, which points into argv (NULL-terminated); NULL when absent. Takes it out. */
const char *args_opt(int *argc, char **argv, const char *name);
bool args_flag(int *argc, char **argv, const char *name);
/* The first that looks like an option, after all were taken; NULL: none does. */
const char *args_stray(int argc, char *const *argv);

#endif
