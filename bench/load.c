/* The clients of the benchmark: processes that repeat one system call on a mounted bench filesystem for a given time.
 * Prints one JSON object: the calls made, how long that took, their latencies, and the server's CPU time meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CLIENTS = 64, /* one file of the bench filesystem each */
    MAX_SERVERS = 1024,
    FILE_SIZE = 64 << 20,
    BUCKET_BITS = 6, /* a latency is known to 1/64 of its power of two */
    BUCKETS_PER_OCTAVE = 1 << BUCKET_BITS,
    BUCKETS = 40 * BUCKETS_PER_OCTAVE,
    CONTENT = 'x' /* of the files */
};

/* What one client found; in memory that all of them share. */
struct result {
    uint64_t calls;
    uint64_t nanoseconds; /* from the common start to the end of its last call */
    uint64_t bad_bytes;
    int error;
    uint32_t histogram[BUCKETS];
};

struct shared {
    atomic_uint ready;
    _Atomic uint64_t start; /* when all of them begin; 0 until all are ready */
    struct result results[MAX_CLIENTS];
};

enum operation { GETATTR, STAT, OPEN, READ, WRITE, OPERATIONS };

static const char *const operation_names[OPERATIONS] = {"getattr", "stat", "open", "read", "write"};

struct load {
    const char *path; /* the mount point */
    enum operation operation;
    size_t size;
    unsigned clients;
    double seconds;
    bool pinned;
    cpu_set_t cpus;
    pid_t servers[MAX_SERVERS];
    unsigned server_count;
};

static uint64_t now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) < 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* CPU time of all threads of a server's process, in nanoseconds, of user and kernel together; 0 if it has ended. */
static uint64_t cpu_of(pid_t server)
{
    clockid_t clock;
    return clock_getcpuclockid(server, &clock) == 0 ? now(clock) : 0;
}

static unsigned bucket_of(uint64_t nanoseconds)
{
    if (nanoseconds < BUCKETS_PER_OCTAVE)
        return (unsigned)nanoseconds;
    unsigned octave = 63U - (unsigned)__builtin_clzll(nanoseconds);
    unsigned within = (unsigned)(nanoseconds >> (octave - BUCKET_BITS)) % BUCKETS_PER_OCTAVE;
    unsigned bucket = (octave - BUCKET_BITS + 1) * BUCKETS_PER_OCTAVE + within;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The middle of a bucket, in nanoseconds. */
static double bucket_middle(unsigned bucket)
{
    if (bucket < BUCKETS_PER_OCTAVE)
        return bucket;
    unsigned octave = bucket / BUCKETS_PER_OCTAVE + BUCKET_BITS - 1;
    double width = (double)(UINT64_C(1) << (octave - BUCKET_BITS));
    return (double)(UINT64_C(1) << octave) + width * (bucket % BUCKETS_PER_OCTAVE + 0.5);
}

static double percentile(const uint64_t *histogram, uint64_t total, double fraction)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if ((double)seen >= fraction * (double)total)
            return bucket_middle(i);
    }
    return 0;
}

/* One call of the operation, `turn` counting up: 0 or an errno. */
static int call(const struct load *load, const char *path, int fd, char *buffer, uint64_t turn)
{
    switch (load->operation) {
    case GETATTR: {
        struct statx status;
        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &status) < 0 ? errno : 0;
    }
    case STAT: {
        struct statx status;
        return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &status) < 0 ? errno : 0;
    }
    case OPEN: {
        int opened = open(path, O_RDONLY | O_CLOEXEC);
        if (opened < 0)
            return errno;
        close(opened);
        return 0;
    }
    default: {
        off_t offset = (off_t)(turn * load->size % FILE_SIZE);
        ssize_t done =
            load->operation == READ ? pread(fd, buffer, load->size, offset) : pwrite(fd, buffer, load->size, offset);
        return done == (ssize_t)load->size ? 0 : done < 0 ? errno : EIO;
    }
    }
}

static void client(const struct load *load, unsigned number, struct shared *shared)
{
    struct result *result = &shared->results[number];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (load->pinned && sched_setaffinity(0, sizeof load->cpus, &load->cpus) < 0)
        result->error = errno;

    char path[4096];
    snprintf(path, sizeof path, "%s/%u", load->path, number);
    char *buffer = mmap(NULL, load->size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED)
        result->error = errno;
    else
        memset(buffer, load->operation == READ ? 0 : CONTENT, load->size + 4096);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        result->error = errno;
    else if (!result->error)
        result->error = call(load, path, fd, buffer, 0); /* warms caches up, and shows what does not work at all */

    atomic_fetch_add(&shared->ready, 1);
    uint64_t start;
    while ((start = atomic_load(&shared->start)) == 0)
        sched_yield();

    uint64_t end = start + (uint64_t)(load->seconds * 1e9);
    uint64_t before = now(CLOCK_MONOTONIC);
    while (before < end && !result->error) {
        result->error = call(load, path, fd, buffer, ++result->calls);
        uint64_t after = now(CLOCK_MONOTONIC);
        result->histogram[bucket_of(after - before)]++;
        before = after;
    }
    result->nanoseconds = before - start;
    if (load->operation == READ && !result->error)
        for (size_t i = 0; i < load->size; i++)
            result->bad_bytes += buffer[i] != CONTENT;
}

