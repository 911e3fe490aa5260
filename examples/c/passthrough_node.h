/* The inodes that the kernel knows by a node id. An inode is told by its mount, device and number, and held by an
 * O_PATH descriptor, so that its number cannot be given to another file meanwhile. When descriptors run short those of
 * idle nodes are closed; a file handle then stands for the inode until it is needed again. */
#ifndef PASSTHROUGH_NODE_H
#define PASSTHROUGH_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct file_handle;

/* Tells two states of a file's data from one another. */
struct version {
    struct timespec changed;
    struct timespec modified;
    int64_t size;
    bool known;
};

struct node {
    struct node *next; /* of the same bucket */
    uint64_t mount;    /* the mount's id, so that a folder that is bound into its own tree is two nodes */
    uint64_t inode;
    uint64_t device;
    uint64_t id;
    uint64_t lookups; /* that the kernel has not forgotten */
    uint32_t generation;
    uint32_t users; /* requests that work with it right now, and its open files */
    int fd;         /* O_PATH; -1 while `handle` stands for it, which it never does while there are users */
    bool hashed;
    bool recent; /* used since the search for idle nodes last came by */
    struct file_handle *handle;

    /* Of the open files, guarded by the lock of struct handles. */
    struct version cached; /* what the kernel's cached pages show */
    uint32_t opens;
    int32_t backing_id; /* by which the kernel does the open files' reading and writing; 0: we do */
};

struct nodes {
    pthread_mutex_t lock;
    struct node **buckets;
    struct node **slots; /* by id - 1; the free ones linked through `free_slots` */
    uint32_t *free_slots;
    uint32_t bucket_count; /* a power of two */
    uint32_t slot_count;
    uint32_t slot_capacity;
    uint32_t free_count;
    uint32_t node_count;
    uint32_t generation;
    uint32_t hand;       /* where the search for idle nodes goes on */
    uint32_t open_count; /* nodes with a descriptor */
    uint32_t open_limit;
    int handle_fd;       /* on the source's mount, for open_by_handle_at; -1 where handles cannot be had */
    atomic_bool crowded; /* there are more nodes than descriptors for them */
};

/* The node of the source folder, with id 1, whose O_PATH descriptor it takes over. Negative errno. */
int nodes_start(struct nodes *nodes, int source_fd, const struct stat *status, uint64_t mount);

/* Frees all of them. */
void nodes_finish(struct nodes *nodes);

/* The node with this id, its descriptor open until nodes_release(). -ESTALE, or why it cannot be opened. */
int nodes_acquire(struct nodes *nodes, uint64_t id, struct node **out);

/* The node of the file that `fd` (O_PATH, taken over in any case) stands for, with one lookup more, to be released as
 * after nodes_acquire(). */
int nodes_take(struct nodes *nodes, int fd, const struct stat *status, uint64_t mount, struct node **out);

/* One lookup more of a node that is held already. */
void nodes_count_lookup(struct nodes *nodes, struct node *node);

/* Once more, of a node that is held already. */
void nodes_hold(struct nodes *nodes, struct node *node);
void nodes_release(struct nodes *nodes, struct node *node);

/* The kernel has forgotten `count` lookups, or never heard of them. */
void nodes_forget(struct nodes *nodes, uint64_t id, uint64_t count);

/* Called when a descriptor could not be had (errno): closes some of idle nodes. Is it worth trying again? */
bool nodes_make_room(struct nodes *nodes);

/* Where descriptors run short and handles cannot be had: up to `capacity` ids of idle nodes, which the kernel is to be
 * asked to forget. */
size_t nodes_to_prune(struct nodes *nodes, uint64_t *ids, size_t capacity);

/* Is there a node without a descriptor? */
bool nodes_rely_on_handles(struct nodes *nodes);

#endif
