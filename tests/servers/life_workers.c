/* Workers: clones that serve the requests of some CPUs, each in a thread or process of its own. Over /dev/fuse the same
 * programs work, and whoever comes first answers. */
#include "life.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { WORKERS_MAX = 64, CALLS = 100, SOME_MORE = 40, LIST = 4096 };

static bool over_io_uring(const struct life *life)
{
    return life->options.transport == FUSEWIRE_TRANSPORT_URING;
}

/* The last CPU that the machine can have, be it there or not. */
static unsigned last_possible(void)
{
    unsigned first = 0, last = 0;
    FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
    CHECK(file != NULL);
    if (fscanf(file, "%u-%u", &first, &last) < 2)
        last = first;
    fclose(file);
    return last;
}

/* A worker for each CPU; beyond WORKERS_MAX the last one takes the rest. */
static unsigned count_workers(void)
{
    const unsigned last = last_possible();
    return last < WORKERS_MAX ? last + 1 : WORKERS_MAX;
}

static void cpus_of(unsigned worker, char *list)
{
    snprintf(list, LIST, "%u-%u", worker, worker + 1 < WORKERS_MAX ? worker : last_possible());
}

static bool usable(unsigned cpu)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(cpu, &set);
}

static unsigned first_usable(void)
{
    unsigned cpu = 0;
    while (!usable(cpu))
        cpu++;
    return cpu;
}

/* The connection itself serves no CPU, nor does it read. */
static fusewire_connection *open_for_workers(const struct life *life)
{
    struct life none = *life;
    none.options.cpus = "";
    return life_open(&none);
}

static fusewire_connection *clone_for(fusewire_connection *connection, unsigned worker)
{
    char list[LIST];
    fusewire_connection *clone = NULL;
    cpus_of(worker, list);
    const fusewire_options options = {.size = sizeof options, .cpus = list};
    CHECK_EQ(fusewire_clone(&clone, connection, &options), 0);
    return clone;
}

static pid_t client_on(const struct life *life, unsigned cpu, unsigned calls)
{
    cpu_set_t before, one;
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    pid_t client = life_client_program(life, calls);
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
    return client;
}

/* Another number of calls from each CPU, so that a worker cannot have answered another one's. */
static unsigned calls_from(unsigned cpu)
{
    return CALLS * (cpu % 8 + 1);
}

static void call_from_every_cpu(const struct life *life, unsigned workers)
{
    pid_t clients[WORKERS_MAX];
    for (unsigned i = 0; i < workers; i++)
        clients[i] = usable(i) ? client_on(life, i, calls_from(i)) : -1;
    for (unsigned i = 0; i < workers; i++) {
        if (clients[i] > 0)
            life_reap(clients[i]);
    }
}

/* A few requests more may be due to somebody else who looked at the mount. */
static void expect_answered(const struct life *life, unsigned worker, unsigned answered)
{
    if (!over_io_uring(life))
        return;
    const unsigned expected = usable(worker) ? calls_from(worker) : 0;
    CHECK(answered >= expected);
    CHECK(answered <= expected + SOME_MORE);
}

static void workers_in_threads(const struct life *life)
{
    fusewire_connection *connection = open_for_workers(life);
    const unsigned workers = count_workers();
    struct server_thread servers[WORKERS_MAX];
    for (unsigned i = 0; i < workers; i++)
        life_start(&servers[i], clone_for(connection, i));
    call_from_every_cpu(life, workers);
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    unsigned all = 0, expected = 0;
    for (unsigned i = 0; i < workers; i++) {
        CHECK_EQ(life_join(&servers[i]), -ESHUTDOWN);
        fusewire_close(servers[i].connection);
        expect_answered(life, i, servers[i].answered);
        all += servers[i].answered;
        expected += usable(i) ? calls_from(i) : 0;
    }
    CHECK(all >= expected);
    fusewire_close(connection);
}

/* A child that serves until it is stopped, and then looks whose requests it has answered. */
static pid_t fork_worker(const struct life *life, fusewire_connection *connection, fusewire_connection **clones,
                         unsigned worker)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    unsigned answered = 0;
    fusewire_close(connection);
    for (unsigned i = 0; i < worker; i++)
        fusewire_close(clones[i]);
    CHECK_EQ(fusewire_pin(clones[worker]), 0);
    CHECK_EQ(life_serve(clones[worker], &answered), -ESHUTDOWN);
    expect_answered(life, worker, answered);
    fusewire_close(clones[worker]);
    _exit(0);
}

