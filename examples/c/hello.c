/* A mount with one file in it, and the whole loop of a fusewire program.
 *
 *     hello FOLDER && cat FOLDER/hello
 */
#include "program.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { HELLO_ID = 2, VALID_SECONDS = 3600 };

static const char text[] = "Hello from a loop of my own.\n";

static fusewire_attr attr_of(uint64_t id)
{
    if (id == FUSEWIRE_ROOT_ID)
        return (fusewire_attr){.ino = id, .mode = S_IFDIR | 0755, .nlink = 2};
    return (fusewire_attr){.ino = id, .mode = S_IFREG | 0444, .nlink = 1, .size = strlen(text)};
}

static int list(fusewire_connection *connection, const fusewire_request *request)
{
    static const struct {
        const char *name;
        uint64_t id;
        uint32_t type;
    } names[] = {{".", FUSEWIRE_ROOT_ID, S_IFDIR}, {"..", FUSEWIRE_ROOT_ID, S_IFDIR}, {"hello", HELLO_ID, S_IFREG}};
    char buffer[4096];
    int64_t used = 0;
    for (uint64_t i = request->offset; i < 3 && used >= 0; i++)
        used = fusewire_dirent(buffer, sizeof buffer, (size_t)used, names[i].id, i + 1, names[i].type, names[i].name,
                               strlen(names[i].name));
    return fusewire_reply_data(connection, request->id, buffer, (size_t)used);
}

static int handle(fusewire_connection *connection, const fusewire_request *request)
{
    fusewire_attr attr = attr_of(request->nodeid);
    switch (request->opcode) {
    case FUSEWIRE_LOOKUP:
        if (strcmp(request->name, "hello") != 0)
            return -ENOENT;
        return fusewire_reply_entry(connection, request->id,
                                    &(fusewire_entry){.nodeid = HELLO_ID,
                                                      .entry_valid = VALID_SECONDS,
                                                      .attr_valid = VALID_SECONDS,
                                                      .attr = attr_of(HELLO_ID)});
    case FUSEWIRE_GETATTR:
        return fusewire_reply_attr(connection, request->id, VALID_SECONDS, 0, &attr);
    case FUSEWIRE_READDIR:
        return list(connection, request);
    case FUSEWIRE_READ: {
        uint64_t left = request->offset < attr.size ? attr.size - request->offset : 0;
        return fusewire_reply_data(connection, request->id, text + attr.size - left,
                                   left < request->length ? left : request->length);
    }
    default: /* OPEN and OPENDIR among them: the kernel then opens without asking */
        return -ENOSYS;
    }
}

static int serve(void *context, fusewire_connection *connection)
{
    (void)context;
    fusewire_request requests[16];
    for (;;) {
        int count = fusewire_read(connection, requests, 16, sizeof requests[0], -1);
        if (count < 0 && count != -EINTR)
            return count; /* unmounted, aborted or stopped */
        for (int i = 0; i < count; i++) {
            if (requests[i].id == 0 || requests[i].opcode == FUSEWIRE_INTERRUPT)
                continue; /* it takes no answer */
            int result = handle(connection, &requests[i]);
            if (result < 0)
                fusewire_reply_error(connection, requests[i].id, result);
        }
    }
}

int main(int argc, char **argv)
{
    const struct program hello = {
        .name = "hello",
        .description = "Mounts a folder with one file, hello, that cannot be changed.",
        .mount_options = "ro",
        .serve = serve,
    };
    return program_main(&hello, argc, argv);
}
