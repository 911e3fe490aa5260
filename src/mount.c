#include "mount.h"

#include "error.h"
#include "fusermount.h"
#include "helper.h"
#include "mount_call.h"
#include "mount_options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    DEVICE_MAJOR = 10, /* of /dev/fuse */
    DEVICE_MINOR = 229,
    UNMOUNT_MILLISECONDS = 2000
};

/* ---- The way back ---------------------------------------------------------------------------------------------- */

/* A filesystem that somebody has mounted in our mount's place, or over it, is not ours to unmount. */
static bool is_ours(const struct mount *mount)
{
    static const struct mount_identity unknown;
    struct mount_identity now;
    int error = mount_point_identify(mount->mountpoint, &now);
    if (error == 0)
        return mount_identity_equal(&now, &mount->identity) || mount_identity_equal(&mount->identity, &unknown);
    /* EIO, ENOTCONN: a FUSE mount whose root has gone bad. ENOSYS, EPERM: a system call filter without statx. */
    return error == -EIO || error == -ENOTCONN || error == -ENOSYS || error == -EPERM;
}

static _Noreturn void unmount_in_child(const struct mount *mount)
{
    helper_close_from(0);
    if (!is_ours(mount) || umount2(mount->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        _exit(0);
    if (errno == EPERM && mount->fusermount)
        fusermount_exec_unmount(mount->fusermount, mount->mountpoint);
    _exit(1);
}

int mount_unmount_start(struct mount *mount)
{
    if (!mount->mountpoint)
        return -EINVAL;
    int saved = errno; /* of what a signal handler that calls this has interrupted */
    int error = 0;
    if (mount->unmounter < 0 || helper_wait(mount->unmounter, 0, NULL)) {
        pid_t pid = helper_fork();
        if (pid == 0)
            unmount_in_child(mount);
        mount->unmounter = pid > 0 ? pid : -1;
        error = pid < 0 ? pid : 0;
    }
    errno = saved;
    return error;
}

/* false: the unmounter that was started last hung. */
static bool finish_unmount(struct mount *mount)
{
    bool ended = mount->unmounter < 0 || helper_finish(mount->unmounter, UNMOUNT_MILLISECONDS, NULL);
    mount->unmounter = -1;
    return ended;
}

void mount_forget(struct mount *mount)
{
    if (mount->helper_socket >= 0)
        close(mount->helper_socket);
    free(mount->mountpoint);
    free(mount->fusermount);
    int device_fd = mount->device_fd;
    *mount = MOUNT_NONE;
    mount->device_fd = device_fd;
}

void mount_close(struct mount *mount)
{
    /* Even after an unmount: it may have found somebody else's mount over ours, and that may be gone now. */
    if (mount->mountpoint && finish_unmount(mount) && mount_unmount_start(mount) == 0)
        finish_unmount(mount);
    if (mount->helper_socket >= 0)
        shutdown(mount->helper_socket, SHUT_RDWR); /* reaches fusermount3 even if a forked child has the socket too */
    if (mount->helper > 0)
        helper_finish(mount->helper, UNMOUNT_MILLISECONDS, NULL);
    mount_forget(mount);
}

/* ---- Opening --------------------------------------------------------------------------------------------------- */

static int mount_through_fusermount(struct mount *mount, const struct mount_options *options)
{
    int error = fusermount_find(&mount->fusermount);
    if (error < 0)
        return error;
    struct mount_identity before, after;
    bool known = mount_point_identify(mount->mountpoint, &before) == 0;
    struct fusermount result;
    error = fusermount_mount(&result, mount->fusermount, mount->mountpoint, options);
    /* It may have hung behind its mount call. */
    if (error == -ETIMEDOUT && known && mount_point_identify(mount->mountpoint, &after) == 0 &&
        !mount_identity_equal(&before, &after)) {
        mount->identity = after;
        if (mount_unmount_start(mount) == 0)
            finish_unmount(mount);
    }
    mount->device_fd = result.device_fd;
    mount->helper_socket = result.socket;
    mount->helper = result.pid;
    return error;
}

/* By system call where that is allowed, else through fusermount3. That alone has auto_unmount, for root as well: it is
 * the process that outlives this one. (Before 3.15 it leaves an ordinary user's dead mount there if that was made
 * without allow_other: not being that user, it may not look at it.) */
static int mount_by_either(struct mount *mount, const struct mount_options *options)
{
    if (options->auto_unmount)
        return mount_through_fusermount(mount, options);
    int result = mount_call(mount->mountpoint, options);
    mount->device_fd = result < 0 ? -1 : result;
    if (result != -EPERM && result != -EACCES)
        return result < 0 ? result : 0;
    char words[256];
    snprintf(words, sizeof words, "%s", last_error());
    int error = mount_through_fusermount(mount, options);
    /* What fusermount3 tells root is no news. */
    if (error < 0 && error != -ETIMEDOUT && geteuid() == 0)
        return fail(result, "%s", words);
    return error;
}

int mount_open(struct mount *mount, const char *mountpoint, const char *list)
{
    *mount = MOUNT_NONE;
    struct mount_options options;
    int error = mount_options_parse(&options, list);
    if (error < 0)
        return error;
    error = mount_point_resolve(mountpoint, options.nonempty, &mount->mountpoint);
    if (error == 0)
        error = mount_by_either(mount, &options);
    mount_options_free(&options);
    if (error < 0)
        mount_forget(mount);
    else
        mount_point_identify(mount->mountpoint, &mount->identity);
    return error;
}

int mount_open_device(struct mount *mount)
{
    *mount = MOUNT_NONE;
    int fd = mount_call_device();
    if (fd < 0)
        return fd;
    mount->device_fd = fd;
    return 0;
}

int mount_adopt(struct mount *mount, int fd)
{
    *mount = MOUNT_NONE;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return fail_errno(-errno, "descriptor %d cannot be adopted", fd);
    if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(DEVICE_MAJOR, DEVICE_MINOR))
        return fail(-EINVAL, "descriptor %d is not one of /dev/fuse", fd);
    int flags = fcntl(fd, F_GETFL);
    if ((flags & O_ACCMODE) != O_RDWR)
        return fail(-EINVAL, "descriptor %d of /dev/fuse is not open for reading and writing", fd);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return fail_errno(-errno, "descriptor %d cannot be duplicated", fd);
    fcntl(copy, F_SETFL, flags | O_NONBLOCK);
    mount->device_fd = copy;
    return 0;
}

int mount_descriptor_of(const char *mountpoint)
{
    static const char folder[] = "/dev/fd/";
    if (strncmp(mountpoint, folder, strlen(folder)) != 0)
        return -1;
    const char *number = mountpoint + strlen(folder);
    size_t digits = strspn(number, "0123456789");
    if (digits == 0 || digits > 10 || number[digits] != '\0')
        return -1;
    long value = strtol(number, NULL, 10);
    return value <= INT_MAX ? (int)value : -1;
}
