#include "memfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PIECES_MAX = 64,          /* of a reply */
    COPY_MAX = 64 * (1 << 20) /* of one COPY_FILE_RANGE: others wait meanwhile */
};

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Is there a file that reaches so far? */
static bool is_too_large(uint64_t offset, uint64_t size)
{
    return offset > INT64_MAX || size > INT64_MAX - offset;
}

static int reply_attr(const struct memfs *fs, const struct node *node, fusewire_connection *connection, uint64_t id)
{
    fusewire_attr attr;
    node_attr(node, &attr);
    return fusewire_reply_attr(connection, id, node_attr_valid(fs, node), 0, &attr);
}

/* ---- Attributes ------------------------------------------------------------------------------------------------ */

int handle_getattr(struct memfs *fs, struct node *node, fusewire_connection *connection,
                   const fusewire_request *request)
{
    return reply_attr(fs, node, connection, request->id);
}

static int set_size(struct memfs *fs, struct node *node, uint64_t size)
{
    if (S_ISDIR(node->mode))
        return -EISDIR;
    if (!S_ISREG(node->mode))
        return -EINVAL;
    if (is_too_large(size, 0))
        return -EFBIG;
    if (size <= node->size)
        contents_truncate(&fs->space, &node->contents, size);
    node->size = size;
    node_touch(node, NODE_MTIME | NODE_CTIME);
    return 0;
}

static void set_times(struct node *node, const fusewire_request *request)
{
    struct timespec now = node_now();
    if (request->valid & FUSEWIRE_SET_ATIME_NOW)
        node->atime = now;
    else if (request->valid & FUSEWIRE_SET_ATIME)
        node->atime = (struct timespec){.tv_sec = request->atime, .tv_nsec = request->atimensec};
    if (request->valid & FUSEWIRE_SET_MTIME_NOW)
        node->mtime = now;
    else if (request->valid & FUSEWIRE_SET_MTIME)
        node->mtime = (struct timespec){.tv_sec = request->mtime, .tv_nsec = request->mtimensec};
    if (request->valid & FUSEWIRE_SET_CTIME)
        node->ctime = (struct timespec){.tv_sec = request->ctime, .tv_nsec = request->ctimensec};
    else
        node->ctime = now;
}

int handle_setattr(struct memfs *fs, struct node *node, fusewire_connection *connection,
                   const fusewire_request *request)
{
    uint32_t valid = request->valid & ~(uint32_t)(FUSEWIRE_SET_FH | FUSEWIRE_SET_LOCKOWNER);
    if (valid & FUSEWIRE_SET_SIZE) {
        int result = set_size(fs, node, request->length);
        if (result < 0)
            return result;
    }
    if (valid & FUSEWIRE_SET_MODE)
        node->mode = (node->mode & S_IFMT) | (request->mode & ALLPERMS);
    if (valid & FUSEWIRE_SET_UID)
        node->uid = request->set_uid;
    if (valid & FUSEWIRE_SET_GID)
        node->gid = request->set_gid;
    /* With HANDLE_KILLPRIV_V2 the kernel asks for nothing at all (but a ctime, with the writeback cache) when
     * privileges are all there is to take away: on a chown to nobody new, and before fallocate. */
    if ((valid & ~(uint32_t)FUSEWIRE_SET_CTIME) == 0 || (valid & (FUSEWIRE_SET_UID | FUSEWIRE_SET_GID)))
        node_kill_privileges(fs, node, true);
    else if (valid & FUSEWIRE_SET_SIZE)
        node_kill_privileges(fs, node, valid & FUSEWIRE_SET_KILL_SUIDGID);
    set_times(node, request);
    return reply_attr(fs, node, connection, request->id);
}

static fusewire_statx_time statx_time(struct timespec time)
{
    return (fusewire_statx_time){.tv_sec = time.tv_sec, .tv_nsec = (uint32_t)time.tv_nsec};
}

int handle_statx(struct memfs *fs, struct node *node, fusewire_connection *connection, const fusewire_request *request)
{
    fusewire_attr attr;
    node_attr(node, &attr);
    const fusewire_statx statx = {
        .mask = STATX_BASIC_STATS | STATX_BTIME,
        .blksize = attr.blksize,
        .nlink = attr.nlink,
        .uid = attr.uid,
        .gid = attr.gid,
        .mode = (uint16_t)attr.mode,
        .ino = attr.ino,
        .size = attr.size,
        .blocks = attr.blocks,
        .atime = statx_time(node->atime),
        .btime = statx_time(node->btime),
        .ctime = statx_time(node->ctime),
        .mtime = statx_time(node->mtime),
        .rdev_major = attr.rdev >> 8 & 0xfff,
        .rdev_minor = (attr.rdev & 0xff) | (attr.rdev >> 12 & 0xfff00),
    };
    return fusewire_reply_statx(connection, request->id, node_attr_valid(fs, node), 0, &statx);
}

