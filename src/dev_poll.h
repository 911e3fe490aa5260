/* Waiting for /dev/fuse with epoll and reading it directly: the whole poll transport, and the ring transport's way
 * while few clients call. */
#ifndef FUSEWIRE_DEV_POLL_H
#define FUSEWIRE_DEV_POLL_H

#include "transport.h"

/* A message from this size on brings data that the filesystem should look at before anything else is read: the next
 * message would push it out of the processor's cache (1 MiB writes of eight clients: a fifth slower, measured). */
enum { LARGE_MESSAGE = 65536 };

enum device_state {
    DEVICE_WATCHED,
    DEVICE_IGNORED,  /* there is no room for requests, or somebody else reads them */
    DEVICE_UNMOUNTED /* nothing is mounted yet */
};

/* What experience says about a system call that may be in vain. */
struct guess {
    unsigned hope;
    unsigned chances;
};

struct poll_state {
    int epoll;
    int timer; /* while unmounted; -1 otherwise */
    enum device_state device;
    struct guess eager;
    struct guess deep;
};

/* A state with nothing in it yet, which poll_close takes as well. */
#define POLL_CLOSED ((struct poll_state){.epoll = -1, .timer = -1})

/* Negative errno with words; the state is closed then. */
int poll_open(struct poll_state *poll, struct fusewire_connection *c);
/* Async-signal-safe. */
void poll_close(struct poll_state *poll);

/* Negative errno without words. */
int poll_watch(struct poll_state *poll, int fd, uint32_t events);

void poll_set_device(struct poll_state *poll, struct fusewire_connection *c, enum device_state state);

/* As transport.collect. */
int poll_wait(struct poll_state *poll, struct fusewire_connection *c, size_t want, int timeout);

/* The two halves of it. Looks whether there is room for messages, and has epoll leave the device alone where there is
 * none. */
void poll_prepare(struct poll_state *poll, struct fusewire_connection *c);
/* Waits with epoll, and reads what it tells of. */
int poll_events(struct poll_state *poll, struct fusewire_connection *c, size_t want, int timeout);

#endif
