/* What files are: attributes, extended attributes, statistics of the filesystem. */
#include "passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

uint64_t passthrough_inode(const struct passthrough *filesystem, uint64_t device, uint64_t inode)
{
    /* Clients see one device: files of others below the source must not look like hard links of its own. */
    if (device == filesystem->source_device)
        return inode;
    return inode ^ (device << 40 | device >> 24);
}

void passthrough_fill_attr(const struct passthrough *filesystem, const struct stat *status, fusewire_attr *attr)
{
    uint32_t high = major(status->st_rdev);
    uint32_t low = minor(status->st_rdev);
    *attr = (fusewire_attr){
        .ino = passthrough_inode(filesystem, status->st_dev, status->st_ino),
        .size = (uint64_t)status->st_size,
        .blocks = (uint64_t)status->st_blocks,
        .atime = status->st_atim.tv_sec,
        .mtime = status->st_mtim.tv_sec,
        .ctime = status->st_ctim.tv_sec,
        .atimensec = (uint32_t)status->st_atim.tv_nsec,
        .mtimensec = (uint32_t)status->st_mtim.tv_nsec,
        .ctimensec = (uint32_t)status->st_ctim.tv_nsec,
        .mode = status->st_mode,
        .nlink = (uint32_t)status->st_nlink,
        .uid = status->st_uid,
        .gid = status->st_gid,
        .rdev = (low & 0xff) | high << 8 | (low & ~UINT32_C(0xff)) << 12,
        .blksize = (uint32_t)status->st_blksize,
    };
}

void passthrough_fill_entry(const struct passthrough *filesystem, const struct node *node, const struct stat *status,
                            fusewire_entry *entry)
{
    *entry = (fusewire_entry){
        .nodeid = node->id,
        .generation = node->generation,
        .entry_valid = filesystem->valid_seconds,
        .entry_valid_nsec = filesystem->valid_nanoseconds,
        .attr_valid = filesystem->valid_seconds,
        .attr_valid_nsec = filesystem->valid_nanoseconds,
    };
    passthrough_fill_attr(filesystem, status, &entry->attr);
}

/* GETATTR; and after SETATTR. */
int passthrough_getattr(const struct call *call)
{
    const struct passthrough *filesystem = call->filesystem;
    struct stat status;
    fusewire_attr attr;
    if (fstat(call->node->fd, &status) < 0)
        return -errno;
    passthrough_fill_attr(filesystem, &status, &attr);
    int error = fusewire_reply_attr(call->connection, call->request->id, filesystem->valid_seconds,
                                    filesystem->valid_nanoseconds, &attr);
    return error < 0 ? -EIO : ANSWERED;
}

/* ---- Setting --------------------------------------------------------------------------------------------------- */