int handle_readlink(struct memfs *fs, struct node *node, fusewire_connection *connection,
                    const fusewire_request *request)
{
    if (!S_ISLNK(node->mode))
        return -EINVAL;
    if (!fs->noatime)
        node_touch(node, NODE_ATIME);
    return fusewire_reply_data(connection, request->id, node->target, (size_t)node->size);
}

/* ---- Open files ------------------------------------------------------------------------------------------------ */

int handle_open(struct memfs *fs, struct node *node, fusewire_connection *connection, const fusewire_request *request)
{
    if (request->flags & O_TRUNC) {
        int result = set_size(fs, node, 0);
        if (result < 0)
            return result;
        node_kill_privileges(fs, node, request->op_flags & FUSEWIRE_OPEN_KILL_SUIDGID);
    }
    node->opens++;
    int result = fusewire_reply_open(connection, request->id, 0, FUSEWIRE_FOPEN_KEEP_CACHE | FUSEWIRE_FOPEN_NOFLUSH, 0);
    if (result < 0)
        node->opens--;
    return result;
}

/* Listings are not cached (FOPEN_CACHE_DIR): who lists a folder out of the kernel's cache leaves no access time. */
int handle_opendir(struct memfs *fs, struct node *node, fusewire_connection *connection,
                   const fusewire_request *request)
{
    (void)fs;
    node->opens++;
    int result = fusewire_reply_open(connection, request->id, 0, 0, 0);
    if (result < 0)
        node->opens--;
    return result;
}

int handle_release(struct memfs *fs, struct node *node, fusewire_connection *connection,
                   const fusewire_request *request)
{
    node->opens--;
    node_settle(fs, node);
    return fusewire_reply_ok(connection, request->id);
}

/* ---- Data ------------------------------------------------------------------------------------------------------ */

static int reply_scattered(const struct node *node, fusewire_connection *connection, const fusewire_request *request,
                           uint64_t size)
{
    void *data;
    size_t capacity;
    if (fusewire_borrow(connection, request->id, &data, &capacity) == 0) {
        contents_read(&node->contents, request->offset, data, size);
        return fusewire_reply_borrowed(connection, request->id, (size_t)size);
    }
    data = malloc((size_t)size);
    if (data == NULL)
        return -ENOMEM;
    contents_read(&node->contents, request->offset, data, size);
    int result = fusewire_reply_data(connection, request->id, data, (size_t)size);
    free(data);
    return result;
}

int handle_read(struct memfs *fs, struct node *node, fusewire_connection *connection, const fusewire_request *request)
{
    if (!S_ISREG(node->mode))
        return -EINVAL;
    if (request->length > 0 && !fs->noatime)
        node_touch(node, NODE_ATIME);
    if (request->offset >= node->size || request->length == 0)
        return fusewire_reply_ok(connection, request->id);
    uint64_t size = min(request->length, node->size - request->offset);
    fusewire_iovec pieces[PIECES_MAX];
    size_t count = contents_pieces(&node->contents, request->offset, size, pieces, PIECES_MAX);
    if (count > PIECES_MAX)
        return reply_scattered(node, connection, request, size);
    return fusewire_reply_data_vector(connection, request->id, pieces, count);
}

/* Writes where the kernel says, O_APPEND or not: it has worked out the offset, and for data out of its cache the end of
 * the file may be somewhere else by now. */
int handle_write(struct memfs *fs, struct node *node, fusewire_connection *connection, const fusewire_request *request)
{
    if (!S_ISREG(node->mode))
        return -EINVAL;
    if (is_too_large(request->offset, request->data_size))
        return -EFBIG;
    bool cached = request->op_flags & FUSEWIRE_WRITE_CACHE;
    int64_t written = contents_write(&fs->space, &node->contents, request->offset, request->data, request->data_size);
    if (written < 0)
        return (int)written;
    if (request->offset + (uint64_t)written > node->size)
        node->size = request->offset + (uint64_t)written;
    /* With the writeback cache times are the kernel's: it sets them when the client writes, not when the data comes. */
    if (!cached || !fs->writeback_cache)
        node_touch(node, NODE_MTIME | NODE_CTIME);
    node_kill_privileges(fs, node, request->op_flags & FUSEWIRE_WRITE_KILL_SUIDGID);
    /* Nobody is there to be told of a short write out of the cache: an error is kept for fsync. */
    if (cached && (uint64_t)written < request->data_size)
        return -ENOSPC;
    return fusewire_reply_write(connection, request->id, (uint64_t)written);
}

