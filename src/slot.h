/* Memory for requests. A slot holds one request from the moment it is read until it is answered; a buffer holds one
 * message of full size. The kernel writes to buffers alone, and only slots decide when a buffer is free again: no other
 * module owns memory that the kernel may touch.
 *
 * A message is read into a buffer. If it is small (all are, but writes and a few others) it moves into its slot and the
 * buffer is at once free for the next read: so thousands of requests can be open with a handful of buffers, and reads
 * go to memory that is still in the cache. */
#ifndef FUSEWIRE_SLOT_H
#define FUSEWIRE_SLOT_H

#include "wire/wire.h"

#include <sys/uio.h>

enum {
    SLOT_SMALL = 640, /* the largest message that lives in its slot: a RENAME2 of two names of 255 bytes */
    SLOT_MAX = 65536, /* as many as an id has room for */
    BUFFER_NONE = -1
};

enum slot_state {
    SLOT_FREE,
    SLOT_TRANSIENT, /* takes no answer: freed by the next fusewire_read */
    SLOT_OPEN,      /* waits for its answer */
    SLOT_QUEUED,    /* answered; the reply waits for the end of the turn */
    SLOT_SENDING,   /* the kernel has the reply */
    SLOT_OUTCOME    /* the outcome waits to be handed out */
};

struct ring_entry;

struct slot {
    struct wire_expected expected;
    uint64_t nodeid;
    uint32_t generation; /* changes with each request, so that a stale id is known */
    uint32_t index;
    enum slot_state state;
    bool expect_outcome;
    int32_t outcome;
    void *message;            /* in `small`, in a buffer, or in a ring entry */
    uint32_t message_size;    /* 0: a record of the library's own making */
    int32_t message_buffer;   /* pinned by a large message */
    int32_t borrowed;         /* lent for the reply's data */
    void *lent;               /* the same as memory, in that buffer or in the ring entry */
    struct ring_entry *entry; /* that brought it and takes its reply; NULL: /dev/fuse */
    struct slot *next;        /* of the list that the state implies */
    struct iovec reply[2];    /* while QUEUED or SENDING: what is sent */
    /* The reply's head, then the message: a reply with a little data may run from one into the other, since nobody
     * reads the message once it is answered. */
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    _Alignas(8) unsigned char small[SLOT_SMALL];
};

struct slots {
    struct slot *all; /* address space for `depth`; pages appear as they are used */
    struct slot *free;
    uint32_t depth;
    uint32_t touched; /* slots from here on were never used */
    uint32_t open;    /* in every state but FREE and TRANSIENT */
    uint32_t open_peak;
    uint32_t in_use;   /* in every state but FREE */
    uint32_t reserved; /* for messages that may come into buffers or ring entries the kernel has already */
    uint32_t tag;      /* of this connection, in every id */

    unsigned char *buffers;
    int32_t *free_buffers; /* a stack: the last one used is the first to be used again */
    uint32_t buffer_count;
    uint32_t free_buffer_count;
    size_t buffer_stride;
    bool leak_buffers;    /* the kernel could not be kept from writing to them: they are never given back */
    size_t data_capacity; /* what a buffer holds behind a WRITE's prefix */
    size_t memory;
};

int slots_create(struct slots *slots, uint32_t depth, uint32_t buffers, uint32_t max_write);
void slots_destroy(struct slots *slots);

/* Another slot, or NULL when the depth is used up. */
struct slot *slot_take(struct slots *slots, enum slot_state state);
void slot_free(struct slots *slots, struct slot *slot);

/* It turned out that this request takes no answer. */
void slot_make_transient(struct slots *slots, struct slot *slot);

uint64_t slot_id(const struct slots *slots, const struct slot *slot);

/* The slot that `id` names. 0; -EXDEV: of another connection, -EALREADY: answered before, -EINVAL: no id of ours. */
int slot_find(struct slots *slots, uint64_t id, struct slot **slot);

/* The open slot of the request with that unique (sent again or not), or NULL. */
struct slot *slot_find_unique(struct slots *slots, uint64_t unique);

static inline bool slot_available(const struct slots *slots)
{
    return slots->in_use + slots->reserved < slots->depth;
}

/* Is there a slot and a buffer for another message? */
static inline bool message_room(const struct slots *slots)
{
    return slot_available(slots) && slots->free_buffer_count > 0;
}

/* Another buffer, or BUFFER_NONE. */
int32_t buffer_take(struct slots *slots);
void buffer_free(struct slots *slots, int32_t buffer);

/* Where a message is read to: so placed that the data of a WRITE begins on a page. */
static inline void *buffer_message(const struct slots *slots, int32_t buffer)
{
    return slots->buffers + (size_t)buffer * slots->buffer_stride + 4096 - WIRE_WRITE_PREFIX;
}

static inline size_t buffer_message_capacity(const struct slots *slots)
{
    return slots->data_capacity + WIRE_WRITE_PREFIX;
}

/* Where data for a reply is put: on a page. */
static inline void *buffer_data(const struct slots *slots, int32_t buffer)
{
    return slots->buffers + (size_t)buffer * slots->buffer_stride + 4096;
}

#endif
