/* What every exported function checks first. */
#ifndef FUSEWIRE_CHECK_H
#define FUSEWIRE_CHECK_H

#include "conn.h"

#include <errno.h>

#define REQUIRE(condition, words)                                                                                      \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return fail(-EINVAL, words);                                                                               \
    } while (0)

#define REQUIRE_CONNECTION(connection) REQUIRE((connection) != NULL, "the connection is NULL")

#endif
