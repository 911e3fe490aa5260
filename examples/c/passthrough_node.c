#include "passthrough_node.h"

#include <errno.h>
#include <fcntl.h>
#include <fusewire.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FIRST_BUCKETS = 1024, CLOSED_AT_ONCE = 64 };

/* Room for any handle. */
union any_handle {
    struct file_handle handle;
    char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static uint32_t bucket_of(const struct nodes *nodes, uint64_t mount, uint64_t device, uint64_t inode)
{
    uint64_t mixed = (inode ^ device << 40 ^ mount << 20) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 32) & (nodes->bucket_count - 1);
}

static void link_node(struct nodes *nodes, struct node *node)
{
    struct node **bucket = &nodes->buckets[bucket_of(nodes, node->mount, node->device, node->inode)];
    node->next = *bucket;
    node->hashed = true;
    *bucket = node;
}

static void unlink_node(struct nodes *nodes, struct node *node)
{
    if (!node->hashed)
        return;
    struct node **link = &nodes->buckets[bucket_of(nodes, node->mount, node->device, node->inode)];
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    node->hashed = false;
}

/* A larger table, if there is memory for it; the old one serves as well. */
static void grow_buckets(struct nodes *nodes)
{
    uint32_t count = nodes->bucket_count * 2;
    struct node **buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return;
    free(nodes->buckets);
    nodes->buckets = buckets;
    nodes->bucket_count = count;
    for (uint32_t slot = 0; slot < nodes->slot_count; slot++)
        if (nodes->slots[slot] && nodes->slots[slot]->hashed)
            link_node(nodes, nodes->slots[slot]);
}

