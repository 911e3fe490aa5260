#include "fusermount.h"
#include "clock.h"

#include "error.h"
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ANSWER_MILLISECONDS = 10000,
    EXIT_MILLISECONDS = 2000,
    CHILD_SOCKET = 3 /* in the child; SOCKET_VARIABLE says so to fusermount3 */
};

#define SOCKET_VARIABLE "_FUSE_COMMFD"

/* ---- The program ----------------------------------------------------------------------------------------------- */

int fusermount_find(char **program)
{
    const char *place = getenv("PATH");
    for (place = place ? place : "/usr/local/bin:/usr/bin:/bin"; *place;) {
        size_t length = strcspn(place, ":");
        char *candidate = NULL;
        if (asprintf(&candidate, "%.*s/fusermount3", (int)length, place) < 0)
            return fail(-ENOMEM, "no memory to look for fusermount3");
        /* Relative folders do not count: what is run should not depend on the working directory. */
        if (*place == '/' && access(candidate, X_OK) == 0) {
            *program = candidate;
            return 0;
        }
        free(candidate);
        place += length;
        place += *place == ':';
    }
    return fail(-ENOPKG, "this mount needs fusermount3, which is not in PATH: install the package fuse3");
}

static char **environment_without_socket(size_t *count)
{
    size_t all = 0;
    while (environ && environ[all])
        all++;
    char **copy = calloc(all + 2, sizeof *copy);
    *count = 0;
    for (size_t i = 0; copy && i < all; i++)
        if (strncmp(environ[i], SOCKET_VARIABLE "=", sizeof SOCKET_VARIABLE) != 0)
            copy[(*count)++] = environ[i];
    return copy;
}

/* In the child: the standard descriptors, its end of the socket (or -1), and nothing else. */
static void arrange_descriptors(int socket, int output)
{
    /* Any of them may have a number that is to be filled: first out of the way. */
    int from_socket = socket >= 0 ? fcntl(socket, F_DUPFD, 10) : -1;
    int from_output = fcntl(output, F_DUPFD, 10);
    int nothing = open("/dev/null", O_RDWR);
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
    dup2(from_output, STDOUT_FILENO);
    dup2(from_output, STDERR_FILENO);
    if (from_socket >= 0)
        dup2(from_socket, CHILD_SOCKET);
    helper_close_from(from_socket >= 0 ? CHILD_SOCKET + 1 : STDERR_FILENO + 1);
}

static _Noreturn void exec_program(const char *program, char *const *arguments, char *const *environment)
{
    static const char words[] = "fusermount3: cannot be executed\n";
    helper_reset_signals();
    execve(program, arguments, environment);
    ssize_t ignored = write(STDERR_FILENO, words, sizeof words - 1);
    (void)ignored;
    _exit(127);
}

_Noreturn void fusermount_exec_unmount(const char *program, const char *mountpoint)
{
    char *const arguments[] = {"fusermount3", "-u", "-q", "-z", "--", (char *)(uintptr_t)mountpoint, NULL};
    arrange_descriptors(-1, open("/dev/null", O_WRONLY));
    exec_program(program, arguments, environ);
}

/* ---- Its words ------------------------------------------------------------------------------------------------- */

/* What fusermount3 says, the errno that it stands for, and what to do. The errno descriptions come last: they end the
 * messages about a system call that failed. */
static const struct {
    const char *said;
    int error;
    const char *advice;
} answers[] = {
    {"user_allow_other", EPERM, "add the line user_allow_other to /etc/fuse.conf, or do without allow_other"},
    {"fuse device not found", ENODEV, "load the kernel module (modprobe fuse)"},
    {"too many FUSE filesystems", ENOSPC, "raise mount_max in /etc/fuse.conf"},
    {"not owned by user", EACCES, "use a folder of your own"},
    {"has no write access", EACCES, "use a folder that you may write to"},
    {"is privileged", EPERM, "mount as root"},
    {"is forbidden", EPERM, "use a folder on another filesystem"},
    {"unknown option", EINVAL, "this fusermount3 does not have it: do without, or mount as root"},
    {"cannot be executed", EACCES, "look at its permissions"},
    {"/dev/fuse: No such file", ENODEV, "load the kernel module (modprobe fuse)"},
    {"mount failed: Operation not permitted", EPERM,
     "is it set-user-ID root? a container needs --cap-add SYS_ADMIN --device /dev/fuse"},
    {"/dev/fuse: Operation not permitted", EPERM, "a container needs --device /dev/fuse"},
    {"/dev/fuse: Permission denied", EACCES, "the device has to be open to its users (chmod 0666 /dev/fuse)"},
    {"Operation not permitted", EPERM, NULL},
    {"Permission denied", EACCES, NULL},
    {"No such file or directory", ENOENT, NULL},
    {"Not a directory", ENOTDIR, NULL},
    {"Device or resource busy", EBUSY, NULL},
    {"Transport endpoint is not connected", ENOTCONN, NULL},
    {"Invalid argument", EINVAL, NULL},
    {"No such device", ENODEV, NULL},
    {"memory", ENOMEM, NULL},
};

