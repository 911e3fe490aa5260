/* Structures that carry their size, and options that contradict each other. */
#include "life.h"

#include <stddef.h>
#include <sys/resource.h>

/* A program that was built for a later version. */
struct later_options {
    fusewire_options known;
    uint64_t unknown[8];
};

static int open_with(const struct life *life, const void *options)
{
    fusewire_connection *connection = (void *)&connection;
    int result = fusewire_open(&connection, life->mountpoint, options);
    CHECK((connection == NULL) == (result < 0));
    CHECK(result == 0 || fusewire_last_error()[0] != '\0');
    fusewire_close(connection);
    return result;
}

static void sizes_of_options(const struct life *life)
{
    struct later_options later = {.known = life->options};
    later.known.size = sizeof later;
    CHECK_EQ(open_with(life, &later), 0);
    for (size_t i = 0; i < sizeof later.unknown; i++) {
        ((unsigned char *)later.unknown)[i] = 1;
        CHECK_EQ(open_with(life, &later), -E2BIG);
        ((unsigned char *)later.unknown)[i] = 0;
    }
    /* One that was built for an earlier one: what it lacks is zero. */
    fusewire_options earlier = life->options;
    memset((char *)&earlier + offsetof(fusewire_options, depth), 0xff,
           sizeof earlier - offsetof(fusewire_options, depth));
    earlier.size = offsetof(fusewire_options, depth);
    CHECK_EQ(open_with(life, &earlier), 0);
    for (uint64_t size = 0; size < 8; size++) {
        earlier.size = size;
        CHECK_EQ(open_with(life, &earlier), -EINVAL);
    }
    for (uint64_t size = 4097; size != 0; size <<= 1) {
        earlier.size = size;
        CHECK_EQ(open_with(life, &earlier), -E2BIG);
    }
}

static void sizes_of_results(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    union {
        fusewire_statistics statistics;
        fusewire_session session;
        unsigned char bytes[1024];
        uint64_t size;
    } result;
    for (uint64_t size = 0; size <= 1000; size += 8) {
        for (int session = 0; session < 2; session++) {
            memset(&result, 0x55, sizeof result);
            result.size = size;
            int error = session ? fusewire_negotiated(connection, &result.session)
                                : fusewire_stats(connection, &result.statistics);
            CHECK_EQ(error, size < 8 ? -EINVAL : 0);
            CHECK_EQ(result.size, size);
            for (size_t i = size < 8 ? 8 : size; i < sizeof result; i++)
                CHECK_EQ(result.bytes[i], 0x55); /* nothing is written beyond */
            size_t known = session ? sizeof result.session : sizeof result.statistics;
            for (size_t i = known; size >= 8 && i < size; i++)
                CHECK_EQ(result.bytes[i], 0);
        }
    }
    fusewire_close(connection);
}

/* Records of another size, as a program built for another version has them. */
static void sizes_of_records(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    static unsigned char records[4][4096];
    CHECK_EQ(fusewire_read(connection, (void *)records, 4, 8, 0), -EINVAL);
    CHECK_EQ(fusewire_read(connection, (void *)records, 4, sizeof(fusewire_request) + 1, 0), -EINVAL);
    CHECK_EQ(fusewire_read(connection, (void *)records, 0, sizeof(fusewire_request), 0), -EINVAL);
    CHECK_EQ(fusewire_read(connection, NULL, 4, sizeof(fusewire_request), 0), -EINVAL);
    static const size_t sizes[] = {offsetof(fusewire_request, fh), sizeof(fusewire_request),
                                   sizeof(fusewire_request) + 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(records, 0x55, sizeof records);
        pid_t client = life_client(life, 1);
        int count = 0;
        while (count == 0 || count == -EINTR)
            count = fusewire_read(connection, (void *)records, 1, sizes[i], 1000);
        CHECK_EQ(count, 1);
        const fusewire_request *request = (const void *)records;
        CHECK_EQ(request->opcode, FUSEWIRE_GETATTR);
        for (size_t byte = sizeof *request; byte < sizes[i]; byte++)
            CHECK_EQ(records[0][byte], 0);
        CHECK_EQ(records[0][sizes[i]], 0x55);
        fusewire_attr attr = {.ino = 1, .mode = 040755, .nlink = 2};
        CHECK_EQ(fusewire_reply_attr(connection, request->id, 1000, 0, &attr), 0);
        CHECK(fusewire_read(connection, (void *)records, 1, sizes[i], 0) <= 0); /* ends the turn */
        life_reap(client);
        CHECK_EQ(fusewire_notify_inval_inode(connection, 1, -1, 0), 0);
        fusewire_statistics statistics = {.size = sizeof statistics};
        fusewire_request none;
        CHECK(fusewire_read(connection, &none, 1, sizeof none, 20) <= 0);
        CHECK_EQ(fusewire_stats(connection, &statistics), 0);
        CHECK_EQ(statistics.open, 0);
    }
    fusewire_close(connection);
}

