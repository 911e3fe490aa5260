/* What the fault server can be told to do. */
#include "fault_server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

enum { LINE = 1024, ARGUMENTS = 6 };

void say(const char *format, ...)
{
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        abort();
    size_t size = (size_t)length < sizeof line - 1 ? (size_t)length : sizeof line - 2;
    line[size++] = '\n';
    for (size_t done = 0; done < size;) {
        ssize_t written = write(STDOUT_FILENO, line + done, size - done);
        if (written < 0 && errno != EINTR)
            _exit(3); /* nobody listens any more */
        done += written < 0 ? 0 : (size_t)written;
    }
}

static void say_result(int result)
{
    say("= %d %s", result, result < 0 ? fusewire_last_error() : "");
}

bool session_parse(const char *text, fusewire_session *session)
{
    unsigned char *bytes = (unsigned char *)session;
    if (strlen(text) != 2 * sizeof *session)
        return false;
    for (size_t i = 0; i < sizeof *session; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        bytes[i] = (unsigned char)byte;
    }
    return true;
}

static void say_session(struct server *server)
{
    fusewire_session session = {.size = sizeof session};
    char text[2 * sizeof session + 1];
    int result = fusewire_negotiated(server->channels[0], &session);
    if (result < 0) {
        say_result(result);
        return;
    }
    for (size_t i = 0; i < sizeof session; i++)
        snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)&session)[i]);
    say("= %s", text);
}

static void say_statistics(struct server *server, unsigned channel)
{
    fusewire_statistics s = {.size = sizeof s};
    int result = channel < server->channel_count ? fusewire_stats(server->channels[channel], &s) : -EINVAL;
    if (result < 0) {
        say_result(result);
        return;
    }
    say("= read=%" PRIu64 " answered=%" PRIu64 " forgets=%" PRIu64 " interrupts=%" PRIu64 " retrieved=%" PRIu64
        " notifications=%" PRIu64 " replies_gone=%" PRIu64 " replies_failed=%" PRIu64 " notifications_failed=%" PRIu64
        " malformed=%" PRIu64 " batches=%" PRIu64 " system_calls=%" PRIu64 " open=%" PRIu32 " open_peak=%" PRIu32
        " transport=%" PRIu32 " buffers_used=%" PRIu32 " memory=%" PRIu64 " queues=%" PRIu32 " queue_depth=%" PRIu32
        " payload_size=%" PRIu64 " reason=%s",
        s.read, s.answered, s.forgets, s.interrupts, s.retrieved, s.notifications, s.replies_gone, s.replies_failed,
        s.notifications_failed, s.malformed, s.batches, s.system_calls, s.open, s.open_peak, s.transport,
        s.buffers_used, s.memory, s.queues, s.queue_depth, s.payload_size, s.transport_reason);
}

/* notify KIND ARGUMENTS... */
static void notify(struct server *server, char **words, unsigned count)
{
    fusewire_connection *connection = server->channels[0];
    const char *kind = count > 1 ? words[1] : "";
    const char *name = count > 3 ? words[3] : "";
    uint64_t numbers[ARGUMENTS] = {0};
    for (unsigned i = 2; i < count; i++)
        numbers[i - 2] = strtoull(words[i], NULL, 0);
    int result = -EINVAL;
    if (strcmp(kind, "inval_inode") == 0) {
        result = fusewire_notify_inval_inode(connection, numbers[0], (int64_t)numbers[1], (int64_t)numbers[2]);
    } else if (strcmp(kind, "inval_entry") == 0) {
        result = fusewire_notify_inval_entry(connection, numbers[0], name, strlen(name), (uint32_t)numbers[2]);
    } else if (strcmp(kind, "delete") == 0) {
        result = fusewire_notify_delete(connection, numbers[0], numbers[2], name, strlen(name));
    } else if (strcmp(kind, "store") == 0) {
        unsigned char *data = malloc(numbers[2] + 1);
        if (data == NULL)
            abort();
        file_pattern(numbers[0], numbers[1], data, numbers[2]);
        result = fusewire_notify_store(connection, numbers[0], numbers[1], data, (uint32_t)numbers[2]);
        free(data);
    } else if (strcmp(kind, "retrieve") == 0) {
        result = fusewire_notify_retrieve(connection, numbers[0], numbers[1], (uint32_t)numbers[2], numbers[3]);
    } else if (strcmp(kind, "poll") == 0) {
        result = fusewire_notify_poll(connection, numbers[0]);
    } else if (strcmp(kind, "resend") == 0) {
        result = fusewire_notify_resend(connection);
    } else if (strcmp(kind, "inc_epoch") == 0) {
        result = fusewire_notify_inc_epoch(connection);
    } else if (strcmp(kind, "prune") == 0) {
        result = fusewire_notify_prune(connection, numbers, count - 2);
    }
    say_result(result);
}

