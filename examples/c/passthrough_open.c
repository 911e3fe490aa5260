/* Opening and closing files. */
#include "passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* ---- Is what the kernel has cached still what the file contains? ------------------------------------------------ */

/* Timestamps advance in steps of some milliseconds: a file changed as lately as this could change without a trace. */
enum { SETTLED_SECONDS = 1 };

static struct version version_of(int fd)
{
    struct stat status;
    struct timespec now;
    struct version version = {.known = false};
    if (fstat(fd, &status) < 0)
        return version;
    clock_gettime(CLOCK_REALTIME, &now);
    version.changed = status.st_ctim;
    version.modified = status.st_mtim;
    version.size = status.st_size;
    version.known = now.tv_sec > status.st_ctim.tv_sec + SETTLED_SECONDS;
    return version;
}

static bool same_version(const struct version *a, const struct version *b)
{
    return a->known && b->known && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec && a->modified.tv_sec == b->modified.tv_sec &&
           a->modified.tv_nsec == b->modified.tv_nsec;
}

/* ---- Opening --------------------------------------------------------------------------------------------------- */

/* The flags with which a client's file is opened here. Where to append and whether to bypass caches is said with each
 * write: fcntl may change both later. */
static int open_flags(const struct passthrough *filesystem, uint32_t flags)
{
    int result = (int)flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_NOFOLLOW | O_APPEND | O_DIRECT);
    /* To write parts of pages the kernel reads them, whatever the client may. */
    if (filesystem->writes_cached && (result & O_ACCMODE) == O_WRONLY)
        result = (result & ~O_ACCMODE) | O_RDWR;
    return result | O_CLOEXEC;
}

static int open_node(struct passthrough *filesystem, const struct node *node, const fusewire_request *request)
{
    struct descriptor_path path;
    int flags = open_flags(filesystem, request->flags);
    int fd;
    if (request->op_flags & FUSEWIRE_OPEN_KILL_SUIDGID)
        identity_clear_setid(request);
    else
        identity_keep_setid();
    descriptor_path(&path, node->fd);
    do
        fd = open(path.text, flags);
    while (fd < 0 && nodes_make_room(&filesystem->nodes));
    if (fd < 0 && errno == EACCES && filesystem->writes_cached)
        fd = open(path.text, (flags & ~O_ACCMODE) | ((int)request->flags & O_ACCMODE));
    if (fd < 0 && errno == EPERM && request->flags & O_APPEND && !filesystem->writes_cached) /* chattr +a */
        fd = open(path.text, flags | O_APPEND);
    return fd < 0 ? -errno : fd;
}

/* Has the kernel do the reading and writing, if it is to: *backing_id is 0 where it does not. All that have a file open
 * at one time go the same way; the first one decides. */
static void join_opens(const struct call *call, struct handle *handle, int32_t *backing_id)
{
    struct passthrough *filesystem = call->filesystem;
    struct node *node = handle->node;
    pthread_mutex_lock(&filesystem->handles.lock);
    if (node->opens++ == 0 && filesystem->kernel_io) {
        /* The kernel writes with the rights that this thread has now, whoever the client is. */
        identity_clear_setid(call->request);
        int id = fusewire_backing_open(call->connection, handle->fd);
        node->backing_id = id > 0 ? id : 0;
    }
    *backing_id = node->backing_id;
    pthread_mutex_unlock(&filesystem->handles.lock);
}

void passthrough_close(struct passthrough *filesystem, fusewire_connection *connection, struct handle *handle)
{
    struct node *node = handle->node;
    if (node) {
        pthread_mutex_lock(&filesystem->handles.lock);
        node->cached = handle->version;
        if (--node->opens == 0 && node->backing_id > 0) {
            fusewire_backing_close(connection, node->backing_id);
            node->backing_id = 0;
        }
        pthread_mutex_unlock(&filesystem->handles.lock);
    }
    handles_remove(&filesystem->handles, handle);
    if (node)
        nodes_release(&filesystem->nodes, node);
}

