/* Lists of CPUs, and their shares for workers; on this machine, and on others that the test pretends to have. */
#include "../check.h"
#include "error.h"
#include "queues.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

enum { LIST_SIZE = 65536 };

/* ---- Machines -------------------------------------------------------------------------------------------------- */

/* What /sys/devices/system/cpu/possible says; NULL: what it really says, "": it is not there. */
static const char *possible_file;
/* Which CPUs the thread may run on; NULL: those that it really may. */
static bool (*may_run_on)(unsigned cpu);
static unsigned machine_cpus;

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (possible_file == NULL || strcmp(path, "/sys/devices/system/cpu/possible") != 0)
        return __real_fopen(path, mode);
    if (*possible_file == '\0') {
        errno = ENOENT;
        return NULL;
    }
    return fmemopen((void *)(uintptr_t)possible_file, strlen(possible_file), "r");
}

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    if (may_run_on == NULL)
        return __real_sched_getaffinity(pid, size, set);
    CPU_ZERO_S(size, set);
    for (unsigned cpu = 0; cpu < machine_cpus; cpu++) {
        if (may_run_on(cpu))
            CPU_SET_S(cpu, size, set);
    }
    return 0;
}

static bool on_all(unsigned cpu)
{
    return cpu < machine_cpus;
}

static bool on_the_first(unsigned cpu)
{
    return cpu == 0;
}

static bool on_the_last(unsigned cpu)
{
    return cpu == machine_cpus - 1;
}

static bool on_each_second(unsigned cpu)
{
    return cpu % 2 == 0;
}

static bool on_the_upper_half(unsigned cpu)
{
    return cpu >= machine_cpus / 2;
}

static void pretend(unsigned cpus, bool (*may_run)(unsigned cpu))
{
    static char text[32];
    if (cpus == 1)
        snprintf(text, sizeof text, "0\n");
    else
        snprintf(text, sizeof text, "0-%u\n", cpus - 1);
    possible_file = text;
    machine_cpus = cpus;
    may_run_on = may_run;
}

static void pretend_nothing(void)
{
    possible_file = NULL;
    may_run_on = NULL;
}

/* ---- Possible CPUs --------------------------------------------------------------------------------------------- */

