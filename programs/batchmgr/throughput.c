#include "throughput.h"

void throughput_add(struct throughput *t, int64_t now_ms, int64_t files, int64_t rows)
{
    int64_t number = now_ms / THROUGHPUT_SLOT_MS;
    size_t i = (size_t)(number % THROUGHPUT_SLOTS);
    if (t->slots[i].number != number) {
        t->slots[i].number = number;
        t->slots[i].files = t->slots[i].rows = 0;
    }
    t->slots[i].files += files;
    t->slots[i].rows += rows;
}

static int64_t up_to_slot(int64_t ms)
{
    return (ms + THROUGHPUT_SLOT_MS - 1) / THROUGHPUT_SLOT_MS * THROUGHPUT_SLOT_MS;
}

void throughput_per_s(const struct throughput *t, int64_t now_ms, int64_t since_ms, double *ret_files, double *ret_rows)
{
    /* The slot of now has only begun, and stands for the one before the others. In whole slots, so that a rate does not change
     * while nothing happens in one. */
    int64_t number = now_ms / THROUGHPUT_SLOT_MS, files = 0, rows = 0,
            whole_ms = THROUGHPUT_MS - THROUGHPUT_SLOT_MS + up_to_slot(now_ms % THROUGHPUT_SLOT_MS),
            ms = now_ms - since_ms < whole_ms ? up_to_slot(now_ms - since_ms) : whole_ms;
    for (int i = 0; i < THROUGHPUT_SLOTS; i++)
        if (t->slots[i].number > number - THROUGHPUT_SLOTS && t->slots[i].number <= number) {
            files += t->slots[i].files;
            rows += t->slots[i].rows;
        }
    double s = (double)(ms < THROUGHPUT_SLOT_MS ? THROUGHPUT_SLOT_MS : ms) / 1000;
    *ret_files = (double)files / s;
    *ret_rows = (double)rows / s;
}
