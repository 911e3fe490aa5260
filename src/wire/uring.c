/* The messages of FUSE-over-io_uring: a request comes in three parts and a reply goes in two, where /dev/fuse has one
 * piece of memory for each. */
#include "protocol.h"

#include <errno.h>
#include <string.h>

enum { PART = 128 };

/* What the kernel writes next to a request's payload, and reads next to a reply's. */
struct wire_uring_header {
    unsigned char in_out[PART]; /* the request's header; back goes the reply's */
    unsigned char op_in[PART];  /* the fixed part of the request, if the operation has one */
    uint64_t flags;
    uint64_t commit_id; /* names the request when it is answered */
    uint32_t payload_size;
    uint32_t padding;
    uint64_t reserved;
};
WIRE_LAYOUT(struct wire_uring_header, WIRE_URING_HEADER, reserved, 280);
static_assert(offsetof(struct wire_uring_header, payload_size) == 272, "layout of struct wire_uring_header");

int wire_uring_request(const void *memory, size_t payload_capacity, struct wire_uring_request *request)
{
    const struct wire_uring_header *header = memory;
    const struct wire_in_header *in = memory;
    request->commit_id = header->commit_id;
    request->prefix_size = 0;
    request->payload_size = 0;
    if (header->payload_size > payload_capacity || in->len < WIRE_IN_HEADER + (uint64_t)header->payload_size)
        return -EBADMSG;
    /* The kernel says how long the whole message and how long the payload is: the rest is the fixed part. */
    const size_t fixed = in->len - WIRE_IN_HEADER - header->payload_size;
    if (fixed > PART)
        return -EBADMSG;
    request->prefix_size = WIRE_IN_HEADER + fixed;
    request->payload_size = header->payload_size;
    return 0;
}

void wire_uring_prefix(const void *memory, const struct wire_uring_request *request, void *prefix)
{
    const struct wire_uring_header *header = memory;
    const size_t head = request->prefix_size < WIRE_IN_HEADER ? request->prefix_size : WIRE_IN_HEADER;
    memcpy(prefix, header->in_out, head);
    memcpy((unsigned char *)prefix + head, header->op_in, request->prefix_size - head);
}

uint64_t wire_uring_unique(const void *memory)
{
    const struct wire_in_header *in = memory;
    return in->unique;
}

void wire_uring_reply(void *memory, const void *reply_header, size_t payload_size)
{
    struct wire_uring_header *header = memory;
    memcpy(header->in_out, reply_header, WIRE_OUT_HEADER);
    header->payload_size = (uint32_t)payload_size;
}

uint32_t wire_uring_retrieve_size(const void *head, size_t size)
{
    struct wire_out_header header;
    struct wire_notify_retrieve retrieve;
    if (size < sizeof header + sizeof retrieve)
        return 0;
    memcpy(&header, head, sizeof header);
    memcpy(&retrieve, (const unsigned char *)head + sizeof header, sizeof retrieve);
    return header.error == WIRE_NOTIFY_RETRIEVE ? retrieve.size : 0;
}

size_t wire_uring_command(void *command, uint16_t queue, uint64_t commit_id)
{
    struct {
        uint64_t flags;
        uint64_t commit_id;
        uint16_t queue;
        uint8_t padding[6];
    } filled = {.commit_id = commit_id, .queue = queue};
    static_assert(sizeof filled == WIRE_URING_COMMAND, "layout of a command");
    memcpy(command, &filled, sizeof filled);
    return sizeof filled;
}