static void test_possible(void)
{
    CHECK(queues_possible() > 0);
    CHECK(queues_possible() >= (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
    static const struct {
        const char *file;
        uint32_t count;
    } files[] = {{"0\n", 1}, {"0-7\n", 8}, {"0-7", 8}, {"0-8191\n", QUEUES_MAX}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        possible_file = files[i].file;
        CHECK_EQ(queues_possible(), files[i].count);
    }
    /* what cannot be read is made up for */
    static const char *const unreadable[] = {"", "\n", "many\n", "0-\n", "7-0\n", "0-99999\n"};
    for (size_t i = 0; i < sizeof unreadable / sizeof unreadable[0]; i++) {
        possible_file = unreadable[i];
        CHECK_EQ(queues_possible(), sysconf(_SC_NPROCESSORS_CONF));
    }
    pretend_nothing();
}

static void test_all_and_copy(void)
{
    struct queues all, copy;
    pretend(8, on_the_first);
    CHECK_EQ(queues_all(&all), 0);
    CHECK_EQ(all.count, 8);
    for (uint16_t i = 0; i < 8; i++)
        CHECK_EQ(all.numbers[i], i);
    CHECK_EQ(queues_copy(&copy, &all), 0);
    CHECK_EQ(copy.count, 8);
    CHECK(copy.numbers != all.numbers);
    CHECK(memcmp(copy.numbers, all.numbers, 8 * sizeof all.numbers[0]) == 0);
    queues_free(&copy);
    queues_free(&all);
    CHECK(all.numbers == NULL && all.count == 0);
    CHECK_EQ(queues_copy(&copy, &all), 0);
    CHECK_EQ(copy.count, 0);
    queues_free(&copy);
    pretend_nothing();
}

/* ---- Lists ----------------------------------------------------------------------------------------------------- */

static void check_list(const char *list, const char *expected)
{
    struct queues queues;
    char numbers[64] = "";
    size_t used = 0;
    CHECK_EQ(queues_parse(&queues, list), 0);
    for (uint32_t i = 0; i < queues.count; i++)
        used += (size_t)snprintf(numbers + used, sizeof numbers - used, "%s%u", i > 0 ? " " : "", queues.numbers[i]);
    CHECK_STRING(numbers, expected);
    queues_free(&queues);
}

static void test_good_lists(void)
{
    pretend(8, on_the_first);
    check_list("", "");
    check_list("0", "0");
    check_list("7", "7");
    check_list("0,2-5", "0 2 3 4 5");
    check_list("0-7", "0 1 2 3 4 5 6 7");
    check_list("3-3", "3");
    check_list("5,1,3", "1 3 5");
    check_list("1,1,0-2,2", "0 1 2");
    check_list("007", "7");
    check_list("0-1\n", "0 1"); /* as the kernel's files end */
    pretend_nothing();
}

static void check_no_list(const char *list, const char *words)
{
    struct queues queues = {(uint16_t *)(uintptr_t)1, 1};
    CHECK_EQ(queues_parse(&queues, list), -EINVAL);
    CHECK(strstr(last_error(), words) != NULL);
    CHECK(queues.numbers == NULL && queues.count == 0);
}

static void test_bad_lists(void)
{
    static const char *const lists[] = {"1-",
                                        "-1",
                                        "-",
                                        ",",
                                        "0,",
                                        ",0",
                                        "0,,1",
                                        "x",
                                        "0x1",
                                        "1x",
                                        "0-x",
                                        "3-2",
                                        " 0",
                                        "0 ",
                                        "0, 1",
                                        "+1",
                                        "\n",
                                        "0-1-2",
                                        "all",
                                        "0-3:2",
                                        "0;1",
                                        "1.5",
                                        "0-99999",
                                        "99999999999999999999",
                                        "0-18446744073709551616",
                                        "8192",
                                        "4294967296"};
    pretend(8, on_all);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        char words[64];
        snprintf(words, sizeof words, "\"%s\" is no list of CPUs", lists[i]);
        check_no_list(lists[i], words);
    }
    check_no_list("8", "no CPU 8: this machine can have 0 to 7");
    check_no_list("0-8", "no CPU 8");
    check_no_list("8191", "no CPU 8191");
    /* the first mistake counts, also behind what is right */
    check_no_list("0-7,9,x", "no CPU 9");
    pretend_nothing();
}

/* ---- Shares ---------------------------------------------------------------------------------------------------- */

/* Deals the machine's CPUs out to `count` workers. */
static void check_shares(uint32_t count)
{
    static char list[LIST_SIZE];
    const uint32_t possible = queues_possible(), usable = queues_usable();
    unsigned char *shares_of = calloc(possible, 1);
    uint32_t least = UINT32_MAX, most = 0, next_usable = 0;
    CHECK(shares_of);
    for (uint32_t index = 0; index < count; index++) {
        struct queues share;
        uint32_t here = 0;
        CHECK_EQ(queues_share(list, sizeof list, index, count), 0);
        CHECK_EQ(queues_parse(&share, list), 0);
        for (uint32_t i = 0; i < share.count; i++) {
            shares_of[share.numbers[i]]++;
            if (!may_run_on(share.numbers[i]))
                continue;
            /* neighbours, and the next worker goes on where this one ends */
            CHECK(share.numbers[i] >= next_usable);
            for (; next_usable < share.numbers[i]; next_usable++)
                CHECK(!may_run_on(next_usable));
            next_usable++;
            here++;
        }
        queues_free(&share);
        CHECK_EQ(here > 0, index < usable); /* too many workers: the last ones have none */
        least = here < least ? here : least;
        most = here > most ? here : most;
    }
    for (uint32_t cpu = 0; cpu < possible; cpu++)
        CHECK_EQ(shares_of[cpu], 1);
    CHECK(most - least <= 1);
    free(shares_of);
}

static void test_shares(void)
{
    static const unsigned machines[] = {1, 2, 3, 4, 7, 8, 64, 130};
    static bool (*const affinities[])(unsigned) = {on_all, on_the_first, on_the_last, on_each_second,
                                                   on_the_upper_half};
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        for (size_t k = 0; k < sizeof affinities / sizeof affinities[0]; k++) {
            pretend(machines[i], affinities[k]);
            for (uint32_t count = 1; count <= 20; count++)
                check_shares(count);
            check_shares(machines[i]);
            check_shares(machines[i] + 1);
            check_shares(1000);
        }
    }
    pretend_nothing();
}

