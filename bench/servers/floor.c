/* The floor: what a server over /dev/fuse costs at the least. One blocking read, one writev, nothing else: no event
 * loop, no checks, one request at a time, and as much of the bench filesystem as the load generator asks for. */
#include "bench_filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <fusewire.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_BUFFER = BENCH_MAX_WRITE + 4096 };

/* The protocol's own layouts, as far as fusewire.h does not have them. */
struct in_header {
    uint32_t len, opcode;
    uint64_t unique, nodeid;
    uint32_t uid, gid, pid, extlen;
};

struct out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};

struct init {
    uint32_t major, minor, max_readahead, flags;
};

struct init_reply {
    struct init init;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t rest[8];
};

struct io { /* of READ and WRITE */
    uint64_t fh, offset;
    uint32_t size, flags;
};

struct attr_reply {
    uint64_t valid;
    uint32_t valid_nsec, padding;
    fusewire_attr attr;
};

struct open_reply {
    uint64_t fh;
    uint32_t flags;
    int32_t backing_id;
};

struct write_reply {
    uint32_t size, padding;
};

struct statfs_reply {
    fusewire_statfs statfs;
    uint32_t spare[6];
};

struct reply {
    struct out_header header;
    union {
        struct init_reply init;
        struct attr_reply attr;
        fusewire_entry entry;
        struct open_reply open;
        struct write_reply write;
        struct statfs_reply statfs;
    } body;
};

static _Alignas(4096) char content[BENCH_MAX_WRITE]; /* on a page, in every server alike: it saves the kernel one */
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static size_t answer_init(const struct init *offered, struct init_reply *reply)
{
    const uint32_t wanted = (uint32_t)(FUSEWIRE_CAP(ASYNC_READ) | FUSEWIRE_CAP(BIG_WRITES) | FUSEWIRE_CAP(MAX_PAGES) |
                                       FUSEWIRE_CAP(PARALLEL_DIROPS));
    reply->init = (struct init){
        .major = 7, .minor = 31, .max_readahead = offered->max_readahead, .flags = offered->flags & wanted};
    reply->max_write = BENCH_MAX_WRITE;
    reply->max_pages = BENCH_MAX_WRITE / 4096;
    reply->time_gran = 1;
    return sizeof *reply;
}

/* Fills the reply's body; returns its size or a negative errno. *data bytes of content follow it. */
static ptrdiff_t answer(const struct in_header *request, struct reply *reply, size_t *data)
{
    const void *arguments = request + 1;
    switch (request->opcode) {
    case FUSEWIRE_INIT:
        return (ptrdiff_t)answer_init(arguments, &reply->body.init);
    case FUSEWIRE_LOOKUP:
        if (bench_lookup(request->nodeid, arguments, &reply->body.entry) < 0)
            return -ENOENT;
        return sizeof reply->body.entry;
    case FUSEWIRE_GETATTR:
        bench_attr(request->nodeid, &reply->body.attr.attr);
        return sizeof reply->body.attr;
    case FUSEWIRE_OPEN:
        reply->body.open.flags = FUSEWIRE_FOPEN_DIRECT_IO;
        return sizeof reply->body.open;
    case FUSEWIRE_READ:
        *data = ((const struct io *)arguments)->size;
        return 0;
    case FUSEWIRE_WRITE:
        reply->body.write.size = ((const struct io *)arguments)->size;
        return sizeof reply->body.write;
    case FUSEWIRE_STATFS:
        return sizeof reply->body.statfs;
    case FUSEWIRE_RELEASE:
        return 0;
    default:
        return -ENOSYS;
    }
}

/* Reads one request and answers it: false when the connection has ended. */
static bool serve_one(int device, void *buffer)
{
    if (read(device, buffer, READ_BUFFER) < 0)
        return !stopped && (errno == EINTR || errno == ENOENT || errno == EAGAIN);
    const struct in_header *request = buffer;
    if (request->opcode == FUSEWIRE_FORGET || request->opcode == FUSEWIRE_BATCH_FORGET ||
        request->opcode == FUSEWIRE_INTERRUPT)
        return true;

    struct reply reply = {.header.unique = request->unique};
    size_t data = 0;
    ptrdiff_t body = answer(request, &reply, &data);
    if (body < 0) {
        reply.header.error = (int32_t)body;
        body = 0;
    }
    reply.header.len = (uint32_t)(sizeof reply.header + (size_t)body + data);
    struct iovec pieces[] = {{&reply, sizeof reply.header + (size_t)body}, {content, data}};
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
    void *buffer = aligned_alloc(4096, READ_BUFFER);
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (!buffer || device < 0) {
        perror("floor: /dev/fuse");
        return 1;
    }
    memset(content, BENCH_CONTENT, sizeof content);
    char options[80];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (mount("bench-floor", mountpoint, "fuse.bench-floor", MS_NOSUID | MS_NODEV, options) < 0) {
        perror("floor: mount");
        return 1;
    }

    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL); /* without SA_RESTART: it ends the read */
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    while (!stopped && serve_one(device, buffer))
        ;
    umount2(mountpoint, MNT_DETACH);
    return 0;
}