/* A notification that the library cannot know to be wrong: it names an unknown node. Its outcome is asked for. */
static void write_notification(struct server *server)
{
    struct {
        uint32_t size;
        int32_t code;
        uint64_t unique, nodeid;
        int64_t offset, length;
    } message = {.size = sizeof message, .code = 2 /* inval_inode */, .nodeid = 999999};
    say_result(fusewire_write(server->channels[0], 0, &message, sizeof message, NULL, 0, FUSEWIRE_WRITE_OUTCOME));
}

/* answer ID [error ERRNO | CHANNEL] : on the channel where it was read, or on another one. */
static void answer(struct server *server, char **words, unsigned count)
{
    static const struct rule plain = {ACTION_ANSWER, 0};
    uint64_t id = strtoull(words[1], NULL, 0);
    struct kept *kept = kept_find(server, id);
    int result;
    if (count > 3 && strcmp(words[2], "error") == 0)
        result = fusewire_reply_error(kept != NULL ? kept->connection : server->channels[0], id, atoi(words[3]));
    else if (count > 2)
        result = fusewire_reply_error(server->channels[strtoul(words[2], NULL, 0) % CHANNELS_MAX], id, -EIO);
    else if (kept != NULL)
        result = file_answer(server, kept->connection, &kept->request, &plain);
    else
        result = fusewire_reply_error(server->channels[0], id, -EIO);
    if (kept != NULL && result == 0)
        kept_forget(server, kept);
    say_result(result);
}

static void fork_and_stay(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    say("= %d", (int)pid);
}

static void mount_device(struct server *server, const char *path)
{
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
             fusewire_device_fd(server->channels[0]));
    say("= %d", mount("faults", path, "fuse", MS_NOSUID | MS_NODEV, options) == 0 ? 0 : -errno);
}

static unsigned split(char *line, char **words)
{
    unsigned count = 0;
    char *rest = line;
    for (char *word; count < ARGUMENTS && (word = strtok_r(rest, " ", &rest)) != NULL;)
        words[count++] = word;
    return count;
}

/* Commands that take the rest of the line as it is, or nothing. */
static bool run_plain(struct server *server, char *line)
{
    if (strncmp(line, "rule ", 5) == 0) {
        say("= %d", rule_add(line + 5) ? 0 : -EINVAL);
    } else if (strcmp(line, "clear") == 0) {
        rules_clear();
        say("= 0");
    } else if (strcmp(line, "stop") == 0) {
        say_result(fusewire_notify_unmount(server->channels[0]));
    } else if (strcmp(line, "wake") == 0) {
        say_result(fusewire_wake(server->channels[0]));
    } else if (strcmp(line, "unmount") == 0) {
        say_result(fusewire_unmount(server->channels[0]));
    } else if (strcmp(line, "session") == 0) {
        say_session(server);
    } else if (strcmp(line, "fork") == 0) {
        fork_and_stay();
    } else if (strcmp(line, "write-notification") == 0) {
        write_notification(server);
    } else if (strcmp(line, "quit") == 0) {
        server->quit = true;
    } else {
        return false;
    }
    return true;
}

void command_run(struct server *server, char *line)
{
    if (run_plain(server, line))
        return;
    char *words[ARGUMENTS];
    unsigned count = split(line, words);
    const char *command = count > 0 ? words[0] : "";
    const uint64_t number = count > 1 ? strtoull(words[1], NULL, 0) : 0;
    if (strcmp(command, "answer") == 0 && count > 1) {
        answer(server, words, count);
    } else if (strcmp(command, "release") == 0 && count > 1) {
        say("= %u", kept_release(server, (unsigned)number, count > 2 ? -atoi(words[2]) : 0));
    } else if (strcmp(command, "notify") == 0) {
        notify(server, words, count);
    } else if (strcmp(command, "stats") == 0) {
        say_statistics(server, (unsigned)number);
    } else if (strcmp(command, "valid") == 0) {
        server->valid = number;
        say("= 0");
    } else if (strcmp(command, "open-flags") == 0) {
        server->open_flags = (uint32_t)number;
        say("= 0");
    } else if (strcmp(command, "revents") == 0) {
        server->revents = (uint32_t)number;
        say("= 0");
    } else if (strcmp(command, "only") == 0 && count > 1) {
        server->only = atoi(words[1]);
        say("= 0");
    } else if (strcmp(command, "ignore-interrupts") == 0) {
        server->ignore_interrupts = number != 0;
        say("= 0");
    } else if (strcmp(command, "clone") == 0) {
        say_result(channel_add(server, count > 1 ? words[1] : NULL));
    } else if (strcmp(command, "node") == 0 && count > 1) {
        say("= %" PRIu64, node_of(words[1]));
    } else if (strcmp(command, "mount") == 0 && count > 1) {
        mount_device(server, words[1]);
    } else {
        say("= %d no such command", -ENOSYS);
    }
}
