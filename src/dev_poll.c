/* The poll transport: epoll, read and writev on the non-blocking /dev/fuse, for wherever io_uring is forbidden.
 *
 * Replies leave at once: with one system call each, writev has nothing to gain from waiting. */
#include "dev_poll.h"
#include "notifier.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS = 5 };

/* While nothing is mounted the device has no way to say that this has changed: reading fails and polling reports an
 * error at once, so it is tried anew at this interval. */
enum { UNMOUNTED_RETRY_NS = 10000000 };

/* Two guesses save system calls; the measurements are in docs/performance.md.
 *
 * Eager: a read before any wait. A reply wakes its client, which on the same CPU runs at once and has its next request
 * in the queue when writev returns: then the read finds it and no wait is needed, two system calls per request in all.
 *
 * Deep: another read behind a message, without a wait. It pays when several clients call at once.
 *
 * Each success renews the hope, each EAGAIN (a wasted system call) takes one of it; without hope one in PROBE is tried
 * all the same. */
enum { HOPE = 4, PROBE = 16 };

static bool worth_trying(struct guess *guess)
{
    return guess->hope > 0 || ++guess->chances % PROBE == 0;
}

static void learn(struct guess *guess, bool success)
{
    if (success)
        guess->hope = HOPE;
    else if (guess->hope > 0)
        guess->hope--;
}

