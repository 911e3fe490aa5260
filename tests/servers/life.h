/* Scenarios of a connection's life with threads, signal handlers and forks: programs of their own, since they are about
 * what a program does with its handles. tests/faults/test_life.py runs each, on each transport. */
#ifndef LIFE_H
#define LIFE_H

#include "check.h"

#include <errno.h>
#include <fusewire.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

struct life {
    const char *mountpoint;
    fusewire_options options; /* with the transport asked for */
};

struct scenario {
    const char *name;
    void (*run)(const struct life *life);
};

extern const struct scenario thread_scenarios[];
extern const struct scenario fork_scenarios[];
extern const struct scenario option_scenarios[];
extern const struct scenario worker_scenarios[];

fusewire_connection *life_open(const struct life *life);
fusewire_connection *life_clone(fusewire_connection *connection);

/* Serves a root folder without entries until the end, and returns that. *answered may be NULL. */
int life_serve(fusewire_connection *connection, unsigned *answered);

/* A child process that asks for the root's attributes so many times. */
pid_t life_client(const struct life *life, unsigned calls);

/* The same as a program of its own, which inherits nothing. */
pid_t life_client_program(const struct life *life, unsigned calls);

/* A thread that serves; its end is what life_join gives. */
struct server_thread {
    pthread_t thread;
    fusewire_connection *connection;
    unsigned answered;
    int end;
};

void life_start(struct server_thread *server, fusewire_connection *connection);
int life_join(struct server_thread *server);

/* Waits for a child and checks that it exits with status 0. */
void life_reap(pid_t child);

/* Waits until a thread or process sleeps: nothing runs in it any more. */
void life_await_sleep(pid_t tid);

unsigned life_descriptors(void);

#endif
