#include "title.h"

#include <string.h>

static char *slot;
static size_t room;

void title_init(char *argument)
{
    slot = argument;
    room = strlen(argument);
}

void title_set(const char *word)
{
    size_t n = strlen(word);
    if (n > room)
        return;
    memset(slot, ' ', room); /* a shorter text must not split the argument in two */
    memcpy(slot, word, n);
}
