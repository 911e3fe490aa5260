#include "helper.h"
#include "clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t helper_fork(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* _Fork, unlike fork, runs no fork handlers: it may be called in a signal handler. */
    pid_t pid = _Fork();
    int error = errno;
    if (pid == 0)
        return 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid < 0 ? -error : pid;
}

void helper_reset_signals(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, number == SIGPIPE ? SIG_IGN : SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* Closes what /proc lists. False when it could not be asked. */
static bool close_listed(int first)
{
    int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return false;
    _Alignas(struct dirent64) char entries[2048];
    ssize_t size;
    while ((size = getdents64(folder, entries, sizeof entries)) > 0) {
        for (ssize_t at = 0; at < size;) {
            const struct dirent64 *entry = (const void *)(entries + at);
            int fd = 0;
            for (const char *digit = entry->d_name; *digit >= '0' && *digit <= '9'; digit++)
                fd = fd * 10 + (*digit - '0');
            if (entry->d_name[0] != '.' && fd >= first && fd != folder)
                close(fd);
            at += entry->d_reclen;
        }
    }
    close(folder);
    return size == 0;
}

void helper_close_from(int first)
{
    /* Closing each possible number one by one takes seconds where system calls are watched; it is the last resort. */
    if (close_range((unsigned)first, ~0U, 0) == 0 || close_listed(first))
        return;
    struct rlimit limit;
    rlim_t last = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? limit.rlim_cur : 65536;
    for (int fd = first; (rlim_t)fd < last; fd++)
        close(fd);
}

bool helper_wait(pid_t pid, int milliseconds, int *status)
{
    int64_t deadline = clock_ms() + milliseconds;
    struct timespec pause = {.tv_nsec = 200000};
    for (;;) {
        int ended_with = -1;
        pid_t ended = waitpid(pid, &ended_with, WNOHANG);
        if (ended < 0 && errno == EINTR)
            continue;
        if (ended != 0) {
            if (status)
                *status = ended < 0 ? -1 : ended_with;
            return true;
        }
        if (clock_ms() >= deadline)
            return false;
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 10000000)
            pause.tv_nsec *= 2;
    }
}

bool helper_finish(pid_t pid, int milliseconds, int *status)
{
    if (helper_wait(pid, milliseconds, status))
        return true;
    kill(pid, SIGKILL);
    helper_wait(pid, 1000, NULL);
    return false;
}
