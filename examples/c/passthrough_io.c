/* What is done with open files. */
#include "passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* What one request may copy, so that the others do not wait for long. */
enum { COPIED_AT_ONCE = 64 << 20 };

/* Reads until `size` bytes or the end of the file. */
static int64_t read_fully(int fd, char *data, size_t size, off_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t count = pread(fd, data + done, size - done, offset + (off_t)done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && done == 0)
            return -errno;
        if (count <= 0)
            break;
        done += (size_t)count;
    }
    return (int64_t)done;
}

int passthrough_read(const struct call *call)
{
    const fusewire_request *request = call->request;
    const struct handle *handle = handle_of(request->fh);
    void *data;
    size_t capacity;
    if (fusewire_borrow(call->connection, request->id, &data, &capacity) == 0) {
        int64_t size = read_fully(handle->fd, data, (size_t)request->length, (off_t)request->offset);
        if (size < 0)
            return (int)size;
        return fusewire_reply_borrowed(call->connection, request->id, (size_t)size) < 0 ? -EIO : ANSWERED;
    }
    data = malloc((size_t)request->length);
    if (!data)
        return -ENOMEM;
    int64_t size = read_fully(handle->fd, data, (size_t)request->length, (off_t)request->offset);
    int result = (int)size;
    if (size >= 0)
        result = fusewire_reply_data(call->connection, request->id, data, (size_t)size) < 0 ? -EIO : ANSWERED;
    free(data);
    return result;
}

int passthrough_write(const struct call *call)
{
    const fusewire_request *request = call->request;
    const struct handle *handle = handle_of(request->fh);
    bool cached = request->op_flags & FUSEWIRE_WRITE_CACHE;
    /* The kernel's idea of the end may be old. Only where it sends the pieces of one write side by side (O_DIRECT) has
     * each of them to go where the kernel says, as with what it had cached. */
    bool append =
        !cached && !call->filesystem->writes_cached && (request->flags & O_APPEND) && !(request->flags & O_DIRECT);
    size_t done = 0;
    if (request->op_flags & FUSEWIRE_WRITE_KILL_SUIDGID)
        identity_clear_setid(request);
    else
        identity_keep_setid();
    while (done < request->data_size) {
        struct iovec piece = {(char *)(uintptr_t)request->data + done, (size_t)request->data_size - done};
        ssize_t count = append ? pwritev2(handle->fd, &piece, 1, 0, RWF_APPEND)
                               : pwrite(handle->fd, piece.iov_base, piece.iov_len, (off_t)(request->offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        /* Of cached data nobody would write the rest again. */
        if (count < 0 && (done == 0 || cached))
            return -errno;
        if (count <= 0)
            break;
        done += (size_t)count;
    }
    return fusewire_reply_write(call->connection, request->id, done) < 0 ? -EIO : ANSWERED;
}

/* Closing a duplicate has the backing filesystem report what it has to report when a file is closed. */
int passthrough_flush(const struct call *call)
{
    struct nodes *nodes = &call->filesystem->nodes;
    int fd;
    do
        fd = fcntl(handle_of(call->request->fh)->fd, F_DUPFD_CLOEXEC, 0);
    while (fd < 0 && nodes_make_room(nodes));
    if (fd < 0)
        return 0; /* there is nothing to close, so nothing to report */
    return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

/* Of folders too. */
int passthrough_fsync(const struct call *call)
{
    int fd = handle_of(call->request->fh)->fd;
    int result = call->request->op_flags & FUSEWIRE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd);
    return result < 0 ? -errno : 0;
}

/* For requests that do not say what is to become of the set-user-ID bit. */
static void choose_setid(const fusewire_request *request)
{
    if (request->uid == 0)
        identity_keep_setid();
    else
        identity_clear_setid(request);
}

int passthrough_fallocate(const struct call *call)
{
    const fusewire_request *request = call->request;
    int result;
    choose_setid(request);
    do
        result =
            fallocate(handle_of(request->fh)->fd, (int)request->mode, (off_t)request->offset, (off_t)request->length);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int passthrough_lseek(const struct call *call)
{
    const fusewire_request *request = call->request;
    off_t offset = lseek(handle_of(request->fh)->fd, (off_t)request->offset, (int)request->whence);
    if (offset < 0)
        return -errno;
    return fusewire_reply_lseek(call->connection, request->id, (uint64_t)offset) < 0 ? -EIO : ANSWERED;
}

int passthrough_copy(const struct call *call)
{
    const fusewire_request *request = call->request;
    off_t from = (off_t)request->offset;
    off_t to = (off_t)request->newoffset;
    size_t size = request->length < COPIED_AT_ONCE ? (size_t)request->length : COPIED_AT_ONCE;
    choose_setid(request);
    ssize_t count =
        copy_file_range(handle_of(request->fh)->fd, &from, handle_of(request->newfh)->fd, &to, size, request->flags);
    if (count < 0)
        return -errno;
    return fusewire_reply_write(call->connection, request->id, (uint64_t)count) < 0 ? -EIO : ANSWERED;
}

/* The attributes of lsattr, chattr and project quotas; the kernel has checked that the caller may. */
int passthrough_ioctl(const struct call *call)
{
    const fusewire_request *request = call->request;
    int fd = handle_of(request->fh)->fd;
    union {
        unsigned int flags;
        struct fsxattr attributes;
    } value = {0};
    bool set = request->cmd == FS_IOC_SETFLAGS || request->cmd == FS_IOC_FSSETXATTR;
    bool get = request->cmd == FS_IOC_GETFLAGS || request->cmd == FS_IOC_FSGETXATTR;
    /* The number of FS_IOC_GETFLAGS and SETFLAGS claims a long, but it is an int that they take. */
    bool flags = request->cmd == FS_IOC_GETFLAGS || request->cmd == FS_IOC_SETFLAGS;
    size_t size = flags ? sizeof value.flags : sizeof value.attributes;
    if ((!set && !get) || (set && request->data_size < size) || (get && request->length < size))
        return -ENOTTY;
    if (set)
        memcpy(&value, request->data, size);
    if (ioctl(fd, request->cmd, &value) < 0)
        return -errno;
    return fusewire_reply_ioctl(call->connection, request->id, 0, &value, get ? size : 0) < 0 ? -EIO : ANSWERED;
}
