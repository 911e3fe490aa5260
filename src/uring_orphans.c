#include "uring_orphans.h"
#include "entries.h"
#include "helper.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { PROD_MILLISECONDS = 1000 };

/* A process that was never waited for counts as dead too. */
static bool is_dead(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return errno == ESRCH;
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    const bool dead = poll(&ended, 1, 0) == 1;
    close(fd);
    return dead;
}

static bool is_orphan(const struct fusewire_connection *c)
{
    const pid_t pid = c->entries == NULL || c->entries->user == NULL ? 0 : atomic_load(&c->entries->user->pid);
    return !c->bound && c->maker == getpid() && pid != 0 && pid != getpid() && is_dead(pid);
}

static bool take_entries(struct fusewire_connection *c, struct fusewire_connection *other)
{
    if (other->family != c->family || !is_orphan(other) || other->queues.count != c->queues.count ||
        memcmp(other->queues.numbers, c->queues.numbers, c->queues.count * sizeof *c->queues.numbers) != 0 ||
        other->entries->per_queue != c->entries->per_queue || other->slots.data_capacity != c->slots.data_capacity)
        return false;
    entries_destroy(c->entries);
    c->entries = other->entries;
    other->entries = NULL;
    return true;
}

void uring_adopt_orphans(struct fusewire_connection *c)
{
    fork_search(c, take_entries);
}

int uring_end_request(struct fusewire_connection *c, struct ring *ring, struct ring_entry *entry)
{
    struct wire_uring_request request;
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    wire_uring_request(entry->memory, entry->payload_capacity, &request);
    entry->commit_id = request.commit_id;
    const struct iovec reply = {head, wire_reply_error(head, wire_uring_unique(entry->memory), -EIO)};
    entry_reply(entry, &reply, 1);
    return entry_submit(ring, c->mount.device_fd, entry, WIRE_URING_COMMIT_AND_FETCH);
}

void uring_end_orphans(struct fusewire_connection *c)
{
    enum { ENTRIES = 64 };
    struct ring *ring;
    struct ring_entries *entries = c->entries;
    if (!is_orphan(c))
        return;
    if (ring_create_for_commands(&ring, ENTRIES, entries->count, RING_MINE) != 0)
        return;
    int error = 0;
    for (uint32_t i = 0; i < entries->count && error == 0; i++) {
        if (entry_is_open(&entries->all[i]))
            error = uring_end_request(c, ring, &entries->all[i]);
    }
    /* An entry that was given back brings the next request of its queue, if one waits there. */
    struct ring_completion completion;
    for (bool more = error == 0; more;) {
        more = false;
        if (ring_progress(ring) != 0)
            break;
        while (ring_next(ring, &completion)) {
            if (completion.result == 0 &&
                uring_end_request(c, ring, (struct ring_entry *)(uintptr_t)completion.tag) == 0)
                more = true;
        }
    }
    ring_destroy(ring);
    for (uint32_t i = 0; i < c->queues.count; i++)
        family_queue_end(c->family, c->queues.numbers[i]);
}

void uring_prod(const struct fusewire_connection *c, uint16_t queue)
{
    const char *mountpoint = c->family->mountpoint;
    pid_t pid = mountpoint == NULL ? -1 : helper_fork();
    if (pid == 0) {
        /* A grandchild, as nobody here waits for it. */
        if (_Fork() != 0)
            _exit(0);
        struct statfs ignored;
        helper_close_from(0);
        if (queues_pin(&(struct queues){&queue, 1}) == 0)
            statfs(mountpoint, &ignored);
        _exit(0);
    }
    if (pid > 0)
        helper_finish(pid, PROD_MILLISECONDS, NULL);
}
