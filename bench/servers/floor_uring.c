/* The floor of FUSE-over-io_uring: what a server over it costs at the least. The commits of one round and the wait for
 * the next requests are one io_uring_enter; a reply is made in its entry's payload, and content that lies there already
 * is not put there again (--fill: it is, on each READ, as a filesystem does that holds its data elsewhere). Large reads
 * by many clients still find more of it in the caches over /dev/fuse, where all are answered from the same memory.
 *
 *     --per-cpu     a thread for each CPU, bound to it, serves that CPU's queue: the default
 *     --one-thread  one thread serves all queues */
#include "cpus.h"
#include "floor.h"

#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

enum {
    DEPTH = 8, /* entries of each queue, as libfuse has; each payload in use takes its part of the caches */
    REGISTER = 1,
    COMMIT_AND_FETCH = 2
};

/* The protocol's layouts that only FUSE-over-io_uring has. */
struct uring_header {
    union {
        struct in_header in;
        struct out_header out;
        char in_out[128];
    };
    char arguments[128]; /* the first one; what follows it is in the payload */
    uint64_t flags, commit_id;
    uint32_t payload_size, padding;
    uint64_t reserved;
};

struct uring_command {
    uint64_t flags, commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

_Static_assert(sizeof(struct uring_header) == 288, "the kernel's");
_Static_assert(sizeof(struct uring_command) == 24, "the kernel's");

struct entry {
    struct uring_header *header;
    char *payload;
    struct iovec pieces[2];
    size_t foreign_start, foreign_end; /* what of the payload may be other than content */
    unsigned queue;
};

/* One thread's part. */
struct worker {
    pthread_t thread;
    int cpu; /* that it is bound to, or -1 */
    struct io_uring ring;
    struct entry *entries;
    unsigned entry_count;
    void *buffer; /* for /dev/fuse, of the one worker that reads it */
};

static int device;
static bool fill;
static pthread_t main_thread;

/* The next entry for the kernel. The ring has room for all that a round can need. */
static void submit(struct worker *worker, struct entry *entry, uint32_t operation)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&worker->ring);
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, entry->pieces, 2, 0);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->cmd_op = operation;
    *(struct uring_command *)sqe->cmd =
        (struct uring_command){.commit_id = entry->header->commit_id, .queue = (uint16_t)entry->queue};
    io_uring_sqe_set_data(sqe, entry);
}

static void put_content(struct entry *entry, size_t size)
{
    if (fill) {
        memset(entry->payload, BENCH_CONTENT, size);
        return;
    }
    size_t end = size < entry->foreign_end ? size : entry->foreign_end;
    if (entry->foreign_start < end) {
        memset(entry->payload + entry->foreign_start, BENCH_CONTENT, end - entry->foreign_start);
        entry->foreign_start = end;
    }
}

static void note_foreign(struct entry *entry, size_t size)
{
    if (size == 0)
        return;
    /* The gap up to foreign_start, if any, counts as foreign too: one range is enough. */
    entry->foreign_start = 0;
    if (entry->foreign_end < size)
        entry->foreign_end = size;
}

static void answer(struct entry *entry)
{
    struct uring_header *header = entry->header;
    const struct in_header request = header->in;
    note_foreign(entry, header->payload_size);

    size_t data = 0;
    const void *arguments = request.opcode == FUSEWIRE_LOOKUP ? entry->payload : header->arguments;
    ptrdiff_t body = floor_answer(&request, arguments, (union body *)entry->payload, &data);
    if (data > 0)
        put_content(entry, data);
    else if (body > 0)
        note_foreign(entry, (size_t)body);
    header->payload_size = (uint32_t)(data + (body > 0 ? (size_t)body : 0));
    header->out = (struct out_header){.len = (uint32_t)sizeof header->out + header->payload_size,
                                      .error = body < 0 ? (int32_t)body : 0,
                                      .unique = request.unique};
}

static void watch_device(struct worker *worker)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&worker->ring);
    io_uring_prep_poll_add(sqe, 0, POLLIN);
    sqe->flags = IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, NULL);
}

/* Reads what waits on /dev/fuse: false when the connection has ended. Nothing comes there that takes an answer, unless
 * the kernel does not use the queues, and then this is no floor of theirs. */
static bool read_device(struct worker *worker)
{
    const struct in_header *request = worker->buffer;
    while (read(device, worker->buffer, FLOOR_READ_BUFFER) > 0 || errno == EINTR || errno == ENOENT) {
        if (request->opcode != FUSEWIRE_FORGET && request->opcode != FUSEWIRE_BATCH_FORGET &&
            request->opcode != FUSEWIRE_INTERRUPT) {
            fprintf(stderr, "floor_uring: the kernel sends requests (opcode %u) over /dev/fuse\n", request->opcode);
            return false;
        }
    }
    return errno == EAGAIN;
}

/* Serves what has completed: false when the connection has ended. */
static bool serve_round(struct worker *worker)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;
    bool goes_on = true;
    io_uring_for_each_cqe(&worker->ring, head, cqe)
    {
        count++;
        struct entry *entry = io_uring_cqe_get_data(cqe);
        if (!entry) {
            goes_on = goes_on && read_device(worker);
            watch_device(worker);
        } else if (cqe->res == 0) {
            answer(entry);
            submit(worker, entry, COMMIT_AND_FETCH);
        } else {
            if (cqe->res != -ENOTCONN)
                fprintf(stderr, "floor_uring: queue %u: %s\n", entry->queue, strerror(-cqe->res));
            goes_on = false;
        }
    }
    io_uring_cq_advance(&worker->ring, count);
    return goes_on;
}

