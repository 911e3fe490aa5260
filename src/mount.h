/* Mounting: the options of mount(8), mount(2) and fsmount(2) for root, fusermount3 for everybody else, adopted
 * descriptors, and the way back. Knows nothing of requests. */
#ifndef FUSEWIRE_MOUNT_H
#define FUSEWIRE_MOUNT_H

#include "mount_point.h"

#include <stdbool.h>
#include <sys/types.h>

/* A mount and what is needed to undo it. */
struct mount {
    int device_fd;     /* /dev/fuse: close-on-exec, O_NONBLOCK; the owner of the struct closes it */
    char *mountpoint;  /* absolute; NULL where nothing was mounted by us */
    int helper_socket; /* to fusermount3, which unmounts when it closes (auto_unmount); -1 without */
    pid_t helper;      /* that fusermount3; -1 without */
    pid_t unmounter;   /* the process that unmounts in the background; -1 without */
    char *fusermount;  /* the fusermount3 that mounted; NULL where a system call did */
    struct mount_identity identity;
};

#define MOUNT_NONE ((struct mount){.device_fd = -1, .helper_socket = -1, .helper = -1, .unmounter = -1})

/* Opens /dev/fuse and mounts it on `mountpoint` with `options` (mount's -o list, or NULL). Negative errno with words:
 * -EINVAL (an option), -ENOENT, -ENOTDIR, -ENOTEMPTY (without the option nonempty), -EBUSY, -ENOTCONN (a dead mount is
 * there), -ENODEV (no FUSE, or no /dev/fuse), -EPERM, -EACCES, -ENOPKG (no fusermount3), -ETIMEDOUT (it hangs), and
 * what else the system calls give. On failure nothing is mounted, and *mount is MOUNT_NONE. */
int mount_open(struct mount *mount, const char *mountpoint, const char *options);

/* Opens /dev/fuse without mounting it. */
int mount_open_device(struct mount *mount);

/* Duplicates `fd`, which has to be a /dev/fuse descriptor. The open file description's O_NONBLOCK is set. */
int mount_adopt(struct mount *mount, int fd);

/* Is `mountpoint` of the form /dev/fd/N? Then its N, else -1. */
int mount_descriptor_of(const char *mountpoint);

/* Starts a helper process that detaches the mount (lazily), and returns at once. Async-signal-safe, so without words:
 * -EINVAL where we did not mount, -EAGAIN or -ENOMEM where there can be no process. */
int mount_unmount_start(struct mount *mount);

/* Undoes the mount if it still stands; waits for helpers a bounded time; frees. To be called when device_fd is closed
 * (by the caller, who sets it to -1), so that the kernel waits for no answers of ours. Safe on MOUNT_NONE. */
void mount_close(struct mount *mount);

/* In a forked child: frees and closes the child's copies, but device_fd; touches neither the mount nor the helpers. */
void mount_forget(struct mount *mount);

#endif
