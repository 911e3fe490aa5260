/* The typed replies: each finds its request, checks what it is given, and encodes it into the request's own slot. */
#include "check.h"

#include <limits.h>
#include <string.h>

/* Where a reply begins: `slot` is the open request that it answers. */
#define REQUIRE_REQUEST(connection, id, kind, slot)                                                                    \
    struct slot *slot;                                                                                                 \
    do {                                                                                                               \
        REQUIRE_CONNECTION(connection);                                                                                \
        int found = conn_request_of_kind((connection), (id), (kind), &(slot));                                         \
        if (found != 0)                                                                                                \
            return found;                                                                                              \
    } while (0)

static int out_of_range(const char *what)
{
    return fail(-ERANGE,
                "the kernel would not take this %s: nanoseconds have to be below 10^9, the mode needs a file type, "
                "and the size has to be below 2^63",
                what);
}

static int too_large(const struct slot *slot, uint64_t size)
{
    return fail(-EMSGSIZE, "%llu bytes are more than the %llu that the request asked for", (unsigned long long)size,
                (unsigned long long)slot->expected.limit);
}

int fusewire_reply_error(fusewire_connection *connection, uint64_t id, int error)
{
    REQUIRE_CONNECTION(connection);
    if (error >= 0 || error < -WIRE_ERROR_MAX)
        return fail(-ERANGE, "%d is no error for a reply: give a negative errno from -511 to -1", error);
    struct slot *slot;
    int found = conn_request(connection, id, &slot);
    if (found != 0)
        return found;
    conn_reply_error(connection, slot, error);
    return 0;
}

int fusewire_reply_ok(fusewire_connection *connection, uint64_t id)
{
    REQUIRE_CONNECTION(connection);
    struct slot *slot;
    int found = conn_request(connection, id, &slot);
    if (found != 0)
        return found;
    enum wire_reply_kind kind = slot->expected.kind;
    if (kind != WIRE_REPLY_EMPTY && kind != WIRE_REPLY_DATA && kind != WIRE_REPLY_UNKNOWN)
        return fail(-EINVAL, "a request with opcode %u wants more than success", slot->expected.opcode);
    conn_reply(connection, slot, wire_reply_data(slot->head, slot->expected.unique, 0), NULL, 0);
    return 0;
}