static void contradictions(const struct life *life)
{
    fusewire_options options = life->options;
    options.flags = 1U << 31;
    CHECK_EQ(open_with(life, &options), -EINVAL);
    options = life->options;
    options.transport = 77;
    CHECK_EQ(open_with(life, &options), -EINVAL);
    options = life->options;
    options.padding = 1;
    CHECK_EQ(open_with(life, &options), -EINVAL);
    static const char *const no_lists[] = {"-", "a", "0,", ",0", "0-", "1-0", "0 ", "0;1", "-1", "99999"};
    for (size_t i = 0; i < sizeof no_lists / sizeof no_lists[0]; i++) {
        options = life->options;
        options.cpus = no_lists[i];
        CHECK_EQ(open_with(life, &options), -EINVAL);
    }
    options = life->options;
    options.flags = FUSEWIRE_OPEN_ADOPT;
    options.fd = 0;
    CHECK_EQ(open_with(life, &options), -EINVAL); /* a mount point and a descriptor */
    CHECK_EQ(fusewire_open(NULL, life->mountpoint, NULL), -EINVAL);
}

static void options_of_clones(const struct life *life)
{
    fusewire_connection *connection = life_open(life), *clone = NULL;
    fusewire_options options = {.size = sizeof options, .depth = 8, .buffers = 2, .transport = FUSEWIRE_TRANSPORT_POLL};
    CHECK_EQ(fusewire_clone(&clone, connection, &options), 0);
    fusewire_statistics statistics = {.size = sizeof statistics};
    fusewire_request request;
    CHECK_EQ(fusewire_read(clone, &request, 1, sizeof request, 0), 0);
    CHECK_EQ(fusewire_stats(clone, &statistics), 0);
    CHECK_EQ(statistics.transport, FUSEWIRE_TRANSPORT_POLL);
    fusewire_close(clone);
    options.max_write = 65536;
    CHECK_EQ(fusewire_clone(&clone, connection, &options), -EINVAL);
    CHECK(clone == NULL);
    options = (fusewire_options){.size = sizeof options, .mount_options = "ro"};
    CHECK_EQ(fusewire_clone(&clone, connection, &options), -EINVAL);
    CHECK_EQ(fusewire_clone(NULL, connection, NULL), -EINVAL);
    fusewire_close(connection);
}

/* A process that may open nothing more serves and notifies as before; only clones are refused. */
static void no_descriptors_left(const struct life *life)
{
    fusewire_connection *connection = life_open(life), *clone = NULL;
    struct rlimit before, none;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    int next = dup(0);
    CHECK_EQ(close(next), 0);
    none.rlim_cur = (rlim_t)next;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(fusewire_clone(&clone, connection, NULL), -EMFILE);
    CHECK_EQ(fusewire_notify_inval_inode(connection, FUSEWIRE_ROOT_ID, 0, 0), 0);
    struct server_thread server;
    life_start(&server, connection);
    life_reap(life_client(life, 50));
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    CHECK_EQ(life_join(&server), -ESHUTDOWN);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    clone = life_clone(connection);
    fusewire_close(clone);
    fusewire_close(connection);
}

static void before_the_mount(const struct life *life)
{
    fusewire_connection *connection = NULL, *clone = NULL;
    fusewire_session session = {.size = sizeof session};
    fusewire_request request;
    CHECK_EQ(fusewire_open(&connection, NULL, &life->options), 0);
    CHECK(fusewire_device_fd(connection) >= 0);
    CHECK_EQ(fusewire_clone(&clone, connection, NULL), -ENOTCONN);
    CHECK_EQ(fusewire_negotiated(connection, &session), -EAGAIN);
    CHECK_EQ(fusewire_unmount(connection), -EINVAL);
    CHECK_EQ(fusewire_read(connection, &request, 1, sizeof request, 20), 0);
    CHECK_EQ(fusewire_notify_inval_inode(connection, 1, 0, 0), -EAGAIN);
    CHECK_EQ(fusewire_close(connection), 0);
}

const struct scenario option_scenarios[] = {
    {"sizes-of-options", sizes_of_options},   {"sizes-of-results", sizes_of_results},
    {"sizes-of-records", sizes_of_records},   {"contradictions", contradictions},
    {"options-of-clones", options_of_clones}, {"no-descriptors-left", no_descriptors_left},
    {"before-the-mount", before_the_mount},   {NULL, NULL},
};
