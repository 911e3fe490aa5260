/* What the example filesystems share: the command line that mount.fuse3 and fstab use, going into the background once
 * mounted, signals, and the loop (one thread, or one per worker). */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <fusewire.h>

#include <stdbool.h>

/* A filesystem as the program runs it. The program sets the umask to 0, so that modes are what the kernel asks for, and
 * raises the limit of open files as far as it may. */
struct program {
    const char *name;          /* for fsname and messages */
    const char *description;   /* the first lines of --help */
    const char *own_options;   /* help lines for own -o options, or NULL */
    bool needs_source;         /* the command line takes a source folder (SOURCE, or -o source=DIR) */
    uint64_t capabilities;     /* beyond the default ones */
    const char *mount_options; /* always added, e.g. "default_permissions,allow_other"; or NULL */

    /* Takes "key" or "key=value" from -o that the program does not know; true if it is this filesystem's. It sees the
     * library's options too: false leaves them to it. A value that will not do is best remembered and refused by
     * prepare. */
    bool (*option)(void *context, const char *key, const char *value);
    /* Called once, with the source folder (NULL without), before mounting and before going into the background.
     * 0, or a negative errno with its words already printed. */
    int (*prepare)(void *context, const char *source);
    /* Answers one request, now or later. With workers > 1 it is called from several threads at once. */
    void (*handle)(void *context, fusewire_connection *connection, const fusewire_request *request);
    /* Or, in its place, a loop of its own: serves until fusewire_read says how the connection ended, and returns that. A
     * signal then stops the connection at once. */
    int (*serve)(void *context, fusewire_connection *connection);
    void (*finish)(void *context);
    void *context;

    uint64_t without_capabilities; /* default ones to do without */
};

/* main() in one call: returns the exit status. */
int program_main(const struct program *program, int argc, char **argv);

/* Reads a whole number up to `maximum`, with k, m, g or t behind it for powers of 1024. */
bool program_parse_number(const char *text, uint64_t maximum, uint64_t *value);

#endif
