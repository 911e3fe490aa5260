#include "conn.h"
#include "clock.h"
#include "entries.h"
#include "notifier.h"
#include "sized.h"
#include "transport.h"
#include "uring_orphans.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DEFAULT_DEPTH = 4096, DEFAULT_BUFFERS = 32, DEFAULT_MAX_WRITE = 1 << 20, PAGE = 4096 };

/* Ring entries of each queue, and what all queues together have at most as long as each has the least. Many, since a
 * request keeps its entry until it is answered; they cost address space, and memory only where they were in use at
 * once. */
enum { DEFAULT_QUEUE_DEPTH = 64, LEAST_QUEUE_DEPTH = 8, DEFAULT_ENTRIES = 1024 };

/* How long closing goes on answering so that notifications can finish that wait for a client's lock. */
enum { CLOSE_WAIT_MS = 1000, CLOSE_STEP_MS = 10 };

/* Options with everything settled. */
static int settle_options(const fusewire_options *given, fusewire_options *settled)
{
    memset(settled, 0, sizeof *settled);
    int error = given == NULL ? 0 : sized_take(settled, sizeof *settled, given, "options");
    if (error != 0)
        return error;
    const uint32_t known_flags = FUSEWIRE_OPEN_ADOPT | FUSEWIRE_OPEN_RAW | FUSEWIRE_OPEN_REPORT_FAILURES;
    if ((settled->flags & ~known_flags) != 0)
        return fail(-EINVAL, "unknown bits in options->flags: %#x", settled->flags & ~known_flags);
    if (settled->transport > FUSEWIRE_TRANSPORT_URING)
        return fail(-EINVAL, "unknown transport %u", settled->transport);
    if (settled->depth > SLOT_MAX)
        return fail(-EINVAL, "depth is %u, at most %d are possible", settled->depth, SLOT_MAX);
    if (settled->max_write != 0 && (settled->max_write < PAGE || settled->max_write > (16 << 20) - PAGE))
        return fail(-EINVAL, "max_write is %u, it has to be from 4096 to 16773120", settled->max_write);
    if (settled->max_background > UINT16_MAX || settled->congestion_threshold > UINT16_MAX)
        return fail(-EINVAL, "max_background and congestion_threshold are at most 65535");
    if (settled->request_timeout > UINT16_MAX)
        return fail(-EINVAL, "request_timeout is %u seconds, at most 65535 are possible", settled->request_timeout);
    if (settled->padding != 0)
        return fail(-EINVAL, "options->padding is not zero");
    if (settled->time_gran > 1000000000)
        return fail(-EINVAL, "time_gran is %u, at most 1000000000 nanoseconds are possible", settled->time_gran);
    if (settled->depth == 0)
        settled->depth = DEFAULT_DEPTH;
    if (settled->max_write == 0)
        settled->max_write = DEFAULT_MAX_WRITE;
    if (settled->buffers == 0)
        settled->buffers = DEFAULT_BUFFERS;
    /* The reads under way have a buffer each, and each message needs a slot. */
    if (settled->buffers > settled->depth)
        settled->buffers = settled->depth;
    if (settled->buffers > SLOT_MAX / 2)
        settled->buffers = SLOT_MAX / 2;
    return 0;
}

static void release(struct fusewire_connection *c)
{
    if (c->family != NULL)
        family_leave(c->family);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    if (c->mount.device_fd >= 0)
        close(c->mount.device_fd);
    if (c->here != NULL)
        munmap(c->here, PAGE);
    entries_destroy(c->entries);
    queues_free(&c->queues);
    slots_destroy(&c->slots);
    free(c);
}