int fusewire_reply_entry(fusewire_connection *connection, uint64_t id, const fusewire_entry *entry)
{
    REQUIRE(entry != NULL, "entry is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_ENTRY, slot);
    if (entry->nodeid == 0 && slot->expected.opcode != FUSEWIRE_LOOKUP)
        return fail(-ERANGE, "nodeid 0 says that there is no such name, which answers a LOOKUP alone");
    if (wire_check_entry(entry, slot->nodeid) != 0)
        return out_of_range("entry");
    conn_reply(connection, slot, wire_reply_entry(slot->head, slot->expected.unique, entry), NULL, 0);
    return 0;
}

int fusewire_reply_attr(fusewire_connection *connection, uint64_t id, uint64_t attr_valid, uint32_t attr_valid_nsec,
                        const fusewire_attr *attr)
{
    REQUIRE(attr != NULL, "attr is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_ATTR, slot);
    if (wire_check_attr(attr) != 0 || attr_valid_nsec > 999999999)
        return out_of_range("attr");
    conn_reply(connection, slot, wire_reply_attr(slot->head, slot->expected.unique, attr_valid, attr_valid_nsec, attr),
               NULL, 0);
    return 0;
}

int fusewire_reply_open(fusewire_connection *connection, uint64_t id, uint64_t fh, uint32_t open_flags,
                        int32_t backing_id)
{
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_OPEN, slot);
    conn_reply(connection, slot, wire_reply_open(slot->head, slot->expected.unique, fh, open_flags, backing_id), NULL,
               0);
    return 0;
}

int fusewire_reply_create(fusewire_connection *connection, uint64_t id, const fusewire_entry *entry, uint64_t fh,
                          uint32_t open_flags, int32_t backing_id)
{
    REQUIRE(entry != NULL, "entry is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_CREATE, slot);
    if (entry->nodeid == 0 || wire_check_entry(entry, slot->nodeid) != 0)
        return out_of_range("entry");
    conn_reply(connection, slot,
               wire_reply_create(slot->head, slot->expected.unique, entry, fh, open_flags, backing_id), NULL, 0);
    return 0;
}

int fusewire_reply_data(fusewire_connection *connection, uint64_t id, const void *data, size_t size)
{
    REQUIRE(data != NULL || size == 0, "data is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_DATA, slot);
    if (size > slot->expected.limit)
        return too_large(slot, size);
    conn_reply(connection, slot, wire_reply_data(slot->head, slot->expected.unique, size), data, size);
    return 0;
}

int fusewire_reply_data_vector(fusewire_connection *connection, uint64_t id, const fusewire_iovec *pieces, size_t count)
{
    enum { PIECES_MAX = 64 };
    REQUIRE(pieces != NULL || count == 0, "pieces is NULL");
    REQUIRE(count <= PIECES_MAX, "a reply can have 64 pieces at most");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_DATA, slot);
    struct iovec vector[1 + PIECES_MAX];
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        REQUIRE(pieces[i].base != NULL || pieces[i].size == 0, "a piece's base is NULL");
        if (pieces[i].size > slot->expected.limit - size)
            return too_large(slot, (uint64_t)size + pieces[i].size);
        vector[1 + i] = (struct iovec){(void *)(uintptr_t)pieces[i].base, pieces[i].size};
        size += pieces[i].size;
    }
    conn_reply_vector(connection, slot, wire_reply_data(slot->head, slot->expected.unique, size), vector, count);
    return 0;
}

int fusewire_reply_write(fusewire_connection *connection, uint64_t id, uint64_t size)
{
    REQUIRE_CONNECTION(connection);
    struct slot *slot;
    int found = conn_request(connection, id, &slot);
    if (found != 0)
        return found;
    enum wire_reply_kind kind = slot->expected.kind;
    if (kind != WIRE_REPLY_WRITE && kind != WIRE_REPLY_COPIED && kind != WIRE_REPLY_UNKNOWN)
        return fail(-EINVAL, "this reply does not fit a request with opcode %u", slot->expected.opcode);
    if (size > slot->expected.limit)
        return too_large(slot, size);
    uint64_t unique = slot->expected.unique;
    conn_reply(connection, slot,
               kind == WIRE_REPLY_COPIED ? wire_reply_copied(slot->head, unique, size)
                                         : wire_reply_write(slot->head, unique, (uint32_t)size),
               NULL, 0);
    return 0;
}

int fusewire_reply_xattr_size(fusewire_connection *connection, uint64_t id, uint32_t size)
{
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_XATTR_SIZE, slot);
    conn_reply(connection, slot, wire_reply_xattr_size(slot->head, slot->expected.unique, size), NULL, 0);
    return 0;
}