static int report(const struct load *load, const struct shared *shared, uint64_t server_nanoseconds)
{
    uint64_t histogram[BUCKETS] = {0};
    uint64_t calls = 0;
    uint64_t longest = 0;
    uint64_t bad_bytes = 0;
    int error = 0;
    for (unsigned i = 0; i < load->clients; i++) {
        const struct result *result = &shared->results[i];
        calls += result->calls;
        bad_bytes += result->bad_bytes;
        longest = result->nanoseconds > longest ? result->nanoseconds : longest;
        error = result->error ? result->error : error;
        for (unsigned j = 0; j < BUCKETS; j++)
            histogram[j] += result->histogram[j];
    }
    if (error || bad_bytes || calls == 0) {
        fprintf(stderr, "%s: %s\n", operation_names[load->operation],
                error       ? strerror(error)
                : bad_bytes ? "wrong bytes"
                            : "not one call was done in time");
        return 1;
    }
    printf("{\"calls\": %ju, \"seconds\": %.6f, \"server_cpu\": %.9f, \"p50\": %.9f, \"p99\": %.9f}\n",
           (uintmax_t)calls, (double)longest / 1e9, (double)server_nanoseconds / 1e9,
           percentile(histogram, calls, 0.5) / 1e9, percentile(histogram, calls, 0.99) / 1e9);
    return 0;
}

static int run(const struct load *load)
{
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("load: mmap");
        return 1;
    }
    for (unsigned i = 0; i < load->clients; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("load: fork");
            return 1; /* the children die with us */
        }
        if (child == 0) {
            client(load, i, shared);
            _exit(0);
        }
    }
    while (atomic_load(&shared->ready) < load->clients)
        usleep(200);

    static uint64_t cpu_before[MAX_SERVERS];
    for (unsigned i = 0; i < load->server_count; i++)
        cpu_before[i] = cpu_of(load->servers[i]);
    atomic_store(&shared->start, now(CLOCK_MONOTONIC));
    bool all_ended_well = true;
    for (unsigned i = 0; i < load->clients; i++) {
        int status;
        if (wait(&status) < 0 || status != 0)
            all_ended_well = false;
    }
    uint64_t server_nanoseconds = 0;
    for (unsigned i = 0; i < load->server_count; i++) {
        uint64_t cpu = cpu_of(load->servers[i]);
        server_nanoseconds += cpu > cpu_before[i] ? cpu - cpu_before[i] : 0;
    }
    if (!all_ended_well) {
        fprintf(stderr, "load: a client was killed\n");
        return 1;
    }
    return report(load, shared, server_nanoseconds);
}

static void parse_cpus(struct load *load, const char *list)
{
    load->pinned = true;
    for (char *end; *list; list = *end ? end + 1 : end) {
        unsigned long cpu = strtoul(list, &end, 10);
        if (end == list || cpu >= CPU_SETSIZE)
            break;
        CPU_SET(cpu, &load->cpus);
    }
}

static void parse_servers(struct load *load, const char *list)
{
    for (char *end; *list && load->server_count < MAX_SERVERS; list = *end ? end + 1 : end) {
        load->servers[load->server_count++] = (pid_t)strtol(list, &end, 10);
        if (end == list)
            break;
    }
}

int main(int argc, char **argv)
{
    struct load load = {.size = 4096, .clients = 1, .seconds = 0.7};
    for (int option; (option = getopt(argc, argv, "s:n:t:c:p:")) != -1;) {
        switch (option) {
        case 's':
            load.size = strtoul(optarg, NULL, 10);
            break;
        case 'n':
            load.clients = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 't':
            load.seconds = strtod(optarg, NULL);
            break;
        case 'c':
            parse_cpus(&load, optarg);
            break;
        case 'p':
            parse_servers(&load, optarg);
            break;
        default:
            argc = 0;
        }
    }
    for (load.operation = 0; load.operation < OPERATIONS; load.operation++)
        if (argc - optind == 2 && strcmp(argv[optind + 1], operation_names[load.operation]) == 0)
            break;
    if (load.operation == OPERATIONS || load.clients < 1 || load.clients > MAX_CLIENTS || load.size < 1 ||
        load.size > FILE_SIZE || FILE_SIZE % load.size != 0) {
        fprintf(
            stderr,
            "usage: load [-n CLIENTS] [-s SIZE] [-t SECONDS] [-c CPU,...] [-p SERVER_PID,...] MOUNTPOINT OPERATION\n"
            "OPERATION: getattr (statx of an open file), stat (of a path), open (and close), read, write\n");
        return 2;
    }
    load.path = argv[optind];
    return run(&load);
}
