/* Requests: from the kernel's message to the flat record. */
#include "protocol.h"

#include <errno.h>
#include <string.h>

/* What is left of a message behind its header. */
struct tail {
    const char *at;
    size_t left;
};

static const void *take(struct tail *tail, uint64_t size)
{
    if (size > tail->left)
        return NULL;
    const void *taken = tail->at;
    tail->at += (size_t)size;
    tail->left -= (size_t)size;
    return taken;
}

static bool take_name(struct tail *tail, const char **name, uint32_t *name_size)
{
    const char *end = memchr(tail->at, '\0', tail->left);
    if (!end || end == tail->at)
        return false;
    *name = tail->at;
    *name_size = (uint32_t)(end - tail->at);
    return take(tail, *name_size + UINT64_C(1));
}

static bool take_entry_name(struct tail *tail, fusewire_request *request)
{
    return take_name(tail, &request->name, &request->name_size);
}

static bool take_new_name(struct tail *tail, fusewire_request *request)
{
    return take_name(tail, &request->newname, &request->newname_size);
}

/* Data of the size that the message has stated. */
static bool take_data(struct tail *tail, fusewire_request *request, uint64_t size)
{
    request->data_size = size;
    request->data = take(tail, size);
    return request->data;
}

/* The size of the structure behind the header, by opcode. */
static const uint8_t fixed_sizes[] = {
    [FUSEWIRE_FORGET] = sizeof(struct wire_forget_in),
    [FUSEWIRE_GETATTR] = sizeof(struct wire_getattr_in),
    [FUSEWIRE_SETATTR] = sizeof(struct wire_setattr_in),
    [FUSEWIRE_MKNOD] = sizeof(struct wire_mknod_in),
    [FUSEWIRE_MKDIR] = sizeof(struct wire_mkdir_in),
    [FUSEWIRE_RENAME] = sizeof(struct wire_rename_in),
    [FUSEWIRE_LINK] = sizeof(struct wire_link_in),
    [FUSEWIRE_OPEN] = sizeof(struct wire_open_in),
    [FUSEWIRE_READ] = sizeof(struct wire_read_in),
    [FUSEWIRE_WRITE] = sizeof(struct wire_write_in),
    [FUSEWIRE_RELEASE] = sizeof(struct wire_release_in),
    [FUSEWIRE_FSYNC] = sizeof(struct wire_fsync_in),
    [FUSEWIRE_SETXATTR] = sizeof(struct wire_setxattr_in),
    [FUSEWIRE_GETXATTR] = sizeof(struct wire_getxattr_in),
    [FUSEWIRE_LISTXATTR] = sizeof(struct wire_getxattr_in),
    [FUSEWIRE_FLUSH] = sizeof(struct wire_flush_in),
    [FUSEWIRE_OPENDIR] = sizeof(struct wire_open_in),
    [FUSEWIRE_READDIR] = sizeof(struct wire_read_in),
    [FUSEWIRE_RELEASEDIR] = sizeof(struct wire_release_in),
    [FUSEWIRE_FSYNCDIR] = sizeof(struct wire_fsync_in),
    [FUSEWIRE_GETLK] = sizeof(struct wire_lk_in),
    [FUSEWIRE_SETLK] = sizeof(struct wire_lk_in),
    [FUSEWIRE_SETLKW] = sizeof(struct wire_lk_in),
    [FUSEWIRE_ACCESS] = sizeof(struct wire_access_in),
    [FUSEWIRE_CREATE] = sizeof(struct wire_create_in),
    [FUSEWIRE_INTERRUPT] = sizeof(struct wire_interrupt_in),
    [FUSEWIRE_BMAP] = sizeof(struct wire_bmap_in),
    [FUSEWIRE_IOCTL] = sizeof(struct wire_ioctl_in),
    [FUSEWIRE_POLL] = sizeof(struct wire_poll_in),
    [FUSEWIRE_NOTIFY_REPLY] = sizeof(struct wire_retrieve_in),
    [FUSEWIRE_BATCH_FORGET] = sizeof(struct wire_batch_forget_in),
    [FUSEWIRE_FALLOCATE] = sizeof(struct wire_fallocate_in),
    [FUSEWIRE_READDIRPLUS] = sizeof(struct wire_read_in),
    [FUSEWIRE_RENAME2] = sizeof(struct wire_rename2_in),
    [FUSEWIRE_LSEEK] = sizeof(struct wire_lseek_in),
    [FUSEWIRE_COPY_FILE_RANGE] = sizeof(struct wire_copy_file_range_in),
    [FUSEWIRE_SETUPMAPPING] = sizeof(struct wire_setupmapping_in),
    [FUSEWIRE_REMOVEMAPPING] = sizeof(struct wire_removemapping_in),
    [FUSEWIRE_SYNCFS] = sizeof(struct wire_syncfs_in),
    [FUSEWIRE_TMPFILE] = sizeof(struct wire_create_in),
    [FUSEWIRE_STATX] = sizeof(struct wire_statx_in),
    [FUSEWIRE_COPY_FILE_RANGE_64] = sizeof(struct wire_copy_file_range_in),
};

