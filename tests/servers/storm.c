/* Many clients at once: threads that call a filesystem.
 *
 *     storm stat|read|write THREADS COUNT FILE
 *
 * Each thread makes COUNT calls, or with COUNT 0 calls until one fails, and stops at its first failure. Data is that of
 * the fault server's files (fault_files.c): what is read is compared. At the end one line:
 *
 *     done=CALLS failed=THREADS errno=THE_FIRST others=THREADS_WITH_ANOTHER slowest=MILLISECONDS */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 65536, FILE_SIZE = 1 << 20, PATTERN = 251, STACK = 128 << 10 };

static const char *operation;
static const char *path;
static unsigned long count;
static atomic_ulong done;
static atomic_int failed, first_errno, others;
static atomic_long slowest;
/* Held for writing until all threads are there, so that they start at once. */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

static unsigned char pattern[FILE_SIZE];

static long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool call(int fd, unsigned char *buffer, unsigned long number)
{
    const off_t offset = (off_t)(number % (FILE_SIZE / CHUNK)) * CHUNK;
    struct stat status;
    if (strcmp(operation, "stat") == 0)
        return stat(path, &status) == 0;
    if (strcmp(operation, "write") == 0)
        return pwrite(fd, pattern + offset, CHUNK, offset) == CHUNK;
    if (pread(fd, buffer, CHUNK, offset) != CHUNK)
        return false;
    if (memcmp(buffer, pattern + offset, CHUNK) == 0)
        return true;
    errno = EILSEQ;
    return false;
}

static void *run(void *argument)
{
    const int *fd = argument;
    unsigned char *buffer = strcmp(operation, "read") == 0 ? malloc(CHUNK) : NULL;
    pthread_rwlock_rdlock(&gate);
    pthread_rwlock_unlock(&gate);
    for (unsigned long i = 0; count == 0 || i < count; i++) {
        long from = milliseconds();
        errno = 0;
        bool good = call(*fd, buffer, i);
        int error = errno == 0 ? EIO : errno;
        long took = milliseconds() - from, most = atomic_load(&slowest);
        while (took > most && !atomic_compare_exchange_weak(&slowest, &most, took))
            continue;
        if (good) {
            atomic_fetch_add(&done, 1);
            continue;
        }
        int none = 0;
        if (!atomic_compare_exchange_strong(&first_errno, &none, error) && none != error)
            atomic_fetch_add(&others, 1);
        atomic_fetch_add(&failed, 1);
        break;
    }
    free(buffer);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s stat|read|write THREADS COUNT FILE\n", argv[0]);
        return 2;
    }
    operation = argv[1];
    const unsigned long threads = strtoul(argv[2], NULL, 0);
    count = strtoul(argv[3], NULL, 0);
    path = argv[4];
    const char *name = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
    unsigned sum = 0;
    for (; *name != '\0'; name++)
        sum += (unsigned char)*name;
    for (unsigned i = 0; i < FILE_SIZE; i++)
        pattern[i] = (unsigned char)((i + sum) % PATTERN);

    int fd = strcmp(operation, "stat") == 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    pthread_t *all = calloc(threads, sizeof *all);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    if (all == NULL)
        return 3;
    pthread_rwlock_wrlock(&gate);
    for (unsigned long i = 0; i < threads; i++) {
        int error = pthread_create(&all[i], &attributes, run, &fd);
        if (error != 0) {
            fprintf(stderr, "thread %lu: %s\n", i, strerror(error));
            return 3;
        }
    }
    puts("started");
    fflush(stdout);
    pthread_rwlock_unlock(&gate);
    for (unsigned long i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
    printf("done=%lu failed=%d errno=%d others=%d slowest=%ld\n", atomic_load(&done), atomic_load(&failed),
           atomic_load(&first_errno), atomic_load(&others), atomic_load(&slowest));
    free(all);
    pthread_attr_destroy(&attributes);
    if (fd >= 0)
        close(fd);
    return 0;
}