/* A handle for a file that has been opened; takes `fd` over. */
static struct handle *add_handle(const struct call *call, struct node *node, int fd, uint32_t *reply_flags,
                                 int32_t *backing_id)
{
    struct passthrough *filesystem = call->filesystem;
    struct handle *handle = handles_add(&filesystem->handles, node, fd);
    if (!handle)
        return NULL;
    nodes_hold(&filesystem->nodes, node);
    *reply_flags = 0;
    join_opens(call, handle, backing_id);
    if (*backing_id > 0)
        *reply_flags |= FUSEWIRE_FOPEN_PASSTHROUGH;
    /* Closing what was not written has nothing to report. */
    if ((call->request->flags & O_ACCMODE) == O_RDONLY)
        *reply_flags |= FUSEWIRE_FOPEN_NOFLUSH;
    return handle;
}

int passthrough_open(const struct call *call)
{
    struct passthrough *filesystem = call->filesystem;
    uint32_t flags;
    int32_t backing_id;
    int fd = open_node(filesystem, call->node, call->request);
    if (fd < 0)
        return fd;
    struct handle *handle = add_handle(call, call->node, fd, &flags, &backing_id);
    if (!handle)
        return -ENOMEM;
    if (backing_id == 0) {
        handle->version = version_of(fd);
        pthread_mutex_lock(&filesystem->handles.lock);
        if (same_version(&handle->version, &call->node->cached))
            flags |= FUSEWIRE_FOPEN_KEEP_CACHE;
        pthread_mutex_unlock(&filesystem->handles.lock);
    }
    grant_expect(call, NULL, 0, handle);
    if (fusewire_reply_open(call->connection, call->request->id, handle_number(handle), flags, backing_id) < 0) {
        grant_withdraw(call, NULL, 0, handle);
        return -EIO;
    }
    return ANSWERED;
}

/* ---- Creating -------------------------------------------------------------------------------------------------- */

/* Answers with a file that was made and opened as `fd`, which it takes over. */
static int answer_created(const struct call *call, int fd)
{
    struct passthrough *filesystem = call->filesystem;
    struct node *node;
    struct stat status;
    fusewire_entry entry;
    uint32_t flags;
    int32_t backing_id;
    int error = passthrough_find_open(filesystem, call->node, fd, &node, &status);
    if (error < 0) {
        close(fd);
        return error;
    }
    uint64_t id = node->id;
    struct handle *handle = add_handle(call, node, fd, &flags, &backing_id);
    passthrough_fill_entry(filesystem, node, &status, &entry);
    nodes_release(&filesystem->nodes, node);
    if (!handle) {
        nodes_forget(&filesystem->nodes, id, 1);
        return -ENOMEM;
    }
    grant_expect(call, &id, 1, handle);
    if (fusewire_reply_create(call->connection, call->request->id, &entry, handle_number(handle), flags, backing_id) <
        0) {
        grant_withdraw(call, &id, 1, handle);
        return -EIO;
    }
    return ANSWERED;
}

static int create_file(const struct call *call, const char *name, int added_flags)
{
    const fusewire_request *request = call->request;
    int flags = (open_flags(call->filesystem, request->flags) & ~O_TRUNC) | added_flags;
    int fd;
    uint32_t mode = identity_assume(request, request->mode & 07777);
    do
        fd = openat(call->node->fd, name, flags, mode);
    while (fd < 0 && nodes_make_room(&call->filesystem->nodes));
    int error = -errno;
    identity_restore();
    return fd >= 0 ? fd : error;
}

int passthrough_create(const struct call *call)
{
    const fusewire_request *request = call->request;
    int fd = create_file(call, request->name, O_CREAT | O_EXCL | O_NOFOLLOW);
    /* The kernel saw no such file, somebody has made one behind its back, and whether the caller may open that has not
     * been checked. On this error the kernel looks again, and opens it. */
    if (fd == -EEXIST && !(request->flags & O_EXCL))
        return -ESTALE;
    if (fd < 0)
        return fd;
    int result = answer_created(call, fd);
    if (result == -EMFILE || result == -ENFILE || result == -ENOMEM)
        unlinkat(call->node->fd, request->name, 0);
    return result;
}

int passthrough_tmpfile(const struct call *call)
{
    int fd = create_file(call, ".", O_TMPFILE | ((int)call->request->flags & O_EXCL));
    return fd < 0 ? fd : answer_created(call, fd);
}

int passthrough_release(const struct call *call)
{
    passthrough_close(call->filesystem, call->connection, handle_of(call->request->fh));
    return 0;
}
