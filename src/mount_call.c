#include "mount_call.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The new mount API is called without the C library, which knows it from glibc 2.36 on only. */
enum {
    OPEN_CLOEXEC = 1,
    MOUNT_CLOEXEC = 1,
    CONFIG_FLAG = 0,
    CONFIG_STRING = 1,
    CONFIG_CREATE = 6,
    CONFIG_STRING_MAX = 255,
    MOVE_FROM_DESCRIPTOR = 4,

    ATTR_RDONLY = 0x1,
    ATTR_NOSUID = 0x2,
    ATTR_NODEV = 0x4,
    ATTR_NOEXEC = 0x8,
    ATTR_NOATIME = 0x10,
    ATTR_STRICTATIME = 0x20,
    ATTR_NODIRATIME = 0x80,
    ATTR_NOSYMFOLLOW = 0x200000
};

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

int mount_call_device(void)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    switch (errno) {
    case ENOENT:
        return fail(-ENODEV, "/dev/fuse does not exist: load the kernel module (modprobe fuse), or give the container "
                             "its device (--device /dev/fuse)");
    case ENODEV:
    case ENXIO:
        return fail(-ENODEV, "there is no FUSE in the kernel: load the module (modprobe fuse)");
    case EACCES:
    case EPERM:
        return fail_errno(-errno, "/dev/fuse may not be opened here (a container needs --device /dev/fuse)");
    default:
        return fail_errno(-errno, "/dev/fuse cannot be opened");
    }
}

static int refuse(int error, const char *call, const char *mountpoint)
{
    switch (error) {
    case -EPERM:
        return fail(error, "mounting needs the capability CAP_SYS_ADMIN (a container needs --cap-add SYS_ADMIN)");
    case -ENODEV:
        return fail(error, "this kernel has no filesystem type for the mount: load the module (modprobe fuse)");
    case -ENOSPC:
        return fail(error, "too many mounts: the limit is in /proc/sys/fs/mount-max");
    default:
        return fail_errno(error, "mounting on \"%s\" failed (%s)", mountpoint, call);
    }
}

/* ---- The new mount API ----------------------------------------------------------------------------------------- */

/* What the kernel's last complaint about the filesystem context was, or "". */
static void read_complaint(int context, char *words, size_t size)
{
    words[0] = '\0';
    char message[256];
    ssize_t count;
    while ((count = read(context, message, sizeof message - 1)) > 0) {
        message[count] = '\0';
        message[strcspn(message, "\n")] = '\0';
        if (strncmp(message, "e ", 2) == 0)
            snprintf(words, size, "%s", message + 2);
    }
}

static int refuse_context(int context, int error, const char *call, const char *mountpoint)
{
    char complaint[256];
    read_complaint(context, complaint, sizeof complaint);
    if (complaint[0])
        return fail(error, "mounting on \"%s\" failed (%s): the kernel says: %s", mountpoint, call, complaint);
    return refuse(error, call, mountpoint);
}

