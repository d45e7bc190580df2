#include "body.h"

enum { DIGITS_MAX = 15 /* of a chunk's size */ };

struct body body_of_length(int64_t n)
{
    return (struct body){.kind = BODY_LENGTH, .left = n, .done = n == 0};
}

struct body body_chunked(void)
{
    return (struct body){.kind = BODY_CHUNKED, .at = SIZE};
}

struct body body_until_close(void)
{
    return (struct body){.kind = BODY_UNTIL_CLOSE};
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One byte of a chunk's size. */
static void take_size(struct body *b, char c)
{
    int d = digit_of(c);
    if (d >= 0 && b->digits < DIGITS_MAX) {
        b->left = b->left * 16 + d;
        b->digits++;
    } else if (c == '\r' && b->digits) {
        b->at = SIZE_LF;
    } else {
        b->bad = true;
    }
}

/* One byte that is not data. */
static void take_frame(struct body *b, char c)
{
    const char expected = b->at == DATA_CR || b->at == END_CR ? '\r' : '\n';
    if (b->at == SIZE) {
        take_size(b, c);
        return;
    }
    if (c != expected) {
        b->bad = true;
        return;
    }
    if (b->at == SIZE_LF) {
        b->at = b->left ? DATA : END_CR;
    } else if (b->at == DATA_LF) {
        b->at = SIZE;
        b->digits = 0;
        b->left = 0;
    } else if (b->at == END_LF) {
        b->done = true;
    } else {
        b->at = b->at == DATA_CR ? DATA_LF : END_LF;
    }
}

static size_t take_data(struct body *b, size_t n)
{
    size_t take = (int64_t)n < b->left ? n : (size_t)b->left;
    b->left -= (int64_t)take;
    return take;
}

size_t body_take(struct body *b, const char *p, size_t n)
{
    size_t i = 0;
    if (b->done || b->bad)
        return 0;
    if (b->kind == BODY_UNTIL_CLOSE)
        return n;
    if (b->kind == BODY_LENGTH) {
        i = take_data(b, n);
        b->done = b->left == 0;
        return i;
    }
    while (i < n && !b->done && !b->bad) {
        if (b->at == DATA) {
            i += take_data(b, n - i);
            if (!b->left)
                b->at = DATA_CR;
        } else {
            take_frame(b, p[i]);
            i += !b->bad;
        }
    }
    return i;
}
