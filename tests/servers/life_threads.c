/* Stopping and waking from elsewhere: other threads, signal handlers; clones in threads. */
#include "life.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { CLONES = 3, INTERRUPTED_CLIENTS = 4, INTERRUPTED_CALLS = 500, INTERRUPT_PATIENCE_MS = 20 };

static fusewire_connection *the_connection;
static pid_t reader;

/* In a thread: waits until the reader sleeps, so that what is done meets a wait. */
static void *stop_when_asleep(void *argument)
{
    (void)argument;
    life_await_sleep(reader);
    CHECK_EQ(fusewire_notify_unmount(the_connection), 0);
    return NULL;
}

static void *wake_when_asleep(void *argument)
{
    (void)argument;
    life_await_sleep(reader);
    CHECK_EQ(fusewire_wake(the_connection), 0);
    return NULL;
}

static pthread_t start(void *(*run)(void *), fusewire_connection *connection)
{
    pthread_t thread;
    the_connection = connection;
    reader = (pid_t)syscall(SYS_gettid);
    CHECK_EQ(pthread_create(&thread, NULL, run, NULL), 0);
    return thread;
}

static void stop_from_a_thread(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    pthread_t thread = start(stop_when_asleep, connection);
    CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
    fusewire_close(connection);
}

static void stop_before_reading(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
    fusewire_close(connection);
}

static void on_stop_signal(int number)
{
    (void)number;
    fusewire_notify_unmount(the_connection);
}

static void signal_soon(void (*handler)(int))
{
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_RESTART}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = 20000}}, NULL);
}

static void stop_from_a_signal_handler(const struct life *life)
{
    fusewire_connection *connection = the_connection = life_open(life);
    signal_soon(on_stop_signal);
    CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
    fusewire_close(connection);
}

static void on_wake_signal(int number)
{
    (void)number;
    fusewire_wake(the_connection);
}

/* 0, be it now, or after an EINTR at the next call. */
static void expect_wake(fusewire_connection *connection)
{
    fusewire_request requests[4];
    int count = fusewire_read(connection, requests, 4, sizeof requests[0], -1);
    if (count == -EINTR)
        count = fusewire_read(connection, requests, 4, sizeof requests[0], -1);
    CHECK_EQ(count, 0);
}

static void wake_ends_a_wait(const struct life *life)
{
    fusewire_request requests[4];
    fusewire_connection *connection = life_open(life);
    pthread_t thread = start(wake_when_asleep, connection);
    expect_wake(connection);
    CHECK_EQ(pthread_join(thread, NULL), 0);

    /* Before a wait it is kept for it; several are one. */
    CHECK_EQ(fusewire_wake(connection), 0);
    CHECK_EQ(fusewire_wake(connection), 0);
    expect_wake(connection);
    CHECK_EQ(fusewire_read(connection, requests, 4, sizeof requests[0], 1), 0);

    the_connection = connection;
    signal_soon(on_wake_signal);
    expect_wake(connection);
    fusewire_close(connection);
}

static void timeouts(const struct life *life)
{
    fusewire_request requests[4];
    fusewire_connection *connection = life_open(life);
    struct timespec before, after;
    for (int timeout = 0; timeout <= 50; timeout += 25) {
        clock_gettime(CLOCK_MONOTONIC, &before);
        CHECK_EQ(fusewire_read(connection, requests, 4, sizeof requests[0], timeout), 0);
        clock_gettime(CLOCK_MONOTONIC, &after);
        int64_t waited = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
        CHECK(waited >= timeout - 1);
    }
    CHECK_EQ(fusewire_read(connection, requests, 4, sizeof requests[0], -2), -EINVAL);
    fusewire_close(connection);
}

static void clones_in_threads(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    struct server_thread servers[CLONES];
    for (int i = 0; i < CLONES; i++)
        life_start(&servers[i], life_clone(connection));
    pid_t clients[4];
    for (int i = 0; i < 4; i++)
        clients[i] = life_client(life, 500);
    for (int i = 0; i < 4; i++)
        life_reap(clients[i]);
    /* The connection itself was not read from: they have served all. */
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    unsigned answered = 0;
    for (int i = 0; i < CLONES; i++) {
        CHECK_EQ(life_join(&servers[i]), -ESHUTDOWN);
        answered += servers[i].answered;
        CHECK_EQ(fusewire_close(servers[i].connection), 0);
    }
    CHECK(answered >= 2000);
    CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
    fusewire_close(connection);
}

/* A clone's stop is everybody's stop. */
static void stop_by_a_clone(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    fusewire_connection *clone = life_clone(connection);
    struct server_thread servers[CLONES];
    for (int i = 0; i < CLONES; i++)
        life_start(&servers[i], life_clone(connection));
    pthread_t thread = start(stop_when_asleep, clone);
    CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    for (int i = 0; i < CLONES; i++) {
        CHECK_EQ(life_join(&servers[i]), -ESHUTDOWN);
        fusewire_close(servers[i].connection);
    }
    CHECK_EQ(life_serve(clone, NULL), -ESHUTDOWN);
    fusewire_close(clone);
    fusewire_close(connection);
}

static void closing_a_clone_ends_nothing(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    struct server_thread server;
    fusewire_connection *unused = life_clone(connection), *used = life_clone(connection);
    fusewire_request requests[4];
    CHECK_EQ(fusewire_read(used, requests, 4, sizeof requests[0], 0), 0);
    life_start(&server, connection);
    fusewire_close(unused);
    fusewire_close(used);
    life_reap(life_client(life, 10));
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    CHECK_EQ(life_join(&server), -ESHUTDOWN);
    CHECK(server.answered >= 10);
    fusewire_close(connection);
}

