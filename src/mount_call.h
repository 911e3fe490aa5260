/* Mounting by system call: fsopen, fsconfig, fsmount and move_mount, or mount(2) where those are not to be had. */
#ifndef FUSEWIRE_MOUNT_CALL_H
#define FUSEWIRE_MOUNT_CALL_H

#include "mount_options.h"

/* Opens /dev/fuse: close-on-exec, O_NONBLOCK. The descriptor, or a negative errno with words. */
int mount_call_device(void);

/* Opens /dev/fuse and mounts it on the absolute path. The descriptor, or a negative errno with words: -EPERM or
 * -EACCES where this process may not, so that fusermount3 is worth a try. */
int mount_call(const char *mountpoint, const struct mount_options *options);

#endif