int handle_fallocate(struct memfs *fs, struct node *node, fusewire_connection *connection,
                     const fusewire_request *request)
{
    bool keep_size = request->mode & FALLOC_FL_KEEP_SIZE;
    uint32_t mode = request->mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE;
    if (!S_ISREG(node->mode))
        return -ENODEV;
    if (is_too_large(request->offset, request->length))
        return -EFBIG;
    int result = 0;
    if (mode == FALLOC_FL_PUNCH_HOLE && keep_size) {
        contents_punch(&fs->space, &node->contents, request->offset, request->length);
    } else if (mode == 0 || mode == FALLOC_FL_ZERO_RANGE) {
        result = contents_allocate(&fs->space, &node->contents, request->offset, request->length);
        if (result == 0 && mode == FALLOC_FL_ZERO_RANGE)
            contents_zero(&node->contents, request->offset, request->length);
    } else {
        return -EOPNOTSUPP;
    }
    if (result < 0)
        return result;
    if (!keep_size && request->offset + request->length > node->size)
        node->size = request->offset + request->length;
    node_kill_privileges(fs, node, request->uid != 0);
    node_touch(node, NODE_MTIME | NODE_CTIME);
    return fusewire_reply_ok(connection, request->id);
}

int handle_lseek(struct memfs *fs, struct node *node, fusewire_connection *connection, const fusewire_request *request)
{
    /* The kernel asks without writing back first (seen on 6.18): what it still caches would look like a hole. After
     * ENOSYS it takes every file for one piece of data. */
    if (fs->writeback_cache)
        return -ENOSYS;
    if (!S_ISREG(node->mode) || (request->whence != SEEK_DATA && request->whence != SEEK_HOLE))
        return -EINVAL;
    if (request->offset >= node->size)
        return -ENXIO;
    uint64_t found;
    if (request->whence == SEEK_HOLE) {
        found = min(contents_seek_hole(&node->contents, request->offset), node->size);
    } else {
        found = contents_seek_data(&node->contents, request->offset);
        if (found >= node->size)
            return -ENXIO;
    }
    return fusewire_reply_lseek(connection, request->id, found);
}

/* Copies up to `size` bytes, holes as holes. Returns how many, or -ENOSPC for none. */
static int64_t copy(struct memfs *fs, const struct node *source, uint64_t from, struct node *target, uint64_t to,
                    uint64_t size)
{
    uint64_t done = 0;
    while (done < size) {
        uint64_t part = min(contents_seek_data(&source->contents, from + done) - (from + done), size - done);
        if (part > 0) {
            contents_punch(&fs->space, &target->contents, to + done, part);
            done += part;
            continue;
        }
        fusewire_iovec piece;
        part = min(MEMFS_PAGE - (from + done) % MEMFS_PAGE, size - done);
        contents_pieces(&source->contents, from + done, part, &piece, 1);
        int64_t written = contents_write(&fs->space, &target->contents, to + done, piece.base, piece.size);
        if (written < 0)
            break;
        done += (uint64_t)written;
    }
    return done > 0 || size == 0 ? (int64_t)done : -ENOSPC;
}

int handle_copy(struct memfs *fs, struct node *source, fusewire_connection *connection, const fusewire_request *request)
{
    struct node *target = node_find(fs, request->newnodeid);
    if (target == NULL)
        return -ESTALE;
    if (!S_ISREG(source->mode) || !S_ISREG(target->mode) || request->flags != 0)
        return -EINVAL;
    if (request->offset >= source->size)
        return fusewire_reply_write(connection, request->id, 0);
    uint64_t size = min(min(request->length, source->size - request->offset), COPY_MAX);
    if (is_too_large(request->newoffset, size))
        return -EFBIG;
    int64_t copied = copy(fs, source, request->offset, target, request->newoffset, size);
    if (copied < 0)
        return (int)copied;
    if (request->newoffset + (uint64_t)copied > target->size)
        target->size = request->newoffset + (uint64_t)copied;
    node_kill_privileges(fs, target, request->uid != 0);
    node_touch(target, NODE_MTIME | NODE_CTIME);
    return fusewire_reply_write(connection, request->id, (uint64_t)copied);
}
