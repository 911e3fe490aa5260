/* What is at a path: fit to be mounted upon, or already a mount, and whose. */
#ifndef FUSEWIRE_MOUNT_POINT_H
#define FUSEWIRE_MOUNT_POINT_H

#include <stdbool.h>
#include <stdint.h>

/* Names one mount. On kernels before 6.8 a later mount may get the same name. */
struct mount_identity {
    uint64_t id; /* 0: not known */
    uint32_t device_major;
    uint32_t device_minor;
};

/* Looks whether `path` can be mounted upon and stores its absolute name, to be freed, in *absolute. -ENOENT, -ENOTDIR,
 * -ENOTEMPTY (unless `nonempty`), -EBUSY (a mount already), -ENOTCONN (a mount whose server is gone), each in words. */
int mount_point_resolve(const char *path, bool nonempty, char **absolute);

/* The mount that is seen at an absolute path. Asks the kernel alone, not the filesystem's server; async-signal-safe.
 * Negative errno without words. */
int mount_point_identify(const char *absolute, struct mount_identity *identity);

bool mount_identity_equal(const struct mount_identity *a, const struct mount_identity *b);

#endif
