/* The fault server's command line and its two loops; see fault_server.h.
 *
 *     fault_server [OPTION...] MOUNTPOINT      MOUNTPOINT may be /dev/fd/N, or "-" for the device alone
 *
 *     --loop=epoll|block     epoll on fusewire_fd, or fusewire_read without a timeout
 *     --channels=N           the connection and N - 1 clones, all in this thread (epoll only)
 *     --cpus=LIST            of the connection; given again, of its first clone, and so on
 *     --file-size=N          of every file; 1 MiB
 *     --transport=NAME --depth=N --queue-depth=N --buffers=N --max-write=N --max-background=N --mount=OPTIONS --raw
 *     --report
 *     --adopt=FD --session=HEX --capabilities=BITS --without=BITS
 *     --node=NAME            gives that file the next number, as the server had it whose successor this is
 *     --open-only            opens, closes and exits */
#include "fault_server.h"
#include "transports.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 64, INPUT = 4096, STDIN_EVENT = CHANNELS_MAX };

struct arguments {
    fusewire_options options;
    fusewire_session session;
    const char *mountpoint;
    bool block;
    bool open_only;
    unsigned channels;
    const char *cpus[CHANNELS_MAX];
    unsigned cpus_count;
    uint64_t file_size;
};

static fusewire_connection *volatile woken_by_input;
static volatile sig_atomic_t input_waits;

static void on_input(int number)
{
    (void)number;
    int saved = errno;
    input_waits = 1;
    if (woken_by_input != NULL)
        fusewire_wake(woken_by_input);
    errno = saved;
}

static bool parse(struct arguments *arguments, int argc, char **argv)
{
    enum {
        LOOP,
        CHANNELS,
        CPUS,
        FILE_SIZE,
        TRANSPORT,
        DEPTH,
        QUEUE_DEPTH,
        BUFFERS,
        MAX_WRITE,
        BACKGROUND,
        MOUNT,
        RAW,
        REPORT,
        ADOPT,
        SESSION,
        CAPABILITIES,
        WITHOUT,
        NODE,
        OPEN_ONLY
    };
    static const struct option known[] = {
        {"loop", required_argument, NULL, LOOP},
        {"channels", required_argument, NULL, CHANNELS},
        {"cpus", required_argument, NULL, CPUS},
        {"file-size", required_argument, NULL, FILE_SIZE},
        {"transport", required_argument, NULL, TRANSPORT},
        {"depth", required_argument, NULL, DEPTH},
        {"queue-depth", required_argument, NULL, QUEUE_DEPTH},
        {"buffers", required_argument, NULL, BUFFERS},
        {"max-write", required_argument, NULL, MAX_WRITE},
        {"max-background", required_argument, NULL, BACKGROUND},
        {"mount", required_argument, NULL, MOUNT},
        {"raw", no_argument, NULL, RAW},
        {"report", no_argument, NULL, REPORT},
        {"adopt", required_argument, NULL, ADOPT},
        {"session", required_argument, NULL, SESSION},
        {"capabilities", required_argument, NULL, CAPABILITIES},
        {"without", required_argument, NULL, WITHOUT},
        {"node", required_argument, NULL, NODE},
        {"open-only", no_argument, NULL, OPEN_ONLY},
        {NULL, 0, NULL, 0},
    };
    fusewire_options *options = &arguments->options;
    options->size = sizeof *options;
    arguments->channels = 1;
    arguments->file_size = 1 << 20;
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
        uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 0) : 0;
        switch (option) {
        case LOOP:
            arguments->block = strcmp(optarg, "block") == 0;
            break;
        case CHANNELS:
            arguments->channels = (unsigned)number;
            break;
        case CPUS:
            if (arguments->cpus_count == CHANNELS_MAX)
                return false;
            arguments->cpus[arguments->cpus_count++] = optarg;
            break;
        case FILE_SIZE:
            arguments->file_size = number;
            break;
        case TRANSPORT:
            options->transport = transport_of(optarg);
            break;
        case DEPTH:
            options->depth = (uint32_t)number;
            break;
        case QUEUE_DEPTH:
            options->queue_depth = (uint32_t)number;
            break;
        case BUFFERS:
            options->buffers = (uint32_t)number;
            break;
        case MAX_WRITE:
            options->max_write = (uint32_t)number;
            break;
        case BACKGROUND:
            options->max_background = (uint32_t)number;
            break;
        case MOUNT:
            options->mount_options = optarg;
            break;
        case RAW:
            options->flags |= FUSEWIRE_OPEN_RAW;
            break;
        case REPORT:
            options->flags |= FUSEWIRE_OPEN_REPORT_FAILURES;
            break;
        case ADOPT:
            options->flags |= FUSEWIRE_OPEN_ADOPT;
            options->fd = (int32_t)number;
            break;
        case SESSION:
            if (!session_parse(optarg, &arguments->session))
                return false;
            options->session = &arguments->session;
            break;
        case CAPABILITIES:
            options->capabilities = number;
            break;
        case WITHOUT:
            options->without_capabilities = number;
            break;
        case NODE:
            node_of(optarg);
            break;
        case OPEN_ONLY:
            arguments->open_only = true;
            break;
        default:
            return false;
        }
    }
    if (optind + 1 != argc || arguments->channels == 0 || arguments->channels > CHANNELS_MAX)
        return false;
    options->cpus = arguments->cpus[0];
    arguments->mountpoint = strcmp(argv[optind], "-") == 0 ? NULL : argv[optind];
    return true;
}