/* `queues`: of the original, where the options name none. */
static struct fusewire_connection *allocate(const fusewire_options *options, const struct queues *queues)
{
    struct fusewire_connection *c = calloc(1, sizeof *c);
    if (c == NULL) {
        fail(-ENOMEM, "no memory for a connection");
        return NULL;
    }
    c->mount = MOUNT_NONE;
    c->flags = options->flags;
    c->asked_transport = options->transport;
    c->depth = options->depth;
    c->buffers = options->buffers;
    c->queue_depth = options->queue_depth;
    c->share = options->cpus != NULL;
    c->maker = getpid();
    c->wishes = (struct wire_wishes){
        .capabilities = options->capabilities & ~FUSEWIRE_CAP(OVER_IO_URING), /* a matter of the transport */
        .without_capabilities = options->without_capabilities,
        .max_write = options->max_write,
        .max_readahead = options->max_readahead,
        .max_background = options->max_background,
        .congestion_threshold = options->congestion_threshold,
        .time_gran = options->time_gran,
        .max_stack_depth = options->max_stack_depth,
        .request_timeout = options->request_timeout,
    };
    c->dialect = (struct wire_dialect){.minor = 45};
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = c->wake_fd < 0 ? -errno : 0;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        c->here = page;
        if (madvise(page, PAGE, MADV_WIPEONFORK) != 0 && error == 0)
            error = -errno;
    } else if (error == 0) {
        error = -errno;
    }
    if (error != 0)
        fail_errno(error, "cannot set up a connection");
    else
        error = slots_create(&c->slots, c->depth, c->buffers, c->wishes.max_write);
    if (error == 0 && options->cpus != NULL)
        error = queues_parse(&c->queues, options->cpus);
    else if (error == 0 && (queues != NULL ? queues_copy(&c->queues, queues) : queues_all(&c->queues)) != 0)
        error = fail(-ENOMEM, "no memory for a list of CPUs");
    if (error != 0) {
        release(c);
        errno = -error;
        return NULL;
    }
    return c;
}

/* A successor's session: what its predecessor agreed upon. */
static int take_session(struct fusewire_connection *c, const fusewire_session *given)
{
    fusewire_session session;
    int error = sized_take(&session, sizeof session, given, "session");
    if (error != 0)
        return error;
    session.size = sizeof session;
    if (session.max_write > c->slots.data_capacity)
        return fail(-EINVAL, "the session's max_write is %u: give options->max_write at least that", session.max_write);
    c->dialect = (struct wire_dialect){session.minor, session.capabilities};
    c->agreed = true;
    family_agree(c->family, &session);
    return 0;
}

/* Do the options agree on where the device comes from? */
static int check_device(const char *mountpoint, const fusewire_options *options)
{
    const bool adopt = (options->flags & FUSEWIRE_OPEN_ADOPT) != 0;
    if (adopt && mountpoint != NULL)
        return fail(-EINVAL, "a descriptor is adopted in place of a mount point, not beside it");
    if (options->session != NULL && !adopt && (mountpoint == NULL || mount_descriptor_of(mountpoint) < 0))
        return fail(-EINVAL, "a session can only be given with a descriptor to adopt");
    return 0;
}

static int get_device(struct fusewire_connection *c, const char *mountpoint, const fusewire_options *options)
{
    if ((options->flags & FUSEWIRE_OPEN_ADOPT) != 0)
        return mount_adopt(&c->mount, options->fd);
    if (mountpoint == NULL)
        return mount_open_device(&c->mount);
    const int named = mount_descriptor_of(mountpoint);
    if (named >= 0)
        return mount_adopt(&c->mount, named);
    int error = mount_open(&c->mount, mountpoint, options->mount_options);
    if (error == 0 && c->mount.mountpoint != NULL)
        c->family->mountpoint = strdup(c->mount.mountpoint);
    return error;
}

int conn_make_entries(struct fusewire_connection *c, bool shared)
{
    if (c->entries != NULL)
        return 0;
    /* The requests of /dev/fuse need slots too. */
    const uint32_t most = c->queues.count > 0 ? (c->depth - 1) / c->queues.count : 0;
    uint32_t per_queue = c->queue_depth;
    if (per_queue == 0 && c->queues.count > 0) {
        per_queue = DEFAULT_ENTRIES / c->queues.count;
        per_queue = per_queue > DEFAULT_QUEUE_DEPTH ? DEFAULT_QUEUE_DEPTH : per_queue;
        per_queue = per_queue < LEAST_QUEUE_DEPTH ? LEAST_QUEUE_DEPTH : per_queue;
        per_queue = per_queue > most && most > 0 ? most : per_queue;
    }
    if (c->queues.count > 0 && per_queue > most)
        return fail(-EINVAL, "a depth of %u is too small for %u entries on each of %u CPUs", c->depth, per_queue,
                    c->queues.count);
    return entries_create(&c->entries, &c->queues, per_queue, c->slots.data_capacity, shared);
}

