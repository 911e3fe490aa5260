/* The uring transport: FUSE-over-io_uring. Requests come in ring entries, which the kernel fills while this thread
 * waits, and their replies are committed in the system call that waits for the next ones. What the kernel does not send
 * that way (INIT, FORGET, INTERRUPT) is read from /dev/fuse beside it, by the poll transport's means.
 *
 * A ring belongs to one thread: the one that reads first. That is also when the entries are registered, so that a
 * connection can be opened in one thread and served in another; until then clients wait, as they do for any server that
 * does not read yet. */
#include "dev_poll.h"
#include "entries.h"
#include "ring.h"
#include "uring_orphans.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SUBMISSIONS = 256,
    OTHER_COMPLETIONS = 64,
    REFUSALS_MAX = 8, /* what passes has passed by then; replies must not wait longer */
    PROBE_MS = 1000,
    NO_QUEUE = UINT16_MAX
};

/* Tags of what completes; any other tag is the ring entry. */
enum { TAG_EVENTS = 1 };

/* In the order of the replies. */
struct entry_queue {
    struct ring_entry *first;
    struct ring_entry *last;
};

struct uring_state {
    struct poll_state poll;
    struct ring *ring;
    bool unknown; /* /sys does not tell whether the kernel has it: the device will */
    bool serving; /* entries are registered */
    bool plain;   /* INIT or the kernel did not agree: everything goes over /dev/fuse */
    pthread_t owner;
    bool events_armed;        /* the ring tells of what poll.epoll has */
    bool events;              /* it has told */
    struct entry_queue ready; /* replies that stand in their entries */
    struct entry_queue sent;  /* and that the kernel gets with the next system call */
    int refusal;              /* what the kernel said to a registration; 0 to all */
    unsigned refusals;        /* io_uring_enter said so many times in a row that it could not just now */
    int signal;               /* eventfd, epoll: for programs that poll; -1 until they ask for the descriptor */
    int outer;
};

static void append(struct entry_queue *queue, struct ring_entry *entry)
{
    entry->next = NULL;
    if (queue->first == NULL)
        queue->first = entry;
    else
        queue->last->next = entry;
    queue->last = entry;
}

static struct ring_entry *take(struct entry_queue *queue)
{
    struct ring_entry *entry = queue->first;
    if (entry != NULL)
        queue->first = entry->next;
    return entry;
}

/* ---- Whether it works here ------------------------------------------------------------------------------------- */

