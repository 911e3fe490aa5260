/* The ring transport: io_uring on /dev/fuse where it pays, and the poll transport's direct calls where it does not.
 *
 * Measured against a bare loop of read and writev, on one CPU (requests per second / server CPU per request; the whole
 * table and how it was made is in docs/performance.md): with one client direct calls reach 0.98 / 1.02, and no scheme
 * with io_uring more than 0.93 / 1.12, since arming, completing and waiting cost more than the system call that they
 * save. With eight clients a multishot read and the replies of a batch in one io_uring_enter reach 1.09 / 0.81, with
 * 0.13 to 0.5 system calls per request. So the transport is quiet, that is direct, until batches grow, and busy until
 * they shrink.
 *
 * Large messages are for direct reads too: eight clients that write 1 MiB each would have their data wait in eight
 * buffers, out of the processor's cache, which made them a third slower.
 *
 * In a foreign event loop (timeout 0) it stays quiet: there the two were as good as each other. */
#include "dev_poll.h"
#include "notifier.h"
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

enum {
    ENTRIES = 256,
    REFUSALS_MAX = 8, /* what passes has passed by then; replies must not wait longer */
    BUSY_BATCH = 3,   /* a batch from this size on speaks for being busy */
    BUSY_AFTER = 8,   /* so many of them, more than small ones, and it is */
    QUIET_AFTER = 16, /* so many batches of one in a row, and it is quiet again */
    STEADY_AFTER =
        256, /* a busy time shorter than so many batches was a mistake: the next one needs twice the evidence */
    BUSY_AFTER_MAX = 4096,
    OFFERED_MIN = 4, /* with fewer buffers for the kernel being busy gains nothing */
    QUEUE_FROM = 2   /* replies of a batch from this size on leave together; that of a lone request with a writev */
};

/* Tags of what completes; any other tag is the slot whose reply it is. */
enum { TAG_READ = 1, TAG_WAKE, TAG_BELL, TAG_NOTIFIER, TAG_CANCEL };

struct ring_state {
    struct poll_state poll;
    struct ring *ring;
    bool can_be_busy; /* the kernel has multishot reads, and the ring works */
    bool busy;
    bool armed; /* the multishot read is under way */
    bool wake_armed;
    bool bell_armed;
    bool notifier_armed;
    bool large;       /* a large message has come */
    uint32_t offered; /* buffers that a multishot read fills; each has a slot set aside while it is armed */
    uint32_t most_offered;
    uint32_t sending;  /* replies that the kernel has */
    unsigned evidence; /* for being busy, or when busy for being quiet */
    unsigned busy_after;
    unsigned busy_batches;
    unsigned refusals; /* io_uring_enter said so many times in a row that it could not just now */
};

static uint32_t power_of_two_up_to(uint32_t limit)
{
    uint32_t power = 1;
    while (power * 2 <= limit && power < 32768)
        power *= 2;
    return power;
}

static int prepare(struct fusewire_connection *c)
{
    struct ring_state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return fail(-ENOMEM, "no memory for the ring transport");
    state->poll = POLL_CLOSED;
    int error = ring_create(&state->ring, ENTRIES);
    if (error != 0) {
        free(state);
        return fail_errno(error, "io_uring is not to be had%s",
                          error == -EPERM ? " (sysctl kernel.io_uring_disabled, or a seccomp filter)" : "");
    }
    state->busy_after = BUSY_AFTER;
    /* Half of the buffers, so that the others are left for large messages and borrowed replies. */
    state->most_offered = power_of_two_up_to(c->buffers / 2);
    if (state->most_offered >= OFFERED_MIN) {
        error = ring_offer_create(state->ring, state->most_offered);
        state->can_be_busy = error == 0;
    }
    /* Kernels before 5.19 have no provided buffers; direct calls will do there. */
    if (error != 0 && error != -EINVAL) {
        ring_destroy(state->ring);
        free(state);
        return fail_errno(error, "io_uring takes no buffers");
    }
    c->transport_state = state;
    return 0;
}

