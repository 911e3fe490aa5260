/* The CPUs of this machine, as FUSE-over-io_uring counts them, and how a thread binds itself to one. */
#ifndef CPUS_H
#define CPUS_H

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* The kernel has a queue for each CPU that there is or could be. */
static inline unsigned possible_cpus(void)
{
    unsigned last = 0;
    FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
    if (!file)
        return (unsigned)sysconf(_SC_NPROCESSORS_CONF);
    if (fscanf(file, "%*u-%u", &last) != 1)
        last = 0;
    fclose(file);
    return last + 1;
}

static inline void bind_to_cpu(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

#endif
