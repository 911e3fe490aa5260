/* What every exported function checks first. */
#ifndef FUSEWIRE_CHECK_H
#define FUSEWIRE_CHECK_H

#include "conn.h"

#include <errno.h>

#define REQUIRE(condition, words)         \
    do {                                  \
        if (!(condition))                 \
            return fail(-EINVAL, words);  \
    } while (0)

#define REQUIRE_CONNECTION(connection) REQUIRE((connection) != NULL, "the connection is NULL")

/* Fills the caller's structure, which says in its first field how large it is, from the library's. */
int check_give(void *to, const void *from, size_t known, const char *name);

#endif
