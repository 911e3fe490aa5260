/* What a process leaves behind that served queues of FUSE-over-io_uring and died: requests in its entries, which the
 * kernel neither ends nor gives to anybody else, and requests that wait in its queues. */
#ifndef FUSEWIRE_URING_ORPHANS_H
#define FUSEWIRE_URING_ORPHANS_H

#include "conn.h"
#include "ring.h"

/* Gives a clone, just made, the entries of another one for the same queues whose process has died. Whoever serves with
 * them ends what they hold. */
void uring_adopt_orphans(struct fusewire_connection *c);

/* Queues a commit of EIO for the request that the entry holds. -EAGAIN. */
int uring_end_request(struct fusewire_connection *c, struct ring *ring, struct ring_entry *entry);

/* For a connection that closes: if its process, a child of this one, has died, and no other clone has its entries now,
 * ends with EIO what it has left open, and what waits in its queues. */
void uring_end_orphans(struct fusewire_connection *c);

/* The kernel gives a request that waits in a queue to an entry when that has brought an answer, not when it is new. So
 * whoever takes over a queue has a helper process make a request there; only where the library knows the mount point.
 */
void uring_prod(const struct fusewire_connection *c, uint16_t queue);

#endif
