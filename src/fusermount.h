/* fusermount3, the set-user-ID program of the fuse3 package that mounts for those who may not. */
#ifndef FUSEWIRE_FUSERMOUNT_H
#define FUSEWIRE_FUSERMOUNT_H

#include "mount_options.h"

#include <sys/types.h>

struct fusermount {
    int device_fd; /* close-on-exec, O_NONBLOCK */
    int socket;    /* with auto_unmount: it unmounts when this closes; else -1 */
    pid_t pid;     /* with auto_unmount: still running; else -1 */
};

/* Finds fusermount3 in PATH; to be freed. -ENOPKG with words where it is not there. */
int fusermount_find(char **program);

/* Mounts on the absolute path. Negative errno with fusermount3's own words and what to do about them; -ETIMEDOUT if it
 * does not answer. */
int fusermount_mount(struct fusermount *result, const char *program, const char *mountpoint,
                     const struct mount_options *options);

/* In a child made by helper_fork: becomes a fusermount3 that detaches the mount. */
_Noreturn void fusermount_exec_unmount(const char *program, const char *mountpoint);

#endif
