/* The options after mount's -o: read, checked, and written again for mount(2) and for fusermount3. */
#ifndef FUSEWIRE_MOUNT_OPTIONS_H
#define FUSEWIRE_MOUNT_OPTIONS_H

#include <stdbool.h>

/* Options that the kernel's FUSE takes by name. */
enum mount_parameter {
    MOUNT_DEFAULT_PERMISSIONS,
    MOUNT_ALLOW_OTHER,
    MOUNT_MAX_READ,
    MOUNT_BLKSIZE,
    MOUNT_CONTEXT,
    MOUNT_FSCONTEXT,
    MOUNT_DEFCONTEXT,
    MOUNT_ROOTCONTEXT,
    MOUNT_PARAMETERS
};

extern const char *const mount_parameter_names[MOUNT_PARAMETERS];

struct mount_options {
    unsigned long flags; /* MS_*; nosuid and nodev unless the list says otherwise, as every FUSE mount */
    bool nonempty;       /* the mount point may have entries */
    bool auto_unmount;
    bool block_device; /* blkdev: a fuseblk mount, whose fsname is the device */
    char *fsname;      /* NULL: not given */
    char *subtype;
    char *parameters[MOUNT_PARAMETERS]; /* NULL: not given; "" for those without a value */
};

/* Reads a comma-separated list (or NULL). In it `\` makes the next character an ordinary one, `\ooo` is the byte with
 * that octal number, and a value in double quotes may have commas. The last of contradicting options counts. On
 * failure, -EINVAL with words that name the option or -ENOMEM, there is nothing to free. */
int mount_options_parse(struct mount_options *options, const char *list);

void mount_options_free(struct mount_options *options);

/* What /proc/mounts shows as the source: fsname, else subtype, else the device. */
const char *mount_options_source(const struct mount_options *options);

/* The data of mount(2) and the option list of fusermount3, which sets descriptor, root mode and ids itself. To be
 * freed; NULL: no memory. */
char *mount_options_data(const struct mount_options *options, int device_fd);
char *mount_options_for_fusermount(const struct mount_options *options);

#endif
