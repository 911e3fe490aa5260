/* The typed notifications. */
#include "check.h"
#include "notifier.h"

#include <string.h>

enum { MAY_BLOCK = true, NEVER_BLOCKS = false };

/* Before anything is encoded. */
static int ready(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_bind(connection);
    if (error != 0)
        return error;
    if (connection->end != 0 && connection->end != -ESHUTDOWN)
        return fail(-ENOTCONN, "too late: the connection has ended");
    if (!connection->agreed && (connection->flags & FUSEWIRE_OPEN_RAW) == 0)
        return fail(-EAGAIN, "the kernel takes no notifications before INIT is over");
    return 0;
}

static int send(fusewire_connection *connection, const void *head, size_t head_size, const void *body, size_t body_size,
                bool may_block)
{
    return notifier_send(connection, head, head_size, body, body_size, may_block, false);
}

/* A name goes out with a NUL behind it, which the caller need not have. */
static int send_name(fusewire_connection *connection, const void *head, size_t head_size, const char *name,
                     size_t name_size)
{
    char terminated[WIRE_NAME_MAX + 1];
    memcpy(terminated, name, name_size);
    terminated[name_size] = '\0';
    return send(connection, head, head_size, terminated, name_size + 1, MAY_BLOCK);
}

static int check_name(const char *name, size_t name_size)
{
    REQUIRE(name != NULL, "name is NULL");
    REQUIRE(name_size > 0 && name_size <= WIRE_NAME_MAX, "a name has 1 to 1024 bytes");
    return 0;
}

int fusewire_notify_inval_inode(fusewire_connection *connection, uint64_t nodeid, int64_t offset, int64_t length)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    return send(connection, head, wire_notify_inval_inode(head, nodeid, offset, length), NULL, 0, MAY_BLOCK);
}

int fusewire_notify_inval_entry(fusewire_connection *connection, uint64_t parent, const char *name, size_t name_size,
                                uint32_t flags)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error == 0)
        error = check_name(name, name_size);
    if (error != 0)
        return error;
    REQUIRE((flags & ~(uint32_t)FUSEWIRE_EXPIRE_ONLY) == 0, "unknown bits in flags");
    return send_name(connection, head, wire_notify_inval_entry(head, parent, name_size, flags), name, name_size);
}

int fusewire_notify_delete(fusewire_connection *connection, uint64_t parent, uint64_t child, const char *name,
                           size_t name_size)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error == 0)
        error = check_name(name, name_size);
    if (error != 0)
        return error;
    return send_name(connection, head, wire_notify_delete(head, parent, child, name_size), name, name_size);
}

int fusewire_notify_store(fusewire_connection *connection, uint64_t nodeid, uint64_t offset, const void *data,
                          uint32_t size)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    REQUIRE(data != NULL || size == 0, "data is NULL");
    return send(connection, head, wire_notify_store(head, nodeid, offset, size), data, size, MAY_BLOCK);
}

int fusewire_notify_retrieve(fusewire_connection *connection, uint64_t nodeid, uint64_t offset, uint32_t size,
                             uint64_t notify_unique)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    const fusewire_session *session = family_session(connection->family);
    if (session != NULL && wire_over_io_uring(session->capabilities)) {
        const size_t most = family_payload_used(connection->family) - WIRE_URING_RETRIEVED_HEADER;
        size = size < most ? size : (uint32_t)most; /* the kernel does not look whether it has the room */
        if (notify_unique >> WIRE_URING_RETRIEVE_BITS != 0)
            return fail(-ERANGE, "over FUSE-over-io_uring notify_unique has to be below 2^60");
        notify_unique = wire_uring_retrieve(notify_unique);
    }
    return send(connection, head, wire_notify_retrieve(head, nodeid, offset, size, notify_unique), NULL, 0, MAY_BLOCK);
}

int fusewire_notify_poll(fusewire_connection *connection, uint64_t kh)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    return send(connection, head, wire_notify_poll(head, kh), NULL, 0, NEVER_BLOCKS);
}

int fusewire_notify_resend(fusewire_connection *connection)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    return send(connection, head, wire_notify_resend(head), NULL, 0, NEVER_BLOCKS);
}

int fusewire_notify_inc_epoch(fusewire_connection *connection)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    return send(connection, head, wire_notify_inc_epoch(head), NULL, 0, NEVER_BLOCKS);
}

int fusewire_notify_prune(fusewire_connection *connection, const uint64_t *nodeids, size_t count)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    int error = ready(connection);
    if (error != 0)
        return error;
    REQUIRE(nodeids != NULL && count > 0, "there is nothing to prune");
    REQUIRE(count <= 65536, "at most 65536 nodes can be pruned at once");
    return send(connection, head, wire_notify_prune(head, count), nodeids, count * sizeof *nodeids, MAY_BLOCK);
}
