#include "ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Operations newer than the oldest liburing that will do; the numbers are the kernel's. */
enum { OP_READ_MULTISHOT = 49 /* Linux 6.7 */ };

/* The bytes for a command's argument in a submission of 64, and of 128. */
enum { COMMAND_SMALL = 16, COMMAND_LARGE = 80 };

/* The group of the provided buffers: a ring has one. */
enum { GROUP = 0 };

struct ring {
    struct io_uring uring;
    struct io_uring_buf_ring *offer;
    size_t offer_size;
    unsigned offer_count;
    int offered; /* since the last publish */
    bool held;   /* the completion given last is still in its place */
    int file;    /* that the ring holds itself; -1 without */
    uint64_t system_calls;
};

static int set_up(struct ring **ring, unsigned entries, struct io_uring_params *parameters)
{
    struct ring *created = calloc(1, sizeof *created);
    if (created == NULL)
        return -ENOMEM;
    created->file = -1;
    int error = io_uring_queue_init_params(entries, &created->uring, parameters);
    if (error != 0) {
        free(created);
        return error;
    }
    /* A mapping holds the ring as a descriptor does, and an armed read holds the device: a child must inherit neither.
     */
    io_uring_ring_dontfork(&created->uring);
    *ring = created;
    return 0;
}

int ring_create(struct ring **ring, unsigned entries)
{
    /* COOP_TASKRUN: completions are worked off when this thread enters the kernel anyway, without interrupting it, and
     * the ring's descriptor can still be polled, which DEFER_TASKRUN would break; TASKRUN_FLAG says when entering is
     * due. Kernels before 5.19 know neither. CQSIZE: many writes may complete in one turn. */
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
        .cq_entries = entries * 4,
    };
    int error = set_up(ring, entries, &parameters);
    if (error == -EINVAL) {
        parameters =
            (struct io_uring_params){.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE, .cq_entries = entries * 4};
        error = set_up(ring, entries, &parameters);
    }
    return error;
}

int ring_create_for_commands(struct ring **ring, unsigned entries, unsigned completions, enum ring_owner owner)
{
    /* SQE128: a command's argument needs a submission of twice the size. DEFER_TASKRUN: the kernel works requests off
     * when the thread waits, and never interrupts it. */
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CLAMP |
                 IORING_SETUP_CQSIZE | (owner == RING_LATER ? IORING_SETUP_R_DISABLED : 0),
        .cq_entries = completions > entries ? completions : entries, /* fewer are refused */
    };
    return set_up(ring, entries, &parameters);
}

int ring_enable(struct ring *ring)
{
    /* liburing 2.3 has a function for this, but does not export it. */
    return syscall(SYS_io_uring_register, ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0 ? 0 : -errno;
}

void ring_hold_file(struct ring *ring, int fd)
{
    if (io_uring_register_files(&ring->uring, &fd, 1) == 0)
        ring->file = fd;
}

int ring_signal(struct ring *ring, int eventfd)
{
    return io_uring_register_eventfd(&ring->uring, eventfd);
}

void ring_discard(struct ring *ring)
{
    if (ring->offer != NULL)
        munmap(ring->offer, ring->offer_size);
    free(ring);
}

void ring_destroy(struct ring *ring)
{
    io_uring_queue_exit(&ring->uring);
    ring_discard(ring);
}

void ring_close(struct ring *ring)
{
    close(ring->uring.ring_fd);
}

void ring_free(struct ring *ring)
{
    struct io_uring_sq *sq = &ring->uring.sq;
    munmap(sq->sqes, sq->ring_entries * sizeof *sq->sqes);
    munmap(sq->ring_ptr, sq->ring_sz);
    if (ring->uring.cq.ring_ptr != sq->ring_ptr)
        munmap(ring->uring.cq.ring_ptr, ring->uring.cq.ring_sz);
    ring_discard(ring);
}

int ring_descriptor(const struct ring *ring)
{
    return ring->uring.ring_fd;
}

int ring_offer_create(struct ring *ring, unsigned count)
{
    size_t size = count * sizeof(struct io_uring_buf);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)memory,
        .ring_entries = count,
        .bgid = GROUP,
    };
    int error = io_uring_register_buf_ring(&ring->uring, &registration, 0);
    if (error != 0) {
        munmap(memory, size);
        return error;
    }
    ring->offer = memory;
    ring->offer_size = size;
    ring->offer_count = count;
    io_uring_buf_ring_init(ring->offer);
    return 0;
}

void ring_offer(struct ring *ring, int32_t buffer, void *memory, size_t size)
{
    io_uring_buf_ring_add(ring->offer, memory, (unsigned)size, (unsigned short)buffer,
                          io_uring_buf_ring_mask(ring->offer_count), ring->offered++);
}

void ring_offer_publish(struct ring *ring)
{
    if (ring->offered > 0)
        io_uring_buf_ring_advance(ring->offer, ring->offered);
    ring->offered = 0;
}

/* A free submission; when the queue is full it is sent first. */
static struct io_uring_sqe *submission(struct ring *ring, uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL && ring_submit(ring) >= 0)
        sqe = io_uring_get_sqe(&ring->uring);
    if (sqe != NULL) {
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, tag);
    }
    return sqe;
}

