/* Which mounts below the source folder are entered. Our own may lie there too: a system call that asks it something
 * would wait for this very process. */
#ifndef PASSTHROUGH_MOUNT_H
#define PASSTHROUGH_MOUNT_H

#include <stddef.h>
#include <stdint.h>

/* The FUSE filesystems that were mounted before ours. */
struct mounts {
    uint64_t *devices;
    size_t count;
};

int mounts_start(struct mounts *mounts);
void mounts_finish(struct mounts *mounts);

/* The id of the mount that an O_PATH descriptor is on. */
int mounts_id(int fd, uint64_t *id);

/* Opens (O_PATH) what `name` in the folder `parent` shows, if that is another mount and no FUSE filesystem younger than
 * we are, else what is covered by it (only root can: -EXDEV). Returns the descriptor, and its mount in *mount, which
 * holds the parent's at first. */
int mounts_open(const struct mounts *mounts, int parent, const char *name, uint64_t *mount);

#endif
