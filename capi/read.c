/* Reading requests, and being stopped while one waits for them. */
#include "check.h"

#include <limits.h>

int fusewire_read(fusewire_connection *connection, fusewire_request *requests, size_t capacity, size_t request_size,
                  int timeout)
{
    REQUIRE_CONNECTION(connection);
    REQUIRE(requests != NULL && capacity > 0, "there is no room for requests");
    /* The least that names a request and its message; and no more than any version will ever have. */
    REQUIRE(request_size >= offsetof(fusewire_request, fh) && request_size <= 4096 && request_size % 8 == 0,
            "request_size is not sizeof(fusewire_request)");
    REQUIRE(timeout >= -1, "the timeout is negative: -1 waits without end");
    return conn_read(connection, requests, capacity < INT_MAX ? capacity : INT_MAX, request_size, timeout);
}

int fusewire_wake(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_check_owner(connection);
    return error != 0 ? error : conn_wake(connection);
}

int fusewire_notify_unmount(fusewire_connection *connection)
{
    REQUIRE_CONNECTION(connection);
    int error = conn_check_owner(connection);
    if (error == 0)
        family_stop(connection->family);
    return error;
}

int fusewire_security_context(const fusewire_request *request, uint32_t index, const char **name, const void **value,
                              size_t *value_size)
{
    REQUIRE(request != NULL && name != NULL && value != NULL && value_size != NULL, "an argument is NULL");
    int error = wire_security_context(request, index, name, value, value_size);
    return error == 0 ? 0 : fail(error, "the request has no security context %u", index);
}
