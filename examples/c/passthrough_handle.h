/* The files and folders that clients have open. */
#ifndef PASSTHROUGH_HANDLE_H
#define PASSTHROUGH_HANDLE_H

#include "passthrough_node.h"

#include <sys/types.h>

struct handle {
    struct handle *previous;
    struct handle *next;
    struct node *node; /* of an open file, held; NULL of a folder */
    int fd;
    pthread_mutex_t lock;   /* of a folder's position */
    off_t position;         /* of a folder: where `fd` stands */
    struct version version; /* of a file: what it was when opened, if the kernel then dropped its cached pages or had
                               this very version */
};

struct handles {
    pthread_mutex_t lock;
    struct handle *first;
};

void handles_start(struct handles *handles);

/* Closes all of them. */
void handles_finish(struct handles *handles);

/* A handle for `fd`, which it takes over; NULL without memory, `fd` closed. */
struct handle *handles_add(struct handles *handles, struct node *node, int fd);
void handles_remove(struct handles *handles, struct handle *handle);

static inline uint64_t handle_number(const struct handle *handle)
{
    return (uint64_t)(uintptr_t)handle;
}

static inline struct handle *handle_of(uint64_t number)
{
    return (struct handle *)(uintptr_t)number;
}

#endif