static void workers_in_processes(const struct life *life)
{
    fusewire_connection *connection = open_for_workers(life);
    const unsigned workers = count_workers();
    fusewire_connection *clones[WORKERS_MAX];
    pid_t children[WORKERS_MAX];
    for (unsigned i = 0; i < workers; i++) {
        clones[i] = clone_for(connection, i);
        children[i] = fork_worker(life, connection, clones, i);
    }
    call_from_every_cpu(life, workers);
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    for (unsigned i = 0; i < workers; i++) {
        life_reap(children[i]);
        fusewire_close(clones[i]);
    }
    fusewire_close(connection);
}

/* Waits until the process waits in the kernel for something whose name has this in it. */
static void await_wait_for(pid_t pid, const char *what)
{
    char path[64], text[128] = "";
    snprintf(path, sizeof path, "/proc/%d/wchan", (int)pid);
    while (strstr(text, what) == NULL) {
        FILE *file = fopen(path, "re");
        CHECK(file != NULL);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        usleep(1000);
    }
}

/* The kernel lets nobody through before each CPU has its worker. */
static void clients_wait_for_all_workers(const struct life *life)
{
    fusewire_connection *connection = open_for_workers(life);
    const unsigned workers = count_workers();
    struct server_thread servers[WORKERS_MAX];
    for (unsigned i = 0; i + 1 < workers; i++)
        life_start(&servers[i], clone_for(connection, i));
    pid_t client = client_on(life, first_usable(), 1);
    if (over_io_uring(life)) {
        await_wait_for(client, "fuse_get_req");
        CHECK_EQ(waitpid(client, NULL, WNOHANG), 0);
    }
    life_start(&servers[workers - 1], clone_for(connection, workers - 1));
    life_reap(client);
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    for (unsigned i = 0; i < workers; i++) {
        CHECK_EQ(life_join(&servers[i]), -ESHUTDOWN);
        fusewire_close(servers[i].connection);
    }
    fusewire_close(connection);
}

/* Reads until there is a request for attributes, and is killed with it in hand. */
static pid_t fork_doomed_worker(fusewire_connection *clone)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    for (;;) {
        fusewire_request request;
        int count = fusewire_read(clone, &request, 1, sizeof request, -1);
        if (count > 0 && request.opcode == FUSEWIRE_GETATTR)
            raise(SIGKILL);
        if (count > 0 && request.id != 0)
            fusewire_reply_error(clone, request.id, -ENOSYS);
    }
}