static void note_reason(struct fusewire_connection *c, const struct transport *skipped)
{
    char *reason = c->stats.transport_reason;
    const size_t used = strlen(reason);
    snprintf(reason + used, sizeof c->stats.transport_reason - used, "%s%s: %s", used > 0 ? "; " : "", skipped->name,
             last_error());
}

int conn_skip_transport(struct fusewire_connection *c, int error, const struct transport *instead)
{
    note_reason(c, c->transport);
    c->stats.transport = instead->number;
    return c->asked_transport == FUSEWIRE_TRANSPORT_AUTO ? 0 : error;
}

/* Takes the best transport from c->rung on that can be had; the reasons against the others go into the statistics. */
static int choose_transport(struct fusewire_connection *c)
{
    static const struct transport *const ladder[] = {&transport_uring, &transport_ring, &transport_poll};
    int error = -ENOTSUP;
    for (; c->rung < sizeof ladder / sizeof ladder[0]; c->rung++) {
        const struct transport *transport = ladder[c->rung];
        const bool asked = c->asked_transport == transport->number;
        if (c->asked_transport != FUSEWIRE_TRANSPORT_AUTO && !asked)
            continue;
        error = asked || transport->pays == NULL ? 0 : transport->pays(c);
        if (error == 0)
            error = transport->prepare(c);
        if (error == 0) {
            c->transport = transport;
            return 0;
        }
        note_reason(c, transport);
    }
    return error;
}

static int start_transport(struct fusewire_connection *c)
{
    int error = c->transport_state == NULL ? choose_transport(c) : 0;
    int failed;
    while (error == 0 && (failed = c->transport->start(c)) != 0) {
        note_reason(c, c->transport);
        c->rung++;
        error = choose_transport(c) == 0 ? 0 : failed;
    }
    if (error != 0)
        return error;
    c->stats.transport = c->transport->number;
    if (c->transport->follow_init != NULL)
        c->wishes.capabilities |= FUSEWIRE_CAP(OVER_IO_URING);
    return 0;
}

int conn_check_owner(const struct fusewire_connection *c)
{
    return !c->bound || *c->here != 0 ? 0
                                      : fail(-ECHILD, "this connection belongs to the parent process: use a clone made "
                                                      "for the child before the fork");
}

int conn_bind(struct fusewire_connection *c)
{
    if (c->bound)
        return conn_check_owner(c);
    c->interrupts_seen = family_interrupts_posted(c->family);
    int error = start_transport(c);
    if (error != 0)
        return error;
    *c->here = 1;
    c->bound = true;
    return 0;
}

int conn_open(struct fusewire_connection **out, const char *mountpoint, const fusewire_options *options)
{
    fusewire_options settled;
    int error = settle_options(options, &settled);
    if (error != 0)
        return error;
    struct fusewire_connection *c = allocate(&settled, NULL);
    if (c == NULL)
        return -(errno == 0 ? ENOMEM : errno);
    c->family = family_create();
    if (c->family == NULL) {
        error = fail_errno(-errno, "cannot set up a connection");
        release(c);
        return error;
    }
    error = fork_register(c);
    if (error != 0) {
        release(c);
        return error;
    }
    error = check_device(mountpoint, &settled);
    if (error == 0 && settled.session != NULL)
        error = take_session(c, settled.session);
    if (error == 0)
        error = choose_transport(c); /* so that nothing is mounted in vain */
    if (error == 0)
        error = get_device(c, mountpoint, &settled);
    if (error == 0)
        error = conn_bind(c);
    if (error == 0 && c->mount.mountpoint != NULL && (c->flags & FUSEWIRE_OPEN_RAW) == 0)
        error = conn_await_init(c);
    if (error != 0) {
        char words[256];
        snprintf(words, sizeof words, "%s", last_error());
        conn_close(c);
        return fail(error, "%s", words);
    }
    *out = c;
    return 0;
}

