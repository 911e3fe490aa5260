#include "slot.h"
#include "error.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 4096,
    /* What a message without much data may need all the same: an extended attribute's value of 64 KiB with its name. */
    DATA_MIN = 17 * PAGE
};

/* An id: the generation in the upper half, then the connection's tag, then the slot's index. */
enum { INDEX_BITS = 16, TAG_BITS = 16, GENERATION_SHIFT = INDEX_BITS + TAG_BITS };

static atomic_uint next_tag = 1;

static size_t round_to_page(size_t size)
{
    return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* Address space that costs memory only where it is touched. */
static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int slots_create(struct slots *slots, uint32_t depth, uint32_t buffers, uint32_t max_write)
{
    memset(slots, 0, sizeof *slots);
    slots->depth = depth;
    slots->tag = atomic_fetch_add(&next_tag, 1) & ((1U << TAG_BITS) - 1);
    slots->buffer_count = buffers;
    slots->data_capacity = round_to_page(max_write > DATA_MIN ? max_write : DATA_MIN);
    slots->buffer_stride = PAGE + slots->data_capacity;

    size_t slot_bytes = round_to_page((size_t)depth * sizeof *slots->all);
    size_t buffer_bytes = (size_t)buffers * slots->buffer_stride;
    slots->all = reserve(slot_bytes);
    slots->buffers = reserve(buffer_bytes);
    slots->free_buffers = malloc(buffers * sizeof *slots->free_buffers);
    slots->memory = slot_bytes + buffer_bytes;
    if (slots->all == NULL || slots->buffers == NULL || slots->free_buffers == NULL) {
        slots_destroy(slots);
        return fail(-ENOMEM,
                    "no address space for %u requests and %u buffers of %zu bytes: ask for a smaller depth, "
                    "fewer buffers or a smaller max_write",
                    depth, buffers, slots->buffer_stride);
    }
    for (uint32_t i = 0; i < buffers; i++)
        slots->free_buffers[i] = (int32_t)(buffers - 1 - i);
    slots->free_buffer_count = buffers;
    return 0;
}

void slots_destroy(struct slots *slots)
{
    if (slots->all != NULL)
        munmap(slots->all, round_to_page((size_t)slots->depth * sizeof *slots->all));
    if (slots->buffers != NULL && !slots->leak_buffers)
        munmap(slots->buffers, (size_t)slots->buffer_count * slots->buffer_stride);
    free(slots->free_buffers);
    memset(slots, 0, sizeof *slots);
}

struct slot *slot_take(struct slots *slots, enum slot_state state)
{
    struct slot *slot = slots->free;
    if (slot != NULL) {
        slots->free = slot->next;
    } else if (slots->touched < slots->depth) {
        slot = &slots->all[slots->touched];
        slot->index = slots->touched++;
    } else {
        return NULL;
    }
    if (++slot->generation == 0)
        slot->generation = 1;
    slot->state = state;
    slot->expect_outcome = false;
    slot->outcome = 0;
    slot->message_size = 0;
    slot->message_buffer = BUFFER_NONE;
    slot->message = slot->small;
    slot->borrowed = BUFFER_NONE;
    slot->lent = NULL;
    slot->entry = NULL;
    slot->next = NULL;
    slots->in_use++;
    if (state == SLOT_OPEN && ++slots->open > slots->open_peak)
        slots->open_peak = slots->open;
    return slot;
}

void slot_free(struct slots *slots, struct slot *slot)
{
    if (slot->message_buffer != BUFFER_NONE)
        buffer_free(slots, slot->message_buffer);
    if (slot->borrowed != BUFFER_NONE)
        buffer_free(slots, slot->borrowed);
    if (slot->state != SLOT_TRANSIENT)
        slots->open--;
    slots->in_use--;
    slot->state = SLOT_FREE;
    slot->next = slots->free;
    slots->free = slot;
}

void slot_make_transient(struct slots *slots, struct slot *slot)
{
    slots->open--;
    slot->state = SLOT_TRANSIENT;
}

uint64_t slot_id(const struct slots *slots, const struct slot *slot)
{
    return (uint64_t)slot->generation << GENERATION_SHIFT | (uint64_t)slots->tag << INDEX_BITS | slot->index;
}

int slot_find(struct slots *slots, uint64_t id, struct slot **slot)
{
    uint32_t index = (uint32_t)id & (SLOT_MAX - 1);
    uint32_t tag = (uint32_t)(id >> INDEX_BITS) & ((1U << TAG_BITS) - 1);
    uint32_t generation = (uint32_t)(id >> GENERATION_SHIFT);
    if (generation == 0)
        return fail(-EINVAL, "%#llx is not the id of a request", (unsigned long long)id);
    if (tag != slots->tag)
        return fail(-EXDEV, "request %#llx belongs to another connection: answer it where it was read",
                    (unsigned long long)id);
    if (index >= slots->touched || generation > slots->all[index].generation)
        return fail(-EINVAL, "%#llx is not the id of a request", (unsigned long long)id);
    struct slot *found = &slots->all[index];
    if (found->generation != generation || found->state != SLOT_OPEN)
        return fail(-EALREADY, "request %#llx has been answered before", (unsigned long long)id);
    *slot = found;
    return 0;
}

struct slot *slot_find_unique(struct slots *slots, uint64_t unique)
{
    for (uint32_t i = 0; i < slots->touched; i++) {
        struct slot *slot = &slots->all[i];
        if (slot->state == SLOT_OPEN && ((slot->expected.unique ^ unique) & ~WIRE_UNIQUE_RESEND) == 0)
            return slot;
    }
    return NULL;
}

int32_t buffer_take(struct slots *slots)
{
    return slots->free_buffer_count == 0 ? BUFFER_NONE : slots->free_buffers[--slots->free_buffer_count];
}

void buffer_free(struct slots *slots, int32_t buffer)
{
    slots->free_buffers[slots->free_buffer_count++] = buffer;
}
