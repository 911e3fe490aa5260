/* Opening, cloning, closing, and what can be asked of a connection. */
#include "check.h"
#include "sized.h"

uint32_t fusewire_version(void)
{
    return FUSEWIRE_VERSION;
}

const char *fusewire_last_error(void)
{
    return last_error();
}

int fusewire_open(fusewire_connection **out, const char *mountpoint, const fusewire_options *options)
{
    REQUIRE(out != NULL, "there is no place for the connection: out is NULL");
    *out = NULL;
    return conn_open(out, mountpoint, options);
}

int fusewire_clone(fusewire_connection **out, fusewire_connection *connection, const fusewire_options *options)
{
    REQUIRE(out != NULL, "there is no place for the clone: out is NULL");
    *out = NULL;
    REQUIRE_CONNECTION(connection);
    return conn_clone(out, connection, options);
}

uint32_t fusewire_worker_count(void)
{
    return queues_usable();
}

int fusewire_worker_cpus(uint32_t index, uint32_t count, char *list, size_t size)
{
    REQUIRE(list != NULL, "list is NULL");
    REQUIRE(index < count, "a worker's index is below the number of workers");
    int error = queues_share(list, size, index, count);
    return error == 0 ? 0 : fail_errno(error, "no room for the list of a worker's CPUs");
}

int fusewire_pin(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_check_owner(connection);
    if (error != 0)
        return error;
    const fusewire_session *session = family_session(connection->family);
    if (session == NULL || !wire_over_io_uring(session->capabilities))
        return 0;
    error = queues_pin(&connection->queues);
    return error == 0 ? 0 : fail_errno(error, "cannot bind the thread to the CPUs of this connection");
}

int fusewire_close(fusewire_connection *connection)
{
    return connection == NULL ? 0 : conn_close(connection);
}

int fusewire_fd(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    return conn_descriptor(connection);
}

int fusewire_device_fd(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_check_owner(connection);
    return error != 0 ? error : connection->mount.device_fd;
}

int fusewire_negotiated(fusewire_connection *connection, fusewire_session *session)
{
    REQUIRE_CONNECTION(connection);
    REQUIRE(session != NULL, "session is NULL");
    int error = conn_check_owner(connection);
    if (error != 0)
        return error;
    const fusewire_session *agreed = family_session(connection->family);
    if (agreed == NULL)
        return fail(-EAGAIN, "INIT is not over yet");
    return sized_give(session, agreed, sizeof *agreed, "session");
}

const char *fusewire_describe_transport(fusewire_connection *connection)
{
    return connection == NULL || conn_check_owner(connection) != 0 ? "no transport" : conn_describe(connection);
}

int fusewire_stats(fusewire_connection *connection, fusewire_statistics *statistics)
{
    REQUIRE_CONNECTION(connection);
    REQUIRE(statistics != NULL, "statistics is NULL");
    int error = conn_check_owner(connection);
    if (error != 0)
        return error;
    fusewire_statistics now;
    conn_statistics(connection, &now);
    return sized_give(statistics, &now, sizeof now, "statistics");
}

int fusewire_unmount(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_bind(connection);
    if (error != 0)
        return error;
    error = mount_unmount_start(&connection->mount);
    if (error == -EINVAL)
        return fail(error, "this connection did not mount, so it cannot unmount");
    return error == 0 ? 0 : fail_errno(error, "cannot start a process to unmount");
}

int fusewire_backing_open(fusewire_connection *connection, int fd)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_bind(connection);
    return error != 0 ? error : dev_backing_open(connection->mount.device_fd, fd);
}

int fusewire_backing_close(fusewire_connection *connection, int32_t backing_id)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_bind(connection);
    return error != 0 ? error : dev_backing_close(connection->mount.device_fd, backing_id);
}