static void drop(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    if (state->ring != NULL)
        ring_destroy(state->ring);
    poll_close(&state->poll);
    free(state);
    c->transport_state = NULL;
}

static int start(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    int error = poll_open(&state->poll, c);
    if (error == 0 && (error = poll_watch(&state->poll, ring_descriptor(state->ring), EPOLLIN)) != 0)
        fail_errno(error, "cannot wait for io_uring");
    if (error != 0)
        drop(c);
    return error;
}

static void take_read(struct fusewire_connection *c, const struct ring_completion *completion)
{
    struct ring_state *state = c->transport_state;
    if (!completion->more)
        state->armed = false;
    if (completion->buffer >= 0) {
        state->offered--;
        c->slots.reserved--;
    }
    if (completion->result > 0 && completion->buffer >= 0) {
        state->large = state->large || completion->result >= LARGE_MESSAGE;
        conn_message(c, completion->buffer, (size_t)completion->result);
        return;
    }
    if (completion->buffer >= 0)
        buffer_free(&c->slots, completion->buffer);
    /* Out of buffers: it goes on when there are some. Not known: there never will be. */
    if (completion->result == -ENOBUFS || completion->result == 0)
        return;
    if (completion->result == -EINVAL || completion->result == -EOPNOTSUPP) {
        state->can_be_busy = false;
        return;
    }
    conn_read_failed(c, completion->result);
}

static void send_slot(struct fusewire_connection *c, struct slot *slot)
{
    conn_send_now(c, slot, slot->reply, slot->reply[1].iov_len > 0 ? 2 : 1);
}

static void take_written(struct fusewire_connection *c, struct slot *slot, int64_t result)
{
    if (dev_write_result(result) == DEV_WRITE_RETRY)
        send_slot(c, slot);
    else
        conn_sent(c, slot, result);
}

/* Works off what has completed, and returns how much that was. */
static unsigned reap(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    struct ring_completion completion;
    unsigned count = 0;
    for (; ring_next(state->ring, &completion); count++) {
        switch (completion.tag) {
        case TAG_READ:
            take_read(c, &completion);
            break;
        case TAG_WAKE:
            state->wake_armed = completion.more;
            if (completion.result > 0)
                atomic_store(&c->woken, true);
            break;
        case TAG_BELL:
            state->bell_armed = completion.more;
            break;
        case TAG_NOTIFIER:
            state->notifier_armed = completion.more;
            notifier_reap(c);
            break;
        case TAG_CANCEL:
            break;
        default:
            state->sending--;
            take_written(c, (struct slot *)(uintptr_t)completion.tag, completion.result);
        }
    }
    return count;
}

/* Whatever io_uring had of the outbox, it is not to be had any more. What the kernel took all the same answers with
 * ENOENT. */
static void send_directly(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    for (uint32_t i = 0; i < c->slots.touched; i++) {
        struct slot *slot = &c->slots.all[i];
        if (slot->state == SLOT_QUEUED || slot->state == SLOT_SENDING)
            send_slot(c, slot);
    }
    c->outbox.first = NULL;
    state->sending = 0;
}

/* io_uring_enter fails for good. Closing the ring cancels what it had; messages that it brings all the same are taken.
 * Should the read not end, the buffers that the kernel may yet fill are never used again. */
static void ring_broke(struct fusewire_connection *c)
{
    enum { STEP_NS = 1000000, STEPS = 200 };
    struct ring_state *state = c->transport_state;
    epoll_ctl(state->poll.epoll, EPOLL_CTL_DEL, ring_descriptor(state->ring), NULL);
    ring_close(state->ring);
    reap(c);
    for (int i = 0; i < STEPS && state->armed; i++) {
        nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
        reap(c);
    }
    c->slots.leak_buffers = c->slots.leak_buffers || state->armed;
    ring_free(state->ring);
    state->ring = NULL;
    state->can_be_busy = state->busy = state->armed = false;
    state->wake_armed = state->bell_armed = state->notifier_armed = false;
    c->slots.reserved = 0;
    c->queue_from = 0;
    send_directly(c);
    poll_set_device(&state->poll, c, DEVICE_WATCHED);
}

