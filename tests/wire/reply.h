/* Looks into encoded messages at the offsets of the protocol, which the tests state on their own. */
#ifndef REPLY_H
#define REPLY_H

#include "../check.h"
#include "wire/wire.h"

/* A message's head as the encoders get it; dirty, so that a byte that they leave out shows. */
struct head {
    _Alignas(8) unsigned char bytes[WIRE_HEAD_MAX];
};

static inline void *dirty(struct head *head)
{
    memset(head, 0xa5, sizeof *head);
    return head;
}

static inline uint16_t u16_at(const void *message, size_t offset)
{
    uint16_t value;
    memcpy(&value, (const char *)message + offset, sizeof value);
    return value;
}

static inline uint32_t u32_at(const void *message, size_t offset)
{
    uint32_t value;
    memcpy(&value, (const char *)message + offset, sizeof value);
    return value;
}

static inline uint64_t u64_at(const void *message, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)message + offset, sizeof value);
    return value;
}

static inline void check_zeros(const void *message, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        CHECK_EQ(((const unsigned char *)message)[i], 0);
}

static inline void check_header(const void *message, size_t len, int32_t error, uint64_t unique)
{
    CHECK_EQ(u32_at(message, 0), len);
    CHECK_EQ((int32_t)u32_at(message, 4), error);
    CHECK_EQ(u64_at(message, 8), unique);
}

#endif
