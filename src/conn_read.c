#include "clock.h"
#include "entries.h"
#include "notifier.h"
#include "transport.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A read that fails for want of memory or the like is tried again, at once at first, then after a pause of a
 * millisecond, so that a lasting failure neither spins nor hangs: after so many in a row the connection ends. */
enum { TROUBLES_AT_ONCE = 8, TROUBLES_MAX = 200 };

/* After the mount INIT is there to be read at once; this long is waited for one that is not. The connection works all
 * the same when it comes later. */
enum { INIT_WAIT_MS = 1000, INIT_STEP_MS = 100 };

void conn_message(struct fusewire_connection *c, int32_t buffer, size_t size)
{
    struct slot *slot = slot_take(&c->slots, SLOT_OPEN);
    slot->message_size = (uint32_t)size;
    if (size <= sizeof slot->small) {
        memcpy(slot->small, buffer_message(&c->slots, buffer), size);
        buffer_free(&c->slots, buffer);
    } else {
        slot->message_buffer = buffer;
        slot->message = buffer_message(&c->slots, buffer);
    }
    c->troubles = 0;
    queue_append(&c->inbox, slot);
}

void conn_entry_message(struct fusewire_connection *c, struct ring_entry *entry)
{
    struct slot *slot = slot_take(&c->slots, SLOT_OPEN);
    slot->entry = entry;
    slot->message_size = (uint32_t)entry_message(entry, slot->small, sizeof slot->small, &slot->message);
    queue_append(&c->inbox, slot);
}

bool conn_read_failed(struct fusewire_connection *c, int64_t result)
{
    switch (dev_read_result(result)) {
    case DEV_READ_MESSAGE:
    case DEV_READ_RETRY:
        return true;
    case DEV_READ_AGAIN:
    case DEV_READ_UNMOUNTED:
        return false;
    case DEV_READ_TROUBLE:
        if (++c->troubles > TROUBLES_MAX) {
            conn_end(c, fail_errno((int)result, "cannot read from /dev/fuse"));
            return false;
        }
        if (c->troubles > TROUBLES_AT_ONCE)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        return true;
    case DEV_READ_END:
        conn_end(c, (int)result);
        return false;
    }
    return false;
}

static void answer_init(struct fusewire_connection *c, struct slot *slot)
{
    fusewire_session session = {.size = sizeof session};
    size_t reply_size = 0;
    int result = wire_init(slot->message, slot->message_size, &c->wishes, &session, slot->head, &reply_size);
    if (result < 0) {
        conn_reply_error(c, slot, -EPROTO);
        conn_end(c, fail(-EPROTO, "INIT failed: the kernel speaks a FUSE protocol older than 7.12"));
        return;
    }
    if (result == 0) {
        /* Now, since the kernel makes clients wait for a ring as soon as INIT has agreed on one. */
        int error = c->transport->follow_init == NULL ? 0 : c->transport->follow_init(c, session.capabilities);
        if (error != 0) {
            conn_reply_error(c, slot, -EPROTO);
            conn_end(c, error);
            return;
        }
        c->dialect = (struct wire_dialect){session.minor, session.capabilities};
        c->agreed = true;
        family_agree(c->family, &session);
    }
    conn_reply(c, slot, reply_size, NULL, 0);
}

static bool is_early_interrupt(struct fusewire_connection *c, uint64_t unique)
{
    for (unsigned i = 0; i < c->early_count; i++) {
        if (c->early_interrupts[i] == unique) {
            c->early_interrupts[i] = c->early_interrupts[--c->early_count];
            return true;
        }
    }
    return false;
}

/* The request may yet be read here. When the room is used up the oldest make place: their requests were answered long
 * ago or belong to a clone. */
static void keep_early_interrupt(struct fusewire_connection *c, uint64_t unique)
{
    if (c->early_count == EARLY_INTERRUPTS)
        memmove(c->early_interrupts, c->early_interrupts + 1, --c->early_count * sizeof c->early_interrupts[0]);
    c->early_interrupts[c->early_count++] = unique;
}

/* Puts a record into the inbox that says that this open request was interrupted, where the kernel's message came too
 * early or to another channel. A slot is available. */