/* ---- Commands from standard input ------------------------------------------------------------------------------ */

/* Runs the lines that are there. */
static void read_commands(struct server *server)
{
    static char input[INPUT];
    static size_t used;
    ssize_t got = read(STDIN_FILENO, input + used, sizeof input - used);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || used + (size_t)got == sizeof input) {
        server->quit = true; /* who has started us is gone */
        return;
    }
    used += (size_t)got;
    char *line = input, *end;
    while (!server->quit && (end = memchr(line, '\n', used - (size_t)(line - input))) != NULL) {
        *end = '\0';
        command_run(server, line);
        line = end + 1;
    }
    used -= (size_t)(line - input);
    memmove(input, line, used);
}

static bool set_flags(int fd, int flags)
{
    int now = fcntl(fd, F_GETFL);
    return now >= 0 && fcntl(fd, F_SETFL, now | flags) == 0;
}

/* ---- Loops ----------------------------------------------------------------------------------------------------- */

static void end(struct server *server, fusewire_connection *connection, int result)
{
    fusewire_request request;
    char words[256];
    snprintf(words, sizeof words, "%s", fusewire_last_error());
    say("! end %d %d %s", result, fusewire_read(connection, &request, 1, sizeof request, 0), words);
    server->ended = true;
}

static int take_batch(struct server *server, unsigned channel, int timeout)
{
    fusewire_request requests[BATCH];
    memset(requests, 0xff, sizeof requests); /* whatever is not filled is then wrong */
    int count = fusewire_read(server->channels[channel], requests, BATCH, sizeof requests[0], timeout);
    for (int i = 0; i < count; i++)
        request_take(server, channel, &requests[i]);
    if (count < 0 && count != -EINTR)
        end(server, server->channels[channel], count);
    return count;
}

static void loop_blocking(struct server *server)
{
    woken_by_input = server->channels[0];
    sigaction(SIGIO, &(struct sigaction){.sa_handler = on_input}, NULL);
    if (fcntl(STDIN_FILENO, F_SETOWN, getpid()) < 0 || !set_flags(STDIN_FILENO, O_NONBLOCK | O_ASYNC))
        abort();
    read_commands(server); /* what came before the signal was asked for */
    while (!server->quit && !server->ended) {
        take_batch(server, 0, kept_wait(server));
        kept_answer_due(server);
        if (input_waits) {
            input_waits = 0;
            read_commands(server);
        }
    }
    woken_by_input = NULL;
    int flags = fcntl(STDIN_FILENO, F_GETFL);
    if (fcntl(STDIN_FILENO, F_SETFL, flags & ~(O_NONBLOCK | O_ASYNC)) < 0)
        abort();
}

