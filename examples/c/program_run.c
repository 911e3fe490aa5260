#include "program_run.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64,                     /* requests per turn of the loop */
    STOP_MILLISECONDS = 2000,       /* how long a stop waits for the mount to go, at rest ... */
    WRITEBACK_MILLISECONDS = 30000, /* ... and while the kernel still writes back what it had cached */
    AGAIN_MILLISECONDS = 200,       /* signals that come closer together than this are one */
    CPUS_SIZE = 4096                /* a list of CPUs */
};

/* One thread of the loop, with its channel. The first is the main thread. */
struct worker {
    struct run *run;
    fusewire_connection *connection;
    fusewire_statistics statistics;
    pthread_t thread;
    int end; /* what fusewire_read said last */
};

struct run {
    const struct settings *settings;
    struct worker *workers;
    uint32_t started; /* workers with a thread, the main one included */
};

/* A stop that a signal asked for, on its way. */
struct stop {
    int64_t since; /* 0 before it */
    int64_t deadline;
};

static volatile sig_atomic_t signals_seen;
static fusewire_connection *volatile signalled; /* whom a signal wakes ... */
static volatile sig_atomic_t stop_at_once;      /* ... or stops */

static void on_signal(int number)
{
    (void)number;
    int saved = errno;
    signals_seen = 1;
    if (signalled != NULL && stop_at_once)
        fusewire_notify_unmount(signalled);
    else if (signalled != NULL)
        fusewire_wake(signalled);
    errno = saved;
}

static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

static int64_t milliseconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- The loop -------------------------------------------------------------------------------------------------- */

/* Carries a stop one step further. The first signal asks for the mount to be detached: what the kernel has cached comes
 * back as writes, which are served like any other. When that takes too long (a lazily detached mount lives as long as
 * somebody holds a file open), or a second signal comes, the connection stops. Returns for how long to wait next. */
static int stop_step(struct stop *stop, fusewire_connection *connection)
{
    if (!signals_seen && stop->since == 0)
        return -1;
    int64_t now = milliseconds_now();
    if (stop->since == 0) {
        signals_seen = 0;
        stop->since = now;
        stop->deadline = now + STOP_MILLISECONDS;
        if (fusewire_unmount(connection) < 0)
            stop->deadline = now; /* not ours to unmount */
    }
    if (signals_seen) {
        signals_seen = 0;
        if (now - stop->since >= AGAIN_MILLISECONDS)
            stop->deadline = now;
    }
    if (now >= stop->deadline) {
        fusewire_notify_unmount(connection);
        return -1;
    }
    return (int)(stop->deadline - now);
}

static void serve_request(const struct settings *settings, fusewire_connection *connection, struct stop *stop,
                          const fusewire_request *request)
{
    if (settings->debug)
        trace_request(request);
    if (stop != NULL && stop->since != 0 && request->opcode == FUSEWIRE_WRITE &&
        (request->op_flags & FUSEWIRE_WRITE_CACHE)) {
        int64_t latest = stop->since + WRITEBACK_MILLISECONDS;
        int64_t deadline = milliseconds_now() + STOP_MILLISECONDS;
        stop->deadline = deadline < latest ? deadline : latest;
    }
    settings->program->handle(settings->program->context, connection, request);
}

/* Serves until the end, and returns it. `stop` is for the thread that minds the signals, NULL for the others. */
static int serve(const struct settings *settings, fusewire_connection *connection, struct stop *stop)
{
    fusewire_request requests[BATCH];
    for (;;) {
        int timeout = stop != NULL ? stop_step(stop, connection) : -1;
        int count = fusewire_read(connection, requests, BATCH, sizeof requests[0], timeout);
        if (count == -EINTR)
            continue;
        if (count < 0)
            return count;
        for (int i = 0; i < count; i++)
            serve_request(settings, connection, stop, &requests[i]);
    }
}

/* ---- Workers --------------------------------------------------------------------------------------------------- */

/* In the worker's own thread, since a channel belongs to the thread that reads from it. Whoever ends first ends all. */
static void worker_serve(struct worker *worker, struct stop *stop)
{
    struct run *run = worker->run;
    const struct program *program = run->settings->program;
    if (run->settings->workers > 1)
        fusewire_pin(worker->connection); /* where it cannot, its CPUs are served from others */
    if (program->serve != NULL)
        worker->end = program->serve(program->context, worker->connection);
    else
        worker->end = serve(run->settings, worker->connection, stop);
    if (worker->end != -ENODEV && worker->end != -ESHUTDOWN && worker->end != -ECONNABORTED)
        fprintf(stderr, "%s: reading requests: %s\n", run->settings->program->name, fusewire_last_error());
    fusewire_notify_unmount(run->workers[0].connection);
    worker->statistics.size = sizeof worker->statistics;
    fusewire_stats(worker->connection, &worker->statistics);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    worker_serve(worker, NULL);
    fusewire_close(worker->connection);
    worker->connection = NULL;
    return NULL;
}

