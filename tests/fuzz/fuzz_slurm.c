/* What Slurm's commands print, and the line that a runner on a node leaves: whatever it is, it is read or it is none. */
#include "programs/slurm/facts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *text_of(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slurm_line line;
    struct holder holder;
    enum slurm_state state;
    const char *word = NULL;
    char *text = text_of(data, size);
    const char *const end = text + strlen(text);
    (void)slurm_is_refusal(text);
    if (holder_parse(text, &holder))
        assert(*holder.node && *holder.job);
    if (slurm_line_parse(text, &line)) {
        assert(*line.id && strlen(line.id) < 20 && strspn(line.id, "0123456789") == strlen(line.id));
        assert(line.name > line.id && line.node > line.reason && line.node + strlen(line.node) < end);
        (void)slurm_state_of(line.word);
    }
    free(text);
    text = text_of(data, size);
    if (slurm_recall(text, "simbdp-1", &state, &word))
        assert(slurm_state_is_over(state) && word > text && slurm_state_of(word) == state);
    free(text);
    return 0;
}
