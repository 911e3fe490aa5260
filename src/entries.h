/* The ring entries of FUSE-over-io_uring, and their memory. An entry is either the kernel's, waiting for a request, or
 * holds one until its reply is committed; then it waits again. Each has a page for its header and, behind it, a payload
 * of the size of the largest request or reply; so placed that the message of a request can be made whole in front of
 * the payload without moving the data.
 *
 * The kernel writes to an entry only while the thread that registered it is in the kernel for its ring. */
#ifndef FUSEWIRE_ENTRIES_H
#define FUSEWIRE_ENTRIES_H

#include "queues.h"
#include "wire/wire.h"

#include <stdatomic.h>
#include <sys/uio.h>

struct ring;
struct slot;

struct ring_entry {
    unsigned char *memory;
    uint64_t commit_id; /* of the request that it holds */
    struct slot *slot;  /* the same request, from its reply until the kernel has taken that */
    struct ring_entry *next;
    uint16_t queue;
    uint32_t payload_capacity;
    struct iovec parts[2]; /* header and payload, for the kernel */
};

/* What the processes that share the memory know of each other. */
struct entries_user {
    atomic_int pid; /* who serves with these entries; 0: nobody yet */
};

struct ring_entries {
    unsigned char *memory;
    size_t size;
    uint32_t count;
    uint32_t per_queue;
    struct entries_user *user; /* NULL where the memory is not shared */
    struct ring_entry all[];
};

enum { ENTRY_HEADER = 4096 /* and the payload begins on a page */ };

/* `per_queue` entries for each of the queues. Address space that costs memory only where it is touched, on the node of
 * the queue's CPU; with `shared` a forked child has the same memory, not a copy. -ENOMEM with words. */
int entries_create(struct ring_entries **entries, const struct queues *queues, uint32_t per_queue,
                   size_t payload_capacity, bool shared);
void entries_destroy(struct ring_entries *entries);

/* How many bytes of a payload the kernel uses in a session: it takes no notice of larger ones, and must never have to
 * copy more. */
size_t entries_payload_used(const fusewire_session *session);

/* Does the entry hold a request whose reply was not seen to reach the kernel? For who looks at a dead process's
 * entries. False alarms are possible: of replies that were just on their way. */
bool entry_is_open(const struct ring_entry *entry);
/* The reply to the request that it held has been given to the kernel. */
void entry_mark_committed(struct ring_entry *entry);

static inline void *entry_payload(const struct ring_entry *entry)
{
    return entry->memory + ENTRY_HEADER;
}

/* Takes note of the request that has come in the entry, and makes its message whole: in `small` if it fits, else in the
 * entry. Returns its size; of one whose sizes are wrong it is the header alone, with a length that no decoder takes. */
size_t entry_message(struct ring_entry *entry, void *small, size_t small_size, void **message);

/* Puts a reply in `count` pieces into the entry, the first of them with its header. Pieces may lie in the entry itself.
 * -EMSGSIZE when the body is larger than the payload, -ENOMEM. */
int entry_reply(struct ring_entry *entry, const struct iovec *pieces, int count);

/* Queues a command for the entry, which will be the completion's tag. -EAGAIN. */
int entry_submit(struct ring *ring, int device_fd, struct ring_entry *entry, enum wire_uring_op operation);

#endif
