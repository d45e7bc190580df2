/* The quality of what stream apps read. On the loop; reads small files. */
#ifndef SIMBDP_STREAMMGR_QUALITY_H
#define SIMBDP_STREAMMGR_QUALITY_H

struct streammgr;
struct instances_db;
struct instance;
struct run_result;

/* Looks at the result files of the next few instances, in turn. */
void quality_look(struct streammgr *m);
/* It ended: what it read counts for its app. Within the transaction of instances_db_ended. */
void quality_end(struct instances_db *b, const struct instance *i, const struct run_result *res);

#endif
