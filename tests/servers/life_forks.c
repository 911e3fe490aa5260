/* Forks: a handle belongs to the process that used it; a clone can be made for a child. */
#include "life.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { CHILDREN = 3 };

static pid_t fork_or_die(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    return pid;
}

/* Everything that a child can do to its parent's handle is refused, and does nothing. */
static void touch(fusewire_connection *connection)
{
    fusewire_request request;
    fusewire_session session = {.size = sizeof session};
    fusewire_statistics statistics = {.size = sizeof statistics};
    fusewire_connection *clone = NULL;
    CHECK_EQ(fusewire_read(connection, &request, 1, sizeof request, 0), -ECHILD);
    CHECK_EQ(fusewire_reply_error(connection, 1, -EIO), -ECHILD);
    CHECK_EQ(fusewire_reply_ok(connection, 1), -ECHILD);
    CHECK_EQ(fusewire_fd(connection), -ECHILD);
    CHECK_EQ(fusewire_device_fd(connection), -ECHILD);
    CHECK_EQ(fusewire_negotiated(connection, &session), -ECHILD);
    CHECK_EQ(fusewire_stats(connection, &statistics), -ECHILD);
    CHECK_EQ(fusewire_clone(&clone, connection, NULL), -ECHILD);
    CHECK(clone == NULL);
    CHECK_EQ(fusewire_wake(connection), -ECHILD);
    CHECK_EQ(fusewire_notify_unmount(connection), -ECHILD);
    CHECK_EQ(fusewire_unmount(connection), -ECHILD);
    CHECK_EQ(fusewire_notify_inval_inode(connection, 1, 0, 0), -ECHILD);
    CHECK_EQ(fusewire_backing_open(connection, 0), -ECHILD);
    CHECK(strstr(fusewire_last_error(), "parent") != NULL);
}

static void the_parents_handle(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    CHECK_EQ(fusewire_notify_inval_inode(connection, 1, 0, 0), 0);
    pid_t child = fork_or_die();
    if (child == 0) {
        touch(connection);
        CHECK_EQ(fusewire_close(connection), 0);
        _exit(0);
    }
    life_reap(child);
    struct server_thread server;
    life_start(&server, connection);
    life_reap(life_client(life, 100));
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    CHECK_EQ(life_join(&server), -ESHUTDOWN);
    fusewire_close(connection);
}

/* In a child nothing of the parent's connection is open, and its descriptors' numbers are free for others. */
static void a_child_has_no_descriptors(const struct life *life)
{
    unsigned before = life_descriptors();
    fusewire_connection *connection = life_open(life);
    fusewire_request requests[4];
    fusewire_connection *used = life_clone(connection);
    CHECK_EQ(fusewire_read(used, requests, 4, sizeof requests[0], 0), 0);
    pid_t child = fork_or_die();
    if (child == 0) {
        /* The family's bell stays, to be closed with the handles. */
        CHECK(life_descriptors() <= before + 1);
        int fd = open("/dev/null", O_RDONLY);
        fusewire_close(used);
        fusewire_close(connection);
        CHECK(fcntl(fd, F_GETFD) >= 0);
        close(fd);
        CHECK_EQ(life_descriptors(), before);
        _exit(0);
    }
    life_reap(child);
    fusewire_close(used);
    fusewire_close(connection);
    CHECK_EQ(life_descriptors(), before);
}

/* Clones made by the parent serve in children; the parent closes its copies. Who stops stops all. */
static void clones_in_children(const struct life *life, bool child_stops)
{
    fusewire_connection *connection = life_open(life);
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        fusewire_connection *clone = life_clone(connection);
        children[i] = fork_or_die();
        if (children[i] == 0) {
            touch(connection);
            fusewire_close(connection);
            int end = life_serve(clone, NULL);
            fusewire_close(clone);
            _exit(end == -ESHUTDOWN ? 0 : 1);
        }
        CHECK_EQ(fusewire_close(clone), 0);
    }
    pid_t clients[4];
    for (int i = 0; i < 4; i++)
        clients[i] = life_client(life, 300);
    for (int i = 0; i < 4; i++)
        life_reap(clients[i]);
    if (child_stops) {
        fusewire_connection *clone = life_clone(connection);
        pid_t child = fork_or_die();
        if (child == 0) {
            CHECK_EQ(fusewire_notify_unmount(clone), 0);
            fusewire_close(clone);
            _exit(0);
        }
        fusewire_close(clone);
        CHECK_EQ(life_serve(connection, NULL), -ESHUTDOWN);
        life_reap(child);
    } else {
        CHECK_EQ(fusewire_notify_unmount(connection), 0);
    }
    for (int i = 0; i < CHILDREN; i++)
        life_reap(children[i]);
    fusewire_close(connection);
}

static void clones_in_children_parent_stops(const struct life *life)
{
    clones_in_children(life, false);
}

static void clones_in_children_child_stops(const struct life *life)
{
    clones_in_children(life, true);
}

/* A child that serves alone, and is killed: the parent, which has not read so far, goes on. */
static void a_serving_child_dies(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    fusewire_connection *clone = life_clone(connection);
    pid_t child = fork_or_die();
    if (child == 0) {
        life_serve(clone, NULL);
        _exit(1);
    }
    fusewire_close(clone);
    life_reap(life_client(life, 50));
    kill(child, SIGKILL);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    struct server_thread server;
    life_start(&server, connection);
    life_reap(life_client(life, 50));
    CHECK_EQ(fusewire_notify_unmount(connection), 0);
    CHECK_EQ(life_join(&server), -ESHUTDOWN);
    CHECK(server.answered >= 50);
    fusewire_close(connection);
}

/* The parent opens and a child alone uses it: what is bound to nobody yet may be inherited. */
static void unused_and_inherited(const struct life *life)
{
    fusewire_connection *connection = life_open(life);
    fusewire_connection *clone = life_clone(connection);
    pid_t child = fork_or_die();
    if (child == 0) {
        fusewire_request requests[4];
        CHECK_EQ(fusewire_read(clone, requests, 4, sizeof requests[0], 0), 0);
        CHECK_EQ(fusewire_close(clone), 0);
        _exit(0);
    }
    life_reap(child);
    /* The child's use is the child's: here it is still unused. With uring its queues have been without a server, so
     * the library sends them a request. */
    fusewire_request requests[4];
    CHECK(fusewire_read(clone, requests, 4, sizeof requests[0], 0) >= 0);
    fusewire_close(clone);
    fusewire_close(connection);
}

/* Whoever forks in many threads at once meets no lock that is held. */
static void *fork_a_lot(void *argument)
{
    (void)argument;
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork_or_die();
        if (pid == 0)
            _exit(0);
        life_reap(pid);
    }
    return NULL;
}

static void forks_while_opening(const struct life *life)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fork_a_lot, NULL), 0);
    for (int i = 0; i < 20; i++) {
        fusewire_connection *connection = life_open(life);
        fusewire_close(life_clone(connection));
        fusewire_close(connection);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

const struct scenario fork_scenarios[] = {
    {"the-parents-handle", the_parents_handle},
    {"a-child-has-no-descriptors", a_child_has_no_descriptors},
    {"clones-in-children-parent-stops", clones_in_children_parent_stops},
    {"clones-in-children-child-stops", clones_in_children_child_stops},
    {"a-serving-child-dies", a_serving_child_dies},
    {"unused-and-inherited", unused_and_inherited},
    {"forks-while-opening", forks_while_opening},
    {NULL, NULL},
};
