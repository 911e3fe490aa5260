/* The bench filesystem on fusewire, on the transport asked for: in the library's own blocking read, or with --loop in
 * an event loop of its own around fusewire_fd. */
#include "bench_filesystem.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 64 };

static _Alignas(4096) char content[BENCH_MAX_WRITE]; /* on a page, in every server alike: it saves the kernel one */
static fusewire_connection *served;

static void stop(int signal)
{
    (void)signal;
    fusewire_notify_unmount(served);
}

static void answer(fusewire_connection *connection, const fusewire_request *request)
{
    switch (request->opcode) {
    case FUSEWIRE_LOOKUP: {
        fusewire_entry entry;
        if (bench_lookup(request->nodeid, request->name, &entry) < 0)
            fusewire_reply_error(connection, request->id, -ENOENT);
        else
            fusewire_reply_entry(connection, request->id, &entry);
        break;
    }
    case FUSEWIRE_GETATTR: {
        fusewire_attr attr;
        bench_attr(request->nodeid, &attr);
        fusewire_reply_attr(connection, request->id, 0, 0, &attr);
        break;
    }
    case FUSEWIRE_OPEN:
        fusewire_reply_open(connection, request->id, 0, FUSEWIRE_FOPEN_DIRECT_IO, 0);
        break;
    case FUSEWIRE_READ:
        fusewire_reply_data(connection, request->id, content, request->length);
        break;
    case FUSEWIRE_WRITE:
        fusewire_reply_write(connection, request->id, request->data_size);
        break;
    case FUSEWIRE_STATFS:
        fusewire_reply_statfs(connection, request->id, &(fusewire_statfs){.bsize = 4096});
        break;
    case FUSEWIRE_RELEASE:
        fusewire_reply_ok(connection, request->id);
        break;
    default:
        if (request->id)
            fusewire_reply_error(connection, request->id, -ENOSYS);
    }
}

/* Serves one batch: their number, or the negative errno that fusewire_read gave. */
static int turn(fusewire_connection *connection, int timeout)
{
    static fusewire_request requests[BATCH];
    int count = fusewire_read(connection, requests, BATCH, sizeof *requests, timeout);
    for (int i = 0; i < count; i++)
        answer(connection, &requests[i]);
    return count;
}

static int serve(fusewire_connection *connection)
{
    int count;
    do
        count = turn(connection, -1);
    while (count >= 0 || count == -EINTR);
    return count;
}

static int serve_in_loop(fusewire_connection *connection)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, fusewire_fd(connection), &(struct epoll_event){.events = EPOLLIN}) < 0)
        return -errno;
    for (;;) {
        int count;
        do
            count = turn(connection, 0);
        while (count > 0 || count == -EINTR);
        if (count < 0) {
            close(epoll);
            return count;
        }
        struct epoll_event event;
        epoll_wait(epoll, &event, 1, -1);
    }
}

int main(int argc, char **argv)
{
    const char *mountpoint = NULL;
    fusewire_options options = {.size = sizeof options, .mount_options = "fsname=bench-fusewire"};
    bool own_loop = false;
    for (int i = 1; i < argc; i++) {
        const char *transport = strcmp(argv[i], "-o") == 0 && i + 1 < argc ? argv[++i] : NULL;
        if (transport && strcmp(transport, "transport=poll") == 0)
            options.transport = FUSEWIRE_TRANSPORT_POLL;
        else if (transport && strcmp(transport, "transport=ring") == 0)
            options.transport = FUSEWIRE_TRANSPORT_RING;
        else if (strcmp(argv[i], "--loop") == 0)
            own_loop = true;
        else if (!transport && !mountpoint && argv[i][0] != '-')
            mountpoint = argv[i];
        else
            argc = 0;
    }
    if (!mountpoint || argc == 0) {
        fprintf(stderr, "usage: wire_server [--loop] [-o transport=poll|ring] MOUNTPOINT\n");
        return 2;
    }

    memset(content, BENCH_CONTENT, sizeof content);
    if (fusewire_open(&served, mountpoint, &options) < 0) {
        fprintf(stderr, "wire_server: %s\n", fusewire_last_error());
        return 1;
    }
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    int end = own_loop ? serve_in_loop(served) : serve(served);
    fusewire_close(served);
    if (end != -ENODEV && end != -ESHUTDOWN) {
        fprintf(stderr, "wire_server: %s\n", strerror(-end));
        return 1;
    }
    return 0;
}
