/* A forked child inherits its parent's descriptors. Left open there, they would keep the connection alive after the
 * server's death, and its clients waiting for as long as the child lives; so the child closes those of connections that
 * the parent uses. What the parent had not used yet, a clone made for this child, stays. */
#include "notifier.h"
#include "transport.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct fusewire_connection *connections;
static int handlers_error;

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* Only what is safe in a signal handler: other threads of the parent may have held any lock but ours. */
static void after_fork_in_child(void)
{
    for (struct fusewire_connection *c = connections; c != NULL; c = c->next) {
        if (c->transport_state != NULL && (!c->bound || *c->here == 0))
            c->transport->forget(c); /* also of one that another thread is about to open */
        if (!c->bound || *c->here != 0)
            continue;
        notifier_forget(c);
        close(c->wake_fd);
        close(c->mount.device_fd);
        c->mount.device_fd = -1;
        /* While anybody has it, fusermount3 does not unmount. */
        if (c->mount.helper_socket >= 0)
            close(c->mount.helper_socket);
        c->mount.helper_socket = -1;
    }
    pthread_mutex_unlock(&lock);
}

static void install_handlers(void)
{
    handlers_error = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int fork_register(struct fusewire_connection *c)
{
    pthread_once(&once, install_handlers);
    if (handlers_error != 0)
        return fail_errno(handlers_error, "cannot watch for forks");
    pthread_mutex_lock(&lock);
    c->previous = NULL;
    c->next = connections;
    if (connections != NULL)
        connections->previous = c;
    connections = c;
    pthread_mutex_unlock(&lock);
    return 0;
}

void fork_unregister(struct fusewire_connection *c)
{
    pthread_mutex_lock(&lock);
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        connections = c->next;
    if (c->next != NULL)
        c->next->previous = c->previous;
    pthread_mutex_unlock(&lock);
}

void fork_search(struct fusewire_connection *c,
                 bool (*take)(struct fusewire_connection *c, struct fusewire_connection *other))
{
    pthread_mutex_lock(&lock);
    struct fusewire_connection *other = connections;
    while (other != NULL && (other == c || !take(c, other)))
        other = other->next;
    pthread_mutex_unlock(&lock);
}
