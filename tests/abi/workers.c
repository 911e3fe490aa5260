/* What the workers' functions and options refuse, with the error and the words that a caller gets. No mount is needed;
 * /dev/fuse for a part. */
#include "../check.h"

#include <fusewire.h>

#include <errno.h>
#include <sched.h>
#include <stdbool.h>

enum { SKIPPED = 77, LIST_SIZE = 65536 };

static char list[LIST_SIZE];

/* ---- Shares ---------------------------------------------------------------------------------------------------- */

static void check_refused_share(uint32_t index, uint32_t count, char *memory, size_t size, int error, const char *words)
{
    CHECK_EQ(fusewire_worker_cpus(index, count, memory, size), error);
    CHECK(strstr(fusewire_last_error(), words) != NULL);
}

static void test_shares(void)
{
    CHECK(fusewire_worker_count() > 0);
    check_refused_share(0, 0, list, sizeof list, -EINVAL, "index");
    check_refused_share(1, 1, list, sizeof list, -EINVAL, "index");
    check_refused_share(UINT32_MAX, UINT32_MAX, list, sizeof list, -EINVAL, "index");
    check_refused_share(UINT32_MAX, 1, list, sizeof list, -EINVAL, "index");
    check_refused_share(0, 1, NULL, 0, -EINVAL, "NULL");
    check_refused_share(0, 1, NULL, sizeof list, -EINVAL, "NULL");
    check_refused_share(0, 1, list, 0, -ENOBUFS, "no room");
    check_refused_share(0, 1, list, 1, -ENOBUFS, "no room");

    CHECK_EQ(fusewire_worker_cpus(0, 1, list, sizeof list), 0);
    const size_t needed = strlen(list) + 1;
    char *exact = malloc(needed);
    CHECK(exact);
    check_refused_share(0, 1, exact, needed - 1, -ENOBUFS, "no room");
    CHECK_EQ(fusewire_worker_cpus(0, 1, exact, needed), 0);
    CHECK_STRING(exact, list);
    CHECK_EQ(fusewire_worker_cpus(0, 1, exact, SIZE_MAX), 0); /* believed, as in C it must be */
    CHECK_STRING(exact, list);
    free(exact);
}

/* ---- Options --------------------------------------------------------------------------------------------------- */

/* Opening /dev/fuse alone with these options fails before it is opened. */
static void check_refused(const fusewire_options *options, int error, const char *words)
{
    fusewire_connection *connection = (fusewire_connection *)(uintptr_t)1;
    CHECK_EQ(fusewire_open(&connection, NULL, options), error);
    CHECK(connection == NULL);
    CHECK(strstr(fusewire_last_error(), words) != NULL);
}

static void test_cpus(void)
{
    static const char *const lists[] = {"1-",  "x",   "0-99999", ",",  "0,,1", "0,",    "-",
                                        "3-2", "0x1", " ",       "\n", "all",  "0;1\n", "99999999999999999999"};
    for (uint32_t transport = FUSEWIRE_TRANSPORT_AUTO; transport <= FUSEWIRE_TRANSPORT_URING; transport++) {
        fusewire_options options = {.size = sizeof options, .transport = transport};
        for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
            options.cpus = lists[i];
            check_refused(&options, -EINVAL, "no list of CPUs");
        }
        options.cpus = "8191";
        check_refused(&options, -EINVAL, "there is no CPU 8191");
    }
    /* longer than any real one, and than any words */
    fusewire_options options = {.size = sizeof options, .cpus = list};
    memset(list, ',', sizeof list - 1);
    check_refused(&options, -EINVAL, ",,,,");
    memset(list, '9', sizeof list - 1);
    check_refused(&options, -EINVAL, "9999");
}

static void test_padding(void)
{
    fusewire_options options = {.size = sizeof options, .padding = 1};
    check_refused(&options, -EINVAL, "padding");
    options.padding = UINT32_MAX;
    check_refused(&options, -EINVAL, "padding");
}

