#include "check.h"

#include <string.h>

int check_give(void *to, const void *from, size_t known, const char *name)
{
    uint64_t size;
    memcpy(&size, to, sizeof size);
    if (size < sizeof size)
        return fail(-EINVAL, "%s->size is %llu: set it to sizeof(fusewire_%s)", name, (unsigned long long)size, name);
    /* More than any version will ever have is not a size but garbage. */
    if (size > 4096)
        return fail(-E2BIG, "%s->size is %llu: set it to sizeof(fusewire_%s)", name, (unsigned long long)size, name);
    size_t given = size < known ? (size_t)size : known;
    memset(to, 0, (size_t)size);
    memcpy(to, from, given);
    memcpy(to, &size, sizeof size);
    return 0;
}