static bool known(uint32_t opcode)
{
    return opcode >= FUSEWIRE_LOOKUP && opcode < sizeof fixed_sizes && opcode != 7 && opcode != 19;
}

static bool speaks(const struct wire_dialect *dialect, enum fusewire_capability capability)
{
    return (dialect->capabilities >> capability) & 1;
}

static size_t fixed_size(uint32_t opcode, const struct wire_dialect *dialect)
{
    if (opcode == FUSEWIRE_SETXATTR && !speaks(dialect, FUSEWIRE_CAP_SETXATTR_EXT))
        return WIRE_SETXATTR_SHORT;
    return fixed_sizes[opcode];
}

static void decode_setattr(const struct wire_setattr_in *in, fusewire_request *request)
{
    request->valid = in->valid;
    request->fh = in->fh;
    request->length = in->size;
    request->lock_owner = in->lock_owner;
    request->atime = in->atime;
    request->mtime = in->mtime;
    request->ctime = in->ctime;
    request->atimensec = in->atimensec;
    request->mtimensec = in->mtimensec;
    request->ctimensec = in->ctimensec;
    request->mode = in->mode;
    request->set_uid = in->uid;
    request->set_gid = in->gid;
}

static bool decode_create(const struct wire_create_in *in, struct tail *tail, fusewire_request *request)
{
    request->flags = in->flags;
    request->mode = in->mode;
    request->umask = in->umask;
    request->op_flags = in->open_flags;
    return take_entry_name(tail, request);
}

static void decode_read(const struct wire_read_in *in, fusewire_request *request)
{
    request->fh = in->fh;
    request->offset = in->offset;
    request->length = in->size;
    request->op_flags = in->read_flags;
    request->lock_owner = in->lock_owner;
    request->flags = in->flags;
}

static bool decode_write(const struct wire_write_in *in, struct tail *tail, fusewire_request *request)
{
    request->fh = in->fh;
    request->offset = in->offset;
    request->length = in->size;
    request->op_flags = in->write_flags;
    request->lock_owner = in->lock_owner;
    request->flags = in->flags;
    return take_data(tail, request, in->size);
}

static void decode_lock(const struct wire_lk_in *in, fusewire_request *request)
{
    request->fh = in->fh;
    request->lock_owner = in->owner;
    request->lock_start = in->lk.start;
    request->lock_end = in->lk.end;
    request->lock_type = in->lk.type;
    request->lock_pid = in->lk.pid;
    request->op_flags = in->lk_flags;
}

static bool decode_ioctl(const struct wire_ioctl_in *in, struct tail *tail, fusewire_request *request)
{
    request->fh = in->fh;
    request->op_flags = in->flags;
    request->cmd = in->cmd;
    request->arg = in->arg;
    request->length = in->out_size;
    return take_data(tail, request, in->in_size);
}

static void decode_copy(const struct wire_copy_file_range_in *in, fusewire_request *request)
{
    request->fh = in->fh_in;
    request->offset = in->off_in;
    request->newnodeid = in->nodeid_out;
    request->newfh = in->fh_out;
    request->newoffset = in->off_out;
    request->length = in->len;
    request->flags = (uint32_t)in->flags;
}

/* Fills what the opcode has of its own from `in`, its structure, and from what follows. False if the names or data
 * that belong to it are not there. */