static int grow_slots(struct nodes *nodes)
{
    uint32_t capacity = nodes->slot_capacity ? nodes->slot_capacity * 2 : FIRST_BUCKETS;
    struct node **slots = realloc(nodes->slots, capacity * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    nodes->slots = slots;
    uint32_t *free_slots = realloc(nodes->free_slots, capacity * sizeof(*free_slots));
    if (!free_slots)
        return -ENOMEM;
    nodes->free_slots = free_slots;
    nodes->slot_capacity = capacity;
    return 0;
}

static int create_node(struct nodes *nodes, int fd, const struct stat *status, uint64_t mount, struct node **out)
{
    if (nodes->free_count == 0 && nodes->slot_count == nodes->slot_capacity && grow_slots(nodes) < 0)
        return -ENOMEM;
    struct node *node = calloc(1, sizeof *node);
    if (!node)
        return -ENOMEM;
    uint32_t slot = nodes->free_count > 0 ? nodes->free_slots[--nodes->free_count] : nodes->slot_count++;
    node->mount = mount;
    node->inode = status->st_ino;
    node->device = status->st_dev;
    node->id = (uint64_t)slot + 1;
    node->generation = ++nodes->generation;
    node->fd = fd;
    nodes->slots[slot] = node;
    nodes->open_count++;
    if (++nodes->node_count > nodes->bucket_count)
        grow_buckets(nodes);
    if (nodes->handle_fd < 0 && nodes->open_count > nodes->open_limit && nodes->open_count % CLOSED_AT_ONCE == 0)
        nodes->crowded = true;
    link_node(nodes, node);
    *out = node;
    return 0;
}

/* Returns the descriptor to close, once the lock is gone: the last one of a deleted file may take long. */
static int destroy_node(struct nodes *nodes, struct node *node)
{
    int fd = node->fd;
    if (fd >= 0)
        nodes->open_count--;
    unlink_node(nodes, node);
    nodes->slots[node->id - 1] = NULL;
    nodes->free_slots[nodes->free_count++] = (uint32_t)(node->id - 1);
    nodes->node_count--;
    free(node->handle);
    free(node);
    return fd;
}

static bool get_handle(int fd, union any_handle *any)
{
    int mount_id;
    any->handle.handle_bytes = MAX_HANDLE_SZ;
    return name_to_handle_at(fd, "", &any->handle, &mount_id, AT_EMPTY_PATH) == 0;
}

static bool same_file(const struct node *node, int fd)
{
    union any_handle any;
    return get_handle(fd, &any) && any.handle.handle_type == node->handle->handle_type &&
           any.handle.handle_bytes == node->handle->handle_bytes &&
           memcmp(any.handle.f_handle, node->handle->f_handle, any.handle.handle_bytes) == 0;
}

static bool close_idle(struct nodes *nodes, struct node *node)
{
    struct stat status;
    if (node->id == FUSEWIRE_ROOT_ID || node->fd < 0 || node->users > 0 || node->mount != nodes->slots[0]->mount)
        return false;
    if (node->recent) {
        node->recent = false;
        return false;
    }
    if (fstat(node->fd, &status) < 0 || status.st_nlink == 0) /* nothing but the descriptor keeps it */
        return false;
    if (!node->handle) {
        union any_handle any;
        if (!get_handle(node->fd, &any))
            return false;
        size_t size = sizeof any.handle + any.handle.handle_bytes;
        node->handle = malloc(size);
        if (!node->handle)
            return false;
        memcpy(node->handle, &any, size);
    }
    close(node->fd);
    node->fd = -1;
    nodes->open_count--;
    return true;
}

/* With the lock held. The hand goes round twice: the first round may find all of them recent. */
static uint32_t close_some(struct nodes *nodes)
{
    uint32_t closed = 0;
    if (nodes->handle_fd < 0)
        return 0;
    for (uint64_t step = 0; step < 2 * (uint64_t)nodes->slot_count && closed < CLOSED_AT_ONCE; step++) {
        nodes->hand = (nodes->hand + 1) % nodes->slot_count;
        if (nodes->slots[nodes->hand] && close_idle(nodes, nodes->slots[nodes->hand]))
            closed++;
    }
    return closed;
}

static int reopen(struct nodes *nodes, struct node *node)
{
    do
        node->fd = open_by_handle_at(nodes->handle_fd, node->handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    while (node->fd < 0 && (errno == EMFILE || errno == ENFILE) && close_some(nodes) > 0);
    if (node->fd < 0)
        return -errno;
    nodes->open_count++;
    return 0;
}

static void use(struct nodes *nodes, struct node *node)
{
    node->users++;
    node->recent = true;
    if (nodes->open_count > nodes->open_limit)
        close_some(nodes);
}

int nodes_acquire(struct nodes *nodes, uint64_t id, struct node **out)
{
    int error = 0;
    pthread_mutex_lock(&nodes->lock);
    struct node *node = id - 1 < nodes->slot_count ? nodes->slots[id - 1] : NULL;
    if (!node)
        error = -ESTALE;
    else if (node->fd < 0)
        error = reopen(nodes, node);
    if (error == 0)
        use(nodes, node);
    pthread_mutex_unlock(&nodes->lock);
    *out = node;
    return error;
}

/* The node of this file among those known. One of the same number whose file is gone leaves the table. */
static struct node *known(struct nodes *nodes, int *fd, const struct stat *status, uint64_t mount)
{
    struct node *next;
    for (struct node *node = nodes->buckets[bucket_of(nodes, mount, status->st_dev, status->st_ino)]; node;
         node = next) {
        next = node->next;
        if (node->inode != status->st_ino || node->device != status->st_dev || node->mount != mount)
            continue;
        if (node->fd >= 0)
            return node;
        if (same_file(node, *fd)) {
            node->fd = *fd;
            *fd = -1;
            nodes->open_count++;
            return node;
        }
        unlink_node(nodes, node);
    }
    return NULL;
}

int nodes_take(struct nodes *nodes, int fd, const struct stat *status, uint64_t mount, struct node **out)
{
    int error = 0;
    pthread_mutex_lock(&nodes->lock);
    struct node *node = known(nodes, &fd, status, mount);
    if (!node) {
        error = create_node(nodes, fd, status, mount, &node);
        if (error == 0)
            fd = -1;
    }
    if (error == 0) {
        node->lookups++;
        use(nodes, node);
    }
    pthread_mutex_unlock(&nodes->lock);
    if (fd >= 0)
        close(fd);
    *out = node;
    return error;
}

void nodes_count_lookup(struct nodes *nodes, struct node *node)
{
    pthread_mutex_lock(&nodes->lock);
    node->lookups++;
    pthread_mutex_unlock(&nodes->lock);
}

void nodes_hold(struct nodes *nodes, struct node *node)
{
    pthread_mutex_lock(&nodes->lock);
    node->users++;
    pthread_mutex_unlock(&nodes->lock);
}

void nodes_release(struct nodes *nodes, struct node *node)
{
    int fd = -1;
    pthread_mutex_lock(&nodes->lock);
    if (--node->users == 0 && node->lookups == 0)
        fd = destroy_node(nodes, node);
    pthread_mutex_unlock(&nodes->lock);
    if (fd >= 0)
        close(fd);
}

void nodes_forget(struct nodes *nodes, uint64_t id, uint64_t count)
{
    int fd = -1;
    pthread_mutex_lock(&nodes->lock);
    struct node *node = id != FUSEWIRE_ROOT_ID && id - 1 < nodes->slot_count ? nodes->slots[id - 1] : NULL;
    if (node) {
        node->lookups -= count < node->lookups ? count : node->lookups;
        if (node->lookups == 0 && node->users == 0)
            fd = destroy_node(nodes, node);
    }
    pthread_mutex_unlock(&nodes->lock);
    if (fd >= 0)
        close(fd);
}

bool nodes_make_room(struct nodes *nodes)
{
    if (errno != EMFILE && errno != ENFILE)
        return false;
    int kept = errno;
    pthread_mutex_lock(&nodes->lock);
    uint32_t closed = close_some(nodes);
    nodes->crowded = nodes->handle_fd < 0;
    pthread_mutex_unlock(&nodes->lock);
    errno = kept;
    return closed > 0;
}

size_t nodes_to_prune(struct nodes *nodes, uint64_t *ids, size_t capacity)
{
    size_t count = 0;
    if (!atomic_load_explicit(&nodes->crowded, memory_order_relaxed))
        return 0;
    pthread_mutex_lock(&nodes->lock);
    nodes->crowded = false;
    for (uint64_t step = 0; step < 2 * (uint64_t)nodes->slot_count && count < capacity; step++) {
        nodes->hand = (nodes->hand + 1) % nodes->slot_count;
        struct node *node = nodes->slots[nodes->hand];
        if (!node || node->id == FUSEWIRE_ROOT_ID || node->users > 0)
            continue;
        if (!node->recent)
            ids[count++] = node->id;
        node->recent = false;
    }
    pthread_mutex_unlock(&nodes->lock);
    return count;
}

bool nodes_rely_on_handles(struct nodes *nodes)
{
    pthread_mutex_lock(&nodes->lock);
    bool rely = nodes->open_count < nodes->node_count;
    pthread_mutex_unlock(&nodes->lock);
    return rely;
}

/* A descriptor for open_by_handle_at, if this process may use it (CAP_DAC_READ_SEARCH) and the filesystem has them. */
static int open_for_handles(int source_fd)
{
    union any_handle any;
    if (!get_handle(source_fd, &any))
        return -1;
    int fd = openat(source_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int probe = open_by_handle_at(fd, &any.handle, O_PATH | O_CLOEXEC);
    if (probe < 0) {
        close(fd);
        return -1;
    }
    close(probe);
    return fd;
}

int nodes_start(struct nodes *nodes, int source_fd, const struct stat *status, uint64_t mount)
{
    struct rlimit limit;
    struct node *root;
    memset(nodes, 0, sizeof *nodes);
    nodes->handle_fd = -1;
    pthread_mutex_init(&nodes->lock, NULL);
    nodes->bucket_count = FIRST_BUCKETS;
    nodes->buckets = calloc(FIRST_BUCKETS, sizeof *nodes->buckets);
    if (!nodes->buckets || create_node(nodes, source_fd, status, mount, &root) < 0) {
        close(source_fd);
        return -ENOMEM;
    }
    root->lookups = 1;
    /* Ids are used again, also by the next server of the same folder: the generation tells them apart. */
    if (getrandom(&nodes->generation, sizeof nodes->generation, GRND_NONBLOCK) < 0)
        nodes->generation = (uint32_t)time(NULL);
    nodes->handle_fd = open_for_handles(source_fd);
    nodes->open_limit = UINT32_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 2 < UINT32_MAX)
        nodes->open_limit = (uint32_t)(limit.rlim_cur / 2);
    return 0;
}

void nodes_finish(struct nodes *nodes)
{
    for (uint32_t slot = 0; slot < nodes->slot_count; slot++) {
        if (!nodes->slots[slot])
            continue;
        int fd = destroy_node(nodes, nodes->slots[slot]);
        if (fd >= 0)
            close(fd);
    }
    if (nodes->handle_fd >= 0)
        close(nodes->handle_fd);
    free(nodes->buckets);
    free(nodes->slots);
    free(nodes->free_slots);
    pthread_mutex_destroy(&nodes->lock);
    memset(nodes, 0, sizeof *nodes);
}
