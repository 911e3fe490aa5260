/* What a reply has to be for the kernel to take it. A reply that it refuses leaves the client with EIO, or waiting. */
#include "protocol.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

/* ---- Which answer a request expects ---------------------------------------------------------------------------- */

static enum wire_reply_kind kind_of(uint32_t opcode)
{
    switch (opcode) {
    case FUSEWIRE_FORGET:
    case FUSEWIRE_BATCH_FORGET:
    case FUSEWIRE_INTERRUPT:
    case FUSEWIRE_NOTIFY_REPLY:
        return WIRE_REPLY_NEVER;
    case FUSEWIRE_UNLINK:
    case FUSEWIRE_RMDIR:
    case FUSEWIRE_RENAME:
    case FUSEWIRE_RENAME2:
    case FUSEWIRE_RELEASE:
    case FUSEWIRE_RELEASEDIR:
    case FUSEWIRE_FSYNC:
    case FUSEWIRE_FSYNCDIR:
    case FUSEWIRE_SETXATTR:
    case FUSEWIRE_REMOVEXATTR:
    case FUSEWIRE_FLUSH:
    case FUSEWIRE_SETLK:
    case FUSEWIRE_SETLKW:
    case FUSEWIRE_ACCESS:
    case FUSEWIRE_DESTROY:
    case FUSEWIRE_FALLOCATE:
    case FUSEWIRE_SETUPMAPPING:
    case FUSEWIRE_REMOVEMAPPING:
    case FUSEWIRE_SYNCFS:
        return WIRE_REPLY_EMPTY;
    case FUSEWIRE_LOOKUP:
    case FUSEWIRE_MKNOD:
    case FUSEWIRE_MKDIR:
    case FUSEWIRE_SYMLINK:
    case FUSEWIRE_LINK:
        return WIRE_REPLY_ENTRY;
    case FUSEWIRE_GETATTR:
    case FUSEWIRE_SETATTR:
        return WIRE_REPLY_ATTR;
    case FUSEWIRE_OPEN:
    case FUSEWIRE_OPENDIR:
        return WIRE_REPLY_OPEN;
    case FUSEWIRE_CREATE:
    case FUSEWIRE_TMPFILE:
        return WIRE_REPLY_CREATE;
    case FUSEWIRE_READ:
    case FUSEWIRE_READDIR:
    case FUSEWIRE_READDIRPLUS:
    case FUSEWIRE_READLINK:
    case FUSEWIRE_GETXATTR:
    case FUSEWIRE_LISTXATTR:
        return WIRE_REPLY_DATA;
    case FUSEWIRE_WRITE:
    case FUSEWIRE_COPY_FILE_RANGE:
        return WIRE_REPLY_WRITE;
    case FUSEWIRE_COPY_FILE_RANGE_64:
        return WIRE_REPLY_COPIED;
    case FUSEWIRE_STATFS:
        return WIRE_REPLY_STATFS;
    case FUSEWIRE_GETLK:
        return WIRE_REPLY_LOCK;
    case FUSEWIRE_BMAP:
        return WIRE_REPLY_BMAP;
    case FUSEWIRE_IOCTL:
        return WIRE_REPLY_IOCTL;
    case FUSEWIRE_POLL:
        return WIRE_REPLY_POLL;
    case FUSEWIRE_LSEEK:
        return WIRE_REPLY_LSEEK;
    case FUSEWIRE_STATX:
        return WIRE_REPLY_STATX;
    case FUSEWIRE_INIT:
        return WIRE_REPLY_INIT;
    default:
        return WIRE_REPLY_UNKNOWN;
    }
}

