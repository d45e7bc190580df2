/* What somebody can do about a refusal. */
#ifndef SIMBDP_REMOTE_ADVICE_H
#define SIMBDP_REMOTE_ADVICE_H

/* A code of the gateway's (docs/openapi.yaml), or of http.h, as a word that lives for ever; "other": it is not known here. */
const char *advice_word(const char *code);
/* What to do, in words; NULL: the error says it all. */
const char *advice_of(const char *code);

#endif
