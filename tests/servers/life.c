/*     life SCENARIO MOUNTPOINT TRANSPORT      runs it, and exits with status 0
 *     life --list                             prints their names
 *     life --client MOUNTPOINT CALLS          what life_client_program starts */
#include "life.h"
#include "transports.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { LIMIT_SECONDS = 60, BATCH = 16 };

fusewire_connection *life_open(const struct life *life)
{
    fusewire_connection *connection = NULL;
    int result = fusewire_open(&connection, life->mountpoint, &life->options);
    if (result != 0)
        fprintf(stderr, "%s\n", fusewire_last_error());
    CHECK_EQ(result, 0);
    return connection;
}

fusewire_connection *life_clone(fusewire_connection *connection)
{
    fusewire_connection *clone = NULL;
    CHECK_EQ(fusewire_clone(&clone, connection, NULL), 0);
    return clone;
}

static void answer(fusewire_connection *connection, const fusewire_request *request)
{
    static const fusewire_attr root = {.ino = FUSEWIRE_ROOT_ID, .mode = S_IFDIR | 0755, .nlink = 2};
    if (request->id == 0 || request->opcode == FUSEWIRE_INTERRUPT)
        return;
    if (request->opcode == FUSEWIRE_GETATTR)
        CHECK_EQ(fusewire_reply_attr(connection, request->id, 0, 0, &root), 0);
    else
        CHECK_EQ(fusewire_reply_error(connection, request->id, -ENOSYS), 0);
}

int life_serve(fusewire_connection *connection, unsigned *answered)
{
    fusewire_request requests[BATCH];
    for (;;) {
        int count = fusewire_read(connection, requests, BATCH, sizeof requests[0], -1);
        if (count == -EINTR)
            continue;
        if (count < 0)
            return count;
        for (int i = 0; i < count; i++)
            answer(connection, &requests[i]);
        if (answered != NULL)
            *answered += (unsigned)count;
    }
}

/* 0, or the errno of the first call that fails. */
static int call(const char *mountpoint, unsigned calls)
{
    struct stat status;
    for (unsigned i = 0; i < calls; i++) {
        if (stat(mountpoint, &status) != 0)
            return errno;
    }
    return 0;
}

pid_t life_client(const struct life *life, unsigned calls)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        _exit(call(life->mountpoint, calls));
    return pid;
}

pid_t life_client_program(const struct life *life, unsigned calls)
{
    char number[16];
    snprintf(number, sizeof number, "%u", calls);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "life", "--client", life->mountpoint, number, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void *serve_in_thread(void *argument)
{
    struct server_thread *server = argument;
    server->end = life_serve(server->connection, &server->answered);
    return NULL;
}

void life_start(struct server_thread *server, fusewire_connection *connection)
{
    *server = (struct server_thread){.connection = connection};
    CHECK_EQ(pthread_create(&server->thread, NULL, serve_in_thread, server), 0);
}

int life_join(struct server_thread *server)
{
    CHECK_EQ(pthread_join(server->thread, NULL), 0);
    return server->end;
}

void life_reap(pid_t child)
{
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

void life_await_sleep(pid_t tid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)tid);
    for (;;) {
        FILE *file = fopen(path, "re");
        CHECK(file != NULL);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        const char *state = strrchr(text, ')');
        CHECK(state != NULL);
        if (state[2] == 'S')
            return;
        usleep(1000);
    }
}

unsigned life_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    static const struct scenario *const groups[] = {thread_scenarios, fork_scenarios, option_scenarios,
                                                    worker_scenarios};
    const bool list = argc == 2 && strcmp(argv[1], "--list") == 0;
    if (!list && argc != 4) {
        fprintf(stderr, "usage: %s SCENARIO MOUNTPOINT TRANSPORT\n", argv[0]);
        return 2;
    }
    alarm(LIMIT_SECONDS);
    if (!list && strcmp(argv[1], "--client") == 0)
        return call(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    struct life life = {.options = {.size = sizeof life.options}};
    if (!list) {
        life.mountpoint = argv[2];
        life.options.transport = transport_of(argv[3]);
    }
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        for (const struct scenario *scenario = groups[i]; scenario->name != NULL; scenario++) {
            if (list) {
                puts(scenario->name);
            } else if (strcmp(scenario->name, argv[1]) == 0) {
                scenario->run(&life);
                return 0;
            }
        }
    }
    return list ? 0 : 2;
}