/* Queues the outbox. True when an outcome is waited for. */
static bool flush(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    struct slot *slot;
    bool outcome = false;
    while ((slot = queue_take(&c->outbox)) != NULL) {
        unsigned pieces = slot->reply[1].iov_len > 0 ? 2 : 1;
        slot->state = SLOT_SENDING;
        outcome = outcome || slot->expect_outcome;
        if (ring_write(state->ring, c->mount.device_fd, slot->reply, pieces, (uint64_t)(uintptr_t)slot) == 0)
            state->sending++;
        else
            send_slot(c, slot);
    }
    return outcome;
}

static void arm(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    while (state->offered < state->most_offered && slot_available(&c->slots)) {
        int32_t buffer = buffer_take(&c->slots);
        if (buffer == BUFFER_NONE)
            break;
        ring_offer(state->ring, buffer, buffer_message(&c->slots, buffer), buffer_message_capacity(&c->slots));
        state->offered++;
        c->slots.reserved++;
    }
    ring_offer_publish(state->ring);
    if (!state->armed && state->offered > 0)
        state->armed = ring_read_multishot(state->ring, c->mount.device_fd, TAG_READ) == 0;
    if (!state->wake_armed)
        state->wake_armed = ring_poll_multishot(state->ring, c->wake_fd, EPOLLIN, TAG_WAKE) == 0;
    if (!state->bell_armed)
        state->bell_armed = ring_poll_multishot(state->ring, c->family->bell, EPOLLIN, TAG_BELL) == 0;
    const int notifier = notifier_descriptor(c);
    if (!state->notifier_armed && notifier >= 0)
        state->notifier_armed = ring_poll_multishot(state->ring, notifier, EPOLLIN, TAG_NOTIFIER) == 0;
}

static int wait_busy(struct fusewire_connection *c, int timeout)
{
    struct ring_state *state = c->transport_state;
    const bool outcome = flush(c);
    arm(c);
    /* The replies complete at once; one more completion is what is waited for. */
    const unsigned wanted = outcome || c->inbox.first != NULL ? state->sending : state->sending + 1;
    const uint64_t calls = ring_system_calls(state->ring);
    int error = ring_wait(state->ring, wanted, timeout);
    c->stats.system_calls += ring_system_calls(state->ring) - calls;
    const bool refused = error == -EAGAIN || error == -EBUSY;
    state->refusals = refused ? state->refusals + 1 : 0;
    if ((error != 0 && error != -EINTR && !refused) || state->refusals > REFUSALS_MAX) {
        ring_broke(c);
        return 0;
    }
    /* A wait that sent something does not say that it was interrupted. */
    if (reap(c) < wanted && timeout < 0 && error == 0)
        error = -EINTR;
    return error == -EINTR && c->inbox.first == NULL ? -EINTR : 0;
}

static bool under_way(const struct ring_state *state)
{
    return state->armed || state->wake_armed || state->bell_armed || state->notifier_armed || state->sending > 0;
}

/* Takes back the reads; what they bring all the same goes to the inbox. */
static void disarm(struct fusewire_connection *c)
{
    enum { STEP_MS = 10, STEPS = 100 };
    struct ring_state *state = c->transport_state;
    flush(c);
    const struct {
        const bool *armed;
        uint64_t tag;
    } reads[] = {{&state->armed, TAG_READ},
                 {&state->wake_armed, TAG_WAKE},
                 {&state->bell_armed, TAG_BELL},
                 {&state->notifier_armed, TAG_NOTIFIER}};
    const size_t count = sizeof reads / sizeof reads[0];
    for (size_t i = 0; i < count; i++) {
        if (*reads[i].armed)
            ring_cancel(state->ring, reads[i].tag, TAG_CANCEL);
    }
    for (int i = 0; i < STEPS && under_way(state); i++) {
        int error = ring_wait(state->ring, 1, STEP_MS);
        if (error != 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
            ring_broke(c);
            return;
        }
        reap(c);
    }
    if (under_way(state))
        ring_broke(c);
}

