/* What a connection and its clones share, across threads and across fork: the stop flag, what INIT agreed upon, and
 * interrupts that were read on one channel while another holds the request.
 *
 * The state lives in memory that forked processes share; the bell, an eventfd that they inherit, tells all members to
 * look at it. The bell is rung and never read: members wait for it edge-triggered, so that each of them hears each
 * ring. */
#ifndef FUSEWIRE_FAMILY_H
#define FUSEWIRE_FAMILY_H

#include "fusewire.h"

#include <stdbool.h>

struct family {
    struct family_state *state; /* shared with the other processes */
    int bell;
    char *mountpoint; /* NULL where the library has not mounted; owned, set by the opener */
};

/* Both count users in this process: what family_create or family_join gave, family_leave gives back. */
struct family *family_create(void);
struct family *family_join(struct family *family);
void family_leave(struct family *family);

/* Safe in a signal handler. */
void family_stop(struct family *family);
bool family_stopped(const struct family *family);

/* Set once, by who handles INIT. */
void family_agree(struct family *family, const fusewire_session *session);
/* NULL before INIT. */
const fusewire_session *family_session(const struct family *family);

/* How many bytes of a ring entry's payload the kernel uses, which is settled when INIT is. */
size_t family_payload_used(const struct family *family);

/* A member begins, or ends, to serve this queue of FUSE-over-io_uring. The first says whether others have done so and
 * none seems to live any more. */
bool family_queue_begin(struct family *family, uint16_t queue);
void family_queue_end(struct family *family, uint16_t queue);

/* Passes on an interrupt of a request that this member does not hold. */
void family_post_interrupt(struct family *family, uint64_t unique);
/* The number of interrupts posted so far. */
uint64_t family_interrupts_posted(const struct family *family);
/* The one with that number: its request's unique, or 0 when it is lost. False when it is not quite there yet; the bell
 * rings when it is. */
bool family_interrupt(const struct family *family, uint64_t number, uint64_t *unique);

#endif
