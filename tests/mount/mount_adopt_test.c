/* Descriptors that come from elsewhere: their names, and which of them are taken. */
#include "check.h"
#include "error.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void test_names(void)
{
    CHECK(mount_descriptor_of("/dev/fd/0") == 0);
    CHECK(mount_descriptor_of("/dev/fd/17") == 17);
    CHECK(mount_descriptor_of("/dev/fd/2147483647") == 2147483647);
    CHECK(mount_descriptor_of("/dev/fd/2147483648") == -1);
    CHECK(mount_descriptor_of("/dev/fd/99999999999999999999") == -1);
    CHECK(mount_descriptor_of("/dev/fd/") == -1);
    CHECK(mount_descriptor_of("/dev/fd/1x") == -1);
    CHECK(mount_descriptor_of("/dev/fd/-1") == -1);
    CHECK(mount_descriptor_of("/dev/fd") == -1);
    CHECK(mount_descriptor_of("/mnt/dev/fd/1") == -1);
    CHECK(mount_descriptor_of("") == -1);
}

static void check_refused(int fd, int error, const char *words)
{
    struct mount mount;
    CHECK(mount_adopt(&mount, fd) == error);
    CHECK(strstr(last_error(), words) != NULL);
    CHECK(mount.device_fd == -1 && mount.mountpoint == NULL);
    mount_close(&mount);
}

static void test_refused(void)
{
    check_refused(-1, -EBADF, "descriptor -1");
    int pipe_ends[2];
    CHECK(pipe(pipe_ends) == 0);
    check_refused(pipe_ends[0], -EINVAL, "not one of /dev/fuse");
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    check_refused(pipe_ends[0], -EBADF, "Bad file descriptor");
    int null = open("/dev/null", O_RDWR); /* a character device, but another one */
    CHECK(null >= 0);
    check_refused(null, -EINVAL, "not one of /dev/fuse");
    close(null);
}

static void test_adopted(void)
{
    int fd = open("/dev/fuse", O_RDWR);
    if (fd < 0) {
        fprintf(stderr, "not tested: /dev/fuse cannot be opened here\n");
        return;
    }
    struct mount mount;
    CHECK(mount_adopt(&mount, fd) == 0);
    CHECK(mount.device_fd >= 0 && mount.device_fd != fd);
    CHECK(fcntl(mount.device_fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(mount.device_fd, F_GETFL) & O_NONBLOCK);
    CHECK(mount_unmount_start(&mount) == -EINVAL);
    close(mount.device_fd);
    mount.device_fd = -1;
    mount_close(&mount);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    close(fd);

    int reader = open("/dev/fuse", O_RDONLY);
    CHECK(reader >= 0);
    check_refused(reader, -EINVAL, "not open for reading and writing");
    close(reader);
}

static void test_device_only(void)
{
    struct mount mount;
    int error = mount_open_device(&mount);
    if (error == -EACCES || error == -EPERM || error == -ENODEV) {
        CHECK(strstr(last_error(), "/dev/fuse") != NULL);
        return;
    }
    CHECK(error == 0);
    CHECK(fcntl(mount.device_fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(mount.device_fd, F_GETFL) & O_NONBLOCK);
    CHECK(mount_unmount_start(&mount) == -EINVAL);
    close(mount.device_fd);
    mount.device_fd = -1;
    mount_close(&mount);
    mount = MOUNT_NONE;
    mount_close(&mount);
}

int main(void)
{
    test_names();
    test_refused();
    test_adopted();
    test_device_only();
    return 0;
}
