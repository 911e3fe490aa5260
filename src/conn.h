/* A connection's life: open, clone, read, reply, stop. Everything that the exported functions do happens here or below.
 *
 * A request's way: a transport reads a message into a buffer and gives it to conn_message; it waits in the inbox until
 * conn_read decodes it into the caller's record; its reply goes through conn_reply, at once with a writev or, where the
 * transport has a queue and a turn is under way, together with the others of that turn. */
#ifndef FUSEWIRE_CONN_H
#define FUSEWIRE_CONN_H

#include "dev.h"
#include "error.h"
#include "family.h"
#include "mount.h"
#include "queues.h"
#include "slot.h"
#include "wire/wire.h"

#include <stdatomic.h>

struct transport;
struct notifier;
struct ring_entry;
struct ring_entries;

/* Slots in the order of their arrival. */
struct slot_queue {
    struct slot *first;
    struct slot *last;
};

/* How many interrupts that name no request known here are kept until the request comes. */
enum { EARLY_INTERRUPTS = 64 };

struct fusewire_connection {
    /* Who may use it. `here` lies on a page that a fork wipes: it is 0 in a child whose parent had bound the
     * connection. */
    uint32_t *here;
    atomic_bool bound;
    struct fusewire_connection *next; /* in the list of fork.c */
    struct fusewire_connection *previous;

    struct family *family;
    struct mount mount; /* of a clone: its device_fd alone */
    uint32_t flags;     /* fusewire_open_flags */
    uint32_t asked_transport;
    uint32_t depth;
    uint32_t buffers;
    uint32_t queue_depth;
    struct queues queues;         /* whose requests it serves over FUSE-over-io_uring */
    bool share;                   /* the program has named them */
    struct ring_entries *entries; /* for them; NULL without */
    pid_t maker;                  /* the process that opened or cloned it */
    struct wire_wishes wishes;
    struct wire_dialect dialect;
    bool agreed; /* INIT is over; the session is in the family */

    const struct transport *transport;
    void *transport_state;
    unsigned rung; /* of the ladder of transports: those above were skipped */
    struct slots slots;
    struct slot_queue inbox;  /* to be handed out */
    struct slot_queue outbox; /* replies of this turn */
    struct slot *transients;  /* handed out, to be freed by the next read */
    bool turn;                /* replies are put off until the next read */
    bool polled;              /* the program waits for the descriptor: its last read had the timeout 0, and is over */
    bool starved;             /* the transport has stopped reading for want of slots or buffers */
    bool closing;
    size_t queue_from; /* from how many requests in a batch on the transport likes that; 0: never */
    int end;           /* how it ended, as a negative errno; 0 while it lives */
    unsigned troubles; /* failed reads in a row */

    int wake_fd;
    atomic_bool woken;
    uint64_t interrupts_seen; /* of those posted to the family */
    uint64_t early_interrupts[EARLY_INTERRUPTS];
    unsigned early_count;

    struct notifier *notifier;
    fusewire_statistics stats;
    char description[200];
};

/* ---- Life (conn.c) --------------------------------------------------------------------------------------------- */

int conn_open(struct fusewire_connection **out, const char *mountpoint, const fusewire_options *options);
int conn_clone(struct fusewire_connection **out, struct fusewire_connection *original, const fusewire_options *options);
int conn_close(struct fusewire_connection *c);
int conn_wake(struct fusewire_connection *c);
/* Takes a wake back: true when there was one. */
bool conn_woken(struct fusewire_connection *c);
int conn_descriptor(struct fusewire_connection *c);
const char *conn_describe(struct fusewire_connection *c);
void conn_statistics(const struct fusewire_connection *c, fusewire_statistics *statistics);

/* Makes this process the connection's user, if it has none yet. -ECHILD where the parent process is. Every function
 * that touches requests calls it first. */
int conn_bind(struct fusewire_connection *c);

/* The same without binding it. Safe in a signal handler where it succeeds. */
int conn_check_owner(const struct fusewire_connection *c);

/* For transports: the one in use cannot be had for the reason in the last error's words, and does as `instead` would.
 * The error, if the program wants this transport or none. */
