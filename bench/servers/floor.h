/* What the floors share: the protocol's own layouts, as far as fusewire.h does not have them, and the answers, which
 * are as much of the bench filesystem as the load generator asks for. */
#ifndef FLOOR_H
#define FLOOR_H

#include "bench_filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>

enum { FLOOR_READ_BUFFER = BENCH_MAX_WRITE + 4096 };

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
    uint32_t flags2, rest[7];
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

union body {
    struct init_reply init;
    struct attr_reply attr;
    fusewire_entry entry;
    struct open_reply open;
    struct write_reply write;
    struct statfs_reply statfs;
};

/* Agrees to what is `wanted` of the capabilities that the kernel offers. */
static inline size_t floor_init(const struct init *offered, uint64_t wanted, struct init_reply *reply)
{
    wanted |=
        FUSEWIRE_CAP(ASYNC_READ) | FUSEWIRE_CAP(BIG_WRITES) | FUSEWIRE_CAP(MAX_PAGES) | FUSEWIRE_CAP(PARALLEL_DIROPS);
    *reply = (struct init_reply){
        .init = {.major = 7,
                 .minor = 31,
                 .max_readahead = offered->max_readahead,
                 .flags = offered->flags & (uint32_t)wanted},
        .max_write = BENCH_MAX_WRITE,
        .max_pages = BENCH_MAX_WRITE / 4096,
        .time_gran = 1,
        .flags2 = (uint32_t)(wanted >> 32),
    };
    return sizeof *reply;
}

/* Fills the reply's body; returns its size or a negative errno. *data bytes of content follow it. The body may lie
 * where the arguments do. */
static inline ptrdiff_t floor_answer(const struct in_header *request, const void *arguments, union body *body,
                                     size_t *data)
{
    switch (request->opcode) {
    case FUSEWIRE_LOOKUP:
        return bench_lookup(request->nodeid, arguments, &body->entry) < 0 ? -ENOENT : (ptrdiff_t)sizeof body->entry;
    case FUSEWIRE_GETATTR:
        body->attr = (struct attr_reply){0};
        bench_attr(request->nodeid, &body->attr.attr);
        return sizeof body->attr;
    case FUSEWIRE_OPEN:
        body->open = (struct open_reply){.flags = FUSEWIRE_FOPEN_DIRECT_IO};
        return sizeof body->open;
    case FUSEWIRE_READ:
        *data = ((const struct io *)arguments)->size;
        return 0;
    case FUSEWIRE_WRITE:
        body->write = (struct write_reply){.size = ((const struct io *)arguments)->size};
        return sizeof body->write;
    case FUSEWIRE_STATFS:
        body->statfs = (struct statfs_reply){0};
        return sizeof body->statfs;
    case FUSEWIRE_RELEASE:
        return 0;
    default:
        return -ENOSYS;
    }
}

/* Mounts a new connection: its device, or -1 with words said. */
static inline int floor_mount(const char *name, const char *mountpoint, int open_flags)
{
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC | open_flags);
    char options[80];
    char type[80];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    snprintf(type, sizeof type, "fuse.bench-%s", name);
    if (device < 0 || mount(type + strlen("fuse."), mountpoint, type, MS_NOSUID | MS_NODEV, options) < 0) {
        perror(device < 0 ? "/dev/fuse" : "mount");
        return -1;
    }
    return device;
}

#endif
