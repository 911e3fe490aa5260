#include "passthrough_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A line of mountinfo. */
struct mount_line {
    uint64_t id;
    uint64_t device;
    bool fuse;
};

static bool parse_line(const char *line, struct mount_line *mount)
{
    unsigned int id, major, minor;
    const char *type = strstr(line, " - ");
    if (!type || sscanf(line, "%u %*u %u:%u", &id, &major, &minor) != 3)
        return false;
    mount->id = id;
    mount->device = makedev(major, minor);
    mount->fuse = strncmp(type + 3, "fuse", 4) == 0;
    return true;
}

int mounts_start(struct mounts *mounts)
{
    char *line = NULL;
    size_t size = 0;
    int error = 0;
    *mounts = (struct mounts){0};
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (!file)
        return -errno;
    while (error == 0 && getline(&line, &size, file) >= 0) {
        struct mount_line mount;
        if (!parse_line(line, &mount) || !mount.fuse)
            continue;
        uint64_t *grown = realloc(mounts->devices, (mounts->count + 1) * sizeof *grown);
        if (grown) {
            mounts->devices = grown;
            grown[mounts->count++] = mount.device;
        } else {
            error = -ENOMEM;
        }
    }
    free(line);
    fclose(file);
    return error;
}

void mounts_finish(struct mounts *mounts)
{
    free(mounts->devices);
    *mounts = (struct mounts){0};
}

int mounts_id(int fd, uint64_t *id)
{
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &status) < 0)
        return -errno;
    *id = status.stx_mnt_id;
    return 0;
}

static bool is_older(const struct mounts *mounts, uint64_t device)
{
    for (size_t i = 0; i < mounts->count; i++)
        if (mounts->devices[i] == device)
            return true;
    return false;
}

/* A mount that mountinfo does not show is not entered. */
static bool may_enter(const struct mounts *mounts, uint64_t id)
{
    char *line = NULL;
    size_t size = 0;
    bool may = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (!file)
        return false;
    while (getline(&line, &size, file) >= 0) {
        struct mount_line mount;
        if (parse_line(line, &mount) && mount.id == id) {
            may = !mount.fuse || is_older(mounts, mount.device);
            break;
        }
    }
    free(line);
    fclose(file);
    return may;
}

/* A copy of the parent's mount has nothing mounted on it. */
static int open_covered(int parent, const char *name)
{
    int tree = open_tree(parent, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return errno == EPERM ? -EXDEV : -errno;
    int fd = openat(tree, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int error = -errno;
    close(tree);
    return fd >= 0 ? fd : error;
}

int mounts_open(const struct mounts *mounts, int parent, const char *name, uint64_t *mount)
{
    uint64_t id;
    int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = mounts_id(fd, &id);
    if (error == 0 && may_enter(mounts, id)) {
        *mount = id;
        return fd;
    }
    close(fd);
    return open_covered(parent, name);
}
