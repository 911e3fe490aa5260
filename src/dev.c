#include "dev.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The device's ioctls: type 229, numbers and arguments as the protocol defines them. */
struct dev_backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};

#define DEV_IOC_CLONE _IOR(229, 0, uint32_t)
#define DEV_IOC_BACKING_OPEN _IOW(229, 1, struct dev_backing_map)
#define DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

enum dev_read dev_read_result(int64_t result)
{
    if (result > 0)
        return DEV_READ_MESSAGE;
    switch (-result) {
    case EAGAIN:
        return DEV_READ_AGAIN;
    case EINTR:
    case ENOENT: /* interrupted before it was delivered */
    case ECANCELED:
        return DEV_READ_RETRY;
    case EPERM:
        return DEV_READ_UNMOUNTED;
    case ENODEV:
    case ECONNABORTED:
    case ENOTCONN:
    case EBADF:
    case EINVAL:
        return DEV_READ_END;
    default:
        return DEV_READ_TROUBLE;
    }
}

enum dev_write dev_write_result(int64_t result)
{
    if (result >= 0)
        return DEV_WRITE_DONE;
    switch (-result) {
    case ENOENT:
    case ENODEV:
    case ECONNABORTED:
    case ENOTCONN:
        return DEV_WRITE_GONE;
    case EINTR:
    case EAGAIN:
    case ECANCELED:
    case ENOMEM:
    case ENOBUFS:
        return DEV_WRITE_RETRY;
    default:
        return DEV_WRITE_REFUSED;
    }
}

int64_t dev_write(int fd, const struct iovec *pieces, int count, uint64_t *calls)
{
    /* Nothing waits here for memory to come free: the kernel has tried that itself before it said ENOMEM. */
    enum { TRIES = 16 };
    int64_t result = 0;
    for (int i = 0; i < TRIES; i++) {
        ++*calls;
        result = count == 1 ? write(fd, pieces->iov_base, pieces->iov_len) : writev(fd, pieces, count);
        if (result < 0)
            result = -errno;
        if (dev_write_result(result) != DEV_WRITE_RETRY)
            break;
    }
    return result;
}

int dev_clone(int fd)
{
    int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (clone < 0)
        return fail_errno(-errno, "cannot open /dev/fuse for a clone");
    uint32_t original = (uint32_t)fd;
    if (ioctl(clone, DEV_IOC_CLONE, &original) < 0) {
        int error = -errno;
        close(clone);
        if (error == -EINVAL || error == -EPERM)
            return fail(-ENOTCONN, "cannot clone a connection that is not mounted");
        return fail_errno(error, "cannot clone the connection");
    }
    return clone;
}

int dev_backing_open(int fd, int file)
{
    struct dev_backing_map map = {.fd = file};
    int id = ioctl(fd, DEV_IOC_BACKING_OPEN, &map);
    return id >= 0 ? id
                   : fail_errno(-errno, "the kernel does not take the file for passthrough (it needs the "
                                        "PASSTHROUGH capability, CAP_SYS_ADMIN and a file of another filesystem)");
}

int dev_backing_close(int fd, int32_t backing_id)
{
    uint32_t id = (uint32_t)backing_id;
    return ioctl(fd, DEV_IOC_BACKING_CLOSE, &id) == 0 ? 0 : fail_errno(-errno, "no backing file %d", backing_id);
}