/* Both flags bind the ring to the thread that makes it. */
static int set_up(struct worker *worker)
{
    const unsigned flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    int result = io_uring_queue_init(worker->entry_count + 1, &worker->ring, flags);
    if (result < 0)
        return result;
    if (worker->cpu >= 0)
        bind_to_cpu((unsigned)worker->cpu);
    io_uring_register_ring_fd(&worker->ring);
    result = io_uring_register_files(&worker->ring, &device, 1);
    if (result < 0)
        return result;
    for (unsigned i = 0; i < worker->entry_count; i++)
        submit(worker, &worker->entries[i], REGISTER);
    if (worker->buffer)
        watch_device(worker);
    return 0;
}

static void *serve(void *argument)
{
    struct worker *worker = argument;
    int result = set_up(worker);
    while (result >= 0) {
        result = io_uring_submit_and_wait(&worker->ring, 1);
        if (result == -EINTR)
            result = 0;
        if (result >= 0 && !serve_round(worker))
            break;
    }
    if (result < 0)
        fprintf(stderr, "floor_uring: %s\n", strerror(-result));
    pthread_kill(main_thread, SIGTERM);
    return NULL;
}

/* Adds a queue's entries to a worker's. */
static bool add_queue(struct worker *worker, unsigned queue)
{
    struct entry *entries = realloc(worker->entries, (worker->entry_count + DEPTH) * sizeof *entries);
    if (!entries)
        return false;
    worker->entries = entries;
    for (unsigned i = 0; i < DEPTH; i++) {
        struct entry *entry = &entries[worker->entry_count];
        *entry = (struct entry){.header = aligned_alloc(32, sizeof *entry->header),
                                .payload = aligned_alloc(4096, BENCH_MAX_WRITE),
                                .foreign_end = BENCH_MAX_WRITE,
                                .queue = queue};
        if (!entry->header || !entry->payload)
            return false;
        memset(entry->header, 0, sizeof *entry->header);
        entry->pieces[0] = (struct iovec){entry->header, sizeof *entry->header};
        entry->pieces[1] = (struct iovec){entry->payload, BENCH_MAX_WRITE};
        worker->entry_count++;
    }
    return true;
}

/* The first worker serves the queues that have none of their own, and /dev/fuse. */
static bool start_workers(bool one_thread)
{
    static struct worker workers[CPU_SETSIZE];
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    unsigned worker_count = 0;
    unsigned queues = possible_cpus();
    for (unsigned queue = 0; queue < queues; queue++) {
        bool own = !one_thread && CPU_ISSET(queue, &allowed);
        struct worker *worker = &workers[own && queue > 0 ? worker_count : 0];
        if (worker_count == 0 || worker == &workers[worker_count]) {
            worker->cpu = own ? (int)queue : -1;
            worker_count++;
        }
        if (!add_queue(worker, queue))
            return false;
    }
    workers[0].buffer = aligned_alloc(4096, FLOOR_READ_BUFFER);
    if (!workers[0].buffer)
        return false;
    for (unsigned i = 0; i < worker_count; i++)
        if (pthread_create(&workers[i].thread, NULL, serve, &workers[i]) != 0)
            return false;
    return true;
}

/* INIT comes over /dev/fuse, and nothing goes over the queues before its answer. */
static bool answer_init(void)
{
    struct {
        struct out_header header;
        struct init_reply init;
    } reply;
    char *buffer = aligned_alloc(4096, FLOOR_READ_BUFFER);
    const struct in_header *request = (const void *)buffer;
    struct pollfd readable = {.fd = device, .events = POLLIN};
    if (!buffer || poll(&readable, 1, -1) < 0 || read(device, buffer, FLOOR_READ_BUFFER) < 0)
        return false;

    const struct init *offered = (const void *)(request + 1);
    uint64_t capabilities = offered->flags | (uint64_t)((const uint32_t *)(offered + 1))[0] << 32;
    if (!(capabilities & FUSEWIRE_CAP(OVER_IO_URING))) {
        fprintf(stderr, "floor_uring: the kernel does not offer FUSE-over-io_uring\n");
        return false;
    }
    floor_init(offered, FUSEWIRE_CAP(INIT_EXT) | FUSEWIRE_CAP(OVER_IO_URING), &reply.init);
    reply.header = (struct out_header){.len = sizeof reply, .unique = request->unique};
    bool written = write(device, &reply, sizeof reply) == sizeof reply;
    free(buffer);
    return written;
}

int main(int argc, char **argv)
{
    const char *mountpoint = NULL;
    bool one_thread = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--one-thread") == 0 || strcmp(argv[i], "--per-cpu") == 0)
            one_thread = argv[i][2] == 'o';
        else if (strcmp(argv[i], "--fill") == 0)
            fill = true;
        else if (!mountpoint && argv[i][0] != '-')
            mountpoint = argv[i];
        else
            argc = 0;
    }
    if (!mountpoint || argc == 0) {
        fprintf(stderr, "usage: floor_uring [--per-cpu | --one-thread] [--fill] MOUNTPOINT\n");
        return 2;
    }

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in all threads: this one waits for them */
    main_thread = pthread_self();
    device = floor_mount("floor-uring", mountpoint, O_NONBLOCK);
    if (device < 0)
        return 1;
    bool serving = answer_init() && start_workers(one_thread);
    int signal;
    if (serving)
        sigwait(&signals, &signal);
    umount2(mountpoint, MNT_DETACH);
    return serving ? 0 : 1; /* ends the threads, whatever they wait for */
}