static bool decode_body(const void *in, struct tail *tail, const struct wire_dialect *dialect,
                        fusewire_request *request)
{
    switch (request->opcode) {
    case FUSEWIRE_LOOKUP:
    case FUSEWIRE_UNLINK:
    case FUSEWIRE_RMDIR:
    case FUSEWIRE_REMOVEXATTR:
        return take_entry_name(tail, request);
    case FUSEWIRE_SYMLINK:
        return take_entry_name(tail, request) && take_new_name(tail, request);
    case FUSEWIRE_FORGET:
        request->length = ((const struct wire_forget_in *)in)->nlookup;
        return true;
    case FUSEWIRE_BATCH_FORGET:
        request->count = ((const struct wire_batch_forget_in *)in)->count;
        return take_data(tail, request, request->count * (uint64_t)sizeof(fusewire_forget));
    case FUSEWIRE_GETATTR: {
        const struct wire_getattr_in *getattr = in;
        request->op_flags = getattr->getattr_flags;
        request->fh = getattr->fh;
        return true;
    }
    case FUSEWIRE_SETATTR:
        decode_setattr(in, request);
        return true;
    case FUSEWIRE_MKNOD: {
        const struct wire_mknod_in *mknod = in;
        request->mode = mknod->mode;
        request->rdev = mknod->rdev;
        request->umask = mknod->umask;
        return take_entry_name(tail, request);
    }
    case FUSEWIRE_MKDIR: {
        const struct wire_mkdir_in *mkdir = in;
        request->mode = mkdir->mode;
        request->umask = mkdir->umask;
        return take_entry_name(tail, request);
    }
    case FUSEWIRE_RENAME:
        request->newnodeid = ((const struct wire_rename_in *)in)->newdir;
        return take_entry_name(tail, request) && take_new_name(tail, request);
    case FUSEWIRE_RENAME2: {
        const struct wire_rename2_in *rename = in;
        request->newnodeid = rename->newdir;
        request->flags = rename->flags;
        return take_entry_name(tail, request) && take_new_name(tail, request);
    }
    case FUSEWIRE_LINK:
        request->newnodeid = ((const struct wire_link_in *)in)->oldnodeid;
        return take_entry_name(tail, request);
    case FUSEWIRE_OPEN:
    case FUSEWIRE_OPENDIR: {
        const struct wire_open_in *open = in;
        request->flags = open->flags;
        request->op_flags = open->open_flags;
        return true;
    }
    case FUSEWIRE_CREATE:
    case FUSEWIRE_TMPFILE:
        return decode_create(in, tail, request);
    case FUSEWIRE_READ:
    case FUSEWIRE_READDIR:
    case FUSEWIRE_READDIRPLUS:
        decode_read(in, request);
        return true;
    case FUSEWIRE_WRITE:
        return decode_write(in, tail, request);
    case FUSEWIRE_RELEASE:
    case FUSEWIRE_RELEASEDIR: {
        const struct wire_release_in *release = in;
        request->fh = release->fh;
        request->flags = release->flags;
        request->op_flags = release->release_flags;
        request->lock_owner = release->lock_owner;
        return true;
    }
    case FUSEWIRE_FLUSH: {
        const struct wire_flush_in *flush = in;
        request->fh = flush->fh;
        request->lock_owner = flush->lock_owner;
        return true;
    }
    case FUSEWIRE_FSYNC:
    case FUSEWIRE_FSYNCDIR: {
        const struct wire_fsync_in *fsync = in;
        request->fh = fsync->fh;
        request->op_flags = fsync->fsync_flags;
        return true;
    }
    case FUSEWIRE_SETXATTR: {
        const struct wire_setxattr_in *setxattr = in;
        request->flags = setxattr->flags;
        if (speaks(dialect, FUSEWIRE_CAP_SETXATTR_EXT))
            request->op_flags = setxattr->setxattr_flags;
        return take_entry_name(tail, request) && take_data(tail, request, setxattr->size);
    }
    case FUSEWIRE_GETXATTR:
        request->length = ((const struct wire_getxattr_in *)in)->size;
        return take_entry_name(tail, request);
    case FUSEWIRE_LISTXATTR:
        request->length = ((const struct wire_getxattr_in *)in)->size;
        return true;
    case FUSEWIRE_GETLK:
    case FUSEWIRE_SETLK:
    case FUSEWIRE_SETLKW:
        decode_lock(in, request);
        return true;
    case FUSEWIRE_ACCESS:
        request->mode = ((const struct wire_access_in *)in)->mask;
        return true;
    case FUSEWIRE_INTERRUPT:
        request->unique = ((const struct wire_interrupt_in *)in)->unique;
        return true;
    case FUSEWIRE_BMAP: {
        const struct wire_bmap_in *bmap = in;
        request->offset = bmap->block;
        request->length = bmap->blocksize;
        return true;
    }
    case FUSEWIRE_IOCTL:
        return decode_ioctl(in, tail, request);
    case FUSEWIRE_POLL: {
        const struct wire_poll_in *poll = in;
        request->fh = poll->fh;
        request->kh = poll->kh;
        request->op_flags = poll->flags;
        request->events = poll->events;
        return true;
    }
    case FUSEWIRE_NOTIFY_REPLY: {
        const struct wire_retrieve_in *retrieved = in;
        request->offset = retrieved->offset;
        return take_data(tail, request, retrieved->size);
    }
    case FUSEWIRE_FALLOCATE: {
        const struct wire_fallocate_in *fallocate = in;
        request->fh = fallocate->fh;
        request->offset = fallocate->offset;
        request->length = fallocate->length;
        request->mode = fallocate->mode;
        return true;
    }
    case FUSEWIRE_LSEEK: {
        const struct wire_lseek_in *lseek = in;
        request->fh = lseek->fh;
        request->offset = lseek->offset;
        request->whence = lseek->whence;
        return true;
    }
    case FUSEWIRE_COPY_FILE_RANGE:
    case FUSEWIRE_COPY_FILE_RANGE_64:
        decode_copy(in, request);
        return true;
    case FUSEWIRE_SETUPMAPPING: {
        const struct wire_setupmapping_in *mapping = in;
        request->fh = mapping->fh;
        request->offset = mapping->foffset;
        request->length = mapping->len;
        request->flags = (uint32_t)mapping->flags;
        request->newoffset = mapping->moffset;
        return true;
    }
    case FUSEWIRE_REMOVEMAPPING:
        request->count = ((const struct wire_removemapping_in *)in)->count;
        return take_data(tail, request, request->count * (uint64_t)sizeof(fusewire_mapping));
    case FUSEWIRE_STATX: {
        const struct wire_statx_in *statx = in;
        request->op_flags = statx->getattr_flags;
        request->fh = statx->fh;
        request->flags = statx->sx_flags;
        request->valid = statx->sx_mask;
        return true;
    }
    default: /* READLINK STATFS DESTROY SYNCFS: nothing of their own */
        return true;
    }
}

