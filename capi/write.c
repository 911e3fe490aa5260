/* Ready messages, and directory entries. */
#include "check.h"
#include "notifier.h"

#include <string.h>

static int write_notification(fusewire_connection *connection, const void *head, size_t head_size, const void *body,
                              size_t body_size, uint32_t flags)
{
    const char *why = "";
    bool may_block = true;
    int error = wire_check_notification(head, head_size, head_size + body_size, &may_block, &why);
    if (error != 0)
        return fail(error, "the notification is malformed: %s", why);
    if (!connection->agreed && (connection->flags & FUSEWIRE_OPEN_RAW) == 0)
        return fail(-EAGAIN, "the kernel takes no notifications before INIT is over");
    const fusewire_session *session = family_session(connection->family);
    if (session != NULL && wire_over_io_uring(session->capabilities) &&
        wire_uring_retrieve_size(head, head_size) >
            family_payload_used(connection->family) - WIRE_URING_RETRIEVED_HEADER)
        return fail(-ERANGE, "more than a ring entry has room for is retrieved");
    return notifier_send(connection, head, head_size, body, body_size, may_block,
                         (flags & FUSEWIRE_WRITE_OUTCOME) != 0);
}

int fusewire_write(fusewire_connection *connection, uint64_t id, const void *head, size_t head_size, const void *body,
                   size_t body_size, uint32_t flags)
{
    REQUIRE_CONNECTION(connection);
    REQUIRE(head != NULL && head_size >= WIRE_OUT_HEADER, "a message begins with its header of 16 bytes");
    REQUIRE(body != NULL || body_size == 0, "body is NULL");
    REQUIRE(head_size <= UINT32_MAX && body_size <= UINT32_MAX - head_size, "the message is too large");
    REQUIRE((flags & ~(uint32_t)FUSEWIRE_WRITE_OUTCOME) == 0, "unknown bits in flags");
    int error = conn_bind(connection);
    if (error != 0)
        return error;
    if (id == 0)
        return write_notification(connection, head, head_size, body, body_size, flags);

    struct slot *slot;
    error = conn_request(connection, id, &slot);
    if (error != 0)
        return error;
    const char *why = "";
    error = wire_check_reply(&slot->expected, &connection->dialect, head, head_size, head_size + body_size, &why);
    if (error != 0)
        return fail(error, "the reply is malformed: %s", why);
    if ((flags & FUSEWIRE_WRITE_OUTCOME) != 0)
        slot->expect_outcome = true;
    return conn_write(connection, slot, head, head_size, body, body_size);
}

/* What both kinds of entry ask of their arguments. */
static int64_t append_entry(void *buffer, size_t capacity, size_t used, const fusewire_entry *entry, uint64_t ino,
                            uint64_t offset, uint32_t type, const char *name, size_t name_size)
{
    REQUIRE(buffer != NULL && name != NULL, "an argument is NULL");
    REQUIRE(used <= capacity, "more is used than there is");
    int64_t result = wire_dirent(buffer, capacity, used, entry, ino, offset, type, name, name_size);
    if (result == -EINVAL)
        return fail(-EINVAL, "a name has 1 to 1024 bytes, and neither '/' nor NUL");
    if (result == -ENOBUFS)
        return fail(-ENOBUFS, "the buffer is full");
    return result;
}

int64_t fusewire_dirent(void *buffer, size_t capacity, size_t used, uint64_t ino, uint64_t offset, uint32_t type,
                        const char *name, size_t name_size)
{
    return append_entry(buffer, capacity, used, NULL, ino, offset, type, name, name_size);
}

int64_t fusewire_direntplus(void *buffer, size_t capacity, size_t used, const fusewire_entry *entry, uint64_t offset,
                            const char *name, size_t name_size)
{
    REQUIRE(entry != NULL, "entry is NULL");
    return append_entry(buffer, capacity, used, entry, entry->attr.ino, offset, entry->attr.mode, name, name_size);
}