static void interrupt_here(struct fusewire_connection *c, const struct slot *target)
{
    struct slot *record = slot_take(&c->slots, SLOT_TRANSIENT);
    record->expected =
        (struct wire_expected){.opcode = FUSEWIRE_INTERRUPT, .unique = target->expected.unique & ~WIRE_UNIQUE_RESEND};
    record->nodeid = slot_id(&c->slots, target);
    queue_append(&c->inbox, record);
}

/* Interrupts that matched no request when they were read, here or on a clone, and whose request may be ours. Out of
 * slots they wait. */
static void hear_family(struct fusewire_connection *c)
{
    uint64_t posted = family_interrupts_posted(c->family);
    for (; c->interrupts_seen != posted && slot_available(&c->slots); c->interrupts_seen++) {
        uint64_t unique;
        if (!family_interrupt(c->family, c->interrupts_seen, &unique))
            break;
        const struct slot *target = unique == 0 ? NULL : slot_find_unique(&c->slots, unique);
        if (target != NULL)
            interrupt_here(c, target);
        else if (unique != 0)
            keep_early_interrupt(c, unique);
    }
}

static void keep_transient(struct fusewire_connection *c, struct slot *slot)
{
    if (slot->state == SLOT_OPEN)
        slot_make_transient(&c->slots, slot);
    slot->next = c->transients;
    c->transients = slot;
}

/* A message, decoded into *request. False when it is not the caller's business. */
static bool take_message(struct fusewire_connection *c, struct slot *slot, fusewire_request *request)
{
    const bool raw = (c->flags & FUSEWIRE_OPEN_RAW) != 0;
    int error = wire_decode(slot->message, slot->message_size, &c->dialect, request);
    wire_expect(request, &slot->expected);
    slot->nodeid = request->nodeid;
    request->id = 0;

    switch (slot->expected.opcode) {
    case FUSEWIRE_FORGET:
    case FUSEWIRE_BATCH_FORGET:
        c->stats.read++;
        c->stats.forgets++;
        break;
    case FUSEWIRE_INTERRUPT:
        c->stats.interrupts++;
        break;
    case FUSEWIRE_NOTIFY_REPLY:
        if (!raw && wire_over_io_uring(c->dialect.capabilities))
            request->unique = wire_uring_retrieved(request->unique);
        c->stats.retrieved++;
        break;
    default:
        c->stats.read++;
    }
    if (error != 0) {
        c->stats.malformed++;
        if (slot->expected.kind == WIRE_REPLY_NEVER)
            keep_transient(c, slot);
        else
            conn_reply_error(c, slot, -EIO);
        return false;
    }
    if (slot->expected.opcode == FUSEWIRE_INIT && !raw) {
        answer_init(c, slot);
        return false;
    }
    if (slot->expected.opcode == FUSEWIRE_INTERRUPT) {
        keep_transient(c, slot); /* first: it carries the unique that is looked for */
        struct slot *target = slot_find_unique(&c->slots, request->unique);
        if (target == NULL && !raw) {
            /* Answered already, or still to come, here or on a clone. */
            family_post_interrupt(c->family, request->unique);
            return false;
        }
        request->id = target == NULL ? 0 : slot_id(&c->slots, target);
        return true;
    }
    if (slot->expected.kind == WIRE_REPLY_NEVER) {
        keep_transient(c, slot);
        return true;
    }
    request->id = slot_id(&c->slots, slot);
    if (c->early_count > 0 && slot_available(&c->slots) && is_early_interrupt(c, request->unique & ~WIRE_UNIQUE_RESEND))
        interrupt_here(c, slot);
    return true;
}

/* The next thing of the inbox, as a record. */
static bool take_record(struct fusewire_connection *c, struct slot *slot, fusewire_request *request)
{
    if (slot->state == SLOT_OPEN)
        return take_message(c, slot, request);
    memset(request, 0, sizeof *request);
    if (slot->state == SLOT_OUTCOME) {
        request->opcode = FUSEWIRE_OUTCOME;
        request->id = slot->expected.unique == 0 ? 0 : slot_id(&c->slots, slot); /* 0: of a notification */
        request->error = slot->outcome;
        request->nodeid = slot->nodeid;
        request->unique = slot->expected.unique;
        conn_free(c, slot);
    } else {
        request->opcode = slot->expected.opcode;
        request->id = slot->nodeid;
        request->unique = slot->expected.unique;
        keep_transient(c, slot);
    }
    return true;
}

