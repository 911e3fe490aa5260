#include "entries.h"
#include "error.h"
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PREFER_NODE = 1, NODE_BITS = 64 };

/* In shared memory: a page for the user in front, and in each entry, between its header and the message, a mark. */
enum { USER_PAGE = 4096, MARK = 1024 };

/* Asks for the memory to come from the node of the CPU that will use it. A wish: where it cannot be met any node
 * will do. */
static void place(void *memory, size_t size, uint16_t queue)
{
    int node = queues_node(queue);
    if (node < 0 || node >= NODE_BITS)
        return;
    unsigned long mask = 1UL << node;
    syscall(SYS_mbind, memory, size, PREFER_NODE, &mask, NODE_BITS + 1, 0);
}

int entries_create(struct ring_entries **entries, const struct queues *queues, uint32_t per_queue,
                   size_t payload_capacity, bool shared)
{
    const uint32_t count = queues->count * per_queue;
    const size_t stride = ENTRY_HEADER + payload_capacity;
    struct ring_entries *made = calloc(1, sizeof *made + count * sizeof made->all[0]);
    if (made == NULL)
        return fail(-ENOMEM, "no memory for %u ring entries", count);
    made->count = count;
    made->per_queue = per_queue;
    made->size = (shared ? USER_PAGE : 0) + count * stride;
    if (made->size > 0) {
        const int visible = shared ? MAP_SHARED : MAP_PRIVATE;
        void *memory = mmap(NULL, made->size, PROT_READ | PROT_WRITE, visible | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            free(made);
            return fail(-ENOMEM,
                        "no address space for %u ring entries of %zu bytes: ask for a smaller queue_depth or "
                        "max_write",
                        count, stride);
        }
        made->memory = memory;
    }
    if (shared)
        made->user = (struct entries_user *)made->memory;
    unsigned char *first = shared ? made->memory + USER_PAGE : made->memory;
    for (uint32_t i = 0; i < count; i++) {
        struct ring_entry *entry = &made->all[i];
        entry->memory = first + i * stride;
        entry->queue = queues->numbers[i / per_queue];
        entry->payload_capacity = (uint32_t)payload_capacity;
        entry->parts[0] = (struct iovec){entry->memory, WIRE_URING_HEADER};
        entry->parts[1] = (struct iovec){entry_payload(entry), payload_capacity};
        if (i % per_queue == 0)
            place(entry->memory, per_queue * stride, entry->queue);
    }
    *entries = made;
    return 0;
}

void entries_destroy(struct ring_entries *entries)
{
    if (entries == NULL)
        return;
    if (entries->memory != NULL)
        munmap(entries->memory, entries->size);
    free(entries);
}

size_t entries_payload_used(const fusewire_session *session)
{
    /* fuse's ring->max_payload_sz: of max_pages no more than the administrator allows. */
    enum { USUAL_LIMIT = 256, LEAST = 8192 };
    unsigned limit = USUAL_LIMIT;
    FILE *file = fopen("/proc/sys/fs/fuse/max_pages_limit", "re");
    if (file != NULL) {
        if (fscanf(file, "%u", &limit) != 1)
            limit = USUAL_LIMIT;
        fclose(file);
    }
    const size_t pages = session->max_pages < limit ? session->max_pages : limit;
    size_t used = pages * (size_t)sysconf(_SC_PAGESIZE);
    used = used < session->max_write ? session->max_write : used;
    return used < LEAST ? LEAST : used;
}

static uint64_t *mark_of(const struct ring_entry *entry)
{
    return (uint64_t *)(void *)(entry->memory + MARK);
}

bool entry_is_open(const struct ring_entry *entry)
{
    struct wire_uring_request request;
    wire_uring_request(entry->memory, entry->payload_capacity, &request);
    return request.commit_id != 0 && request.commit_id != *mark_of(entry);
}

void entry_mark_committed(struct ring_entry *entry)
{
    *mark_of(entry) = entry->commit_id;
}

size_t entry_message(struct ring_entry *entry, void *small, size_t small_size, void **message)
{
    struct wire_uring_request request;
    unsigned char *payload = entry_payload(entry);
    const bool whole = wire_uring_request(entry->memory, entry->payload_capacity, &request) == 0;
    entry->commit_id = request.commit_id;
    if (!whole)
        request.prefix_size = WIRE_IN_HEADER;
    const size_t size = request.prefix_size + request.payload_size;
    if (size > small_size) {
        *message = payload - request.prefix_size;
    } else {
        *message = small;
        memcpy((unsigned char *)small + request.prefix_size, payload, request.payload_size);
    }
    wire_uring_prefix(entry->memory, &request, *message);
    if (!whole)
        memset(*message, 0, sizeof(uint32_t)); /* the length: no message has that */
    return size;
}

static bool overlaps(const struct ring_entry *entry, const struct iovec *piece)
{
    const uintptr_t begin = (uintptr_t)piece->iov_base;
    const uintptr_t payload = (uintptr_t)entry_payload(entry);
    return begin < payload + entry->payload_capacity && payload < begin + piece->iov_len;
}

/* Copies the pieces to `to`, which none of them but a lone one overlaps. */
static void gather(unsigned char *to, const unsigned char *fixed, size_t fixed_size, const struct iovec *pieces,
                   int count)
{
    size_t at = fixed_size;
    for (int i = 0; i < count; i++) {
        if (pieces[i].iov_len > 0 && pieces[i].iov_base != to + at)
            memmove(to + at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    /* Last: it may stand where the data has just been. */
    memcpy(to, fixed, fixed_size);
}

int entry_reply(struct ring_entry *entry, const struct iovec *pieces, int count)
{
    const unsigned char *fixed = (const unsigned char *)pieces[0].iov_base + WIRE_OUT_HEADER;
    const size_t fixed_size = pieces[0].iov_len - WIRE_OUT_HEADER;
    size_t size = fixed_size;
    bool in_payload = overlaps(entry, &pieces[0]);
    for (int i = 1; i < count; i++) {
        in_payload = in_payload || (count > 2 && overlaps(entry, &pieces[i]));
        size += pieces[i].iov_len;
    }
    if (size > entry->payload_capacity)
        return -EMSGSIZE;
    if (in_payload) {
        /* Pieces of the payload in another order: rare enough for a copy. */
        unsigned char *copy = malloc(size);
        if (copy == NULL)
            return -ENOMEM;
        gather(copy, fixed, fixed_size, pieces + 1, count - 1);
        wire_uring_reply(entry->memory, pieces[0].iov_base, size);
        memcpy(entry_payload(entry), copy, size);
        free(copy);
        return 0;
    }
    gather(entry_payload(entry), fixed, fixed_size, pieces + 1, count - 1);
    wire_uring_reply(entry->memory, pieces[0].iov_base, size);
    return 0;
}

int entry_submit(struct ring *ring, int device_fd, struct ring_entry *entry, enum wire_uring_op operation)
{
    unsigned char command[WIRE_URING_COMMAND];
    const bool registers = operation == WIRE_URING_REGISTER;
    const size_t size = wire_uring_command(command, entry->queue, registers ? 0 : entry->commit_id);
    return ring_command(ring, device_fd, operation, command, size, registers ? entry->parts : NULL, registers ? 2 : 0,
                        (uint64_t)(uintptr_t)entry);
}