int fusewire_reply_statfs(fusewire_connection *connection, uint64_t id, const fusewire_statfs *statfs)
{
    REQUIRE(statfs != NULL, "statfs is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_STATFS, slot);
    conn_reply(connection, slot, wire_reply_statfs(slot->head, slot->expected.unique, statfs), NULL, 0);
    return 0;
}

int fusewire_reply_lock(fusewire_connection *connection, uint64_t id, const fusewire_lock *lock)
{
    REQUIRE(lock != NULL, "lock is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_LOCK, slot);
    conn_reply(connection, slot, wire_reply_lock(slot->head, slot->expected.unique, lock), NULL, 0);
    return 0;
}

int fusewire_reply_bmap(fusewire_connection *connection, uint64_t id, uint64_t block)
{
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_BMAP, slot);
    conn_reply(connection, slot, wire_reply_bmap(slot->head, slot->expected.unique, block), NULL, 0);
    return 0;
}

int fusewire_reply_ioctl(fusewire_connection *connection, uint64_t id, int32_t result, const void *data, size_t size)
{
    REQUIRE(data != NULL || size == 0, "data is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_IOCTL, slot);
    if (size > slot->expected.limit)
        return too_large(slot, size);
    if (slot->expected.whole && size < slot->expected.limit)
        return fail(-EINVAL,
                    "the kernel wants exactly %llu bytes from this ioctl: answer one that is not supported with "
                    "fusewire_reply_error and -ENOTTY",
                    (unsigned long long)slot->expected.limit);
    conn_reply(connection, slot, wire_reply_ioctl(slot->head, slot->expected.unique, result, 0, 0, 0, size), data,
               size);
    return 0;
}

int fusewire_reply_ioctl_retry(fusewire_connection *connection, uint64_t id, const fusewire_iovec *in, size_t in_count,
                               const fusewire_iovec *out, size_t out_count)
{
    REQUIRE((in != NULL || in_count == 0) && (out != NULL || out_count == 0), "the pieces are NULL");
    REQUIRE(in_count <= WIRE_IOCTL_IOV_MAX && out_count <= WIRE_IOCTL_IOV_MAX - in_count,
            "an ioctl can have 256 pieces at most");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_IOCTL, slot);
    if ((slot->expected.op_flags & FUSEWIRE_IOCTL_UNRESTRICTED) == 0)
        return fail(-EINVAL, "this ioctl is restricted: only one with IOCTL_UNRESTRICTED can be asked for again");
    uint64_t pieces[2 * WIRE_IOCTL_IOV_MAX];
    size_t size = wire_ioctl_pieces(pieces, in, in_count);
    size += wire_ioctl_pieces((unsigned char *)pieces + size, out, out_count);
    conn_reply(connection, slot,
               wire_reply_ioctl(slot->head, slot->expected.unique, 0, FUSEWIRE_IOCTL_RETRY, (uint32_t)in_count,
                                (uint32_t)out_count, size),
               pieces, size);
    return 0;
}

int fusewire_reply_poll(fusewire_connection *connection, uint64_t id, uint32_t revents)
{
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_POLL, slot);
    conn_reply(connection, slot, wire_reply_poll(slot->head, slot->expected.unique, revents), NULL, 0);
    return 0;
}

int fusewire_reply_lseek(fusewire_connection *connection, uint64_t id, uint64_t offset)
{
    REQUIRE(offset <= INT64_MAX, "the offset is beyond 2^63 - 1");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_LSEEK, slot);
    conn_reply(connection, slot, wire_reply_lseek(slot->head, slot->expected.unique, offset), NULL, 0);
    return 0;
}

int fusewire_reply_statx(fusewire_connection *connection, uint64_t id, uint64_t attr_valid, uint32_t attr_valid_nsec,
                         const fusewire_statx *statx)
{
    REQUIRE(statx != NULL, "statx is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_STATX, slot);
    if (attr_valid_nsec > 999999999 || wire_check_statx(statx) != 0)
        return out_of_range("statx");
    conn_reply(connection, slot,
               wire_reply_statx(slot->head, slot->expected.unique, attr_valid, attr_valid_nsec, statx), NULL, 0);
    return 0;
}

int fusewire_borrow(fusewire_connection *connection, uint64_t id, void **data, size_t *capacity)
{
    REQUIRE(data != NULL && capacity != NULL, "an argument is NULL");
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_DATA, slot);
    const struct slots *slots = &connection->slots;
    if (slot->expected.limit > slots->data_capacity)
        return fail(-ENOBUFS, "the request asks for %llu bytes, a buffer has %zu",
                    (unsigned long long)slot->expected.limit, slots->data_capacity);
    if (!conn_lend(connection, slot))
        return fail(-ENOBUFS, "all %u buffers are in use", slots->buffer_count);
    *data = slot->lent;
    *capacity = slots->data_capacity;
    return 0;
}

int fusewire_reply_borrowed(fusewire_connection *connection, uint64_t id, size_t size)
{
    REQUIRE_REQUEST(connection, id, WIRE_REPLY_DATA, slot);
    if (slot->lent == NULL)
        return fail(-EINVAL, "nothing was borrowed for this request");
    return fusewire_reply_data(connection, id, slot->lent, size);
}

int fusewire_expect_outcome(fusewire_connection *connection, uint64_t id)
{
    REQUIRE_CONNECTION(connection);
    struct slot *slot;
    int found = conn_request(connection, id, &slot);
    if (found == 0)
        slot->expect_outcome = true;
    return found;
}