static bool creates(uint32_t opcode)
{
    return opcode == FUSEWIRE_CREATE || opcode == FUSEWIRE_MKNOD || opcode == FUSEWIRE_MKDIR ||
           opcode == FUSEWIRE_SYMLINK || opcode == FUSEWIRE_TMPFILE;
}

/* Of a message whose answer is its own number; INTERRUPT's has bit 0, NOTIFY_REPLY's is the server's invention. */
static bool resent(const struct wire_in_header *header)
{
    return (header->unique & WIRE_UNIQUE_RESEND) && header->opcode != FUSEWIRE_INTERRUPT &&
           header->opcode != FUSEWIRE_NOTIFY_REPLY;
}

int wire_decode(const void *message, size_t size, const struct wire_dialect *dialect, fusewire_request *request)
{
    static_assert(offsetof(fusewire_request, id) == 0, "the id, which is not ours to fill, comes first");
    memset((char *)request + sizeof request->id, 0, sizeof *request - sizeof request->id);
    request->message = message;
    request->message_size = size;
    if (size < WIRE_IN_HEADER)
        return -EBADMSG;

    const struct wire_in_header *header = message;
    request->opcode = header->opcode;
    request->unique = header->unique;
    request->nodeid = header->nodeid;
    request->uid = header->uid;
    request->gid = header->gid;
    request->pid = header->pid;
    if (resent(header))
        request->marks = FUSEWIRE_REQUEST_RESENT;
    if (header->len != size)
        return -EBADMSG;
    if (!known(header->opcode))
        return 0;

    struct tail tail = {(const char *)message + WIRE_IN_HEADER, size - WIRE_IN_HEADER};
    if (header->opcode == FUSEWIRE_INIT) /* it grows with the kernel's version */
        return tail.left >= WIRE_INIT_VERSION ? 0 : -EBADMSG;

    size_t extensions = header->extension_words * (size_t)8;
    if (extensions > tail.left)
        return -EBADMSG;
    tail.left -= extensions;

    const void *in = take(&tail, fixed_size(header->opcode, dialect));
    if (!in || !decode_body(in, &tail, dialect, request))
        return -EBADMSG;
    /* 7.36 and 7.37 send security contexts without counting them in the header. */
    if (tail.left > 0 && dialect->minor < WIRE_MINOR_EXTENSIONS && creates(header->opcode) &&
        speaks(dialect, FUSEWIRE_CAP_SECURITY_CTX)) {
        extensions += tail.left;
        tail.left = 0;
    }
    if (tail.left > 0)
        return -EBADMSG;
    return extensions > 0 ? wire_decode_extensions(tail.at, extensions, request) : 0;
}
