/* The queues of FUSE-over-io_uring: the kernel has one for each possible CPU, and puts a request into that of the CPU
 * on which the client runs. Queue and CPU have the same number. */
#ifndef FUSEWIRE_QUEUES_H
#define FUSEWIRE_QUEUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUEUES_MAX = 8192 /* the most CPUs that a kernel can be built for */ };

struct queues {
    uint16_t *numbers; /* in ascending order */
    uint32_t count;
};

/* How many there are: the machine's possible CPUs, be they online or not. */
uint32_t queues_possible(void);

/* All of them. -ENOMEM without words. */
int queues_all(struct queues *queues);

/* Those of a list as taskset -c takes it, "0,2-5"; an empty one is none. -EINVAL with words, -ENOMEM. */
int queues_parse(struct queues *queues, const char *list);
int queues_copy(struct queues *queues, const struct queues *original);
void queues_free(struct queues *queues);

/* The share of worker `index` of `count`, as a list: each queue is in one share. CPUs that this thread may run on are
 * dealt out evenly in runs of neighbours, the others (offline, or not for us) one by one. -ENOBUFS: `size` is too
 * small. */
int queues_share(char *list, size_t size, uint32_t index, uint32_t count);

/* How many CPUs this thread may run on. */
uint32_t queues_usable(void);

/* Binds the calling thread to the CPUs of these queues, as far as they are online. Negative errno.
 * Async-signal-safe. */
int queues_pin(const struct queues *queues);

/* The memory node of the queue's CPU; -1 where the machine has only one, or does not say. */
int queues_node(uint16_t queue);

#endif