/* What the module's parameter says. 0: it is on; -ENOTSUP with words; -EAGAIN: there is no telling. */
static int ask_parameter(void)
{
    char value = '\0';
    FILE *parameter = fopen("/sys/module/fuse/parameters/enable_uring", "re");
    if (parameter == NULL && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return fail_errno(-errno, "cannot look for FUSE-over-io_uring");
    if (parameter == NULL)
        return errno == ENOENT && access("/sys/module/fuse", F_OK) == 0
                   ? fail(-ENOTSUP, "this kernel has no FUSE-over-io_uring")
                   : -EAGAIN;
    const bool known = fread(&value, 1, 1, parameter) == 1;
    fclose(parameter);
    if (known && value == 'N')
        return fail(-ENOTSUP, "switched off: echo Y > /sys/module/fuse/parameters/enable_uring as root");
    return known ? 0 : -EAGAIN;
}

static int refuse_io_uring(int error)
{
    return fail_errno(error, "io_uring is not to be had%s",
                      error == -EPERM    ? " (sysctl kernel.io_uring_disabled, or a seccomp filter)"
                      : error == -EINVAL ? " with deferred work (Linux 6.1)"
                                         : "");
}

/* Does the device take commands at all? A submission of the ordinary size is too small for any of FUSE's, so it has no
 * effect and says -EINVAL; mounted or not. (Before INIT a larger one would say -EAGAIN, for which io_uring starts a
 * worker thread.) */
static int probe(struct fusewire_connection *c)
{
    struct ring *ring;
    struct ring_completion completion = {.result = -EIO};
    int error = ring_create(&ring, 1);
    if (error != 0)
        return refuse_io_uring(error);
    error = ring_command(ring, c->mount.device_fd, WIRE_URING_REGISTER, NULL, 0, NULL, 0, 0);
    if (error == 0)
        error = ring_wait(ring, 1, PROBE_MS);
    if (error == 0 && !ring_next(ring, &completion))
        error = -ETIMEDOUT;
    ring_destroy(ring);
    if (error != 0)
        return refuse_io_uring(error);
    return completion.result == -EOPNOTSUPP ? fail(-ENOTSUP, "this kernel has no FUSE-over-io_uring") : 0;
}

/* The measurements are in docs/performance.md. */
static int pays(const struct fusewire_connection *c)
{
    const fusewire_session *session = family_session(c->family);
    if (session != NULL ? wire_over_io_uring(session->capabilities) : c->share)
        return 0;
    return fail(-ENOTSUP, "one thread for all CPUs moves data faster over /dev/fuse (options.cpus)");
}

/* ---- Starting -------------------------------------------------------------------------------------------------- */

static int check_session(const struct fusewire_connection *c)
{
    const fusewire_session *session = family_session(c->family);
    if (session == NULL)
        return c->agreed ? fail(-ENOTSUP, "INIT was answered by somebody else") : 0;
    if (!wire_over_io_uring(session->capabilities))
        return fail(-ENOTSUP, "INIT has not agreed on it");
    if ((uint64_t)session->max_pages * (uint64_t)sysconf(_SC_PAGESIZE) > c->slots.data_capacity)
        return fail(-EINVAL, "the session's max_pages is %u: give options->max_write at least that many pages",
                    session->max_pages);
    return 0;
}

/* With a payload too small for a large extended attribute any client could bring the kernel down. */
static int check_payload(const struct fusewire_connection *c)
{
    const fusewire_session expected = {.max_write = c->wishes.max_write, .max_pages = WIRE_URING_PAYLOAD_MIN / 4096};
    return entries_payload_used(&expected) >= WIRE_URING_PAYLOAD_MIN
               ? 0
               : fail(-ENOTSUP, "max_write has to be at least %d where fs.fuse.max_pages_limit is below 17",
                      WIRE_URING_PAYLOAD_MIN);
}

static int prepare(struct fusewire_connection *c)
{
    /* A session that has agreed on it goes on with it, whatever the parameter says by now. */
    int error = family_session(c->family) != NULL ? 0 : ask_parameter();
    const bool unknown = error == -EAGAIN;
    if (error == 0 || unknown)
        error = check_session(c);
    if (error == 0)
        error = check_payload(c);
    if (error == 0)
        error = conn_make_entries(c, false);
    struct uring_state *state = error == 0 ? calloc(1, sizeof *state) : NULL;
    if (state == NULL)
        return error != 0 ? error : fail(-ENOMEM, "no memory for the uring transport");
    error = ring_create_for_commands(&state->ring, SUBMISSIONS, c->entries->count + OTHER_COMPLETIONS, RING_LATER);
    if (error != 0) {
        free(state);
        return refuse_io_uring(error);
    }
    state->unknown = unknown;
    state->poll = POLL_CLOSED;
    state->signal = state->outer = -1;
    c->transport_state = state;
    return 0;
}

static void close_descriptors(struct uring_state *state)
{
    poll_close(&state->poll);
    if (state->outer >= 0)
        close(state->outer);
    if (state->signal >= 0)
        close(state->signal);
}

static void drop(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    ring_destroy(state->ring);
    close_descriptors(state);
    free(state);
    c->transport_state = NULL;
}

static int start(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    int error = state->unknown ? probe(c) : 0;
    if (error == 0)
        error = poll_open(&state->poll, c);
    if (error != 0) {
        drop(c);
        return error;
    }
    c->queue_from = 1;
    /* For the requests that come in entries. */
    c->slots.reserved += c->entries->count;
    return 0;
}

/* ---- What has completed ---------------------------------------------------------------------------------------- */

static void settle(struct fusewire_connection *c, struct ring_entry *entry, int64_t result)
{
    struct slot *slot = entry->slot;
    entry->slot = NULL;
    entry_mark_committed(entry);
    if (result == 0)
        c->slots.reserved++; /* the entry brings another request */
    conn_sent(c, slot, result);
}

static void take_entry(struct fusewire_connection *c, struct ring_entry *entry, int32_t result)
{
    struct uring_state *state = c->transport_state;
    /* Its reply was refused, or taken and the next request is there already. */
    if (entry->slot != NULL)
        settle(c, entry, result);
    else if (result < 0)
        c->slots.reserved--;
    if (result < 0) {
        state->refusal = result;
        return;
    }
    c->slots.reserved--;
    conn_entry_message(c, entry);
}

/* Works off what has completed, as long as there are slots for it. Returns how much that was. */
static unsigned reap(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    struct ring_completion completion;
    unsigned count = 0;
    for (; c->slots.in_use < c->slots.depth && ring_next(state->ring, &completion); count++) {
        if (completion.tag == TAG_EVENTS) {
            state->events_armed = false;
            state->events = true;
        } else {
            take_entry(c, (struct ring_entry *)(uintptr_t)completion.tag, completion.result);
        }
    }
    c->starved = c->starved || c->slots.in_use == c->slots.depth;
    return count;
}

/* ---- Replies --------------------------------------------------------------------------------------------------- */

/* Queues the commits. True when an outcome is waited for. */
static bool flush(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    bool outcome = false;
    while (state->ready.first != NULL &&
           entry_submit(state->ring, c->mount.device_fd, state->ready.first, WIRE_URING_COMMIT_AND_FETCH) == 0) {
        struct ring_entry *entry = take(&state->ready);
        append(&state->sent, entry);
        outcome = outcome || entry->slot->expect_outcome;
    }
    return outcome;
}

/* The kernel has carried out what it was sent, or else it has said so by now. */
static unsigned settle_sent(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    struct ring_entry *entry;
    const unsigned count = reap(c);
    while ((entry = take(&state->sent)) != NULL) {
        if (entry->slot != NULL)
            settle(c, entry, 0);
    }
    return count;
}

static bool passes(int error)
{
    return error == -EINTR || error == -EAGAIN || error == -EBUSY || error == -ENOMEM;
}

/* What io_uring_enter said. False when it will never again say anything better; the kernel answers all clients when the
 * connection is closed then. */
static bool entered(struct fusewire_connection *c, int error)
{
    struct uring_state *state = c->transport_state;
    const bool refused = passes(error) && error != -EINTR;
    state->refusals = refused ? state->refusals + 1 : 0;
    if (error == 0 || error == -EINTR || (refused && state->refusals <= REFUSALS_MAX))
        return true;
    conn_end(c, fail_errno(error, "io_uring no longer works"));
    return false;
}

static void send_ready(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    int error;
    do {
        flush(c);
        const uint64_t calls = ring_system_calls(state->ring);
        error = ring_submit(state->ring);
        c->stats.system_calls += ring_system_calls(state->ring) - calls;
        if (!entered(c, error < 0 ? error : 0))
            return;
    } while (error < 0 || state->ready.first != NULL);
    settle_sent(c);
    if (c->polled && c->inbox.first != NULL)
        conn_wake(c);
}

/* Only its own thread can use a ring, but any ring can bring the replies: so that a connection can be closed where it
 * was not served. */
static void take_over(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    struct ring *ring;
    if (!state->serving || pthread_equal(state->owner, pthread_self()))
        return;
    if (ring_create_for_commands(&ring, SUBMISSIONS, c->entries->count + OTHER_COMPLETIONS, RING_MINE) != 0)
        return;
    reap(c);
    ring_destroy(state->ring);
    state->ring = ring;
    state->owner = pthread_self();
    state->events_armed = false;
}

static void commit(struct fusewire_connection *c, struct slot *slot, const struct iovec *pieces, int count)
{
    struct uring_state *state = c->transport_state;
    if (state == NULL) {
        /* Closed: the kernel ends what came with the last commits. */
        conn_sent(c, slot, -ENOTCONN);
        return;
    }
    if (c->closing)
        take_over(c);
    int error = entry_reply(slot->entry, pieces, count);
    if (error != 0) {
        c->stats.replies_failed++;
        slot->outcome = error;
        struct iovec head = {slot->head, wire_reply_error(slot->head, slot->expected.unique, -EIO)};
        entry_reply(slot->entry, &head, 1);
    }
    slot->entry->slot = slot;
    append(&state->ready, slot->entry);
    if (c->turn)
        return;
    if (pthread_equal(state->owner, pthread_self()))
        send_ready(c);
    else
        conn_wake(c); /* another thread's: it sends them when it reads */
}

static void send_commits(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    if (!state->serving || state->plain)
        return;
    take_over(c);
    send_ready(c);
}

/* ---- Serving --------------------------------------------------------------------------------------------------- */

/* Goes on over /dev/fuse alone, as the kernel does; the last error has the reason. */
static int do_without(struct fusewire_connection *c, int error)
{
    struct uring_state *state = c->transport_state;
    state->plain = true;
    c->queue_from = 0;
    c->slots.reserved = 0;
    return conn_skip_transport(c, error, &transport_poll);
}

static int follow_init(struct fusewire_connection *c, uint64_t capabilities)
{
    return wire_over_io_uring(capabilities) ? 0 : do_without(c, fail(-ENOTSUP, "INIT has not agreed on it"));
}

/* Once INIT has agreed on rings the kernel makes all clients wait for them, until a registration fails: so lets one
 * fail. */
static int call_off(struct fusewire_connection *c)
{
    struct ring *ring;
    unsigned char command[WIRE_URING_COMMAND];
    int error = ring_create_for_commands(&ring, 1, 1, RING_MINE);
    if (error != 0)
        return refuse_io_uring(error);
    error = ring_command(ring, c->mount.device_fd, WIRE_URING_REGISTER, command,
                         wire_uring_command(command, NO_QUEUE, 0), NULL, 0, 0);
    if (error == 0)
        error = ring_wait(ring, 1, PROBE_MS);
    ring_destroy(ring);
    return error == 0 ? 0 : refuse_io_uring(error);
}

/* Registers the entries, or those that a dead worker has left no request in. */
static int register_entries(struct fusewire_connection *c, bool inherited)
{
    struct uring_state *state = c->transport_state;
    int error = ring_enable(state->ring);
    if (error == 0)
        ring_hold_file(state->ring, c->mount.device_fd);
    for (uint32_t i = 0; i < c->entries->count && error == 0; i++) {
        struct ring_entry *entry = &c->entries->all[i];
        error = inherited && entry_is_open(entry)
                    ? uring_end_request(c, state->ring, entry)
                    : entry_submit(state->ring, c->mount.device_fd, entry, WIRE_URING_REGISTER);
    }
    unsigned tries = 0;
    while (error == 0 && passes(error = ring_progress(state->ring)) && tries++ < REFUSALS_MAX)
        error = 0;
    if (error < 0)
        return fail_errno(error, "io_uring takes no commands");
    reap(c);
    switch (state->refusal) {
    case 0:
    case -ENOENT: /* the dead worker had answered it just yet */
    case -ENOTCONN:
    case -ECONNABORTED:
    case -ENODEV:
        return 0; /* an end of the connection is learned from /dev/fuse */
    default:
        /* The kernel sends everything over /dev/fuse then, unless each queue has an entry already. */
        return fail_errno(state->refusal, "the kernel did not take the ring entries");
    }
}

static int begin(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    for (uint32_t i = 0; i < c->entries->count; i++)
        c->entries->all[i].payload_capacity = (uint32_t)family_payload_used(c->family);
    state->serving = true;
    state->owner = pthread_self();
    const bool inherited = c->entries->user != NULL && atomic_exchange(&c->entries->user->pid, getpid()) != 0;
    int error = register_entries(c, inherited);
    if (error != 0) {
        error = do_without(c, error);
        return error != 0 ? error : call_off(c);
    }
    for (uint32_t i = 0; i < c->queues.count; i++) {
        if (family_queue_begin(c->family, c->queues.numbers[i]))
            uring_prod(c, c->queues.numbers[i]);
    }
    return 0;
}

/* What the descriptor tells of: the ring, what is beside it. Also takes back the ring's signal, which has to happen
 * before its cause is worked off. */
static bool ask_descriptor(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    struct epoll_event told[2];
    bool ring = false;
    if (state->outer < 0) {
        state->events = true;
        return true;
    }
    int count = epoll_wait(state->outer, told, 2, 0);
    c->stats.system_calls++;
    for (int i = 0; i < count; i++) {
        state->events = state->events || told[i].data.fd == state->poll.epoll;
        ring = ring || told[i].data.fd == state->signal;
    }
    return ring;
}

/* Lets the ring complete what it has, or waits for that or for something beside it. */
static int turn_ring(struct fusewire_connection *c, int timeout)
{
    struct uring_state *state = c->transport_state;
    const bool outcome = flush(c);
    const bool wait = timeout != 0 && c->inbox.first == NULL && !outcome;
    if (!wait && !ask_descriptor(c) && state->sent.first == NULL) {
        reap(c);
        return 0;
    }
    if (wait && !state->events_armed)
        state->events_armed = ring_poll_once(state->ring, state->poll.epoll, EPOLLIN, TAG_EVENTS) == 0;
    const uint64_t calls = ring_system_calls(state->ring);
    int error = wait ? ring_wait(state->ring, 1, timeout) : ring_progress(state->ring);
    c->stats.system_calls += ring_system_calls(state->ring) - calls;
    if (!entered(c, error))
        return 0;
    if (error != 0 && state->signal >= 0)
        eventfd_write(state->signal, 1); /* it was taken back, and what it told of is still to be done */
    if (error != 0 && error != -EINTR)
        return 0;
    const unsigned count = settle_sent(c);
    /* A wait that sent something does not say that it was interrupted. */
    if (wait && timeout < 0 && count == 0)
        error = -EINTR;
    return error == -EINTR && c->inbox.first == NULL ? -EINTR : 0;
}

static int collect(struct fusewire_connection *c, size_t want, int timeout)
{
    struct uring_state *state = c->transport_state;
    conn_send_outbox(c);
    if (!state->serving && !state->plain && c->agreed) {
        int error = begin(c);
        if (error != 0) {
            conn_end(c, error);
            return 0;
        }
    }
    if (!state->serving || state->plain) {
        if (timeout == 0)
            ask_descriptor(c);
        return poll_wait(&state->poll, c, want, timeout);
    }
    if (c->closing)
        take_over(c);
    if (!pthread_equal(state->owner, pthread_self()))
        return -EXDEV;
    poll_prepare(&state->poll, c);
    int error = turn_ring(c, timeout);
    if (!state->events)
        return error;
    state->events = false;
    int beside = poll_events(&state->poll, c, want, 0);
    return error != 0 ? error : beside;
}

/* ---- The end --------------------------------------------------------------------------------------------------- */

static void finish(struct fusewire_connection *c)
{
    const struct uring_state *state = c->transport_state;
    const bool served = state->serving && !state->plain;
    drop(c);
    for (uint32_t i = 0; served && i < c->queues.count; i++)
        family_queue_end(c->family, c->queues.numbers[i]);
    c->queue_from = 0;
    c->slots.reserved = 0;
}

static void forget(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    ring_close(state->ring);
    close_descriptors(state);
}

static void discard(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    ring_discard(state->ring);
    free(state);
}

/* ---- Descriptors ----------------------------------------------------------------------------------------------- */

/* For programs that poll: an epoll of the ring's signal, edge-triggered as nobody reads it, and of what is beside. */
static int make_descriptor(struct uring_state *state)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    state->signal = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state->signal < 0)
        return -errno;
    event.data.fd = state->signal;
    int outer = epoll_create1(EPOLL_CLOEXEC);
    int error = outer < 0 ? -errno : ring_signal(state->ring, state->signal);
    if (error == 0 && epoll_ctl(outer, EPOLL_CTL_ADD, state->signal, &event) != 0)
        error = -errno;
    event = (struct epoll_event){.events = EPOLLIN, .data.fd = state->poll.epoll};
    if (error == 0 && epoll_ctl(outer, EPOLL_CTL_ADD, state->poll.epoll, &event) != 0)
        error = -errno;
    if (error == 0) {
        state->outer = outer;
        /* Whatever came before, and so that the first read registers the entries. */
        eventfd_write(state->signal, 1);
        return 0;
    }
    if (outer >= 0)
        close(outer);
    close(state->signal);
    state->signal = -1;
    return error;
}

static int descriptor(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    int error = state->outer >= 0 ? 0 : make_descriptor(state);
    return error != 0 ? fail_errno(error, "cannot make a descriptor to poll") : state->outer;
}

static int watch(struct fusewire_connection *c, int fd)
{
    struct uring_state *state = c->transport_state;
    return poll_watch(&state->poll, fd, EPOLLIN);
}

static void resume(struct fusewire_connection *c)
{
    struct uring_state *state = c->transport_state;
    if (state->poll.device == DEVICE_IGNORED)
        poll_set_device(&state->poll, c, DEVICE_WATCHED);
    if (c->polled && state->serving)
        conn_wake(c); /* requests may have completed for which there were no slots */
}

const struct transport transport_uring = {
    .name = "uring",
    .number = FUSEWIRE_TRANSPORT_URING,
    .pays = pays,
    .prepare = prepare,
    .start = start,
    .drop = drop,
    .finish = finish,
    .forget = forget,
    .discard = discard,
    .descriptor = descriptor,
    .follow_init = follow_init,
    .collect = collect,
    .watch = watch,
    .commit = commit,
    .send_commits = send_commits,
    .resume = resume,
};