void wire_expect(const fusewire_request *request, struct wire_expected *expected)
{
    *expected =
        (struct wire_expected){.unique = request->unique, .opcode = request->opcode, .kind = kind_of(request->opcode)};
    switch (request->opcode) {
    case FUSEWIRE_GETXATTR:
    case FUSEWIRE_LISTXATTR:
        if (request->length == 0)
            expected->kind = WIRE_REPLY_XATTR_SIZE;
        expected->limit = request->length;
        break;
    case FUSEWIRE_READLINK:
        expected->limit = WIRE_SYMLINK_MAX;
        break;
    case FUSEWIRE_WRITE:
        expected->limit = request->data_size;
        break;
    case FUSEWIRE_COPY_FILE_RANGE:
        expected->limit = request->length < UINT32_MAX ? request->length : UINT32_MAX;
        break;
    case FUSEWIRE_READ:
    case FUSEWIRE_READDIR:
    case FUSEWIRE_READDIRPLUS:
    case FUSEWIRE_COPY_FILE_RANGE_64:
        expected->limit = request->length;
        break;
    case FUSEWIRE_IOCTL:
        expected->limit = request->length;
        expected->op_flags = request->op_flags;
        /* These two the kernel sends on its own behalf and takes no shorter answer (6.18: EINVAL here, EIO there). */
        expected->whole = request->cmd == FS_IOC_GETFLAGS || request->cmd == FS_IOC_FSGETXATTR;
        break;
    default:
        break;
    }
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

static bool valid_type(uint32_t mode)
{
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
           S_ISSOCK(mode);
}

int wire_check_attr(const fusewire_attr *attr)
{
    if (!valid_type(attr->mode) || attr->size > INT64_MAX)
        return -ERANGE;
    if (attr->atimensec >= WIRE_NSEC_PER_SEC || attr->mtimensec >= WIRE_NSEC_PER_SEC ||
        attr->ctimensec >= WIRE_NSEC_PER_SEC)
        return -ERANGE;
    return 0;
}

int wire_check_entry(const fusewire_entry *entry, uint64_t request_nodeid)
{
    if (entry->entry_valid_nsec >= WIRE_NSEC_PER_SEC || entry->attr_valid_nsec >= WIRE_NSEC_PER_SEC)
        return -ERANGE;
    if (entry->nodeid == 0)
        return 0;
    /* The kernel refuses the root as what a name leads to, save to the ".." of another directory (EXPORT_SUPPORT). */
    if (entry->nodeid == FUSEWIRE_ROOT_ID && request_nodeid == FUSEWIRE_ROOT_ID)
        return -ERANGE;
    return wire_check_attr(&entry->attr);
}

int wire_check_statx(const fusewire_statx *statx)
{
    /* mask has STATX_TYPE as bit 0 and STATX_SIZE as bit 9; what it does not name is not looked at. */
    if ((statx->mask & 1) && !valid_type(statx->mode))
        return -ERANGE;
    if ((statx->mask & 0x200) && statx->size > INT64_MAX)
        return -ERANGE;
    const fusewire_statx_time *times[] = {&statx->atime, &statx->btime, &statx->ctime, &statx->mtime};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (times[i]->tv_nsec >= WIRE_NSEC_PER_SEC)
            return -ERANGE;
    return 0;
}

/* ---- Messages -------------------------------------------------------------------------------------------------- */

static int refuse(int error, const char **why, const char *words)
{
    if (why)
        *why = words;
    return error;
}

/* The body's size for the kinds that have just one. */
static size_t fixed_size(enum wire_reply_kind kind)
{
    switch (kind) {
    case WIRE_REPLY_ENTRY:
        return sizeof(fusewire_entry);
    case WIRE_REPLY_ATTR:
        return sizeof(struct wire_attr_out);
    case WIRE_REPLY_OPEN:
        return sizeof(struct wire_open_out);
    case WIRE_REPLY_CREATE:
        return sizeof(struct wire_create_out);
    case WIRE_REPLY_WRITE:
        return sizeof(struct wire_write_out);
    case WIRE_REPLY_COPIED:
        return sizeof(struct wire_copied_out);
    case WIRE_REPLY_XATTR_SIZE:
        return sizeof(struct wire_getxattr_out);
    case WIRE_REPLY_STATFS:
        return sizeof(struct wire_statfs_out);
    case WIRE_REPLY_LOCK:
        return sizeof(fusewire_lock);
    case WIRE_REPLY_BMAP:
        return sizeof(struct wire_bmap_out);
    case WIRE_REPLY_POLL:
        return sizeof(struct wire_poll_out);
    case WIRE_REPLY_LSEEK:
        return sizeof(struct wire_lseek_out);
    case WIRE_REPLY_STATX:
        return sizeof(struct wire_statx_out);
    default:
        return 0;
    }
}

/* `body` is the part of the body that lies in the head, `seen` bytes of it. */
static int check_ioctl(const struct wire_expected *expected, const void *body, size_t seen, size_t body_size,
                       const char **why)
{
    struct wire_ioctl_out out;
    if (body_size < sizeof out)
        return refuse(-EINVAL, why, "a reply to IOCTL has at least its structure");
    size_t data_size = body_size - sizeof out;
    bool may_retry = expected->op_flags & FUSEWIRE_IOCTL_UNRESTRICTED;
    if (expected->whole && data_size < expected->limit)
        return refuse(-EINVAL, why, "this ioctl takes nothing less than all of its data; a failure is an error reply");
    if (seen < sizeof out) {
        uint64_t limit = expected->limit;
        if (may_retry && limit < WIRE_IOCTL_IOV_MAX * sizeof(struct wire_ioctl_iovec))
            limit = WIRE_IOCTL_IOV_MAX * sizeof(struct wire_ioctl_iovec);
        return data_size <= limit ? 0 : refuse(-EMSGSIZE, why, "more data than the ioctl has asked for");
    }
    memcpy(&out, body, sizeof out);
    if (!(out.flags & FUSEWIRE_IOCTL_RETRY))
        return data_size <= expected->limit ? 0 : refuse(-EMSGSIZE, why, "more data than the ioctl has asked for");
    if (!may_retry)
        return refuse(-EINVAL, why, "only an unrestricted ioctl can be retried");
    uint64_t pieces = (uint64_t)out.in_iovs + out.out_iovs;
    if (pieces > WIRE_IOCTL_IOV_MAX)
        return refuse(-ERANGE, why, "an ioctl is retried with at most 256 pieces");
    if (data_size != pieces * sizeof(struct wire_ioctl_iovec))
        return refuse(-EINVAL, why, "the pieces of the ioctl are not as many as its structure says");
    return 0;
}

/* INIT's reply may end early: the kernel takes zeros for the rest. Before 7.23 it knew 24 bytes. */
static int check_init(const struct wire_dialect *dialect, size_t body_size, const char **why)
{
    bool old = dialect->minor != 0 && dialect->minor < WIRE_MINOR_LONG_INIT;
    if (body_size < WIRE_INIT_VERSION)
        return refuse(-EINVAL, why, "a reply to INIT has at least the version");
    if (body_size > (old ? (size_t)WIRE_INIT_OUT_SHORT : sizeof(struct wire_init_out)))
        return refuse(-EMSGSIZE, why, "a reply to INIT that is longer than this kernel's");
    return 0;
}

static int check_body(const struct wire_expected *expected, const struct wire_dialect *dialect, const void *body,
                      size_t seen, size_t body_size, const char **why)
{
    switch (expected->kind) {
    case WIRE_REPLY_UNKNOWN:
        return 0;
    case WIRE_REPLY_DATA:
        return body_size <= expected->limit ? 0 : refuse(-EMSGSIZE, why, "more data than the request has asked for");
    case WIRE_REPLY_IOCTL:
        return check_ioctl(expected, body, seen, body_size, why);
    case WIRE_REPLY_INIT:
        return check_init(dialect, body_size, why);
    default:
        break;
    }
    if (body_size != fixed_size(expected->kind))
        return refuse(-EINVAL, why, "the body is not of the size that the request's opcode has");
    uint64_t count = 0;
    if (expected->kind == WIRE_REPLY_WRITE && seen == body_size) {
        struct wire_write_out out;
        memcpy(&out, body, sizeof out);
        count = out.size;
    } else if (expected->kind == WIRE_REPLY_COPIED && seen == body_size) {
        memcpy(&count, body, sizeof count);
    }
    return count <= expected->limit ? 0 : refuse(-ERANGE, why, "more bytes than the request has named");
}

int wire_check_reply(const struct wire_expected *expected, const struct wire_dialect *dialect, const void *head,
                     size_t head_size, size_t total, const char **why)
{
    if (head_size < WIRE_OUT_HEADER || head_size > total)
        return refuse(-EINVAL, why, "a reply begins with a header of 16 bytes");
    struct wire_out_header header;
    memcpy(&header, head, sizeof header);
    if (expected->kind == WIRE_REPLY_NEVER)
        return refuse(-EINVAL, why, "the request takes no reply");
    if (header.len != total)
        return refuse(-EINVAL, why, "the header's length is not that of the reply");
    /* The kernel looks for this very number; a request that it sent again goes by the marked one from then on. */
    if (header.unique != expected->unique)
        return refuse(-EINVAL, why, "the header's unique is not that of the request");
    if (header.error < -WIRE_ERROR_MAX || header.error > 0)
        return refuse(-ERANGE, why, "a reply's error lies between -511 and 0");
    if (header.error != 0)
        return total == WIRE_OUT_HEADER ? 0 : refuse(-EINVAL, why, "a reply with an error has no body");
    return check_body(expected, dialect, (const char *)head + WIRE_OUT_HEADER, head_size - WIRE_OUT_HEADER,
                      total - WIRE_OUT_HEADER, why);
}
