/* What a transport is: a way for messages to come from the kernel, and for the replies of a turn to go there together.
 */
#ifndef FUSEWIRE_TRANSPORT_H
#define FUSEWIRE_TRANSPORT_H

#include "conn.h"

struct transport {
    const char *name;
    uint32_t number; /* fusewire_transport */

    /* Is it worth having where the program did not ask for it by name? 0, or a negative errno with words. NULL: always.
     */
    int (*pays)(const struct fusewire_connection *c);

    /* Before there is a mount: gets what can be had without the device into c->transport_state. Negative errno with
     * words.
     */
    int (*prepare)(struct fusewire_connection *c);

    /* Sets up what waits. Negative errno with words, and the state is freed. */
    int (*start)(struct fusewire_connection *c);

    /* Frees a state that was not started. */
    void (*drop)(struct fusewire_connection *c);

    /* Takes back the reads that are under way (messages that still come go to the inbox) and frees the state: after it
     * the kernel knows none of our memory. */
    void (*finish)(struct fusewire_connection *c);

    /* In a forked child: closes descriptors, of a state that was only prepared too. Async-signal-safe. */
    void (*forget)(struct fusewire_connection *c);

    /* In a forked child, after forget: frees the memory. */
    void (*discard)(struct fusewire_connection *c);

    /* -1 with words where there is none. */
    int (*descriptor)(struct fusewire_connection *c);

    /* INIT is about to agree on these capabilities. Negative errno with words: the connection must not go on. NULL:
     * whatever they are. */
    int (*follow_init)(struct fusewire_connection *c, uint64_t capabilities);

    /* Sends the outbox; gives messages to conn_message, as many as are there up to about `want`; when there are none,
     * waits for them, a wake, or the family's bell up to `timeout` milliseconds. 0; -EINTR. */
    int (*collect)(struct fusewire_connection *c, size_t want, int timeout);

    /* Makes the descriptor of the notifier part of what is waited for. Negative errno without words. */
    int (*watch)(struct fusewire_connection *c, int fd);

    /* Sends the reply to a request that came in a ring entry: at the end of the turn if one is under way, else at once.
     * Only for transports that have entries. */
    void (*commit)(struct fusewire_connection *c, struct slot *slot, const struct iovec *pieces, int count);

    /* The turn is over without another read: sends the replies in ring entries that waited for it. NULL: none wait. */
    void (*send_commits)(struct fusewire_connection *c);

    /* There is room for messages again, after c->starved had been set: reads on, so that the descriptor tells of them.
     */
    void (*resume)(struct fusewire_connection *c);
};

extern const struct transport transport_poll;
extern const struct transport transport_ring;
extern const struct transport transport_uring;

#endif
