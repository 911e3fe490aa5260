/* io_uring: the only user of liburing. A ring that sends and receives on one descriptor, with completions that carry a
 * tag. */
#ifndef FUSEWIRE_RING_H
#define FUSEWIRE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring;

struct ring_completion {
    uint64_t tag;
    int32_t result; /* as the system call's: a count or a negative errno */
    int32_t buffer; /* of a multishot read: the provided buffer that it filled; -1 otherwise */
    bool more;      /* of a multishot: further completions follow */
};

/* A ring for `entries` submissions at a time. Its descriptor can be polled: readable while completions wait. Negative
 * errno without words: -ENOSYS, -EPERM (forbidden), -ENOMEM, -EMFILE. */
int ring_create(struct ring **ring, unsigned entries);
/* A ring for commands (ring_command), of which up to `completions` may complete at once. It belongs to one thread,
 * completes nothing while that thread is elsewhere, and its descriptor cannot be polled: ring_signal names
 * one that can. */
enum ring_owner {
    RING_MINE, /* the calling thread */
    RING_LATER /* who calls ring_enable; before that nothing can be submitted */
};
int ring_create_for_commands(struct ring **ring, unsigned entries, unsigned completions, enum ring_owner owner);
int ring_enable(struct ring *ring);
/* Lets the ring hold the file behind `fd`, which saves commands for it some work; until the ring is destroyed the file
 * stays open. */
void ring_hold_file(struct ring *ring, int fd);
/* Has the kernel add to this eventfd when there is something to complete. */
int ring_signal(struct ring *ring, int eventfd);

void ring_destroy(struct ring *ring);

/* The same in two steps: closes the descriptor, which cancels what is under way; what completes meanwhile can still be
 * had from ring_next. Then frees the memory. */
void ring_close(struct ring *ring);
void ring_free(struct ring *ring);

/* In a forked child, after ring_close, which is async-signal-safe: frees what the child inherited. */
void ring_discard(struct ring *ring);

int ring_descriptor(const struct ring *ring);

/* Provided buffers: a multishot read picks the next free one. `count` is a power of two. */
int ring_offer_create(struct ring *ring, unsigned count);
void ring_offer(struct ring *ring, int32_t buffer, void *memory, size_t size);
/* Makes the buffers offered since the last call visible to the kernel. */
void ring_offer_publish(struct ring *ring);

/* The following queue a submission, which ring_submit or ring_wait sends. -EAGAIN when the queue is full and could not
 * be sent. What they point to must stay until the completion. */
int ring_read_multishot(struct ring *ring, int fd, uint64_t tag);
int ring_poll_multishot(struct ring *ring, int fd, uint32_t events, uint64_t tag);
int ring_poll_once(struct ring *ring, int fd, uint32_t events, uint64_t tag);
/* A command that the file behind `fd` understands: operation, argument (up to 80 bytes on a ring for commands, 16 on
 * another), and memory. */
int ring_command(struct ring *ring, int fd, uint32_t operation, const void *command, size_t size,
                 const struct iovec *memory, unsigned count, uint64_t tag);
int ring_write(struct ring *ring, int fd, const struct iovec *pieces, unsigned count, uint64_t tag);
/* Carried out by a worker of the kernel, so that waiting for locks holds up nobody here. */
int ring_write_async(struct ring *ring, int fd, const struct iovec *pieces, unsigned count, uint64_t tag);
/* Cancels what has this tag; the cancelled completes with -ECANCELED, or with what it had got. */
int ring_cancel(struct ring *ring, uint64_t tag, uint64_t own_tag);

/* Sends what is queued. Negative errno. */
int ring_submit(struct ring *ring);
/* Sends what is queued and has the kernel complete what it can without waiting. Negative errno. */
int ring_progress(struct ring *ring);
/* Sends what is queued and waits for `count` completions up to `timeout` milliseconds (-1: without end). 0, also after
 * the time has passed; -EINTR; another negative errno. */
int ring_wait(struct ring *ring, unsigned count, int timeout);

/* The next completion, if there is one. The one given last keeps its place, and so the ring's descriptor readable,
 * until this or ring_wait is called again. */
bool ring_next(struct ring *ring, struct ring_completion *completion);

/* System calls made so far. */
uint64_t ring_system_calls(const struct ring *ring);

#endif