static int reap_failed(pid_t child)
{
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* What has come since waits for the successor; what it had read ends with an error when the parent closes its copy
 * after that. The other workers' clients notice nothing. */
static void a_worker_process_dies(const struct life *life)
{
    fusewire_connection *connection = open_for_workers(life);
    const unsigned victim = first_usable();
    /* Over /dev/fuse the others would take the request. */
    const unsigned workers = over_io_uring(life) ? count_workers() : 0;
    struct server_thread servers[WORKERS_MAX], successor;
    fusewire_connection *doomed = clone_for(connection, victim);
    pid_t child = fork_doomed_worker(doomed);
    for (unsigned i = 0; i < workers; i++) {
        if (i != victim)
            life_start(&servers[i], clone_for(connection, i));
    }
    pid_t unlucky = client_on(life, victim, 1);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    for (unsigned i = 0; i < workers; i++) {
        if (i != victim && usable(i))
            life_reap(client_on(life, i, CALLS));
    }
    pid_t patient = client_on(life, victim, 1);
    await_wait_for(patient, "request_wait_answer");
    life_start(&successor, clone_for(connection, victim));
    life_reap(patient);
    CHECK_EQ(fusewire_close(doomed), 0);
    const int error = reap_failed(unlucky);
    CHECK(error == EIO || error == ECONNABORTED);
    life_reap(client_on(life, victim, CALLS));
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    for (unsigned i = 0; i < workers; i++) {
        if (i == victim)
            continue;
        CHECK_EQ(life_join(&servers[i]), -ESHUTDOWN);
        fusewire_close(servers[i].connection);
    }
    CHECK_EQ(life_join(&successor), -ESHUTDOWN);
    fusewire_close(successor.connection);
    fusewire_close(connection);
}

/* Reads once in a thread. */
struct visitor {
    fusewire_connection *connection;
    int result;
    char words[256];
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    fusewire_request request;
    visitor->result = fusewire_read(visitor->connection, &request, 1, sizeof request, 0);
    snprintf(visitor->words, sizeof visitor->words, "%s", fusewire_last_error());
    return NULL;
}

/* With uring the thread that reads first reads always; another one is told so, and does no harm. */
static void another_thread_reads(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    fusewire_request request;
    struct visitor visitor = {.connection = connection};
    pthread_t thread;
    CHECK_EQ(fusewire_read(connection, &request, 1, sizeof request, 0), 0);
    CHECK_EQ(pthread_create(&thread, NULL, visit, &visitor), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(visitor.result, over_io_uring(life) ? -EXDEV : 0);
    CHECK(!over_io_uring(life) || strstr(visitor.words, "clone") != NULL);
    pid_t client = life_client(life, 1);
    while (fusewire_read(connection, &request, 1, sizeof request, -1) != 1)
        continue;
    CHECK_EQ(fusewire_reply_error(connection, request.id, -EUCLEAN), 0);
    CHECK(fusewire_read(connection, &request, 1, sizeof request, 0) <= 0); /* ends the turn */
    CHECK_EQ(reap_failed(client), EUCLEAN);
    fusewire_close(connection);
}

static void *read_one(void *argument)
{
    struct server_thread *server = argument;
    fusewire_request request;
    do
        server->end = fusewire_read(server->connection, &request, 1, sizeof request, -1);
    while (server->end == -EINTR);
    return NULL;
}

/* The thread that has read is gone: whoever closes answers what it has left. */
static void closed_by_another_thread(const struct life *life)
{
    struct server_thread server = {.connection = life_open(life)};
    CHECK_EQ(pthread_create(&server.thread, NULL, read_one, &server), 0);
    pid_t client = life_client(life, 1);
    CHECK_EQ(life_join(&server), 1);
    CHECK_EQ(fusewire_close(server.connection), 0);
    CHECK_EQ(reap_failed(client), EIO);
}

/* Each CPU of the machine is in one worker's share, whatever their number. */
static void shares(const struct life *life)
{
    (void)life;
    char list[LIST];
    cpu_set_t set;
    CHECK_EQ(sched_getaffinity(0, sizeof set, &set), 0);
    CHECK_EQ(fusewire_worker_count(), CPU_COUNT(&set));
    for (uint32_t count = 1; count <= 5; count++) {
        unsigned seen[CPU_SETSIZE] = {0}, all = 0;
        for (uint32_t i = 0; i < count; i++) {
            CHECK_EQ(fusewire_worker_cpus(i, count, list, sizeof list), 0);
            char *rest = list;
            for (char *piece; (piece = strtok_r(rest, ",", &rest)) != NULL; all++)
                CHECK_EQ(seen[strtoul(piece, NULL, 10)]++, 0);
        }
        CHECK_EQ(all, last_possible() + 1);
    }
    CHECK_EQ(fusewire_worker_cpus(0, 0, list, sizeof list), -EINVAL);
    CHECK_EQ(fusewire_worker_cpus(1, 1, list, sizeof list), -EINVAL);
    CHECK_EQ(fusewire_worker_cpus(0, 1, list, 1), -ENOBUFS);
    CHECK_EQ(fusewire_worker_cpus(0, 1, list, 0), -ENOBUFS);
}

/* As the header shows it: a thread for each share, bound to its CPUs. */
static void *serve_pinned(void *argument)
{
    struct server_thread *server = argument;
    CHECK_EQ(fusewire_pin(server->connection), 0);
    server->end = life_serve(server->connection, &server->answered);
    return NULL;
}

static void workers_by_share(const struct life *life)
{
    fusewire_connection *connection = open_for_workers(life);
    const uint32_t count = fusewire_worker_count();
    struct server_thread servers[WORKERS_MAX];
    CHECK(count <= WORKERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        char list[LIST];
        CHECK_EQ(fusewire_worker_cpus(i, count, list, sizeof list), 0);
        const fusewire_options options = {.size = sizeof options, .cpus = list};
        servers[i] = (struct server_thread){.connection = NULL};
        CHECK_EQ(fusewire_clone(&servers[i].connection, connection, &options), 0);
        CHECK_EQ(pthread_create(&servers[i].thread, NULL, serve_pinned, &servers[i]), 0);
    }
    call_from_every_cpu(life, count_workers());
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(life_join(&servers[i]), -ESHUTDOWN);
        fusewire_close(servers[i].connection);
    }
    fusewire_close(connection);
}

const struct scenario worker_scenarios[] = {
    {"workers-in-threads", workers_in_threads},
    {"workers-in-processes", workers_in_processes},
    {"workers-by-share", workers_by_share},
    {"clients-wait-for-all-workers", clients_wait_for_all_workers},
    {"a-worker-process-dies", a_worker_process_dies},
    {"another-thread-reads", another_thread_reads},
    {"closed-by-another-thread", closed_by_another_thread},
    {"shares", shares},
    {NULL, NULL},
};