static int set_string(int context, const char *key, const char *value)
{
    return syscall(SYS_fsconfig, context, CONFIG_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_number(int context, const char *key, const char *format, unsigned value)
{
    char text[16];
    snprintf(text, sizeof text, format, value);
    return set_string(context, key, text);
}

static int set_flag(int context, const char *key)
{
    return syscall(SYS_fsconfig, context, CONFIG_FLAG, key, NULL, 0) < 0 ? -errno : 0;
}

static int configure(int context, const struct mount_options *options, int device_fd)
{
    int error = set_string(context, "source", mount_options_source(options));
    if (error == 0 && options->subtype)
        error = set_string(context, "subtype", options->subtype);
    if (error == 0)
        error = set_number(context, "fd", "%u", (unsigned)device_fd);
    if (error == 0)
        error = set_number(context, "rootmode", "%o", S_IFDIR);
    if (error == 0)
        error = set_number(context, "user_id", "%u", geteuid());
    if (error == 0)
        error = set_number(context, "group_id", "%u", getegid());
    for (int i = 0; error == 0 && i < MOUNT_PARAMETERS; i++) {
        const char *value = options->parameters[i];
        if (value)
            error = *value ? set_string(context, mount_parameter_names[i], value)
                           : set_flag(context, mount_parameter_names[i]);
    }
    if (error == 0 && options->flags & MS_RDONLY)
        error = set_flag(context, "ro");
    if (error == 0 && options->flags & MS_SYNCHRONOUS)
        error = set_flag(context, "sync");
    if (error == 0 && options->flags & MS_DIRSYNC)
        error = set_flag(context, "dirsync");
    if (error == 0 && options->flags & MS_LAZYTIME)
        error = set_flag(context, "lazytime");
    if (error == 0 && syscall(SYS_fsconfig, context, CONFIG_CREATE, NULL, NULL, 0) < 0)
        error = -errno;
    return error;
}

static unsigned attributes(unsigned long flags)
{
    static const struct {
        unsigned long flag;
        unsigned attribute;
    } pairs[] = {
        {MS_RDONLY, ATTR_RDONLY},         {MS_NOSUID, ATTR_NOSUID},           {MS_NODEV, ATTR_NODEV},
        {MS_NOEXEC, ATTR_NOEXEC},         {MS_NOATIME, ATTR_NOATIME},         {MS_STRICTATIME, ATTR_STRICTATIME},
        {MS_NODIRATIME, ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, ATTR_NOSYMFOLLOW},
    };
    unsigned result = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (flags & pairs[i].flag)
            result |= pairs[i].attribute;
    return result;
}

static int mount_in_context(int context, const char *mountpoint, const struct mount_options *options, int device_fd)
{
    int error = configure(context, options, device_fd);
    if (error < 0)
        return refuse_context(context, error, "fsconfig", mountpoint);
    int detached = (int)syscall(SYS_fsmount, context, MOUNT_CLOEXEC, attributes(options->flags));
    if (detached < 0)
        return refuse_context(context, -errno, "fsmount", mountpoint);
    error = syscall(SYS_move_mount, detached, "", AT_FDCWD, mountpoint, MOVE_FROM_DESCRIPTOR) < 0 ? -errno : 0;
    close(detached);
    return error < 0 ? refuse(error, "move_mount", mountpoint) : 0;
}

static int mount_new(const char *mountpoint, const struct mount_options *options, int device_fd)
{
    int context = (int)syscall(SYS_fsopen, options->block_device ? "fuseblk" : "fuse", OPEN_CLOEXEC);
    if (context < 0)
        return refuse(-errno, "fsopen", mountpoint);
    int error = mount_in_context(context, mountpoint, options, device_fd);
    close(context);
    return error;
}

/* fsconfig takes strings of up to 255 bytes only. */
static bool fits_new(const struct mount_options *options)
{
    bool fits = strlen(mount_options_source(options)) <= CONFIG_STRING_MAX;
    fits = fits && (!options->subtype || strlen(options->subtype) <= CONFIG_STRING_MAX);
    for (int i = 0; i < MOUNT_PARAMETERS; i++)
        fits = fits && (!options->parameters[i] || strlen(options->parameters[i]) <= CONFIG_STRING_MAX);
    return fits;
}

/* ---- mount(2) -------------------------------------------------------------------------------------------------- */

static int mount_old(const char *mountpoint, const struct mount_options *options, int device_fd)
{
    char *type = NULL;
    const char *kind = options->block_device ? "fuseblk" : "fuse";
    if (asprintf(&type, "%s%s%s", kind, options->subtype ? "." : "", options->subtype ? options->subtype : "") < 0)
        type = NULL;
    char *data = mount_options_data(options, device_fd);
    int error;
    if (!type || !data)
        error = fail(-ENOMEM, "no memory for the mount options");
    else if (strlen(data) >= (size_t)sysconf(_SC_PAGESIZE))
        error = fail(-EINVAL, "the mount options are too long for mount(2)");
    else if (mount(mount_options_source(options), mountpoint, type, options->flags, data) < 0)
        error = refuse(-errno, "mount", mountpoint);
    else
        error = 0;
    free(type);
    free(data);
    return error;
}

typedef int mount_way(const char *mountpoint, const struct mount_options *options, int device_fd);

/* With a descriptor of its own: one that a failed attempt has bound to a mount serves no other. */
static int attempt(mount_way *way, const char *mountpoint, const struct mount_options *options)
{
    int device_fd = mount_call_device();
    if (device_fd < 0)
        return device_fd;
    int error = way(mountpoint, options, device_fd);
    if (error == 0)
        return device_fd;
    close(device_fd);
    return error;
}

int mount_call(const char *mountpoint, const struct mount_options *options)
{
    int result = fits_new(options) ? attempt(mount_new, mountpoint, options) : -ENOSYS;
    /* ENOSYS: an old kernel. EPERM: a system call filter that knows mount(2) only, or no permission for either. */
    if (result == -ENOSYS || result == -EPERM)
        result = attempt(mount_old, mountpoint, options);
    return result;
}