int conn_skip_transport(struct fusewire_connection *c, int error, const struct transport *instead);

/* Makes the ring entries for the connection's queues if there are none yet. Negative errno with words. */
int conn_make_entries(struct fusewire_connection *c, bool shared);

/* Marks the end; the descriptor is readable from then on. The first end counts. */
void conn_end(struct fusewire_connection *c, int error);

/* ---- Reading (conn_read.c) ------------------------------------------------------------------------------------- */

int conn_read(struct fusewire_connection *c, fusewire_request *requests, size_t capacity, size_t request_size,
              int timeout);

/* Answers INIT, which is the first message after the mount. */
int conn_await_init(struct fusewire_connection *c);

/* For transports: a message of `size` bytes has come in `buffer`, which the slot keeps or frees. A slot is available.
 */
void conn_message(struct fusewire_connection *c, int32_t buffer, size_t size);

/* For transports: a request has come in this ring entry, which the slot keeps until it is answered. A slot is
 * available. */
void conn_entry_message(struct fusewire_connection *c, struct ring_entry *entry);

/* For transports: a read failed so. True when it is worth reading again at once. */
bool conn_read_failed(struct fusewire_connection *c, int64_t result);

/* ---- Sending (conn_send.c) ------------------------------------------------------------------------------------- */

/* Finds the open request of a reply, and looks whether it can be answered with this kind. */
int conn_request(struct fusewire_connection *c, uint64_t id, struct slot **slot);
int conn_request_of_kind(struct fusewire_connection *c, uint64_t id, enum wire_reply_kind kind, struct slot **slot);

/* Sends the reply whose first `head_size` bytes stand in slot->head; the rest is `body`, copied if it has to wait. */
void conn_reply(struct fusewire_connection *c, struct slot *slot, size_t head_size, const void *body, size_t body_size);
/* The same with the body in `count` pieces, vector[1] and after; vector[0] is for the head. */
void conn_reply_vector(struct fusewire_connection *c, struct slot *slot, size_t head_size, struct iovec *vector,
                       size_t count);
/* The same with a ready message, checked already. -EINVAL: an answer to INIT that the transport cannot live with. */
int conn_write(struct fusewire_connection *c, struct slot *slot, const void *head, size_t head_size, const void *body,
               size_t body_size);
void conn_reply_error(struct fusewire_connection *c, struct slot *slot, int error);

/* The slot's outcome is to be handed out, which the descriptor has to tell of. */
void conn_report(struct fusewire_connection *c, struct slot *slot);

/* The slot is no longer needed: gives it back, and lets the transport read on if it waited for room. */
void conn_free(struct fusewire_connection *c, struct slot *slot);

/* The same for a message that takes no answer; a ring entry that brought one has to go back to the kernel. */
void conn_dismiss(struct fusewire_connection *c, struct slot *slot);

/* Sends a reply in `count` pieces at once, and takes note of what became of it; one that goes through a ring entry
 * leaves at the end of a turn. */
void conn_send_now(struct fusewire_connection *c, struct slot *slot, const struct iovec *pieces, int count);

/* Sends the replies of the outbox, one by one. */
void conn_send_outbox(struct fusewire_connection *c);

/* Finds memory for the data of a reply: slot->lent. False when there is none. */
bool conn_lend(struct fusewire_connection *c, struct slot *slot);

/* The kernel has taken the slot's reply, or not: bytes or a negative errno. */
void conn_sent(struct fusewire_connection *c, struct slot *slot, int64_t result);

void queue_append(struct slot_queue *queue, struct slot *slot);
struct slot *queue_take(struct slot_queue *queue);

/* ---- Forks (fork.c) -------------------------------------------------------------------------------------------- */

/* The connections of this process, so that a forked child lets go of what its parent uses. */
int fork_register(struct fusewire_connection *c);
void fork_unregister(struct fusewire_connection *c);

/* Shows the other connections of this process to `take` until that is true. None of them is closed meanwhile, but other
 * threads may use them. */
void fork_search(struct fusewire_connection *c,
                 bool (*take)(struct fusewire_connection *c, struct fusewire_connection *other));

#endif
