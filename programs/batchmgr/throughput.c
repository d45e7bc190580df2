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

void throughput_per_s(const struct throughput *t, int64_t now_ms, int64_t since_ms, double *ret_files, double *ret_rows)
{
    /* The slot of now has only begun, and stands for the one before the others. */
    int64_t number = now_ms / THROUGHPUT_SLOT_MS, files = 0, rows = 0,
            whole_ms = THROUGHPUT_MS - THROUGHPUT_SLOT_MS + now_ms % THROUGHPUT_SLOT_MS,
            ms = now_ms - since_ms < whole_ms ? now_ms - since_ms : whole_ms;
    for (int i = 0; i < THROUGHPUT_SLOTS; i++)
        if (t->slots[i].number > number - THROUGHPUT_SLOTS && t->slots[i].number <= number) {
            files += t->slots[i].files;
            rows += t->slots[i].rows;
        }
    double s = (double)(ms < 1000 ? 1000 : ms) / 1000;
    *ret_files = (double)files / s;
    *ret_rows = (double)rows / s;
}
