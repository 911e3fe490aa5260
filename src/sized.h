/* Structures of the ABI that say in their first field how large they are, so that they can grow. */
#ifndef FUSEWIRE_SIZED_H
#define FUSEWIRE_SIZED_H

#include <stddef.h>

/* Copies the caller's structure to the library's, which is zero where the caller's is shorter. `name` is the
 * structure's, for the words. -EINVAL: no size; -E2BIG: fields that are not zero and not known here, or no size at all
 * but garbage. */
int sized_take(void *to, size_t known, const void *from, const char *name);

/* Fills the caller's structure from the library's; the rest of it is zeroed. The same errors. */
int sized_give(void *to, const void *from, size_t known, const char *name);

#endif
