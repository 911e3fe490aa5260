#include "queues.h"
#include "error.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The next range of a list; *list moves behind it. False at the end; *first > *last: no list. */
static bool next_range(const char **list, uint32_t *first, uint32_t *last)
{
    if (**list == '\0')
        return false;
    char *end;
    const bool digits = **list >= '0' && **list <= '9';
    unsigned long from = strtoul(*list, &end, 10);
    unsigned long to = from;
    bool good = digits;
    if (*end == '-') {
        const char *behind = end + 1;
        good = good && *behind >= '0' && *behind <= '9';
        to = strtoul(behind, &end, 10);
    }
    good = good && from <= to && to < QUEUES_MAX && (*end == '\0' || *end == '\n' || (*end == ',' && end[1] != '\0'));
    *first = good ? (uint32_t)from : 1;
    *last = good ? (uint32_t)to : 0;
    *list = *end == ',' || *end == '\n' ? end + 1 : end;
    return true;
}

/* Reads a list of the kernel's, such as "0-7". Returns how many numbers it has; 0 where it cannot be read. */
static uint32_t count_in_file(const char *path)
{
    char text[256];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    const char *list = fgets(text, sizeof text, file);
    fclose(file);
    uint32_t count = 0, first, last;
    while (list != NULL && next_range(&list, &first, &last)) {
        if (first > last)
            return 0;
        count += last - first + 1;
    }
    return count;
}

uint32_t queues_possible(void)
{
    uint32_t count = count_in_file("/sys/devices/system/cpu/possible");
    if (count == 0) {
        long configured = sysconf(_SC_NPROCESSORS_CONF);
        count = configured > 0 ? (uint32_t)configured : 1;
    }
    return count < QUEUES_MAX ? count : QUEUES_MAX;
}

static int allocate(struct queues *queues, uint32_t count)
{
    *queues = (struct queues){malloc((count + 1) * sizeof *queues->numbers), count};
    return queues->numbers == NULL ? -ENOMEM : 0;
}

int queues_all(struct queues *queues)
{
    int error = allocate(queues, queues_possible());
    for (uint32_t i = 0; error == 0 && i < queues->count; i++)
        queues->numbers[i] = (uint16_t)i;
    return error;
}

int queues_parse(struct queues *queues, const char *list)
{
    const uint32_t possible = queues_possible();
    const char *rest = list;
    uint32_t first, last, wanted = 0;
    bool chosen[QUEUES_MAX] = {false};
    *queues = (struct queues){0};
    while (next_range(&rest, &first, &last)) {
        if (first > last)
            return fail(-EINVAL, "\"%s\" is no list of CPUs: write it as 0,2-5", list);
        if (last >= possible)
            return fail(-EINVAL, "there is no CPU %u: this machine can have 0 to %u", last, possible - 1);
        for (uint32_t i = first; i <= last; i++) {
            wanted += !chosen[i];
            chosen[i] = true;
        }
    }
    if (allocate(queues, wanted) != 0)
        return fail(-ENOMEM, "no memory for a list of CPUs");
    for (uint32_t i = 0, at = 0; i < possible; i++) {
        if (chosen[i])
            queues->numbers[at++] = (uint16_t)i;
    }
    return 0;
}

int queues_copy(struct queues *queues, const struct queues *original)
{
    int error = allocate(queues, original->count);
    if (error == 0 && original->count > 0)
        memcpy(queues->numbers, original->numbers, original->count * sizeof *queues->numbers);
    return error;
}

void queues_free(struct queues *queues)
{
    free(queues->numbers);
    *queues = (struct queues){0};
}

/* ---- Shares for workers ---------------------------------------------------------------------------------------- */

static cpu_set_t *usable_set(size_t *size)
{
    cpu_set_t *set = CPU_ALLOC(QUEUES_MAX);
    *size = CPU_ALLOC_SIZE(QUEUES_MAX);
    if (set != NULL && sched_getaffinity(0, *size, set) != 0) {
        CPU_FREE(set);
        set = NULL;
    }
    return set;
}

uint32_t queues_usable(void)
{
    size_t size;
    cpu_set_t *set = usable_set(&size);
    if (set == NULL)
        return 1;
    int count = CPU_COUNT_S(size, set);
    CPU_FREE(set);
    return count > 0 ? (uint32_t)count : 1;
}

int queues_share(char *list, size_t size, uint32_t index, uint32_t count)
{
    size_t set_size;
    cpu_set_t *set = usable_set(&set_size);
    if (set == NULL)
        return -ENOMEM;
    const uint32_t possible = queues_possible();
    const uint64_t usable = (uint64_t)CPU_COUNT_S(set_size, set);
    uint64_t usable_before = 0, others_before = 0;
    size_t used = 0;
    int error = size > 0 ? 0 : -ENOBUFS;
    if (size > 0)
        list[0] = '\0';
    for (uint32_t cpu = 0; cpu < possible && error == 0; cpu++) {
        /* With more workers than CPUs the last ones have none. */
        const uint64_t shares = usable < count ? usable : count;
        const uint64_t owner =
            CPU_ISSET_S(cpu, set_size, set) ? usable_before++ * shares / usable : others_before++ % count;
        if (owner != index)
            continue;
        int length = snprintf(list + used, size - used, "%s%u", used > 0 ? "," : "", cpu);
        used += (size_t)length;
        error = used < size ? 0 : -ENOBUFS;
    }
    CPU_FREE(set);
    return error;
}

int queues_pin(const struct queues *queues)
{
    cpu_set_t set[QUEUES_MAX / CPU_SETSIZE] = {0};
    for (uint32_t i = 0; i < queues->count; i++)
        CPU_SET_S(queues->numbers[i], sizeof set, set);
    return sched_setaffinity(0, sizeof set, set) == 0 ? 0 : -errno;
}

int queues_node(uint16_t queue)
{
    if (count_in_file("/sys/devices/system/node/possible") < 2)
        return -1;
    char path[64];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u", queue);
    DIR *folder = opendir(path);
    int node = -1;
    const struct dirent *entry;
    while (folder != NULL && node < 0 && (entry = readdir(folder)) != NULL) {
        if (strncmp(entry->d_name, "node", 4) == 0 && entry->d_name[4] >= '0' && entry->d_name[4] <= '9')
            node = atoi(entry->d_name + 4);
    }
    if (folder != NULL)
        closedir(folder);
    return node;
}
