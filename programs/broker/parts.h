/* Streams with several partitions (docs/kafka.md).
 *
 * A partition is a stream of the store, with its own epoch, sequences, publishers and subscriptions; the first one has the stream's
 * name, the others the name, "#" and their number. To everybody else the stream is one: its limits, its figures and a consumer's
 * window count over all of them. On the wire a message's sequence has its partition in front (PART_SHIFT), so that a message has
 * the sequence that it had before there were more partitions.
 *
 * Which partition a message goes to: that of its request's key; else that of its publisher, so that its numbers stay in one and are
 * told apart there. Numbers that were sent with a key are told apart in the key's partition. */
#ifndef SIMBDP_BROKER_PARTS_H
#define SIMBDP_BROKER_PARTS_H

#include "broker.h"

enum { PART_SHIFT = 40 };

/* Ties a record to its whole; `whole` may be itself. */
void parts_add(struct broker_stream *whole, struct broker_stream *st, uint32_t part);
/* The record goes. */
void parts_remove(struct broker_stream *st);
/* "tenant/stream" or "tenant/stream#1": the partition, and how long the whole's name is. */
uint32_t parts_of_name(const char *full, size_t *ret_n);

/* Partitions that are there, as map_next. */
struct broker_stream *parts_next(const struct broker_stream *whole, size_t *i);
/* The app's subscription of one; NULL: it is not there. */
struct broker_sub *parts_sub(const struct broker_sub *whole, size_t part);

static inline uint64_t parts_wire_seq(const struct broker_stream *st, uint64_t seq)
{
    return seq | (uint64_t)st->part << PART_SHIFT;
}

/* The partition of a sequence of the wire, and its sequence there. NULL: there is none. */
struct broker_stream *parts_by_seq(const struct broker_stream *whole, uint64_t *seq);

/* Where a request's messages go. */
struct broker_stream *parts_route(struct broker_stream *whole, const struct wire_request *rq);

/* This broker's part of a limit on a rate: by how many of the partitions are its own, where several brokers share the stream. */
int64_t parts_share(const struct broker_stream *whole, int64_t limit);

/* ---- sums ---- */

/* Sequences: counted as if the partitions lay one behind the other. */
void parts_figures(const struct broker_stream *whole, struct stream_figures *ret);
void parts_sub_figures(const struct broker_sub *whole, struct sub_figures *ret);
uint64_t parts_tally(const struct broker_stream *whole, enum tally_count c);
uint64_t parts_sub_tally(const struct broker_sub *whole, enum tally_count c);
double parts_in_per_s(const struct broker_stream *whole);
double parts_acked_per_s(const struct broker_sub *whole);
/* Another partition has messages that are given only to consumers that hold nothing: nobody gets others meanwhile. */
bool parts_wait_for_suspects(const struct broker_sub *bs);

#endif
