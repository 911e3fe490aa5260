#include "sized.h"
#include "error.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* More than any version will ever have. */
enum { SIZE_MAX_EVER = 4096 };

static int read_size(const void *structure, const char *name, size_t *size)
{
    uint64_t given;
    memcpy(&given, structure, sizeof given);
    if (given < sizeof given || given > SIZE_MAX_EVER)
        return fail(given < sizeof given ? -EINVAL : -E2BIG,
                    "the size of %s is given as %llu: set it to sizeof(fusewire_%s)", name, (unsigned long long)given,
                    name);
    *size = (size_t)given;
    return 0;
}

int sized_take(void *to, size_t known, const void *from, const char *name)
{
    size_t given = 0;
    int error = read_size(from, name, &given);
    if (error != 0)
        return error;
    for (size_t i = known; i < given; i++) {
        if (((const unsigned char *)from)[i] != 0)
            return fail(-E2BIG, "%s has a field that this version of fusewire does not know", name);
    }
    memset(to, 0, known);
    memcpy(to, from, given < known ? given : known);
    return 0;
}

int sized_give(void *to, const void *from, size_t known, const char *name)
{
    size_t given = 0;
    int error = read_size(to, name, &given);
    if (error != 0)
        return error;
    const uint64_t size = given;
    memset(to, 0, given);
    memcpy(to, from, given < known ? given : known);
    memcpy(to, &size, sizeof size);
    return 0;
}