int ring_read_multishot(struct ring *ring, int fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = submission(ring, tag);
    if (sqe == NULL)
        return -EAGAIN;
    sqe->opcode = OP_READ_MULTISHOT;
    sqe->fd = fd;
    sqe->off = (uint64_t)-1; /* at the file's own position, which a device has not */
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    return 0;
}

static int poll_submission(struct ring *ring, int fd, uint32_t events, uint64_t tag, uint32_t flags)
{
    struct io_uring_sqe *sqe = submission(ring, tag);
    if (sqe == NULL)
        return -EAGAIN;
    io_uring_prep_poll_add(sqe, fd, events);
    sqe->len = flags;
    io_uring_sqe_set_data64(sqe, tag);
    return 0;
}

int ring_poll_multishot(struct ring *ring, int fd, uint32_t events, uint64_t tag)
{
    return poll_submission(ring, fd, events, tag, IORING_POLL_ADD_MULTI);
}

int ring_poll_once(struct ring *ring, int fd, uint32_t events, uint64_t tag)
{
    return poll_submission(ring, fd, events, tag, 0);
}

int ring_command(struct ring *ring, int fd, uint32_t operation, const void *command, size_t size,
                 const struct iovec *memory, unsigned count, uint64_t tag)
{
    struct io_uring_sqe *sqe = submission(ring, tag);
    if (sqe == NULL)
        return -EAGAIN;
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fd == ring->file ? 0 : fd;
    sqe->flags = fd == ring->file ? IOSQE_FIXED_FILE : 0;
    sqe->cmd_op = operation;
    sqe->addr = (uint64_t)(uintptr_t)memory;
    sqe->len = count;
    memset(sqe->cmd, 0, ring->uring.flags & IORING_SETUP_SQE128 ? COMMAND_LARGE : COMMAND_SMALL);
    if (size > 0)
        memcpy(sqe->cmd, command, size);
    return 0;
}

static struct io_uring_sqe *write_submission(struct ring *ring, int fd, const struct iovec *pieces, unsigned count,
                                             uint64_t tag)
{
    struct io_uring_sqe *sqe = submission(ring, tag);
    if (sqe == NULL)
        return NULL;
    if (count == 1)
        io_uring_prep_write(sqe, fd, pieces->iov_base, (unsigned)pieces->iov_len, 0);
    else
        io_uring_prep_writev(sqe, fd, pieces, count, 0);
    io_uring_sqe_set_data64(sqe, tag);
    return sqe;
}

int ring_write(struct ring *ring, int fd, const struct iovec *pieces, unsigned count, uint64_t tag)
{
    return write_submission(ring, fd, pieces, count, tag) == NULL ? -EAGAIN : 0;
}

int ring_write_async(struct ring *ring, int fd, const struct iovec *pieces, unsigned count, uint64_t tag)
{
    struct io_uring_sqe *sqe = write_submission(ring, fd, pieces, count, tag);
    if (sqe == NULL)
        return -EAGAIN;
    sqe->flags |= IOSQE_ASYNC;
    return 0;
}

int ring_cancel(struct ring *ring, uint64_t tag, uint64_t own_tag)
{
    struct io_uring_sqe *sqe = submission(ring, own_tag);
    if (sqe == NULL)
        return -EAGAIN;
    io_uring_prep_cancel64(sqe, tag, 0);
    io_uring_sqe_set_data64(sqe, own_tag);
    return 0;
}

int ring_submit(struct ring *ring)
{
    if (io_uring_sq_ready(&ring->uring) == 0)
        return 0;
    ring->system_calls++;
    return io_uring_submit(&ring->uring);
}

int ring_progress(struct ring *ring)
{
    ring->system_calls++;
    int result = io_uring_submit_and_get_events(&ring->uring);
    return result < 0 ? result : 0;
}

static void release_held(struct ring *ring)
{
    if (ring->held)
        io_uring_cq_advance(&ring->uring, 1);
    ring->held = false;
}

int ring_wait(struct ring *ring, unsigned count, int timeout)
{
    release_held(ring);
    ring->system_calls++;
    int result;
    if (timeout < 0) {
        result = io_uring_submit_and_wait(&ring->uring, count);
    } else {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec limit = {.tv_sec = timeout / 1000, .tv_nsec = (long long)(timeout % 1000) * 1000000};
        result = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, count, &limit, NULL);
    }
    return result < 0 && result != -ETIME ? result : 0;
}

bool ring_next(struct ring *ring, struct ring_completion *completion)
{
    struct io_uring_cqe *cqe;
    release_held(ring);
    if (io_uring_peek_cqe(&ring->uring, &cqe) != 0)
        return false;
    completion->tag = cqe->user_data;
    completion->result = cqe->res;
    completion->buffer = cqe->flags & IORING_CQE_F_BUFFER ? (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) : -1;
    completion->more = cqe->flags & IORING_CQE_F_MORE;
    ring->held = true;
    return true;
}

uint64_t ring_system_calls(const struct ring *ring)
{
    return ring->system_calls;
}
