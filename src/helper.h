/* Short-lived child processes: what may block for good (a stat of somebody's mount, an unmount, fusermount3) is done
 * in one of these, so that it can never hang the caller. */
#ifndef FUSEWIRE_HELPER_H
#define FUSEWIRE_HELPER_H

#include <stdbool.h>
#include <sys/types.h>

/* fork() for a child that only makes async-signal-safe calls and ends with _exit or execve; itself async-signal-safe.
 * No handler of the process runs in the child: there every signal is blocked. Negative errno on failure. */
pid_t helper_fork(void);

/* In the child, before execve: signals as a program expects them at its start, but SIGPIPE, which stays ignored. */
void helper_reset_signals(void);

/* In the child: closes every descriptor from `first` on. */
void helper_close_from(int first);

/* Waits for the child to end. true: it has, *status (may be NULL) is as waitpid gives it, or -1 where somebody else has
 * waited for it or the process ignores SIGCHLD. false: the time is up. */
bool helper_wait(pid_t pid, int milliseconds, int *status);

/* The same, and kills the child when the time is up. One that the kernel does not let die stays behind. */
bool helper_finish(pid_t pid, int milliseconds, int *status);

#endif