int conn_clone(struct fusewire_connection **out, struct fusewire_connection *original, const fusewire_options *options)
{
    int error = conn_check_owner(original);
    if (error != 0)
        return error;
    fusewire_options settled;
    fusewire_options asked = {.size = sizeof asked};
    if (options != NULL) {
        error = settle_options(options, &settled);
        if (error != 0)
            return error;
        sized_take(&asked, sizeof asked, options, "options");
    }
    fusewire_options others = asked;
    others.transport = others.depth = others.buffers = others.queue_depth = 0;
    others.cpus = NULL;
    others.size = 0;
    static const fusewire_options zeros;
    if (memcmp(&others, &zeros, sizeof others) != 0)
        return fail(
            -EINVAL,
            "of a clone's options only transport, depth, buffers, queue_depth and cpus count; the rest has to be "
            "zero");
    const fusewire_session *session = family_session(original->family);
    if (session == NULL)
        return fail(-ENOTCONN, "cannot clone a connection before INIT is over");

    settled = (fusewire_options){
        .flags = original->flags,
        .transport = asked.transport != 0 ? asked.transport : original->asked_transport,
        .depth = asked.depth != 0 ? asked.depth : original->depth,
        .buffers = asked.buffers != 0 ? asked.buffers : original->buffers,
        .queue_depth = asked.queue_depth != 0 ? asked.queue_depth : original->queue_depth,
        .cpus = asked.cpus,
        .max_write = original->wishes.max_write,
    };
    int fd = dev_clone(original->mount.device_fd);
    if (fd < 0)
        return fd;
    struct fusewire_connection *c = allocate(&settled, &original->queues);
    if (c == NULL) {
        error = errno == 0 ? -ENOMEM : -errno;
        close(fd);
        return error;
    }
    c->mount.device_fd = fd;
    c->family = family_join(original->family);
    c->dialect = original->dialect;
    c->agreed = true;
    const bool over_io_uring = wire_over_io_uring(session->capabilities);
    if (over_io_uring &&
        (settled.transport == FUSEWIRE_TRANSPORT_AUTO || settled.transport == FUSEWIRE_TRANSPORT_URING))
        /* Before a fork, so that this process can end what a child leaves open when it dies. */
        error = conn_make_entries(c, true);
    if (error == 0 && c->entries != NULL)
        uring_adopt_orphans(c);
    if (error == 0)
        error = fork_register(c);
    if (error != 0) {
        release(c);
        return error;
    }
    *out = c;
    return 0;
}

int conn_wake(struct fusewire_connection *c)
{
    static const uint64_t one = 1;
    atomic_store(&c->woken, true);
    ssize_t written = write(c->wake_fd, &one, sizeof one);
    (void)written; /* fails only when the counter is full, and then it wakes as well */
    return 0;
}

int conn_descriptor(struct fusewire_connection *c)
{
    int error = conn_bind(c);
    return error != 0 ? error : c->transport->descriptor(c);
}

const char *conn_describe(struct fusewire_connection *c)
{
    static const char *const names[] = {"none yet", "poll", "ring", "uring"};
    const char *reason = c->stats.transport_reason;
    snprintf(c->description, sizeof c->description, "transport %s%s%s%s", names[c->stats.transport],
             reason[0] != '\0' ? " (" : "", reason, reason[0] != '\0' ? ")" : "");
    return c->description;
}

void conn_statistics(const struct fusewire_connection *c, fusewire_statistics *statistics)
{
    *statistics = c->stats;
    statistics->open = c->slots.open;
    /* What was not handed out yet is not counted as read, and of outcomes the request has been answered. */
    for (const struct slot *slot = c->inbox.first; slot != NULL; slot = slot->next)
        statistics->open -= slot->state != SLOT_TRANSIENT;
    statistics->open_peak = c->slots.open_peak;
    statistics->buffers_used = c->slots.buffer_count - c->slots.free_buffer_count;
    statistics->memory = c->slots.memory + (c->entries == NULL ? 0 : c->entries->size);
    statistics->queues = c->entries == NULL ? 0 : c->queues.count;
    statistics->queue_depth = statistics->queues == 0 ? 0 : c->entries->per_queue;
    statistics->payload_size = c->entries == NULL ? 0 : c->slots.data_capacity;
}