static void go_busy(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    poll_set_device(&state->poll, c, DEVICE_IGNORED);
    c->slots.reserved = state->offered;
    state->busy = true;
    state->evidence = 0;
    state->busy_batches = 0;
    state->large = false;
    c->queue_from = QUEUE_FROM;
}

static void go_quiet(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    disarm(c);
    state->busy = false;
    state->evidence = 0;
    c->slots.reserved = state->armed ? state->offered : 0;
    c->queue_from = 0;
    if (state->busy_batches >= STEADY_AFTER)
        state->busy_after = BUSY_AFTER;
    else if (state->busy_after < BUSY_AFTER_MAX)
        state->busy_after *= 2;
    if (c->end == 0)
        poll_set_device(&state->poll, c, DEVICE_WATCHED);
}

static size_t inbox_size(const struct fusewire_connection *c)
{
    size_t size = 0;
    for (const struct slot *slot = c->inbox.first; slot != NULL && size < BUSY_BATCH; slot = slot->next)
        size++;
    return size;
}

static int collect_busy(struct fusewire_connection *c, int timeout)
{
    struct ring_state *state = c->transport_state;
    /* Without room for messages no read is armed, and only the device's own descriptor tells how the connection ends.
     */
    const bool room = state->offered > 0 || message_room(&c->slots);
    if (timeout == 0 || !room) {
        go_quiet(c);
        return 0;
    }
    int error = wait_busy(c, timeout);
    state->busy_batches++;
    state->evidence = inbox_size(c) > 1 ? 0 : state->evidence + 1;
    if (state->busy && (state->evidence > QUIET_AFTER || state->large || !state->can_be_busy))
        go_quiet(c);
    return error;
}

static int watch(struct fusewire_connection *c, int fd)
{
    struct ring_state *state = c->transport_state;
    return poll_watch(&state->poll, fd, EPOLLIN);
}

static void resume(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    poll_set_device(&state->poll, c, DEVICE_WATCHED);
}

static int collect(struct fusewire_connection *c, size_t want, int timeout)
{
    struct ring_state *state = c->transport_state;
    if (state->busy)
        return collect_busy(c, timeout);
    if (c->outbox.first != NULL)
        send_directly(c);
    int error = poll_wait(&state->poll, c, want, timeout);
    if (state->ring != NULL)
        reap(c);
    if (timeout == 0 || !state->can_be_busy || error != 0)
        return error;
    size_t size = inbox_size(c);
    if (size >= BUSY_BATCH)
        state->evidence++;
    else if (size > 0 && state->evidence > 0)
        state->evidence--;
    if (state->evidence > state->busy_after && c->slots.in_use + state->offered < c->slots.depth)
        go_busy(c);
    return 0;
}

static void finish(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    if (state->ring != NULL && state->busy)
        disarm(c);
    /* A read that could not be taken back might still write to its buffer. */
    if (state->ring != NULL && state->armed)
        c->slots.leak_buffers = true;
    drop(c);
}

static void forget(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    if (state->ring != NULL)
        ring_close(state->ring);
    poll_close(&state->poll);
}

static void discard(struct fusewire_connection *c)
{
    struct ring_state *state = c->transport_state;
    if (state->ring != NULL)
        ring_discard(state->ring);
    free(state);
}

static int descriptor(struct fusewire_connection *c)
{
    const struct ring_state *state = c->transport_state;
    return state->poll.epoll;
}

const struct transport transport_ring = {
    .name = "ring",
    .number = FUSEWIRE_TRANSPORT_RING,
    .prepare = prepare,
    .start = start,
    .drop = drop,
    .finish = finish,
    .forget = forget,
    .discard = discard,
    .descriptor = descriptor,
    .collect = collect,
    .watch = watch,
    .resume = resume,
};
