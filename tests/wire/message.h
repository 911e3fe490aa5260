/* Requests as the kernel would lay them, put together piece by piece, decoded from memory that ends where they do. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "../check.h"
#include "wire/protocol.h"

struct message {
    unsigned char bytes[4096];
    size_t size;
    void *exact; /* the copy that was decoded: a sanitizer sees each read beyond it */
};

static const struct wire_dialect newest = {
    .minor = WIRE_MINOR,
    .capabilities = FUSEWIRE_CAP(SETXATTR_EXT) | FUSEWIRE_CAP(SECURITY_CTX) | FUSEWIRE_CAP(CREATE_SUPP_GROUP),
};

static inline void message_add(struct message *message, const void *data, size_t size)
{
    CHECK(size <= sizeof message->bytes - message->size);
    memcpy(message->bytes + message->size, data, size);
    message->size += size;
}

static inline void message_add_u32(struct message *message, uint32_t value)
{
    message_add(message, &value, sizeof value);
}

static inline void message_add_u64(struct message *message, uint64_t value)
{
    message_add(message, &value, sizeof value);
}

/* With the NUL. */
static inline void message_add_name(struct message *message, const char *name)
{
    message_add(message, name, strlen(name) + 1);
}

static inline void message_set_u16(struct message *message, size_t offset, uint16_t value)
{
    memcpy(message->bytes + offset, &value, sizeof value);
}

static inline void message_set_u32(struct message *message, size_t offset, uint32_t value)
{
    memcpy(message->bytes + offset, &value, sizeof value);
}

/* Begins a message with a header: unique 10, nodeid 11, uid 12, gid 13, pid 14. */
static inline void message_start(struct message *message, uint32_t opcode)
{
    message->size = 0;
    message_add_u32(message, 0);
    message_add_u32(message, opcode);
    message_add_u64(message, 10);
    message_add_u64(message, 11);
    message_add_u32(message, 12);
    message_add_u32(message, 13);
    message_add_u32(message, 14);
    message_add_u32(message, 0);
}

/* Decodes the first `size` bytes as a whole message. */
static inline int message_decode_part(struct message *message, size_t size, const struct wire_dialect *dialect,
                                      fusewire_request *request)
{
    if (size >= 4)
        message_set_u32(message, 0, (uint32_t)size);
    free(message->exact);
    message->exact = malloc(size ? size : 1);
    CHECK(message->exact);
    memcpy(message->exact, message->bytes, size);
    memset(request, 0xa5, sizeof *request);
    return wire_decode(message->exact, size, dialect, request);
}

static inline int message_decode(struct message *message, const struct wire_dialect *dialect, fusewire_request *request)
{
    return message_decode_part(message, message->size, dialect, request);
}

#endif