static int set_owner(const struct call *call)
{
    const fusewire_request *request = call->request;
    uid_t uid = request->valid & FUSEWIRE_SET_UID ? request->set_uid : (uid_t)-1;
    gid_t gid = request->valid & FUSEWIRE_SET_GID ? request->set_gid : (gid_t)-1;
    return fchownat(call->node->fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_mode(const struct call *call)
{
    struct descriptor_path path;
    identity_keep_setid();
    return chmod(descriptor_path(&path, call->node->fd), call->request->mode & 07777) < 0 ? -errno : 0;
}

static int set_size(const struct call *call)
{
    const fusewire_request *request = call->request;
    struct descriptor_path path;
    off_t size = (off_t)request->length;
    int result = request->valid & FUSEWIRE_SET_FH ? ftruncate(handle_of(request->fh)->fd, size)
                                                  : truncate(descriptor_path(&path, call->node->fd), size);
    return result < 0 ? -errno : 0;
}

static struct timespec time_to_set(uint32_t valid, uint32_t set, uint32_t now, int64_t seconds, uint32_t nanoseconds)
{
    struct timespec time = {.tv_sec = seconds, .tv_nsec = nanoseconds};
    if (!(valid & set))
        time.tv_nsec = UTIME_OMIT;
    else if (valid & now)
        time.tv_nsec = UTIME_NOW;
    return time;
}

static int set_times(const struct call *call)
{
    const fusewire_request *request = call->request;
    struct timespec times[2] = {
        time_to_set(request->valid, FUSEWIRE_SET_ATIME, FUSEWIRE_SET_ATIME_NOW, request->atime, request->atimensec),
        time_to_set(request->valid, FUSEWIRE_SET_MTIME, FUSEWIRE_SET_MTIME_NOW, request->mtime, request->mtimensec),
    };
    return utimensat(call->node->fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* With nothing to set the request comes from chown(-1, -1), which clears the owner's set-user-ID bits; or from a write
 * to a file with capabilities, which clears them anyway unless it is root's. */
static bool is_owners_chown(const struct call *call, uint32_t attributes)
{
    struct stat status;
    return attributes == 0 && call->request->uid != 0 && fstat(call->node->fd, &status) == 0 &&
           status.st_uid == call->request->uid;
}

int passthrough_setattr(const struct call *call)
{
    const fusewire_request *request = call->request;
    uint32_t owner = FUSEWIRE_SET_UID | FUSEWIRE_SET_GID;
    uint32_t times = FUSEWIRE_SET_ATIME | FUSEWIRE_SET_MTIME;
    uint32_t attributes = request->valid & (owner | times | FUSEWIRE_SET_MODE | FUSEWIRE_SET_SIZE);
    int error = 0;
    /* With a new owner the kernel always wants them cleared, but root keeps the mark of mandatory locks. */
    if (request->valid & FUSEWIRE_SET_KILL_SUIDGID && !(attributes & owner && request->uid == 0))
        identity_clear_setid(request);
    else
        identity_keep_setid();
    /* The owner first: changing it takes bits away from the mode. */
    if (attributes & owner || is_owners_chown(call, attributes))
        error = set_owner(call);
    if (error == 0 && attributes & FUSEWIRE_SET_SIZE)
        error = set_size(call);
    if (error == 0 && attributes & FUSEWIRE_SET_MODE)
        error = set_mode(call);
    if (error == 0 && attributes & times)
        error = set_times(call);
    return error < 0 ? error : passthrough_getattr(call);
}

/* ---- statx, statfs --------------------------------------------------------------------------------------------- */

static fusewire_statx_time statx_time(const struct statx_timestamp *time)
{
    return (fusewire_statx_time){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

int passthrough_statx(const struct call *call)
{
    const struct passthrough *filesystem = call->filesystem;
    const fusewire_request *request = call->request;
    struct statx status;
    int flags = AT_EMPTY_PATH | ((int)request->flags & AT_STATX_SYNC_TYPE);
    if (statx(call->node->fd, "", flags, request->valid | STATX_BASIC_STATS, &status) < 0)
        return -errno;
    fusewire_statx out = {
        .mask = status.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
        .blksize = status.stx_blksize,
        .attributes = status.stx_attributes,
        .attributes_mask = status.stx_attributes_mask,
        .nlink = status.stx_nlink,
        .uid = status.stx_uid,
        .gid = status.stx_gid,
        .mode = status.stx_mode,
        .ino = passthrough_inode(filesystem, makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino),
        .size = status.stx_size,
        .blocks = status.stx_blocks,
        .atime = statx_time(&status.stx_atime),
        .btime = statx_time(&status.stx_btime),
        .ctime = statx_time(&status.stx_ctime),
        .mtime = statx_time(&status.stx_mtime),
        .rdev_major = status.stx_rdev_major,
        .rdev_minor = status.stx_rdev_minor,
        .dev_major = status.stx_dev_major,
        .dev_minor = status.stx_dev_minor,
    };
    int error = fusewire_reply_statx(call->connection, request->id, filesystem->valid_seconds,
                                     filesystem->valid_nanoseconds, &out);
    return error < 0 ? -EIO : ANSWERED;
}

int passthrough_statfs(const struct call *call)
{
    struct statfs status;
    if (fstatfs(call->node->fd, &status) < 0)
        return -errno;
    fusewire_statfs out = {
        .blocks = status.f_blocks,
        .bfree = status.f_bfree,
        .bavail = status.f_bavail,
        .files = status.f_files,
        .ffree = status.f_ffree,
        .bsize = (uint32_t)status.f_bsize,
        .namelen = (uint32_t)status.f_namelen,
        .frsize = (uint32_t)status.f_frsize,
    };
    return fusewire_reply_statfs(call->connection, call->request->id, &out) < 0 ? -EIO : ANSWERED;
}

int passthrough_syncfs(const struct call *call)
{
    struct descriptor_path path;
    int fd = open(descriptor_path(&path, call->node->fd), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int error = syncfs(fd) < 0 ? -errno : 0;
    close(fd);
    return error;
}

/* ---- Extended attributes --------------------------------------------------------------------------------------- */

int passthrough_setxattr(const struct call *call)
{
    const fusewire_request *request = call->request;
    struct descriptor_path path;
    descriptor_path(&path, call->node->fd);
    identity_keep_setid();
    /* With an ACL that the caller sets without belonging to the file's group. */
    if (request->op_flags & FUSEWIRE_SETXATTR_ACL_KILL_SGID) {
        struct stat status;
        if (fstat(call->node->fd, &status) < 0 ||
            ((status.st_mode & S_ISGID) && chmod(path.text, status.st_mode & 07777 & ~(mode_t)S_ISGID) < 0))
            return -errno;
    }
    int result = setxattr(path.text, request->name, request->data, (size_t)request->data_size, (int)request->flags);
    return result < 0 ? -errno : 0;
}

int passthrough_removexattr(const struct call *call)
{
    struct descriptor_path path;
    return removexattr(descriptor_path(&path, call->node->fd), call->request->name) < 0 ? -errno : 0;
}

/* Without the names that only the privileged may see, as any other filesystem does it. */
static size_t hide_trusted(char *names, size_t size)
{
    static const char prefix[] = "trusted.";
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        size_t length = strlen(names + at) + 1;
        if (strncmp(names + at, prefix, sizeof prefix - 1) != 0) {
            memmove(names + kept, names + at, length);
            kept += length;
        }
        at += length;
    }
    return kept;
}

/* Answers with a value or list of `size` bytes, or how large it is if that is the question. */
static int answer_xattr(const struct call *call, const char *data, size_t size)
{
    const fusewire_request *request = call->request;
    int error = 0;
    if (request->length == 0)
        error = fusewire_reply_xattr_size(call->connection, request->id, (uint32_t)size);
    else if (size > request->length)
        return -ERANGE;
    else
        error = fusewire_reply_data(call->connection, request->id, data, size);
    return error < 0 ? -EIO : ANSWERED;
}

int passthrough_getxattr(const struct call *call)
{
    const fusewire_request *request = call->request;
    struct descriptor_path path;
    char *value = request->length > 0 ? malloc((size_t)request->length) : NULL;
    if (request->length > 0 && !value)
        return -ENOMEM;
    ssize_t size = getxattr(descriptor_path(&path, call->node->fd), request->name, value, (size_t)request->length);
    int result = size < 0 ? -errno : answer_xattr(call, value, (size_t)size);
    free(value);
    return result;
}

int passthrough_listxattr(const struct call *call)
{
    struct descriptor_path path;
    char *names = malloc(XATTR_LIST_MAX);
    if (!names)
        return -ENOMEM;
    ssize_t size = listxattr(descriptor_path(&path, call->node->fd), names, XATTR_LIST_MAX);
    int result;
    if (size < 0) {
        result = -errno;
    } else {
        size_t shown = call->request->uid == 0 ? (size_t)size : hide_trusted(names, (size_t)size);
        result = answer_xattr(call, names, shown);
    }
    free(names);
    return result;
}