static void check_share(uint32_t index, uint32_t count, const char *expected)
{
    char list[64];
    CHECK_EQ(queues_share(list, sizeof list, index, count), 0);
    CHECK_STRING(list, expected);
}

static void test_some_shares(void)
{
    pretend(8, on_all);
    check_share(0, 1, "0,1,2,3,4,5,6,7");
    check_share(0, 2, "0,1,2,3");
    check_share(1, 2, "4,5,6,7");
    check_share(7, 8, "7");
    check_share(8, 9, "");
    check_share(0, UINT32_MAX, "0");
    check_share(UINT32_MAX - 1, UINT32_MAX, "");
    pretend(4, on_the_last); /* the others are dealt out one by one */
    check_share(0, 2, "0,2,3");
    check_share(1, 2, "1");
    pretend_nothing();
}

static void test_room_for_a_share(void)
{
    char list[16];
    pretend(4, on_all);
    static const char whole[] = "0,1,2,3";
    for (size_t size = 0; size <= sizeof whole; size++) {
        memset(list, 'x', sizeof list);
        CHECK_EQ(queues_share(list, size, 0, 1), size < sizeof whole ? -ENOBUFS : 0);
        for (size_t i = size; i < sizeof list; i++)
            CHECK_EQ(list[i], 'x');
    }
    CHECK_STRING(list, whole);
    CHECK_EQ(queues_share(list, 0, 1, 2), -ENOBUFS);
    CHECK_EQ(queues_share(list, 1, 4, 5), 0); /* an empty one needs its NUL alone */
    CHECK_STRING(list, "");
    pretend_nothing();
}

/* ---- This machine ---------------------------------------------------------------------------------------------- */

static void test_usable(void)
{
    CHECK(queues_usable() >= 1 && queues_usable() <= queues_possible());
    pretend(8, on_each_second);
    CHECK_EQ(queues_usable(), 4);
    pretend(8192, on_all);
    CHECK_EQ(queues_usable(), 8192);
    pretend_nothing();
}

static void test_pin(void)
{
    cpu_set_t before, now;
    char list[LIST_SIZE];
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    for (uint16_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &before))
            continue;
        CHECK_EQ(queues_pin(&(struct queues){&cpu, 1}), 0);
        CHECK_EQ(sched_getaffinity(0, sizeof now, &now), 0);
        CHECK(CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now));
        /* Bound to one CPU, this thread is worth one worker, who has them all to serve. */
        CHECK_EQ(queues_usable(), 1);
        struct queues share;
        CHECK_EQ(queues_share(list, sizeof list, 0, 1), 0);
        CHECK_EQ(queues_parse(&share, list), 0);
        CHECK_EQ(share.count, queues_possible());
        queues_free(&share);
    }
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
    CHECK_EQ(queues_pin(&(struct queues){NULL, 0}), -EINVAL);
    uint16_t none = QUEUES_MAX - 1;
    if (queues_possible() < QUEUES_MAX)
        CHECK_EQ(queues_pin(&(struct queues){&none, 1}), -EINVAL);
    CHECK_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    CHECK(CPU_EQUAL(&before, &now));
}

int main(void)
{
    test_possible();
    test_all_and_copy();
    test_good_lists();
    test_bad_lists();
    test_shares();
    test_some_shares();
    test_room_for_a_share();
    test_usable();
    test_pin();
    return 0;
}
