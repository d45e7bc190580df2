/* What the files of badfs share; what it is stands in main.c. All of it is called with `lock` held. */
#ifndef BADFS_H
#define BADFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { FAIL_READS = 1, FAIL_WRITES = 2, FAIL_SYNCS = 4, BLOCK = 4096, SECTOR = 512 };

struct control {
    int64_t n_syncs; /* so far; what was nothing to be synced counts, too */
    int64_t cut_at;  /* 0: never */
    int64_t keep_seed;
    int32_t after, journal, fails, is_cut;
    int64_t n_failed;
    int64_t fail_times; /* how often yet; below 0: as long as a bit of `fails` is set */
    int64_t evict;      /* what a failed sync was for is not in the kernel's memory any more, either */
    int64_t fail_skip;  /* how often not, before that */
    char under[256];
};

/* What was done to a file's bytes and is not synced. */
struct write {
    enum { WRITE, TRUNCATE, EXTEND /* nothing but zeros */ } kind;
    off_t at, n; /* TRUNCATE: at is the size */
    char *bytes;
    struct write *next;
};

/* A file, for as long as it has a name in LIVE or among what is durable. */
struct node {
    uint64_t id;    /* its inode number, which survives a power cut */
    ino_t live;     /* in LIVE; 0: it is not there any more */
    struct stat st; /* kind, owner and mode that are durable */
    struct write *first, **last;
    bool is_shared;            /* DURABLE/obj has it under a second name of what LIVE has: it was not written to */
    bool has_object;           /* else nothing of its bytes is durable */
    off_t seen;                /* its size in LIVE */
    bool changed, reallocated; /* since the journal was written last: anything of its inode; its size or blocks */
    char *link;
    struct node *next_id, *next_live;
};

extern volatile struct control *control;
extern int live, durable;

void *need(void *p);
unsigned chance(unsigned below);

/* -- nodes.c: files and bytes */

struct node *node_of_id(uint64_t id);                          /* NULL: none */
struct node *node_of_live(ino_t ino);                          /* NULL: none */
struct node *node_known(const struct stat *live, uint64_t id); /* one that was there before; id 0: its number in LIVE */
struct node *node_born(const struct stat *live);
void node_is_gone(struct node *n); /* out of LIVE: the number may be another's */
int node_object(const struct node *n, int flags);
void node_share(struct node *n, int dir, const char *name);
void node_unshare(struct node *n); /* before its bytes change */
void node_wrote(struct node *n, const void *bytes, off_t at, off_t size);
void node_truncated(struct node *n, off_t size);
void node_extended(struct node *n, off_t size);
void node_settle(struct node *n);       /* all bytes become durable */
void node_lose(struct node *n, int fd); /* a sync failed: what it was for will never be written. fd: of LIVE */
void node_keep_some(struct node *n);    /* of what is not synced, as a cut may leave it */
void nodes_each(void (*fn)(struct node *n));

/* -- journal.c: names, owners, modes */

void journal_known(uint64_t dir, const char *name, uint64_t id);
/* One step: what up to two names are from then on. b: NULL where it is about one. */
void journal_names(uint64_t of, uint64_t a_dir, const char *a, uint64_t a_is, uint64_t b_dir, const char *b, uint64_t b_is);
void journal_attributes(struct node *n, const struct stat *st);
void journal_commit_all(void);
void journal_commit_directory(uint64_t dir);
void journal_commit_attributes(uint64_t id);
void journal_keep_some(void); /* as a cut may leave them */
void journal_each(uint64_t dir, void (*fn)(const char *name, struct node *n, int to), int to);

/* -- cut.c */

_Noreturn void cut(const char *path);

#endif