/* The last line of `said` is its error; before it may stand warnings. */
static int explain(char *said)
{
    size_t length = strlen(said);
    while (length > 0 && said[length - 1] == '\n')
        said[--length] = '\0';
    const char *line = strrchr(said, '\n');
    line = line ? line + 1 : said;
    if (strncmp(line, "fusermount3: ", strlen("fusermount3: ")) == 0)
        line += strlen("fusermount3: ");
    if (!*line)
        return fail(-EIO, "fusermount3 failed without a word");
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (strstr(line, answers[i].said))
            return fail(-answers[i].error, "fusermount3: %s%s%s", line, answers[i].advice ? ": " : "",
                        answers[i].advice ? answers[i].advice : "");
    return fail(-EIO, "fusermount3: %s", line);
}

/* ---- The conversation ------------------------------------------------------------------------------------------ */

/* The descriptor in the next message; -EAGAIN: none yet; -EPIPE: none will come. */
static int receive_descriptor(int socket)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count;
    do
        count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN ? -EAGAIN : -EPIPE;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EPIPE;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/* What fusermount3 writes, as far as it fits. */
struct sayings {
    char text[400];
    size_t size;
};

/* false: nothing more will come. Reads a bounded amount: there are programs that never stop talking. */
static bool listen_to(int output, struct sayings *sayings)
{
    for (int pieces = 0; pieces < 64; pieces++) {
        char piece[256];
        ssize_t count = read(output, piece, sizeof piece);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 && errno == EAGAIN;
        size_t room = sizeof sayings->text - 1 - sayings->size;
        size_t taken = (size_t)count < room ? (size_t)count : room;
        memcpy(sayings->text + sayings->size, piece, taken);
        sayings->size += taken;
        sayings->text[sayings->size] = '\0';
    }
    return true;
}

/* Waits for the device's descriptor; *pid becomes -1 if the program ends meanwhile. */
static int converse(pid_t *pid, int socket, int output)
{
    int64_t deadline = clock_ms() + ANSWER_MILLISECONDS;
    struct sayings sayings = {.size = 0};
    struct pollfd polls[2] = {{.fd = socket, .events = POLLIN}, {.fd = output, .events = POLLIN}};
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left <= 0)
            return fail(-ETIMEDOUT, "fusermount3 did not answer within %d seconds", ANSWER_MILLISECONDS / 1000);
        poll(polls, 2, left < 100 ? (int)left : 100);
        /* The socket's end alone does not tell that the program has gone: a child that another thread forked meanwhile
         * may hold it open. */
        bool ended = *pid < 0 || helper_wait(*pid, 0, NULL);
        if (ended)
            *pid = -1;
        int fd = receive_descriptor(socket);
        if (fd >= 0)
            return fd;
        if (!listen_to(output, &sayings))
            polls[1].fd = -1;
        if (fd == -EPIPE || ended)
            return explain(sayings.text);
    }
}

struct channel {
    int ours;
    int theirs;
};

static int start(pid_t *pid, const char *program, const char *mountpoint, const char *options, struct channel *socket,
                 struct channel *output)
{
    size_t count;
    char **environment = environment_without_socket(&count);
    if (!environment)
        return fail(-ENOMEM, "no memory for fusermount3's environment");
    char variable[] = SOCKET_VARIABLE "=3";
    environment[count] = variable;
    char *const arguments[] = {"fusermount3", "-o", (char *)(uintptr_t)options, "--", (char *)(uintptr_t)mountpoint,
                               NULL};
    *pid = helper_fork();
    if (*pid == 0) {
        arrange_descriptors(socket->theirs, output->theirs);
        exec_program(program, arguments, environment);
    }
    free(environment);
    return *pid < 0 ? fail_errno(*pid, "fusermount3 cannot be started") : 0;
}

static int open_channels(struct channel *socket, struct channel *output)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return fail_errno(-errno, "no socket to talk with fusermount3");
    *socket = (struct channel){pair[0], pair[1]};
    /* Non-blocking at our end alone: the flag belongs to each end's open file. */
    if (pipe2(pair, O_CLOEXEC) < 0) {
        int error = errno;
        close(socket->ours);
        close(socket->theirs);
        return fail_errno(-error, "no pipe to listen to fusermount3");
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    *output = (struct channel){pair[0], pair[1]};
    return 0;
}

int fusermount_mount(struct fusermount *result, const char *program, const char *mountpoint,
                     const struct mount_options *options)
{
    *result = (struct fusermount){-1, -1, -1};
    char *list = mount_options_for_fusermount(options);
    if (!list)
        return fail(-ENOMEM, "no memory for the mount options");
    struct channel socket = {-1, -1}, output = {-1, -1};
    int error = open_channels(&socket, &output);
    if (error < 0) {
        free(list);
        return error;
    }
    pid_t pid = -1;
    int fd = start(&pid, program, mountpoint, list, &socket, &output);
    free(list);
    close(socket.theirs);
    close(output.theirs);
    if (fd == 0)
        fd = converse(&pid, socket.ours, output.ours);
    close(output.ours);
    if (fd >= 0 && options->auto_unmount) {
        *result = (struct fusermount){fd, socket.ours, pid};
    } else {
        close(socket.ours);
        if (pid > 0)
            helper_finish(pid, fd >= 0 ? EXIT_MILLISECONDS : 0, NULL);
        result->device_fd = fd >= 0 ? fd : -1;
    }
    if (fd >= 0)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd < 0 ? fd : 0;
}