/* A caller that was compiled before the queues' options has none; one that ends among them, zeros in the rest. */
static void test_options_of_older_callers(void)
{
    const size_t sizes[] = {offsetof(fusewire_options, queue_depth), offsetof(fusewire_options, cpus)};
    for (size_t i = 0; i < 2; i++) {
        fusewire_options *options = calloc(1, sizes[i]);
        fusewire_connection *connection;
        CHECK(options);
        options->size = sizes[i];
        options->transport = 99;
        CHECK_EQ(fusewire_open(&connection, NULL, options), -EINVAL);
        CHECK(strstr(fusewire_last_error(), "unknown transport 99") != NULL);
        free(options);
    }
}

/* ---- A connection ---------------------------------------------------------------------------------------------- */

/* False where the kernel or its settings do not let FUSE over io_uring. */
static bool has_uring(void)
{
    fusewire_connection *connection;
    const fusewire_options options = {.size = sizeof options, .transport = FUSEWIRE_TRANSPORT_URING};
    int error = fusewire_open(&connection, NULL, &options);
    if (error != 0) {
        fprintf(stderr, "not tested: queue_depth (%s)\n", fusewire_last_error());
        return false;
    }
    CHECK_EQ(fusewire_close(connection), 0);
    return true;
}

static void test_queue_depth(void)
{
    fusewire_options options = {.size = sizeof options, .transport = FUSEWIRE_TRANSPORT_URING, .depth = 100};
    static const uint32_t depths[] = {100, 101, 65536, UINT32_MAX};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        options.queue_depth = depths[i];
        options.cpus = "0";
        check_refused(&options, -EINVAL, "depth of 100 is too small");
        options.cpus = NULL;
        check_refused(&options, -EINVAL, "depth of 100 is too small");
    }
    fusewire_connection *connection;
    fusewire_statistics statistics = {.size = sizeof statistics};
    options.queue_depth = 99;
    options.cpus = "0";
    CHECK_EQ(fusewire_open(&connection, NULL, &options), 0);
    CHECK_EQ(fusewire_stats(connection, &statistics), 0);
    CHECK_EQ(statistics.queues, 1);
    CHECK_EQ(statistics.queue_depth, 99);
    CHECK(statistics.payload_size >= 1 << 20);
    CHECK(statistics.memory >= 99 * statistics.payload_size);
    CHECK_STRING(fusewire_describe_transport(connection), "transport uring");
    CHECK_EQ(fusewire_close(connection), 0);
}

/* Before INIT nobody knows about queues; the CPUs stay what they were. */
static void test_pin(void)
{
    cpu_set_t before, after;
    fusewire_connection *connection;
    const fusewire_options options = {.size = sizeof options, .transport = FUSEWIRE_TRANSPORT_POLL, .cpus = "0"};
    CHECK_EQ(fusewire_pin(NULL), -EINVAL);
    CHECK_STRING(fusewire_describe_transport(NULL), "no transport");
    CHECK_EQ(fusewire_open(&connection, NULL, &options), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CHECK_EQ(fusewire_pin(connection), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof after, &after), 0);
    CHECK(CPU_EQUAL(&before, &after));
    CHECK_STRING(fusewire_describe_transport(connection), "transport poll");
    fusewire_statistics statistics = {.size = sizeof statistics};
    CHECK_EQ(fusewire_stats(connection, &statistics), 0);
    CHECK(statistics.queues == 0 && statistics.queue_depth == 0 && statistics.payload_size == 0);
    CHECK_EQ(fusewire_close(connection), 0);
}

int main(void)
{
    fusewire_connection *connection;
    test_shares();
    test_cpus();
    test_padding();
    test_options_of_older_callers();
    if (fusewire_open(&connection, NULL, NULL) != 0) {
        fprintf(stderr, "not tested: connections (%s)\n", fusewire_last_error());
        return getenv("CI") ? 1 : SKIPPED;
    }
    CHECK_EQ(fusewire_close(connection), 0);
    test_pin();
    if (has_uring())
        test_queue_depth();
    return 0;
}
