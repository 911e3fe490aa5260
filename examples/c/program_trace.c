#include "program_run.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const opcode_names[] = {
    [FUSEWIRE_LOOKUP] = "LOOKUP",
    [FUSEWIRE_FORGET] = "FORGET",
    [FUSEWIRE_GETATTR] = "GETATTR",
    [FUSEWIRE_SETATTR] = "SETATTR",
    [FUSEWIRE_READLINK] = "READLINK",
    [FUSEWIRE_SYMLINK] = "SYMLINK",
    [FUSEWIRE_MKNOD] = "MKNOD",
    [FUSEWIRE_MKDIR] = "MKDIR",
    [FUSEWIRE_UNLINK] = "UNLINK",
    [FUSEWIRE_RMDIR] = "RMDIR",
    [FUSEWIRE_RENAME] = "RENAME",
    [FUSEWIRE_LINK] = "LINK",
    [FUSEWIRE_OPEN] = "OPEN",
    [FUSEWIRE_READ] = "READ",
    [FUSEWIRE_WRITE] = "WRITE",
    [FUSEWIRE_STATFS] = "STATFS",
    [FUSEWIRE_RELEASE] = "RELEASE",
    [FUSEWIRE_FSYNC] = "FSYNC",
    [FUSEWIRE_SETXATTR] = "SETXATTR",
    [FUSEWIRE_GETXATTR] = "GETXATTR",
    [FUSEWIRE_LISTXATTR] = "LISTXATTR",
    [FUSEWIRE_REMOVEXATTR] = "REMOVEXATTR",
    [FUSEWIRE_FLUSH] = "FLUSH",
    [FUSEWIRE_INIT] = "INIT",
    [FUSEWIRE_OPENDIR] = "OPENDIR",
    [FUSEWIRE_READDIR] = "READDIR",
    [FUSEWIRE_RELEASEDIR] = "RELEASEDIR",
    [FUSEWIRE_FSYNCDIR] = "FSYNCDIR",
    [FUSEWIRE_GETLK] = "GETLK",
    [FUSEWIRE_SETLK] = "SETLK",
    [FUSEWIRE_SETLKW] = "SETLKW",
    [FUSEWIRE_ACCESS] = "ACCESS",
    [FUSEWIRE_CREATE] = "CREATE",
    [FUSEWIRE_INTERRUPT] = "INTERRUPT",
    [FUSEWIRE_BMAP] = "BMAP",
    [FUSEWIRE_DESTROY] = "DESTROY",
    [FUSEWIRE_IOCTL] = "IOCTL",
    [FUSEWIRE_POLL] = "POLL",
    [FUSEWIRE_NOTIFY_REPLY] = "NOTIFY_REPLY",
    [FUSEWIRE_BATCH_FORGET] = "BATCH_FORGET",
    [FUSEWIRE_FALLOCATE] = "FALLOCATE",
    [FUSEWIRE_READDIRPLUS] = "READDIRPLUS",
    [FUSEWIRE_RENAME2] = "RENAME2",
    [FUSEWIRE_LSEEK] = "LSEEK",
    [FUSEWIRE_COPY_FILE_RANGE] = "COPY_FILE_RANGE",
    [FUSEWIRE_SETUPMAPPING] = "SETUPMAPPING",
    [FUSEWIRE_REMOVEMAPPING] = "REMOVEMAPPING",
    [FUSEWIRE_SYNCFS] = "SYNCFS",
    [FUSEWIRE_TMPFILE] = "TMPFILE",
    [FUSEWIRE_STATX] = "STATX",
    [FUSEWIRE_COPY_FILE_RANGE_64] = "COPY_FILE_RANGE_64",
};

void trace_request(const fusewire_request *request)
{
    char number[16];
    const char *opcode = NULL;
    if (request->opcode < sizeof opcode_names / sizeof opcode_names[0])
        opcode = opcode_names[request->opcode];
    if (request->opcode == FUSEWIRE_OUTCOME)
        opcode = "OUTCOME";
    if (opcode == NULL) {
        snprintf(number, sizeof number, "%" PRIu32, request->opcode);
        opcode = number;
    }
    /* In one call each, so that lines of several workers do not mix. */
    if (request->newname != NULL)
        fprintf(stderr, "%s node %" PRIu64 " name %s to %s\n", opcode, request->nodeid, request->name,
                request->newname);
    else if (request->name != NULL)
        fprintf(stderr, "%s node %" PRIu64 " name %s\n", opcode, request->nodeid, request->name);
    else
        fprintf(stderr, "%s node %" PRIu64 " offset %" PRIu64 " length %" PRIu64 "\n", opcode, request->nodeid,
                request->offset, request->length);
}

static const char *transport_name(uint32_t transport)
{
    switch (transport) {
    case FUSEWIRE_TRANSPORT_POLL:
        return "poll";
    case FUSEWIRE_TRANSPORT_RING:
        return "ring";
    case FUSEWIRE_TRANSPORT_URING:
        return "uring";
    default:
        return "none";
    }
}

void trace_statistics(int fd, const struct program *program, uint32_t workers, const fusewire_statistics *statistics)
{
    dprintf(fd,
            "program %s\nworkers %" PRIu32 "\ntransport %s\nread %" PRIu64 "\nanswered %" PRIu64 "\nforgets %" PRIu64
            "\nopen %" PRIu32 "\nopen_peak %" PRIu32 "\ninterrupts %" PRIu64 "\nretrieved %" PRIu64
            "\nnotifications %" PRIu64 "\nnotifications_failed %" PRIu64 "\nreplies_gone %" PRIu64
            "\nreplies_failed %" PRIu64 "\nmalformed %" PRIu64 "\nbatches %" PRIu64 "\nsystem_calls %" PRIu64
            "\nmemory %" PRIu64 "\nqueues %" PRIu32 "\nqueue_depth %" PRIu32 "\npayload_size %" PRIu64
            "\ntransport_reason %s\n\n",
            program->name, workers, transport_name(statistics->transport), statistics->read, statistics->answered,
            statistics->forgets, statistics->open, statistics->open_peak, statistics->interrupts, statistics->retrieved,
            statistics->notifications, statistics->notifications_failed, statistics->replies_gone,
            statistics->replies_failed, statistics->malformed, statistics->batches, statistics->system_calls,
            statistics->memory, statistics->queues, statistics->queue_depth, statistics->payload_size,
            statistics->transport_reason);
}
