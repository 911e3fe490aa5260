#include "passthrough.h"

#include <stdlib.h>
#include <string.h>

struct grant {
    struct grant *next;
    fusewire_connection *connection;
    uint64_t request_id;
    struct handle *handle;
    size_t count;
    uint64_t ids[];
};

void grants_start(struct grants *grants)
{
    memset(grants, 0, sizeof *grants);
    pthread_mutex_init(&grants->lock, NULL);
}

void grants_finish(struct grants *grants)
{
    for (size_t i = 0; i < GRANT_BUCKETS; i++) {
        while (grants->buckets[i]) {
            struct grant *grant = grants->buckets[i];
            grants->buckets[i] = grant->next;
            free(grant);
        }
    }
    pthread_mutex_destroy(&grants->lock);
}

/* Without memory for it the reply goes out all the same: it nearly always arrives. */
void grant_expect(const struct call *call, const uint64_t *ids, size_t count, struct handle *handle)
{
    struct grants *grants = &call->filesystem->grants;
    struct grant *grant = malloc(sizeof *grant + count * sizeof *ids);
    if (!grant)
        return;
    if (fusewire_expect_outcome(call->connection, call->request->id) < 0) {
        free(grant);
        return;
    }
    grant->connection = call->connection;
    grant->request_id = call->request->id;
    grant->handle = handle;
    grant->count = count;
    for (size_t i = 0; i < count; i++)
        grant->ids[i] = ids[i];
    pthread_mutex_lock(&grants->lock);
    struct grant **bucket = &grants->buckets[grant->request_id % GRANT_BUCKETS];
    grant->next = *bucket;
    *bucket = grant;
    pthread_mutex_unlock(&grants->lock);
}

static struct grant *take_grant(struct grants *grants, fusewire_connection *connection, uint64_t request_id)
{
    pthread_mutex_lock(&grants->lock);
    struct grant **link = &grants->buckets[request_id % GRANT_BUCKETS];
    while (*link && ((*link)->request_id != request_id || (*link)->connection != connection))
        link = &(*link)->next;
    struct grant *grant = *link;
    if (grant)
        *link = grant->next;
    pthread_mutex_unlock(&grants->lock);
    return grant;
}

static void take_back(struct passthrough *filesystem, fusewire_connection *connection, const uint64_t *ids,
                      size_t count, struct handle *handle)
{
    if (handle)
        passthrough_close(filesystem, connection, handle);
    for (size_t i = 0; i < count; i++)
        nodes_forget(&filesystem->nodes, ids[i], 1);
}

void grant_withdraw(const struct call *call, const uint64_t *ids, size_t count, struct handle *handle)
{
    free(take_grant(&call->filesystem->grants, call->connection, call->request->id));
    take_back(call->filesystem, call->connection, ids, count, handle);
}

void grant_settle(struct passthrough *filesystem, fusewire_connection *connection, const fusewire_request *outcome)
{
    struct grant *grant = take_grant(&filesystem->grants, connection, outcome->id);
    if (!grant)
        return;
    if (outcome->error < 0)
        take_back(filesystem, connection, grant->ids, grant->count, grant->handle);
    free(grant);
}
