/* Sends notifications. The kernel may make one wait for a lock that a client of this very server holds, so they go
 * through io_uring's workers where that can be had, never through the thread that has to answer that client. */
#ifndef FUSEWIRE_NOTIFIER_H
#define FUSEWIRE_NOTIFIER_H

#include "conn.h"

/* Copies and sends a notification. `may_block`: the kernel may wait while it carries it out. With `report` its outcome
 * comes back as a record. 0 when it is on its way. */
int notifier_send(struct fusewire_connection *c, const void *head, size_t head_size, const void *body, size_t body_size,
                  bool may_block, bool report);

/* The descriptor that is readable when notifications have been carried out; -1 while there is none. */
int notifier_descriptor(const struct fusewire_connection *c);

/* Takes note of what has been carried out. */
void notifier_reap(struct fusewire_connection *c);

/* How many are under way. */
unsigned notifier_pending(const struct fusewire_connection *c);

/* Frees everything; what is still under way then is left to the kernel, memory included. */
void notifier_close(struct fusewire_connection *c);
/* In a forked child: closes, async-signal-safe, and later frees. */
void notifier_forget(struct fusewire_connection *c);
void notifier_discard(struct fusewire_connection *c);

#endif