/* Gives a worker, one of several, its share of the CPUs; one alone serves them all. `list` is to be kept. */
static int share_cpus(const struct settings *settings, uint32_t index, fusewire_options *options, char list[CPUS_SIZE])
{
    if (settings->workers == 1)
        return 0;
    options->cpus = list;
    return fusewire_worker_cpus(index, settings->workers, list, CPUS_SIZE);
}

/* Clones first, so that what fails is known before there are threads. 0 or -1 with the words printed to `words`. */
static int workers_start(struct run *run, char *words, size_t size)
{
    const struct settings *settings = run->settings;
    for (uint32_t i = 1; i < settings->workers; i++) {
        char cpus[CPUS_SIZE];
        fusewire_options options = {.size = sizeof options};
        if (share_cpus(settings, i, &options, cpus) < 0 ||
            fusewire_clone(&run->workers[i].connection, run->workers[0].connection, &options) < 0) {
            snprintf(words, size, "%s", fusewire_last_error());
            return -1;
        }
    }
    /* Signals are for the main thread, which waits for them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (; run->started < settings->workers; run->started++) {
        struct worker *worker = &run->workers[run->started];
        error = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (error != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        snprintf(words, size, "starting a worker: %s", strerror(error));
        return -1;
    }
    return 0;
}

static void workers_join(struct run *run)
{
    fusewire_notify_unmount(run->workers[0].connection);
    for (uint32_t i = 1; i < run->settings->workers; i++) {
        if (i < run->started)
            pthread_join(run->workers[i].thread, NULL);
        else
            fusewire_close(run->workers[i].connection);
    }
}

/* ---- Opening, background, ending ------------------------------------------------------------------------------- */

static int open_connection(const struct settings *settings, fusewire_connection **connection, char *words, size_t size)
{
    const struct program *program = settings->program;
    fusewire_options options = {
        .size = sizeof options,
        .mount_options = settings->mount_options,
        .capabilities = program->capabilities,
        .without_capabilities = program->without_capabilities,
        .transport = settings->transport,
        .depth = settings->depth,
        .queue_depth = settings->queue_depth,
        .max_write = settings->max_write,
    };
    if (settings->writeback_cache)
        options.capabilities |= FUSEWIRE_CAP(WRITEBACK_CACHE);
    char cpus[CPUS_SIZE];
    int result = share_cpus(settings, 0, &options, cpus);
    if (result == 0)
        result = fusewire_open(connection, settings->mountpoint, &options);
    if (result < 0)
        snprintf(words, size, "%s", fusewire_last_error());
    else if (settings->debug)
        fprintf(stderr, "%s: %s\n", program->name, fusewire_describe_transport(*connection));
    return result;
}

/* Forks. The child gets 0, and *report to say with one byte 0 that it serves, or with words why not. The parent waits
 * for that and gets 1, with the exit status in *status. */
static int fork_to_background(const struct program *program, int *report, int *status)
{
    int ends[2];
    *status = 1;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        fprintf(stderr, "%s: pipe: %s\n", program->name, strerror(errno));
        return 1;
    }
    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "%s: fork: %s\n", program->name, strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return 1;
    }
    if (child == 0) {
        close(ends[0]);
        *report = ends[1];
        return 0;
    }
    close(ends[1]);
    char words[512];
    size_t used = 0;
    ssize_t got;
    while (used < sizeof words - 1 &&
           ((got = read(ends[0], words + used, sizeof words - 1 - used)) > 0 || (got < 0 && errno == EINTR)))
        used += got > 0 ? (size_t)got : 0;
    words[used] = 0;
    close(ends[0]);
    if (used == 1 && words[0] == 0) {
        *status = 0;
    } else if (used > 0) {
        fprintf(stderr, "%s: %s\n", program->name, words);
    } else {
        int how = 0;
        waitpid(child, &how, 0);
        if (WIFSIGNALED(how))
            fprintf(stderr, "%s: the server was ended by signal %d before it had mounted\n", program->name,
                    WTERMSIG(how));
        else
            fprintf(stderr, "%s: the server ended before it had mounted\n", program->name);
    }
    return 1;
}