/* A clone lives on when the connection that it was made of is closed, until the mount goes. */
static void a_clone_outlives_its_original(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    struct server_thread server;
    life_start(&server, life_clone(connection));
    fusewire_close(connection);
    CHECK_EQ(life_join(&server), -ENODEV);
    fusewire_close(server.connection);
}

/* Serves so that a request is answered when it is interrupted, and not before.
 *
 * Over io_uring the kernel tells of no signal that comes between its giving the request to a ring entry and this
 * thread's fetching it there (seen on Linux 6.18): a client that waits for long is answered all the same then. */
struct interrupt_server {
    struct server_thread server;
    int patience;                                          /* in milliseconds; -1: without end */
    uint64_t ids[INTERRUPTED_CLIENTS * INTERRUPTED_CALLS]; /* of requests, since it was last quiet */
    unsigned count;
};

static void answer_interrupt(struct interrupt_server *self, const fusewire_request *request)
{
    int result = 0;
    if (request->id == 0)
        return;
    if (request->opcode == FUSEWIRE_INTERRUPT)
        result = fusewire_reply_error(self->server.connection, request->id, -EINTR);
    else if (request->opcode != FUSEWIRE_GETATTR)
        result = fusewire_reply_error(self->server.connection, request->id, -ENOSYS);
    else if (self->patience >= 0 && self->count < INTERRUPTED_CLIENTS * INTERRUPTED_CALLS)
        self->ids[self->count++] = request->id;
    CHECK(result == 0 || result == -EALREADY);
}

static void *serve_interrupts(void *argument)
{
    struct interrupt_server *self = argument;
    fusewire_request requests[16];
    for (;;) {
        int count = fusewire_read(self->server.connection, requests, 16, sizeof requests[0], self->patience);
        if (count < 0 && count != -EINTR) {
            self->server.end = count;
            return NULL;
        }
        for (int i = 0; i < count; i++)
            answer_interrupt(self, &requests[i]);
        while (count == 0 && self->count > 0)
            fusewire_reply_error(self->server.connection, self->ids[--self->count], -EIO);
    }
}

static void on_client_signal(int number)
{
    (void)number;
}

/* A client that is interrupted in each of its calls, at any moment. */
static pid_t interrupted_client(const struct life *life)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_client_signal}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{.tv_usec = 300}, {.tv_usec = 300}}, NULL);
    struct stat status;
    unsigned interrupted = 0;
    for (unsigned i = 0; i < INTERRUPTED_CALLS; i++) {
        if (stat(life->mountpoint, &status) == 0)
            _exit(2);
        interrupted += errno == EINTR;
    }
    _exit(interrupted == INTERRUPTED_CALLS || (interrupted > 0 && life->options.transport == FUSEWIRE_TRANSPORT_URING)
              ? 0
              : 3);
}

/* The INTERRUPT is read by whichever channel comes first, before or after another one has read the request. If one got
 * lost its client would wait for ever. */
static void interrupts_across_clones(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    struct interrupt_server servers[CLONES] = {{.patience = 0}};
    for (int i = 0; i < CLONES; i++) {
        servers[i].server.connection = life_clone(connection);
        servers[i].patience = life->options.transport == FUSEWIRE_TRANSPORT_URING ? INTERRUPT_PATIENCE_MS : -1;
        CHECK_EQ(pthread_create(&servers[i].server.thread, NULL, serve_interrupts, &servers[i]), 0);
    }
    pid_t clients[INTERRUPTED_CLIENTS];
    for (int i = 0; i < INTERRUPTED_CLIENTS; i++)
        clients[i] = interrupted_client(life);
    for (int i = 0; i < INTERRUPTED_CLIENTS; i++)
        life_reap(clients[i]);
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    for (int i = 0; i < CLONES; i++) {
        CHECK_EQ(life_join(&servers[i].server), -ESHUTDOWN);
        fusewire_close(servers[i].server.connection);
    }
    fusewire_close(connection);
}

static void nothing_is_leaked(const struct life *life)
{
    unsigned before = life_descriptors();
    for (int i = 0; i < 50; i++) {
        fusewire_connection *connection = life_open(life);
        fusewire_connection *clone = life_clone(connection);
        struct server_thread server;
        life_start(&server, clone);
        CHECK_EQ(fusewire_notify_inval_inode(connection, FUSEWIRE_ROOT_ID, 0, 0), 0);
        CHECK_EQ(fusewire_notify_unmount(connection), 0);
        CHECK_EQ(life_join(&server), -ESHUTDOWN);
        fusewire_close(clone);
        fusewire_close(connection);
    }
    CHECK_EQ(life_descriptors(), before);
}

const struct scenario thread_scenarios[] = {
    {"stop-from-a-thread", stop_from_a_thread},
    {"stop-before-reading", stop_before_reading},
    {"stop-from-a-signal-handler", stop_from_a_signal_handler},
    {"wake-ends-a-wait", wake_ends_a_wait},
    {"timeouts", timeouts},
    {"clones-in-threads", clones_in_threads},
    {"stop-by-a-clone", stop_by_a_clone},
    {"closing-a-clone-ends-nothing", closing_a_clone_ends_nothing},
    {"a-clone-outlives-its-original", a_clone_outlives_its_original},
    {"interrupts-across-clones", interrupts_across_clones},
    {"nothing-is-leaked", nothing_is_leaked},
    {NULL, NULL},
};