int poll_watch(struct poll_state *poll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(poll->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

static void stop_timer(struct poll_state *poll)
{
    if (poll->timer >= 0)
        close(poll->timer);
    poll->timer = -1;
}

/* Out of slots or buffers the device is left alone, so that what waits there does not wake anybody in vain. It stays
 * registered, since coming back must not fail for want of memory; edge-triggered, since epoll reports errors in any
 * case. */
void poll_set_device(struct poll_state *poll, struct fusewire_connection *c, enum device_state state)
{
    if (poll->device == state)
        return;
    int fd = c->mount.device_fd;
    struct epoll_event event = {.events = state == DEVICE_WATCHED ? EPOLLIN : EPOLLET, .data.fd = fd};
    if (poll->device != DEVICE_UNMOUNTED) {
        epoll_ctl(poll->epoll, EPOLL_CTL_MOD, fd, &event);
    } else {
        /* Should this fail the timer goes on, and it is tried again. */
        if (epoll_ctl(poll->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            return;
        stop_timer(poll);
    }
    poll->device = state;
}

/* Before the mount the device has no queue for epoll to wait in, and would not get one later; so it is added once it is
 * mounted, and until then tried from time to time. */
static int watch_device(struct poll_state *state, struct fusewire_connection *c)
{
    struct pollfd device = {.fd = c->mount.device_fd, .events = POLLIN};
    if (poll(&device, 1, 0) >= 0 && (device.revents & POLLERR) == 0)
        return poll_watch(state, c->mount.device_fd, EPOLLIN);
    state->device = DEVICE_UNMOUNTED;
    state->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (state->timer < 0)
        return -errno;
    struct timespec interval = {.tv_nsec = UNMOUNTED_RETRY_NS};
    timerfd_settime(state->timer, 0, &(struct itimerspec){interval, interval}, NULL);
    return poll_watch(state, state->timer, EPOLLIN);
}

int poll_open(struct poll_state *poll, struct fusewire_connection *c)
{
    *poll = POLL_CLOSED;
    poll->epoll = epoll_create1(EPOLL_CLOEXEC);
    int error = poll->epoll < 0 ? -errno : 0;
    if (error == 0)
        error = watch_device(poll, c);
    if (error == 0)
        error = poll_watch(poll, c->wake_fd, EPOLLIN);
    if (error == 0)
        error = poll_watch(poll, c->family->bell, EPOLLIN | EPOLLET);
    if (error != 0) {
        poll_close(poll);
        return fail_errno(error, "cannot set up epoll");
    }
    return 0;
}

void poll_close(struct poll_state *poll)
{
    if (poll->epoll >= 0)
        close(poll->epoll);
    poll->epoll = -1;
    stop_timer(poll);
}

/* The device reports an error, so no message can come: the read says how the connection ended, and needs no memory. */
static void read_end(struct fusewire_connection *c)
{
    void *nowhere = (void *)(uintptr_t)8;
    c->stats.system_calls++;
    ssize_t result = read(c->mount.device_fd, nowhere, buffer_message_capacity(&c->slots));
    if (result < 0 && dev_read_result(-errno) == DEV_READ_END)
        conn_end(c, -errno);
}

/* Reads until there is nothing, there are `want` messages, or more are not likely. Returns how many came. */
static size_t read_messages(struct poll_state *poll, struct fusewire_connection *c, size_t want)
{
    size_t count = 0;
    while (count < want && c->end == 0) {
        int32_t buffer = slot_available(&c->slots) ? buffer_take(&c->slots) : BUFFER_NONE;
        if (buffer == BUFFER_NONE) {
            c->starved = true;
            poll_set_device(poll, c, DEVICE_IGNORED);
            break;
        }
        c->stats.system_calls++;
        int64_t result =
            read(c->mount.device_fd, buffer_message(&c->slots, buffer), buffer_message_capacity(&c->slots));
        if (result < 0)
            result = -errno;
        if (poll->device == DEVICE_UNMOUNTED && result != -EPERM)
            poll_set_device(poll, c, DEVICE_WATCHED);
        if (result > 0) {
            conn_message(c, buffer, (size_t)result);
            if (count++ > 0)
                learn(&poll->deep, true);
            if (result >= LARGE_MESSAGE || !worth_trying(&poll->deep))
                break;
            continue;
        }
        buffer_free(&c->slots, buffer);
        if (count > 0)
            learn(&poll->deep, false);
        if (!conn_read_failed(c, result == 0 ? -EAGAIN : result))
            break;
    }
    return count;
}

void poll_prepare(struct poll_state *poll, struct fusewire_connection *c)
{
    const bool room = message_room(&c->slots);
    c->starved = !room;
    if (poll->device != DEVICE_UNMOUNTED)
        poll_set_device(poll, c, room ? DEVICE_WATCHED : DEVICE_IGNORED);
}

int poll_wait(struct poll_state *poll, struct fusewire_connection *c, size_t want, int timeout)
{
    poll_prepare(poll, c);
    if (poll->device == DEVICE_WATCHED && (timeout == 0 || worth_trying(&poll->eager))) {
        size_t count = read_messages(poll, c, want);
        learn(&poll->eager, count > 0);
        if (count > 0 || c->end != 0)
            return 0;
    }
    return poll_events(poll, c, want, timeout);
}

int poll_events(struct poll_state *poll, struct fusewire_connection *c, size_t want, int timeout)
{
    struct epoll_event events[EVENTS];
    c->stats.system_calls++;
    int count = epoll_wait(poll->epoll, events, EVENTS, timeout);
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        uint64_t times;
        if (fd == c->mount.device_fd) {
            if (read_messages(poll, c, want) == 0 && c->starved && (events[i].events & EPOLLERR) != 0)
                read_end(c);
        } else if (fd == poll->timer) {
            ssize_t ignored = read(fd, &times, sizeof times);
            (void)ignored;
            read_messages(poll, c, want);
        } else if (fd == notifier_descriptor(c)) {
            notifier_reap(c);
        } else if (fd == c->wake_fd) {
            /* Read where the flag is looked at, which may have been too early to see this. */
            atomic_store(&c->woken, true);
        }
    }
    return 0;
}

static int prepare(struct fusewire_connection *c)
{
    struct poll_state *poll = malloc(sizeof *poll);
    if (poll == NULL)
        return fail(-ENOMEM, "no memory for the poll transport");
    *poll = POLL_CLOSED;
    c->transport_state = poll;
    return 0;
}

static void drop(struct fusewire_connection *c)
{
    free(c->transport_state);
    c->transport_state = NULL;
}

static int start(struct fusewire_connection *c)
{
    int error = poll_open(c->transport_state, c);
    if (error != 0)
        drop(c);
    return error;
}

static void finish(struct fusewire_connection *c)
{
    poll_close(c->transport_state);
    drop(c);
}

static void forget(struct fusewire_connection *c)
{
    poll_close(c->transport_state);
}

static void discard(struct fusewire_connection *c)
{
    free(c->transport_state);
}

static int descriptor(struct fusewire_connection *c)
{
    const struct poll_state *poll = c->transport_state;
    return poll->epoll;
}

static int watch(struct fusewire_connection *c, int fd)
{
    return poll_watch(c->transport_state, fd, EPOLLIN);
}

static void resume(struct fusewire_connection *c)
{
    poll_set_device(c->transport_state, c, DEVICE_WATCHED);
}

static int collect(struct fusewire_connection *c, size_t want, int timeout)
{
    return poll_wait(c->transport_state, c, want, timeout);
}

const struct transport transport_poll = {
    .name = "poll",
    .number = FUSEWIRE_TRANSPORT_POLL,
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
