/* What a process leaves behind that served queues of FUSE-over-io_uring and died: requests in its entries, which the
 * kernel neither ends nor gives to anybody else, and requests that wait in its queues. */
#ifndef FUSEWIRE_URING_ORPHANS_H
#define FUSEWIRE_URING_ORPHANS_H

#include "conn.h"

/* In the process that made the connection, a clone, for a child that has died: ends with EIO what that has left open.
 * Does nothing while the child lives, or where there was none. */
void uring_end_orphans(struct fusewire_connection *c);

/* The kernel gives a request that waits in a queue to an entry when that has brought an answer, not when it is new. So
 * whoever takes over a queue has a helper process make a request there; only where the library knows the mount point.
 */
void uring_prod(const struct fusewire_connection *c, uint16_t queue);

#endif
