/* Names: finding, making, removing and renaming them. */
#include "passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const char *descriptor_path(struct descriptor_path *path, int fd)
{
    snprintf(path->text, sizeof path->text, "/proc/self/fd/%d", fd);
    return path->text;
}

/* ---- Finding --------------------------------------------------------------------------------------------------- */

/* Opens (O_PATH) what `name` shows; *mount gets its mount. */
static int open_name(struct passthrough *filesystem, const struct node *parent, const char *name, uint64_t *mount)
{
    /* Mount points are looked at before they are entered. */
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_XDEV};
    int fd;
    *mount = parent->mount;
    do {
        fd = (int)syscall(SYS_openat2, parent->fd, name, &how, sizeof how);
        if (fd >= 0)
            return fd;
        if (errno == EXDEV) {
            fd = mounts_open(&filesystem->mounts, parent->fd, name, mount);
            if (fd >= 0)
                return fd;
            errno = -fd;
        }
    } while (nodes_make_room(&filesystem->nodes));
    return -errno;
}

int passthrough_find(struct passthrough *filesystem, const struct node *parent, const char *name, struct node **node,
                     struct stat *status)
{
    uint64_t mount;
    int fd = open_name(filesystem, parent, name, &mount);
    if (fd < 0)
        return fd;
    if (fstat(fd, status) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return nodes_take(&filesystem->nodes, fd, status, mount, node);
}

int passthrough_find_open(struct passthrough *filesystem, const struct node *parent, int fd, struct node **node,
                          struct stat *status)
{
    struct descriptor_path path;
    int path_fd;
    if (fstat(fd, status) < 0)
        return -errno;
    do
        path_fd = open(descriptor_path(&path, fd), O_PATH | O_CLOEXEC);
    while (path_fd < 0 && nodes_make_room(&filesystem->nodes));
    if (path_fd < 0)
        return -errno;
    return nodes_take(&filesystem->nodes, path_fd, status, parent->mount, node);
}

int passthrough_answer_entry(const struct call *call, struct node *node, const struct stat *status)
{
    fusewire_entry entry;
    uint64_t id = node->id;
    passthrough_fill_entry(call->filesystem, node, status, &entry);
    nodes_release(&call->filesystem->nodes, node);
    grant_expect(call, &id, 1, NULL);
    int error = fusewire_reply_entry(call->connection, call->request->id, &entry);
    if (error < 0) {
        grant_withdraw(call, &id, 1, NULL);
        return -EIO;
    }
    return ANSWERED;
}

static int answer_name(const struct call *call, const char *name)
{
    struct node *node;
    struct stat status;
    int error = passthrough_find(call->filesystem, call->node, name, &node, &status);
    if (error < 0)
        return error;
    return passthrough_answer_entry(call, node, &status);
}

int passthrough_lookup(const struct call *call)
{
    /* Asked for only with EXPORT_SUPPORT; the one could leave the source folder. */
    if (strcmp(call->request->name, ".") == 0 || strcmp(call->request->name, "..") == 0)
        return -ESTALE;
    return answer_name(call, call->request->name);
}

/* ---- Making ---------------------------------------------------------------------------------------------------- */

/* Answers with what has just been made. If it cannot be told to the kernel, for want of a descriptor, it goes again. */
static int answer_made(const struct call *call, int remove_flags)
{
    int result = answer_name(call, call->request->name);
    if (result == -EMFILE || result == -ENFILE || result == -ENOMEM)
        unlinkat(call->node->fd, call->request->name, remove_flags);
    return result;
}

static dev_t device_number(uint32_t rdev)
{
    return makedev((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
}

int passthrough_mknod(const struct call *call)
{
    const fusewire_request *request = call->request;
    uint32_t mode = identity_assume(request, request->mode);
    int error = mknodat(call->node->fd, request->name, mode, device_number(request->rdev)) < 0 ? -errno : 0;
    identity_restore();
    return error < 0 ? error : answer_made(call, 0);
}

int passthrough_mkdir(const struct call *call)
{
    const fusewire_request *request = call->request;
    uint32_t mode = identity_assume(request, request->mode & 07777);
    int error = mkdirat(call->node->fd, request->name, mode) < 0 ? -errno : 0;
    identity_restore();
    return error < 0 ? error : answer_made(call, AT_REMOVEDIR);
}

int passthrough_symlink(const struct call *call)
{
    const fusewire_request *request = call->request;
    identity_assume(request, 0);
    int error = symlinkat(request->newname, call->node->fd, request->name) < 0 ? -errno : 0;
    identity_restore();
    return error < 0 ? error : answer_made(call, 0);
}

int passthrough_link(const struct call *call)
{
    struct passthrough *filesystem = call->filesystem;
    struct descriptor_path path;
    struct stat status;
    struct node *target;
    int error = nodes_acquire(&filesystem->nodes, call->request->newnodeid, &target);
    if (error < 0)
        return error;
    if (linkat(AT_FDCWD, descriptor_path(&path, target->fd), call->node->fd, call->request->name, AT_SYMLINK_FOLLOW) <
            0 ||
        fstat(target->fd, &status) < 0) {
        error = -errno;
        nodes_release(&filesystem->nodes, target);
        return error;
    }
    nodes_count_lookup(&filesystem->nodes, target);
    return passthrough_answer_entry(call, target, &status);
}

/* ---- Removing and renaming ------------------------------------------------------------------------------------- */

/* A client may go on using what loses its name, and a handle does not keep a removed file: a descriptor does. Returns
 * the node whose descriptor is open until unpin(), or NULL. */
static struct node *pin(const struct call *call, const struct node *parent, const char *name)
{
    struct node *node;
    struct stat status;
    if (!nodes_rely_on_handles(&call->filesystem->nodes) ||
        passthrough_find(call->filesystem, parent, name, &node, &status) < 0)
        return NULL;
    return node;
}

static void unpin(const struct call *call, struct node *node)
{
    if (!node)
        return;
    uint64_t id = node->id;
    nodes_release(&call->filesystem->nodes, node);
    nodes_forget(&call->filesystem->nodes, id, 1);
}

static int remove_name(const struct call *call, int flags)
{
    struct node *pinned = pin(call, call->node, call->request->name);
    int error = unlinkat(call->node->fd, call->request->name, flags) < 0 ? -errno : 0;
    unpin(call, pinned);
    return error;
}

int passthrough_unlink(const struct call *call)
{
    return remove_name(call, 0);
}

int passthrough_rmdir(const struct call *call)
{
    return remove_name(call, AT_REMOVEDIR);
}

int passthrough_rename(const struct call *call)
{
    const fusewire_request *request = call->request;
    struct nodes *nodes = &call->filesystem->nodes;
    struct node *target;
    int error = nodes_acquire(nodes, request->newnodeid, &target);
    if (error < 0)
        return error;
    struct node *pinned = pin(call, target, request->newname);
    bool whiteout = request->flags & RENAME_WHITEOUT;
    if (whiteout)
        identity_assume(request, 0);
    if (renameat2(call->node->fd, request->name, target->fd, request->newname, request->flags) < 0)
        error = -errno;
    if (whiteout)
        identity_restore();
    unpin(call, pinned);
    nodes_release(nodes, target);
    return error;
}

int passthrough_readlink(const struct call *call)
{
    char target[4096];
    ssize_t size = readlinkat(call->node->fd, "", target, sizeof target);
    if (size < 0)
        return -errno;
    if (size == sizeof target)
        return -ENAMETOOLONG;
    int error = fusewire_reply_data(call->connection, call->request->id, target, (size_t)size);
    return error < 0 ? -EIO : ANSWERED;
}