void conn_end(struct fusewire_connection *c, int error)
{
    if (c->end != 0)
        return;
    /* An end must not look like what passes. */
    c->end = error == -EINTR || error == -EAGAIN ? -EIO : error;
    conn_wake(c);
}

static void answer_all(struct fusewire_connection *c, int error)
{
    while (c->inbox.first != NULL) {
        struct slot *slot = queue_take(&c->inbox);
        if (slot->state != SLOT_OPEN) {
            slot_free(&c->slots, slot);
            continue;
        }
        /* Not decoded yet; it may take no answer. */
        fusewire_request request;
        wire_decode(slot->message, slot->message_size, &c->dialect, &request);
        wire_expect(&request, &slot->expected);
        if (slot->expected.kind != WIRE_REPLY_NEVER) {
            c->stats.read++;
            continue;
        }
        if (slot->expected.opcode == FUSEWIRE_FORGET || slot->expected.opcode == FUSEWIRE_BATCH_FORGET) {
            c->stats.read++;
            c->stats.forgets++;
        }
        conn_dismiss(c, slot);
    }
    for (uint32_t i = 0; i < c->slots.touched; i++) {
        if (c->slots.all[i].state == SLOT_OPEN)
            conn_reply_error(c, &c->slots.all[i], error);
    }
}

/* A notification may wait for a lock whose holder waits for an answer, perhaps to a request that is still to be read:
 * reads and answers until all are through. */
static void await_notifications(struct fusewire_connection *c)
{
    if (c->end == -ESHUTDOWN)
        c->end = 0; /* stopped, but the kernel does not know that: it can still be read */
    const int64_t deadline = clock_ms() + CLOSE_WAIT_MS;
    while (notifier_pending(c) > 0 && clock_ms() < deadline) {
        struct pollfd done = {.fd = notifier_descriptor(c), .events = POLLIN};
        conn_woken(c); /* a wake from before must not end the waits of now */
        if (c->end == 0)
            c->transport->collect(c, 64, CLOSE_STEP_MS);
        else
            poll(&done, 1, CLOSE_STEP_MS);
        notifier_reap(c);
        answer_all(c, -EIO);
    }
}

/* Ends everything under way: nothing of ours is known to the kernel after it. */
static void drain(struct fusewire_connection *c)
{
    c->turn = false;
    c->closing = true;
    conn_send_outbox(c);
    if (c->transport->send_commits != NULL)
        c->transport->send_commits(c);
    const int64_t deadline = clock_ms() + CLOSE_WAIT_MS;
    do
        answer_all(c, -EIO);
    while (c->inbox.first != NULL && clock_ms() < deadline); /* a ring entry may bring the next request at once */
    await_notifications(c);
    c->transport->finish(c);
    answer_all(c, -EIO);
    notifier_close(c);
}

int conn_close(struct fusewire_connection *c)
{
    const bool parents = conn_check_owner(c) != 0;
    fork_unregister(c);
    if (parents) {
        /* The descriptors were closed when the child was born. */
        c->wake_fd = -1;
        mount_forget(&c->mount);
        c->transport->discard(c);
        notifier_discard(c);
        release(c);
        return 0;
    }
    if (c->bound)
        drain(c);
    else if (c->transport_state != NULL)
        c->transport->drop(c);
    else if (c->entries != NULL)
        uring_end_orphans(c);
    /* First the device: then the kernel answers whoever still waits, and unmounting needs no answers of ours. */
    if (c->mount.device_fd >= 0)
        close(c->mount.device_fd);
    c->mount.device_fd = -1;
    mount_close(&c->mount);
    release(c);
    return 0;
}