int conn_await_init(struct fusewire_connection *c)
{
    for (int waited = 0; !c->agreed && c->end == 0 && waited < INIT_WAIT_MS; waited += INIT_STEP_MS) {
        int error = c->transport->collect(c, 1, INIT_STEP_MS);
        if (error != 0 && error != -EINTR)
            return error;
        fusewire_request request;
        while (!c->agreed && c->inbox.first != NULL)
            take_record(c, queue_take(&c->inbox), &request);
    }
    return c->end;
}

static size_t hand_out(struct fusewire_connection *c, fusewire_request *requests, size_t capacity, size_t request_size)
{
    size_t count = 0;
    while (count < capacity && c->inbox.first != NULL) {
        fusewire_request decoded;
        unsigned char *record = (unsigned char *)requests + count * request_size;
        fusewire_request *request = request_size == sizeof decoded ? (void *)record : &decoded;
        if (!take_record(c, queue_take(&c->inbox), request))
            continue;
        if (request == &decoded) {
            size_t known = request_size < sizeof decoded ? request_size : sizeof decoded;
            memcpy(record, &decoded, known);
            memset(record + known, 0, request_size - known);
        }
        count++;
    }
    return count;
}

bool conn_woken(struct fusewire_connection *c)
{
    if (!atomic_load_explicit(&c->woken, memory_order_relaxed))
        return false;
    uint64_t times;
    ssize_t ignored = read(c->wake_fd, &times, sizeof times);
    (void)ignored;
    return atomic_exchange(&c->woken, false);
}

static int read_requests(struct fusewire_connection *c, fusewire_request *requests, size_t capacity,
                         size_t request_size, int timeout)
{
    while (c->transients != NULL) {
        struct slot *slot = c->transients;
        c->transients = slot->next;
        conn_dismiss(c, slot);
    }
    c->turn = false;

    int64_t deadline = timeout > 0 ? clock_ms() + timeout : 0;
    for (bool waited = false;; waited = true) {
        if (family_stopped(c->family) && c->end == 0)
            conn_end(c, -ESHUTDOWN);
        if (c->end == -ESHUTDOWN)
            return fail(c->end, "stopped by fusewire_notify_unmount");
        if (c->interrupts_seen != family_interrupts_posted(c->family))
            hear_family(c);

        const bool agreed = c->agreed;
        size_t count = hand_out(c, requests, capacity, request_size);
        if (count > 0) {
            c->stats.batches++;
            c->turn = c->queue_from > 0 && count >= c->queue_from && c->end == 0;
            return (int)count;
        }
        if (c->end != 0) {
            switch (c->end) {
            case -ENODEV:
                return fail(c->end, "unmounted");
            case -ECONNABORTED:
                return fail(c->end, "aborted");
            default:
                return fail_errno(c->end, "the connection is broken");
            }
        }
        if (conn_woken(c))
            return 0;

        int wait = timeout;
        if (timeout > 0) {
            int64_t left = deadline - clock_ms();
            wait = left < 0 ? 0 : (int)left;
        }
        /* INIT changes what there is to wait for. */
        if (waited && wait == 0 && agreed == c->agreed)
            return 0;
        int error = c->transport->collect(c, capacity, wait);
        if (error != 0)
            return error == -EINTR   ? fail(error, "a signal handler ran")
                   : error == -EXDEV ? fail(error, "with the transport uring the thread that reads first reads always: "
                                                   "make a clone for another one")
                                     : fail_errno(error, "waiting for requests failed");
    }
}

int conn_read(struct fusewire_connection *c, fusewire_request *requests, size_t capacity, size_t request_size,
              int timeout)
{
    int error = conn_bind(c);
    if (error != 0)
        return error;
    c->polled = false;
    int count = read_requests(c, requests, capacity, request_size, timeout);
    c->polled = timeout == 0;
    return count;
}