static bool watch(int epoll, int fd, uint32_t what)
{
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.u32 = what}) == 0;
}

/* Watches the channels that are to be read. */
static void watch_channels(struct server *server, int epoll)
{
    for (unsigned i = 0; i < server->channel_count && !server->ended; i++) {
        int fd = fusewire_fd(server->channels[i]);
        if (fd < 0) {
            end(server, server->channels[i], fd);
            return;
        }
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
        if ((server->only < 0 || server->only == (int)i) && !watch(epoll, fd, i))
            abort();
    }
}

/* As the header's contract for foreign loops asks for: when the descriptor is readable, reads until there is nothing.
 */
static void loop_polling(struct server *server)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || !watch(epoll, STDIN_FILENO, STDIN_EVENT))
        abort();
    int watched = -2;
    unsigned watched_count = 0;
    while (!server->quit && !server->ended) {
        if (watched != server->only || watched_count != server->channel_count)
            watch_channels(server, epoll);
        if (server->ended)
            break;
        watched = server->only;
        watched_count = server->channel_count;
        struct epoll_event events[CHANNELS_MAX + 1];
        int count = epoll_wait(epoll, events, CHANNELS_MAX + 1, kept_wait(server));
        kept_answer_due(server);
        for (int i = 0; i < count && !server->quit && !server->ended; i++) {
            if (events[i].data.u32 == STDIN_EVENT) {
                read_commands(server);
                continue;
            }
            while (take_batch(server, events[i].data.u32, 0) > 0)
                continue;
        }
    }
    close(epoll);
}

int channel_add(struct server *server, const char *cpus)
{
    const fusewire_options options = {.size = sizeof options, .cpus = cpus};
    if (server->channel_count == CHANNELS_MAX)
        return -ENOSPC;
    int result = fusewire_clone(&server->channels[server->channel_count], server->channels[0], &options);
    server->channel_count += result == 0;
    return result;
}

static int serve(struct server *server, const struct arguments *arguments)
{
    while (server->channel_count < arguments->channels) {
        int result = channel_add(server, arguments->cpus[server->channel_count]);
        if (result < 0) {
            say("! failed %d %s", -result, fusewire_last_error());
            return 1;
        }
    }
    fusewire_statistics statistics = {.size = sizeof statistics};
    fusewire_stats(server->channels[0], &statistics);
    say("! ready %s", statistics.transport < TRANSPORT_COUNT ? transport_names[statistics.transport] : "?");
    if (arguments->block)
        loop_blocking(server);
    else
        loop_polling(server);
    while (!server->quit) /* the connection has ended; commands are still taken */
        read_commands(server);
    return 0;
}

int main(int argc, char **argv)
{
    static struct arguments arguments;
    struct server server = {.only = -1, .open_flags = FUSEWIRE_FOPEN_DIRECT_IO};
    if (!parse(&arguments, argc, argv)) {
        fprintf(stderr, "%s: see the comment at the top of fault_server.c\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    getppid(); /* seen by strace: what comes now is the library's */
    int result = fusewire_open(&server.channels[0], arguments.mountpoint, &arguments.options);
    if (result < 0) {
        say("! failed %d %s", -result, fusewire_last_error());
        return 0;
    }
    server.channel_count = 1;
    server.file_size = arguments.file_size;
    int status = arguments.open_only ? 0 : serve(&server, &arguments);
    kept_forget_all(&server);
    while (server.channel_count > 0)
        fusewire_close(server.channels[--server.channel_count]);
    nodes_free();
    if (server.quit || arguments.open_only)
        say("= closed");
    return status;
}
