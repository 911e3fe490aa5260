/* Replies: from values to the kernel's message. Every byte of the fixed part is written. */
#include "protocol.h"

#include <string.h>

/* Writes the header of a reply with `fixed` bytes behind it in the head and `more` bytes that follow from elsewhere. */
static size_t reply(void *head, uint64_t unique, size_t fixed, size_t more)
{
    struct wire_out_header *header = head;
    header->len = (uint32_t)(WIRE_OUT_HEADER + fixed + more);
    header->error = 0;
    header->unique = unique;
    return WIRE_OUT_HEADER + fixed;
}

size_t wire_reply_error(void *head, uint64_t unique, int error)
{
    struct wire_out_header *header = head;
    *header = (struct wire_out_header){.len = WIRE_OUT_HEADER, .error = error, .unique = unique};
    return WIRE_OUT_HEADER;
}

size_t wire_reply_data(void *head, uint64_t unique, size_t body_size)
{
    return reply(head, unique, 0, body_size);
}

size_t wire_reply_entry(void *head, uint64_t unique, const fusewire_entry *entry)
{
    memcpy(wire_body(head), entry, sizeof *entry);
    return reply(head, unique, sizeof *entry, 0);
}

size_t wire_reply_attr(void *head, uint64_t unique, uint64_t valid, uint32_t valid_nsec, const fusewire_attr *attr)
{
    struct wire_attr_out *out = wire_body(head);
    *out = (struct wire_attr_out){.attr_valid = valid, .attr_valid_nsec = valid_nsec, .attr = *attr};
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_open(void *head, uint64_t unique, uint64_t fh, uint32_t open_flags, int32_t backing_id)
{
    struct wire_open_out *out = wire_body(head);
    *out = (struct wire_open_out){.fh = fh, .open_flags = open_flags, .backing_id = backing_id};
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_create(void *head, uint64_t unique, const fusewire_entry *entry, uint64_t fh, uint32_t open_flags,
                         int32_t backing_id)
{
    struct wire_create_out *out = wire_body(head);
    out->entry = *entry;
    out->open = (struct wire_open_out){.fh = fh, .open_flags = open_flags, .backing_id = backing_id};
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_write(void *head, uint64_t unique, uint32_t size)
{
    struct wire_write_out *out = wire_body(head);
    *out = (struct wire_write_out){.size = size};
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_copied(void *head, uint64_t unique, uint64_t size)
{
    struct wire_copied_out *out = wire_body(head);
    out->bytes_copied = size;
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_xattr_size(void *head, uint64_t unique, uint32_t size)
{
    struct wire_getxattr_out *out = wire_body(head);
    *out = (struct wire_getxattr_out){.size = size};
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_statfs(void *head, uint64_t unique, const fusewire_statfs *statfs)
{
    struct wire_statfs_out *out = wire_body(head);
    *out = (struct wire_statfs_out){.st = *statfs};
    out->st.padding = 0;
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_lock(void *head, uint64_t unique, const fusewire_lock *lock)
{
    memcpy(wire_body(head), lock, sizeof *lock);
    return reply(head, unique, sizeof *lock, 0);
}

size_t wire_reply_bmap(void *head, uint64_t unique, uint64_t block)
{
    struct wire_bmap_out *out = wire_body(head);
    out->block = block;
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_ioctl(void *head, uint64_t unique, int32_t result, uint32_t flags, uint32_t in_count,
                        uint32_t out_count, size_t body_size)
{
    struct wire_ioctl_out *out = wire_body(head);
    *out = (struct wire_ioctl_out){.result = result, .flags = flags, .in_iovs = in_count, .out_iovs = out_count};
    return reply(head, unique, sizeof *out, body_size);
}

size_t wire_reply_poll(void *head, uint64_t unique, uint32_t revents)
{
    struct wire_poll_out *out = wire_body(head);
    *out = (struct wire_poll_out){.revents = revents};
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_lseek(void *head, uint64_t unique, uint64_t offset)
{
    struct wire_lseek_out *out = wire_body(head);
    out->offset = offset;
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_reply_statx(void *head, uint64_t unique, uint64_t valid, uint32_t valid_nsec, const fusewire_statx *statx)
{
    struct wire_statx_out *out = wire_body(head);
    *out = (struct wire_statx_out){.attr_valid = valid, .attr_valid_nsec = valid_nsec, .stat = *statx};
    fusewire_statx *stat = &out->stat;
    stat->atime.reserved = stat->btime.reserved = stat->ctime.reserved = stat->mtime.reserved = 0;
    memset(stat->spare0, 0, sizeof stat->spare0);
    memset(stat->spare2, 0, sizeof stat->spare2);
    return reply(head, unique, sizeof *out, 0);
}

size_t wire_ioctl_pieces(void *out, const fusewire_iovec *pieces, size_t count)
{
    char *at = out;
    for (size_t i = 0; i < count; i++) {
        struct wire_ioctl_iovec piece = {.base = (uintptr_t)pieces[i].base, .len = pieces[i].size};
        memcpy(at, &piece, sizeof piece);
        at += sizeof piece;
    }
    return count * sizeof(struct wire_ioctl_iovec);
}
