/* What a reply gives the kernel: lookups, and an open handle. If the reply never gets there, because the client has
 * gone, nobody will ever give them back; the reply's outcome tells. */
#ifndef PASSTHROUGH_GRANT_H
#define PASSTHROUGH_GRANT_H

#include <fusewire.h>
#include <pthread.h>

struct call;
struct grant;
struct handle;
struct passthrough;

enum { GRANT_BUCKETS = 64 };

struct grants {
    pthread_mutex_t lock;
    struct grant *buckets[GRANT_BUCKETS];
};

void grants_start(struct grants *grants);
void grants_finish(struct grants *grants);

/* Before the reply: it gives `count` lookups, one for each of `ids`, and `handle` (NULL without). */
void grant_expect(const struct call *call, const uint64_t *ids, size_t count, struct handle *handle);

/* After the reply was refused at once. */
void grant_withdraw(const struct call *call, const uint64_t *ids, size_t count, struct handle *handle);

/* An OUTCOME record. */
void grant_settle(struct passthrough *filesystem, fusewire_connection *connection, const fusewire_request *outcome);

#endif