/* Leaves terminal and folder, and tells the parent that all is well. */
static void detach(int report)
{
    setsid();
    if (chdir("/") < 0)
        return; /* the parent reports that no word came */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        for (int fd = 0; fd <= 2; fd++)
            dup2(null, fd);
        if (null > 2)
            close(null);
    }
    char well = 0;
    ssize_t written;
    do
        written = write(report, &well, 1);
    while (written < 0 && errno == EINTR);
    close(report);
}

static void report_failure(const struct program *program, int report, const char *words)
{
    if (report < 0 || write(report, words, strlen(words)) < 0)
        fprintf(stderr, "%s: %s\n", program->name, words);
}

static void sum_statistics(fusewire_statistics *sum, const fusewire_statistics *more)
{
    sum->read += more->read;
    sum->answered += more->answered;
    sum->forgets += more->forgets;
    sum->interrupts += more->interrupts;
    sum->retrieved += more->retrieved;
    sum->notifications += more->notifications;
    sum->replies_gone += more->replies_gone;
    sum->replies_failed += more->replies_failed;
    sum->notifications_failed += more->notifications_failed;
    sum->malformed += more->malformed;
    sum->batches += more->batches;
    sum->system_calls += more->system_calls;
    sum->open += more->open;
    sum->open_peak += more->open_peak;
    sum->memory += more->memory;
    sum->queues += more->queues;
}

/* After the end: what it was, in the exit status. */
static int conclude(struct run *run, bool stopped, int statistics_fd)
{
    const struct program *program = run->settings->program;
    int status = 0;
    bool aborted = false;
    for (uint32_t i = 0; i < run->started; i++) {
        int end = run->workers[i].end;
        aborted |= end == -ECONNABORTED;
        if (end != -ENODEV && end != -ESHUTDOWN && end != -ECONNABORTED)
            status = 1;
        if (i > 0)
            sum_statistics(&run->workers[0].statistics, &run->workers[i].statistics);
    }
    if (aborted && !stopped) {
        fprintf(stderr, "%s: the connection was aborted\n", program->name);
        status = 1;
    }
    if (run->settings->debug)
        trace_statistics(STDERR_FILENO, program, run->started, &run->workers[0].statistics);
    if (statistics_fd >= 0)
        trace_statistics(statistics_fd, program, run->started, &run->workers[0].statistics);
    return status;
}

/* In the process that serves. */
static int mount_and_serve(struct run *run, int report, int statistics_fd)
{
    const struct settings *settings = run->settings;
    struct worker *first = &run->workers[0];
    char words[480];
    handle_signals();
    if (open_connection(settings, &first->connection, words, sizeof words) < 0) {
        report_failure(settings->program, report, words);
        return 1;
    }
    stop_at_once = settings->program->serve != NULL;
    signalled = first->connection;
    if (signals_seen && stop_at_once)
        fusewire_notify_unmount(first->connection); /* it came while mounting */
    int status = 1;
    run->started = 1;
    if (workers_start(run, words, sizeof words) == 0) {
        if (report >= 0)
            detach(report);
        struct stop stop = {0};
        worker_serve(first, &stop);
        workers_join(run);
        status = conclude(run, stop.since != 0, statistics_fd);
    } else {
        workers_join(run);
        report_failure(settings->program, report, words);
    }
    signalled = NULL;
    fusewire_close(first->connection);
    return status;
}

static int open_statistics(const struct program *program)
{
    const char *path = getenv("FUSEWIRE_STATS");
    if (path == NULL || path[0] == 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        fprintf(stderr, "%s: FUSEWIRE_STATS: %s: %s\n", program->name, path, strerror(errno));
    return fd;
}

int program_run(const struct settings *settings)
{
    const struct program *program = settings->program;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    int statistics_fd = open_statistics(program);
    umask(0);
    if (program->prepare != NULL && program->prepare(program->context, settings->source) < 0) {
        if (statistics_fd >= 0)
            close(statistics_fd);
        return 1;
    }
    struct run run = {.settings = settings, .workers = calloc(settings->workers, sizeof *run.workers)};
    for (uint32_t i = 0; run.workers != NULL && i < settings->workers; i++)
        run.workers[i].run = &run;
    int status = 1;
    int report = -1;
    if (run.workers == NULL)
        fprintf(stderr, "%s: out of memory\n", program->name);
    else if (settings->foreground || fork_to_background(program, &report, &status) == 0)
        status = mount_and_serve(&run, report, statistics_fd);
    if (program->finish != NULL)
        program->finish(program->context);
    if (statistics_fd >= 0)
        close(statistics_fd);
    free(run.workers);
    return status;
}
