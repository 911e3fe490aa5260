/* What stands behind program_main: from a parsed command line to the exit status. */
#ifndef PROGRAM_RUN_H
#define PROGRAM_RUN_H

#include "program.h"

/* The command line, understood. */
struct settings {
    const struct program *program;
    char *source;        /* NULL without */
    char *mountpoint;    /* absolute */
    char *mount_options; /* for the library; NULL for none */
    uint32_t transport;
    uint32_t depth;
    uint32_t queue_depth;
    uint32_t max_write;
    uint32_t workers;
    bool writeback_cache;
    bool foreground;
    bool debug;
};

/* Mounts, goes into the background unless told otherwise, serves until the end. Returns the exit status. */
int program_run(const struct settings *settings);

/* One line per request, for -d. */
void trace_request(const fusewire_request *request);

/* Prints the statistics as lines of "name value" with an empty line behind them. */
void trace_statistics(int fd, const struct program *program, uint32_t workers, const fusewire_statistics *statistics);

#endif
