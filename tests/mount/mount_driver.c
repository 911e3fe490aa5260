/* Mounts as the library does and serves an empty folder, or nobody: so that tests can look at every way in and out.
 *
 *     mount_driver [-s] MOUNTPOINT [OPTIONS]
 *
 * Says "ok", or the negative errno and the words, and then takes commands, one a line, each answered with a line:
 * `unmount` starts an unmount, `fork` makes a child that forgets the mount, `close` (or the end of the input) closes.
 * With -s (silent) the device is never read. */
#include "error.h"
#include "mount.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORGET = 2, GETATTR = 3, INIT = 26, BATCH_FORGET = 42 };

struct request {
    uint32_t len, opcode;
    uint64_t unique, nodeid;
    uint32_t uid, gid, pid, padding;
};

struct reply {
    uint32_t len;
    int32_t error;
    uint64_t unique;
    uint32_t body[26]; /* of INIT 16 words, of GETATTR 26 */
};

static void answer(int device_fd)
{
    static union {
        struct request request;
        char space[1 << 18];
    } buffer;
    if (read(device_fd, &buffer, sizeof buffer) < (ssize_t)sizeof buffer.request)
        return;
    const struct request *request = &buffer.request;
    if (request->opcode == FORGET || request->opcode == BATCH_FORGET)
        return;
    struct reply reply = {.unique = request->unique};
    size_t body = 0;
    if (request->opcode == INIT) {
        reply.body[0] = 7;  /* major and minor */
        reply.body[1] = 31;
        reply.body[5] = 65536; /* max_write */
        body = 64;
    } else if (request->opcode == GETATTR) {
        reply.body[4] = 1;                /* ino, low half */
        reply.body[19] = S_IFDIR | 0755;  /* mode */
        reply.body[20] = 2;               /* nlink */
        reply.body[21] = (uint32_t)geteuid();
        reply.body[22] = (uint32_t)getegid();
        body = 104;
    } else {
        reply.error = -ENOSYS;
    }
    reply.len = (uint32_t)(16 + body);
    ssize_t ignored = write(device_fd, &reply, reply.len);
    (void)ignored;
}

static void say(const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

static void fork_and_forget(struct mount *mount)
{
    pid_t pid = fork();
    if (pid == 0) {
        mount_forget(mount);
        close(mount->device_fd);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

/* false: it was the last one. Commands are short, and a pipe keeps a short line whole. */
static bool obey(struct mount *mount)
{
    char line[64];
    ssize_t count = read(STDIN_FILENO, line, sizeof line - 1);
    line[count > 0 ? count : 0] = '\0';
    if (strcmp(line, "unmount\n") == 0) {
        printf("%d\n", mount_unmount_start(mount));
        fflush(stdout);
    } else if (strcmp(line, "fork\n") == 0) {
        fork_and_forget(mount);
        say("forked");
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    bool silent = argc > 1 && strcmp(argv[1], "-s") == 0;
    char **rest = argv + 1 + silent;
    if (!rest[0])
        return 2;
    struct mount mount;
    int error = mount_open(&mount, rest[0], rest[1]);
    if (error < 0) {
        printf("%d %s\n", error, last_error());
        return 1;
    }
    say("ok");
    struct pollfd polls[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = mount.device_fd, .events = POLLIN}};
    for (;;) {
        poll(polls, silent ? 1 : 2, -1);
        if (polls[0].revents && !obey(&mount))
            break;
        if (polls[1].revents & POLLERR)
            polls[1].fd = -1; /* unmounted */
        else if (polls[1].revents)
            answer(mount.device_fd);
    }
    close(mount.device_fd);
    mount.device_fd = -1;
    mount_close(&mount);
    say("closed");
    return 0;
}
