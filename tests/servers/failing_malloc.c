/* Each of the library's allocations fails once, one run for each: opening, serving, notifying, cloning and closing work
 * without it or say -ENOMEM, and nothing stays mounted or allocated.
 *
 *     failing_malloc malloc|calloc|mmap MOUNTPOINT TRANSPORT
 *
 * The library is linked statically, with its calls of these functions led here. */
#include "check.h"
#include "transports.h"

#include <errno.h>
#include <fusewire.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_SECONDS = 60, RUNS_MAX = 200 };

static const char *failing;
static unsigned countdown; /* the call that fails; 0: none */

static bool fails(const char *name)
{
    return countdown > 0 && strcmp(name, failing) == 0 && --countdown == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size)
{
    if (!fails("malloc"))
        return __real_malloc(size);
    errno = ENOMEM;
    return NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (!fails("calloc"))
        return __real_calloc(count, size);
    errno = ENOMEM;
    return NULL;
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (!fails("mmap"))
        return __real_mmap(address, size, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

static pid_t start_client(const char *mountpoint)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    struct stat status;
    _exit(stat(mountpoint, &status) == 0 ? 0 : errno);
}

static void serve_one(fusewire_connection *connection)
{
    static const fusewire_attr root = {.ino = FUSEWIRE_ROOT_ID, .mode = S_IFDIR | 0755, .nlink = 2};
    fusewire_request request;
    int count = 0;
    while (count == 0 || count == -EINTR)
        count = fusewire_read(connection, &request, 1, sizeof request, 1000);
    CHECK_EQ(count, 1);
    CHECK_EQ(request.opcode, FUSEWIRE_GETATTR);
    CHECK_EQ(fusewire_reply_attr(connection, request.id, 0, 0, &root), 0);
    CHECK(fusewire_read(connection, &request, 1, sizeof request, 0) <= 0); /* ends the turn */
}

static void expect_client(pid_t client)
{
    int status = -1;
    CHECK_EQ(waitpid(client, &status, 0), client);
    CHECK_EQ(status, 0);
}

static void run(const char *mountpoint, uint32_t transport)
{
    const fusewire_options options = {.size = sizeof options, .transport = transport};
    fusewire_connection *connection, *clone;
    int result = fusewire_open(&connection, mountpoint, &options);
    if (result < 0) {
        CHECK_EQ(result, -ENOMEM);
        CHECK(fusewire_last_error()[0] != '\0');
        CHECK(connection == NULL);
        return;
    }
    pid_t client = start_client(mountpoint);
    serve_one(connection);
    expect_client(client);

    result = fusewire_notify_inval_inode(connection, FUSEWIRE_ROOT_ID, 0, 0);
    CHECK(result == 0 || result == -ENOMEM);
    /* With no CPUs: no client must meet its end. */
    result = fusewire_clone(&clone, connection, &(fusewire_options){.size = sizeof options, .cpus = ""});
    CHECK(result == 0 || result == -ENOMEM);
    if (result == 0) {
        fusewire_request request;
        result = fusewire_read(clone, &request, 1, sizeof request, 0); /* where its transport starts */
        CHECK(result == 0 || result == -ENOMEM);
        fusewire_close(clone);
    }
    client = start_client(mountpoint);
    serve_one(connection);
    expect_client(client);
    CHECK_EQ(fusewire_close(connection), 0);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s malloc|calloc|mmap MOUNTPOINT TRANSPORT\n", argv[0]);
        return 2;
    }
    failing = argv[1];
    alarm(LIMIT_SECONDS);
    unsigned number = 0;
    do {
        CHECK(number < RUNS_MAX);
        countdown = ++number;
        run(argv[2], transport_of(argv[3]));
    } while (countdown == 0);
    printf("%u calls of %s failed\n", number - 1, failing);
    return number > 1 ? 0 : 1;
}
