/* The floor: what a server over /dev/fuse costs at the least. One blocking read, one writev, nothing else: no event
 * loop, no checks, one request at a time. */
#include "floor.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>

struct reply {
    struct out_header header;
    union body body;
};

static _Alignas(4096) char content[BENCH_MAX_WRITE]; /* on a page, in every server alike: it saves the kernel one */
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

/* Reads one request and answers it: false when the connection has ended. */
static bool serve_one(int device, void *buffer)
{
    if (read(device, buffer, FLOOR_READ_BUFFER) < 0)
        return !stopped && (errno == EINTR || errno == ENOENT || errno == EAGAIN);
    const struct in_header *request = buffer;
    const void *arguments = request + 1;
    if (request->opcode == FUSEWIRE_FORGET || request->opcode == FUSEWIRE_BATCH_FORGET ||
        request->opcode == FUSEWIRE_INTERRUPT)
        return true;

    struct reply reply;
    size_t data = 0;
    ptrdiff_t body = request->opcode == FUSEWIRE_INIT ? (ptrdiff_t)floor_init(arguments, 0, &reply.body.init)
                                                      : floor_answer(request, arguments, &reply.body, &data);
    size_t head = sizeof reply.header + (body > 0 ? (size_t)body : 0);
    reply.header = (struct out_header){
        .len = (uint32_t)(head + data), .error = body < 0 ? (int32_t)body : 0, .unique = request->unique};
    struct iovec pieces[] = {{&reply, head}, {content, data}};
    if (writev(device, pieces, data ? 2 : 1) < 0 && errno != ENOENT)
        perror("floor: writev");
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: floor MOUNTPOINT\n");
        return 2;
    }
    const char *mountpoint = argv[1];
    void *buffer = aligned_alloc(4096, FLOOR_READ_BUFFER);
    int device = buffer ? floor_mount("floor", mountpoint, 0) : -1;
    if (device < 0)
        return 1;
    memset(content, BENCH_CONTENT, sizeof content);

    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL); /* without SA_RESTART: it ends the read */
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    while (!stopped && serve_one(device, buffer))
        ;
    umount2(mountpoint, MNT_DETACH);
    return 0;
}
