/* Reading folders. A place in a folder is what the backing filesystem calls it (d_off), so it stays good however
 * entries come and go. */
#include "passthrough.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LARGEST_ENTRY = 280,  /* of getdents64: a name of 255 bytes */
    READ_AT_ONCE = 32768, /* bytes of entries */
    /* By how many thirds an entry grows from getdents64's form to the reply's, at most: with short names. What is
     * read then fits, and the next request goes on where this one stops, without a seek. */
    GROWTH_PLAIN_THIRDS = 4,
    GROWTH_PLUS_THIRDS = 20,
    SMALLEST_PLUS = 160,
    UNKNOWN = -1
};

int passthrough_opendir(const struct call *call)
{
    struct passthrough *filesystem = call->filesystem;
    struct descriptor_path path;
    int fd;
    descriptor_path(&path, call->node->fd);
    do
        fd = open(path.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && nodes_make_room(&filesystem->nodes));
    if (fd < 0)
        return -errno;
    struct handle *handle = handles_add(&filesystem->handles, NULL, fd);
    if (!handle)
        return -ENOMEM;
    grant_expect(call, NULL, 0, handle);
    if (fusewire_reply_open(call->connection, call->request->id, handle_number(handle), 0, 0) < 0) {
        grant_withdraw(call, NULL, 0, handle);
        return -EIO;
    }
    return ANSWERED;
}

int passthrough_releasedir(const struct call *call)
{
    passthrough_close(call->filesystem, call->connection, handle_of(call->request->fh));
    return 0;
}

/* A reply that is being filled. */
struct listing {
    const struct call *call;
    struct handle *handle;
    char *data;
    size_t capacity;
    size_t used;
    bool plus;
    uint64_t *ids; /* plus: the lookups it gives */
    size_t id_count;
};

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static int64_t append_plain(const struct listing *listing, const struct dirent64 *entry)
{
    const struct call *call = listing->call;
    uint64_t inode = passthrough_inode(call->filesystem, call->node->device, entry->d_ino);
    return fusewire_dirent(listing->data, listing->capacity, listing->used, inode, (uint64_t)entry->d_off,
                           (uint32_t)DTTOIF(entry->d_type), entry->d_name, strlen(entry->d_name));
}

/* Without attributes the entry is the name alone, and the kernel asks for the rest when it needs it. */
static int64_t append_plus(struct listing *listing, const struct dirent64 *entry)
{
    const struct call *call = listing->call;
    struct passthrough *filesystem = call->filesystem;
    size_t size = strlen(entry->d_name);
    struct node *node;
    struct stat status;
    fusewire_entry plus;
    memset(&plus, 0, sizeof plus);
    plus.attr.ino = passthrough_inode(filesystem, call->node->device, entry->d_ino);
    plus.attr.mode = (uint32_t)DTTOIF(entry->d_type);
    int64_t used = fusewire_direntplus(listing->data, listing->capacity, listing->used, &plus, (uint64_t)entry->d_off,
                                       entry->d_name, size);
    if (used < 0 || is_dots(entry->d_name))
        return used;
    int error = passthrough_find(filesystem, call->node, entry->d_name, &node, &status);
    if (error == -ENOENT) /* removed meanwhile */
        return (int64_t)listing->used;
    if (error < 0)
        return used;
    passthrough_fill_entry(filesystem, node, &status, &plus);
    listing->ids[listing->id_count++] = node->id;
    nodes_release(&filesystem->nodes, node);
    return fusewire_direntplus(listing->data, listing->capacity, listing->used, &plus, (uint64_t)entry->d_off,
                               entry->d_name, size);
}

/* Reads as many entries as surely fit, at least one. 1: there may be more, 0: no more (for this reply), or an error. */
static int fill_some(struct listing *listing)
{
    struct handle *handle = listing->handle;
    _Alignas(struct dirent64) char entries[READ_AT_ONCE];
    size_t room = (listing->capacity - listing->used) * 3 / (listing->plus ? GROWTH_PLUS_THIRDS : GROWTH_PLAIN_THIRDS);
    if (room < LARGEST_ENTRY && listing->used > 0)
        return 0;
    room = room < LARGEST_ENTRY ? LARGEST_ENTRY : room;
    ssize_t size = getdents64(handle->fd, entries, room < sizeof entries ? room : sizeof entries);
    if (size < 0)
        return -errno;
    for (ssize_t at = 0; at < size;) {
        const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
        int64_t used = listing->plus ? append_plus(listing, entry) : append_plain(listing, entry);
        if (used < 0) {
            handle->position = UNKNOWN; /* `fd` stands behind the entry */
            return used == -ENOBUFS ? 0 : (int)used;
        }
        listing->used = (size_t)used;
        handle->position = entry->d_off;
        at += entry->d_reclen;
    }
    return size > 0;
}

static int fill(struct listing *listing, off_t offset)
{
    struct handle *handle = listing->handle;
    int result = 0;
    pthread_mutex_lock(&handle->lock);
    /* From the start means afresh, even where it stands there. */
    if ((offset == 0 || offset != handle->position) && lseek(handle->fd, offset, SEEK_SET) < 0)
        result = -errno;
    if (result == 0) {
        handle->position = offset;
        do
            result = fill_some(listing);
        while (result > 0);
    }
    pthread_mutex_unlock(&handle->lock);
    return listing->used > 0 ? 0 : result;
}

/* Fills and sends the reply. */
static int answer_listing(struct listing *listing, bool borrowed)
{
    const struct call *call = listing->call;
    const fusewire_request *request = call->request;
    int error = fill(listing, (off_t)request->offset);
    if (error < 0) {
        grant_withdraw(call, listing->ids, listing->id_count, NULL);
        return error;
    }
    if (listing->id_count > 0)
        grant_expect(call, listing->ids, listing->id_count, NULL);
    error = borrowed ? fusewire_reply_borrowed(call->connection, request->id, listing->used)
                     : fusewire_reply_data(call->connection, request->id, listing->data, listing->used);
    if (error < 0) {
        grant_withdraw(call, listing->ids, listing->id_count, NULL);
        return -EIO;
    }
    return ANSWERED;
}

static int list(const struct call *call, bool plus)
{
    const fusewire_request *request = call->request;
    struct listing listing = {
        .call = call, .handle = handle_of(request->fh), .capacity = (size_t)request->length, .plus = plus};
    void *data;
    size_t capacity;
    bool borrowed = fusewire_borrow(call->connection, request->id, &data, &capacity) == 0;
    listing.data = borrowed ? data : malloc(listing.capacity);
    if (plus)
        listing.ids = malloc((listing.capacity / SMALLEST_PLUS + 1) * sizeof *listing.ids);
    int result = listing.data && (!plus || listing.ids) ? answer_listing(&listing, borrowed) : -ENOMEM;
    free(listing.ids);
    if (!borrowed)
        free(listing.data);
    return result;
}

int passthrough_readdir(const struct call *call)
{
    return list(call, false);
}

int passthrough_readdirplus(const struct call *call)
{
    return list(call, true);
}
