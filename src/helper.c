#include "helper.h"
#include "clock.h"

#include <errno.h>
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

void helper_close_from(int first)
{
    if (close_range((unsigned)first, ~0U, 0) == 0)
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
