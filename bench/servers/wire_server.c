/* The bench filesystem on fusewire, on the transport asked for: in the library's own blocking read, or with --loop in
 * an event loop of its own around fusewire_fd. With -o workers=cpus a thread for each CPU, bound to it, serves that
 * CPU's clients over FUSE-over-io_uring, on a connection of its own. With --check in place of a mount point it only
 * says whether the library takes the options, here and now. */
#include "bench_filesystem.h"
#include "cpus.h"

#include <pthread.h>
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

/* Memory that the library has lent, and how much content lies in it: as in the bare loop over io_uring what is there is
 * not put there again. Of each thread, since it is lent by its connection. */
enum { LOANS = 4096, FOREIGN = 4096 /* the most that messages without data leave at its beginning */ };
static _Thread_local struct {
    const void *memory;
    size_t content;
} loans[LOANS];

static size_t *loan(const void *memory)
{
    size_t at = (uintptr_t)memory / 4096 * 2654435761U % LOANS;
    if (loans[at].memory != memory)
        loans[at].content = 0;
    loans[at].memory = memory;
    return &loans[at].content;
}

/* Over /dev/fuse replies come from the content itself, over io_uring from lent memory: without a copy either way. */
static bool over_io_uring;

static void answer_read(fusewire_connection *connection, const fusewire_request *request)
{
    void *data;
    size_t capacity;
    if (!over_io_uring || request->length <= FOREIGN ||
        fusewire_borrow(connection, request->id, &data, &capacity) < 0) {
        fusewire_reply_data(connection, request->id, content, request->length);
        return;
    }
    size_t *known = loan(data);
    memset(data, BENCH_CONTENT, FOREIGN);
    if (*known < request->length) {
        memset(data, BENCH_CONTENT, request->length);
        *known = request->length;
    }
    fusewire_reply_borrowed(connection, request->id, request->length);
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
        answer_read(connection, request);
        break;
    case FUSEWIRE_WRITE:
        *loan(request->data) = 0;
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
    fusewire_request requests[BATCH];
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

/* A clone that serves one CPU, and its thread. */
struct worker {
    pthread_t thread;
    fusewire_connection *connection;
    unsigned cpu;
    bool started;
};

static struct worker workers[CPU_SETSIZE];

static void *work(void *argument)
{
    struct worker *worker = argument;
    bind_to_cpu(worker->cpu);
    serve(worker->connection);
    return NULL;
}

/* The CPUs that this thread serves itself: the first that it may run on, and those that it may not. */
static unsigned own_cpus(char *list, size_t size)
{
    cpu_set_t allowed;
    unsigned first = possible_cpus();
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (unsigned cpu = 0; cpu < possible_cpus(); cpu++) {
        bool is_allowed = CPU_ISSET(cpu, &allowed);
        if (is_allowed && first < cpu)
            continue;
        first = is_allowed ? cpu : first;
        size_t length = strlen(list);
        snprintf(list + length, size - length, "%s%u", length ? "," : "", cpu);
    }
    return first;
}

static int start_workers(unsigned own_cpu)
{
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (unsigned cpu = own_cpu + 1; cpu < possible_cpus(); cpu++) {
        struct worker *worker = &workers[cpu];
        char name[16];
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        snprintf(name, sizeof name, "%u", cpu);
        fusewire_options options = {.size = sizeof options, .transport = FUSEWIRE_TRANSPORT_URING, .cpus = name};
        worker->cpu = cpu;
        int result = fusewire_clone(&worker->connection, served, &options);
        if (result < 0)
            return result;
        result = pthread_create(&worker->thread, NULL, work, worker);
        if (result > 0)
            return -result;
        worker->started = true;
    }
    bind_to_cpu(own_cpu);
    return 0;
}

static void end_workers(void)
{
    fusewire_notify_unmount(served);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (workers[cpu].started)
            pthread_join(workers[cpu].thread, NULL);
        fusewire_close(workers[cpu].connection);
    }
}

static bool take_transport(const char *name, uint32_t *transport)
{
    static const char *const names[] = {[FUSEWIRE_TRANSPORT_AUTO] = "auto",
                                        [FUSEWIRE_TRANSPORT_POLL] = "poll",
                                        [FUSEWIRE_TRANSPORT_RING] = "ring",
                                        [FUSEWIRE_TRANSPORT_URING] = "uring"};
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *transport = i;
            return true;
        }
    }
    return false;
}

/* What follows -o: "name=value,..."; false, with words said, where it is not known. */
static bool take_options(char *list, fusewire_options *options, bool *per_cpu)
{
    for (char *item; (item = strsep(&list, ","));) {
        char *value = strchr(item, '=');
        if (value)
            *value++ = '\0';
        if (value && strcmp(item, "transport") == 0 && take_transport(value, &options->transport))
            continue;
        if (value && strcmp(item, "workers") == 0 && strcmp(value, "cpus") == 0) {
            *per_cpu = true;
            continue;
        }
        fprintf(stderr, "wire_server: option %s%s%s is not known\n", item, value ? "=" : "", value ? value : "");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *mountpoint = NULL;
    fusewire_options options = {.size = sizeof options, .mount_options = "fsname=bench-fusewire"};
    bool own_loop = false;
    bool check = false;
    bool per_cpu = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) {
            if (!take_options(argv[++i], &options, &per_cpu))
                return 2;
        } else if (strcmp(argv[i], "--loop") == 0) {
            own_loop = true;
        } else if (strcmp(argv[i], "--check") == 0) {
            check = true;
        } else if (!mountpoint && argv[i][0] != '-') {
            mountpoint = argv[i];
        } else {
            argc = 0;
        }
    }
    if (argc == 0 || check == (mountpoint != NULL)) {
        fprintf(
            stderr,
            "usage: wire_server [--loop] [-o transport=auto|poll|ring|uring[,workers=cpus]] MOUNTPOINT | --check\n");
        return 2;
    }

    memset(content, BENCH_CONTENT, sizeof content);
    char cpus[4096] = "";
    unsigned own_cpu = 0;
    if (check)
        options.mount_options = NULL;
    if (per_cpu) {
        own_cpu = own_cpus(cpus, sizeof cpus);
        options.cpus = cpus;
    }
    if (fusewire_open(&served, mountpoint, &options) < 0) {
        fprintf(stderr, "wire_server: %s\n", fusewire_last_error());
        return 1;
    }
    if (check) {
        fusewire_close(served);
        return 0;
    }
    fusewire_statistics statistics = {.size = sizeof statistics};
    over_io_uring = fusewire_stats(served, &statistics) == 0 && statistics.transport == FUSEWIRE_TRANSPORT_URING;
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    int end = per_cpu ? start_workers(own_cpu) : 0;
    if (end < 0)
        fprintf(stderr, "wire_server: %s\n", fusewire_last_error());
    else
        end = own_loop ? serve_in_loop(served) : serve(served);
    if (per_cpu)
        end_workers();
    fusewire_close(served);
    if (end != -ENODEV && end != -ESHUTDOWN) {
        fprintf(stderr, "wire_server: %s\n", strerror(-end));
        return 1;
    }
    return 0;
}
