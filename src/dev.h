/* /dev/fuse itself: reading a message, writing one, cloning a channel, and what the errors of these calls mean. */
#ifndef FUSEWIRE_DEV_H
#define FUSEWIRE_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* What became of a read. */
enum dev_read {
    DEV_READ_MESSAGE,
    DEV_READ_AGAIN,     /* nothing there (EAGAIN) */
    DEV_READ_RETRY,     /* something was, but it is gone or we were disturbed (ENOENT, EINTR): read again */
    DEV_READ_UNMOUNTED, /* not mounted yet (EPERM) */
    DEV_READ_TROUBLE,   /* an error that may pass (ENOMEM, EIO, ...) */
    DEV_READ_END        /* unmounted, aborted, or no device at all */
};

/* What a read's result (bytes, or a negative errno) means. */
enum dev_read dev_read_result(int64_t result);

/* What became of a reply or notification. */
enum dev_write {
    DEV_WRITE_DONE,
    DEV_WRITE_GONE,   /* nobody waits for it: the client vanished, or the connection ended (ENOENT, ENODEV, ...) */
    DEV_WRITE_RETRY,  /* an error that may pass: send it again */
    DEV_WRITE_REFUSED /* the kernel did not like it: the request is still open */
};

enum dev_write dev_write_result(int64_t result);

/* writev, tried again after what may pass. Returns bytes or a negative errno; adds the calls made to *calls. */
int64_t dev_write(int fd, const struct iovec *pieces, int count, uint64_t *calls);

/* A second channel to the connection behind `fd`: a new descriptor, close-on-exec and non-blocking. */
int dev_clone(int fd);

int dev_backing_open(int fd, int file);
int dev_backing_close(int fd, int32_t backing_id);

#endif
