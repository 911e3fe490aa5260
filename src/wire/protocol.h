/* The messages of the FUSE device protocol, versions 7.12 to 7.45, as they lie in memory. What the ABI names already
 * (attributes, entries, locks, the records of BATCH_FORGET ...) is used from there; its layout is checked here. */
#ifndef FUSEWIRE_WIRE_PROTOCOL_H
#define FUSEWIRE_WIRE_PROTOCOL_H

#include "wire.h"

#include <assert.h>

enum {
    WIRE_MAJOR = 7,
    WIRE_MINOR = 45,
    WIRE_MINOR_OLDEST = 12,
    WIRE_MINOR_LONG_INIT = 23,   /* INIT's reply has grown from 24 to 64 bytes */
    WIRE_MINOR_EXTENSIONS = 38,  /* the header counts the extensions */
    WIRE_INTERRUPT_BIT = 1,      /* in the header's unique of an INTERRUPT */
    WIRE_SECURITY_CONTEXTS = 31, /* extension types up to this one are a count of security contexts */
    WIRE_SUPPLEMENTARY_GROUPS = 32,
    WIRE_SYMLINK_MAX = 4095,
    WIRE_NSEC_PER_SEC = 1000000000
};

enum wire_notify_code {
    WIRE_NOTIFY_POLL = 1,
    WIRE_NOTIFY_INVAL_INODE = 2,
    WIRE_NOTIFY_INVAL_ENTRY = 3,
    WIRE_NOTIFY_STORE = 4,
    WIRE_NOTIFY_RETRIEVE = 5,
    WIRE_NOTIFY_DELETE = 6,
    WIRE_NOTIFY_RESEND = 7,
    WIRE_NOTIFY_INC_EPOCH = 8,
    WIRE_NOTIFY_PRUNE = 9
};

/* Fails to compile where a structure or the place of its last field differs from the kernel's. */
#define WIRE_LAYOUT(type, bytes, last, last_offset)                                                                    \
    static_assert(sizeof(type) == (bytes) && offsetof(type, last) == (last_offset), "layout of " #type)

/* ---- Headers --------------------------------------------------------------------------------------------------- */

struct wire_in_header {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
    uint64_t nodeid;
    uint32_t uid;
    uint32_t gid;
    uint32_t pid;
    uint16_t extension_words; /* of 8 bytes, at the message's end */
    uint16_t padding;
};
WIRE_LAYOUT(struct wire_in_header, WIRE_IN_HEADER, extension_words, 36);

struct wire_out_header {
    uint32_t len;
    int32_t error; /* of a notification: its code */
    uint64_t unique;
};
WIRE_LAYOUT(struct wire_out_header, WIRE_OUT_HEADER, unique, 8);

/* ---- What follows a request's header; names and data come after it --------------------------------------------- */

struct wire_forget_in {
    uint64_t nlookup;
};
WIRE_LAYOUT(struct wire_forget_in, 8, nlookup, 0);

struct wire_batch_forget_in {
    uint32_t count;
    uint32_t unused;
};
WIRE_LAYOUT(struct wire_batch_forget_in, 8, unused, 4);

struct wire_getattr_in {
    uint32_t getattr_flags;
    uint32_t unused;
    uint64_t fh;
};
WIRE_LAYOUT(struct wire_getattr_in, 16, fh, 8);

struct wire_setattr_in {
    uint32_t valid;
    uint32_t padding;
    uint64_t fh;
    uint64_t size;
    uint64_t lock_owner;
    int64_t atime;
    int64_t mtime;
    int64_t ctime;
    uint32_t atimensec;
    uint32_t mtimensec;
    uint32_t ctimensec;
    uint32_t mode;
    uint32_t unused1;
    uint32_t uid;
    uint32_t gid;
    uint32_t unused2;
};
WIRE_LAYOUT(struct wire_setattr_in, 88, unused2, 84);

struct wire_mknod_in {
    uint32_t mode;
    uint32_t rdev;
    uint32_t umask;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_mknod_in, 16, padding, 12);

struct wire_mkdir_in {
    uint32_t mode;
    uint32_t umask;
};
WIRE_LAYOUT(struct wire_mkdir_in, 8, umask, 4);

struct wire_rename_in {
    uint64_t newdir;
};
WIRE_LAYOUT(struct wire_rename_in, 8, newdir, 0);

struct wire_rename2_in {
    uint64_t newdir;
    uint32_t flags;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_rename2_in, 16, padding, 12);

struct wire_link_in {
    uint64_t oldnodeid;
};
WIRE_LAYOUT(struct wire_link_in, 8, oldnodeid, 0);

struct wire_open_in {
    uint32_t flags;
    uint32_t open_flags;
};
WIRE_LAYOUT(struct wire_open_in, 8, open_flags, 4);

struct wire_create_in { /* of TMPFILE too */
    uint32_t flags;
    uint32_t mode;
    uint32_t umask;
    uint32_t open_flags;
};
WIRE_LAYOUT(struct wire_create_in, 16, open_flags, 12);

struct wire_read_in { /* of READDIR and READDIRPLUS too */
    uint64_t fh;
    uint64_t offset;
    uint32_t size;
    uint32_t read_flags;
    uint64_t lock_owner;
    uint32_t flags;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_read_in, 40, padding, 36);

struct wire_write_in {
    uint64_t fh;
    uint64_t offset;
    uint32_t size;
    uint32_t write_flags;
    uint64_t lock_owner;
    uint32_t flags;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_write_in, WIRE_WRITE_PREFIX - WIRE_IN_HEADER, padding, 36);

struct wire_release_in {
    uint64_t fh;
    uint32_t flags;
    uint32_t release_flags;
    uint64_t lock_owner;
};
WIRE_LAYOUT(struct wire_release_in, 24, lock_owner, 16);

struct wire_flush_in {
    uint64_t fh;
    uint32_t unused;
    uint32_t padding;
    uint64_t lock_owner;
};
WIRE_LAYOUT(struct wire_flush_in, 24, lock_owner, 16);

struct wire_fsync_in {
    uint64_t fh;
    uint32_t fsync_flags;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_fsync_in, 16, padding, 12);

struct wire_setxattr_in {
    uint32_t size;
    uint32_t flags;
    uint32_t setxattr_flags; /* from here on with SETXATTR_EXT only */
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_setxattr_in, 16, padding, 12);
enum { WIRE_SETXATTR_SHORT = 8 };

struct wire_getxattr_in { /* of LISTXATTR too */
    uint32_t size;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_getxattr_in, 8, padding, 4);

struct wire_lk_in {
    uint64_t fh;
    uint64_t owner;
    fusewire_lock lk;
    uint32_t lk_flags;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_lk_in, 48, padding, 44);

struct wire_access_in {
    uint32_t mask;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_access_in, 8, padding, 4);

struct wire_init_in {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint32_t flags2; /* from here on with INIT_EXT only */
    uint32_t unused[11];
};
WIRE_LAYOUT(struct wire_init_in, 64, unused, 20);
enum { WIRE_INIT_VERSION = 8, WIRE_INIT_SHORT = 16 };

struct wire_interrupt_in {
    uint64_t unique;
};
WIRE_LAYOUT(struct wire_interrupt_in, 8, unique, 0);

struct wire_bmap_in {
    uint64_t block;
    uint32_t blocksize;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_bmap_in, 16, padding, 12);

struct wire_ioctl_in {
    uint64_t fh;
    uint32_t flags;
    uint32_t cmd;
    uint64_t arg;
    uint32_t in_size;
    uint32_t out_size;
};
WIRE_LAYOUT(struct wire_ioctl_in, 32, out_size, 28);

struct wire_poll_in {
    uint64_t fh;
    uint64_t kh;
    uint32_t flags;
    uint32_t events;
};
WIRE_LAYOUT(struct wire_poll_in, 24, events, 20);

struct wire_retrieve_in { /* of NOTIFY_REPLY; as long as struct wire_write_in */
    uint64_t unused1;
    uint64_t offset;
    uint32_t size;
    uint32_t unused2;
    uint64_t unused3;
    uint64_t unused4;
};
WIRE_LAYOUT(struct wire_retrieve_in, 40, unused4, 32);

struct wire_fallocate_in {
    uint64_t fh;
    uint64_t offset;
    uint64_t length;
    uint32_t mode;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_fallocate_in, 32, padding, 28);

struct wire_lseek_in {
    uint64_t fh;
    uint64_t offset;
    uint32_t whence;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_lseek_in, 24, padding, 20);

struct wire_copy_file_range_in { /* of the 64-bit form too */
    uint64_t fh_in;
    uint64_t off_in;
    uint64_t nodeid_out;
    uint64_t fh_out;
    uint64_t off_out;
    uint64_t len;
    uint64_t flags;
};
WIRE_LAYOUT(struct wire_copy_file_range_in, 56, flags, 48);

struct wire_setupmapping_in {
    uint64_t fh;
    uint64_t foffset;
    uint64_t len;
    uint64_t flags;
    uint64_t moffset;
};
WIRE_LAYOUT(struct wire_setupmapping_in, 40, moffset, 32);

struct wire_removemapping_in {
    uint32_t count;
};
WIRE_LAYOUT(struct wire_removemapping_in, 4, count, 0);

struct wire_syncfs_in {
    uint64_t padding;
};
WIRE_LAYOUT(struct wire_syncfs_in, 8, padding, 0);

struct wire_statx_in {
    uint32_t getattr_flags;
    uint32_t reserved;
    uint64_t fh;
    uint32_t sx_flags;
    uint32_t sx_mask;
};
WIRE_LAYOUT(struct wire_statx_in, 24, sx_mask, 20);

WIRE_LAYOUT(fusewire_forget, 16, nlookup, 8);
WIRE_LAYOUT(fusewire_mapping, 16, length, 8);

/* ---- Extensions of requests that create something; they start at any address ----------------------------------- */

struct wire_extension {
    uint32_t size; /* this header included; a multiple of 8 */
    uint32_t type;
};
WIRE_LAYOUT(struct wire_extension, 8, type, 4);

/* Name with NUL and value follow; the next one starts at a multiple of 8 bytes from here. */
struct wire_security_context {
    uint32_t size; /* of the value */
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_security_context, 8, padding, 4);

/* ---- What follows a reply's header ----------------------------------------------------------------------------- */

WIRE_LAYOUT(fusewire_attr, 88, flags, 84);
WIRE_LAYOUT(fusewire_entry, 128, attr, 40);
WIRE_LAYOUT(fusewire_lock, 24, pid, 20);
WIRE_LAYOUT(fusewire_statx_time, 16, reserved, 12);
WIRE_LAYOUT(fusewire_statx, 256, spare2, 144);

struct wire_attr_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t unused;
    fusewire_attr attr;
};
WIRE_LAYOUT(struct wire_attr_out, 104, attr, 16);

struct wire_open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
};
WIRE_LAYOUT(struct wire_open_out, 16, backing_id, 12);

struct wire_create_out {
    fusewire_entry entry;
    struct wire_open_out open;
};
WIRE_LAYOUT(struct wire_create_out, 144, open, 128);

struct wire_write_out {
    uint32_t size;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_write_out, 8, padding, 4);

struct wire_copied_out {
    uint64_t bytes_copied;
};
WIRE_LAYOUT(struct wire_copied_out, 8, bytes_copied, 0);

struct wire_getxattr_out {
    uint32_t size;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_getxattr_out, 8, padding, 4);

struct wire_statfs_out {
    fusewire_statfs st;
    uint32_t spare[6];
};
WIRE_LAYOUT(struct wire_statfs_out, 80, spare, 56);

struct wire_bmap_out {
    uint64_t block;
};
WIRE_LAYOUT(struct wire_bmap_out, 8, block, 0);

struct wire_ioctl_out {
    int32_t result;
    uint32_t flags;
    uint32_t in_iovs;
    uint32_t out_iovs;
};
WIRE_LAYOUT(struct wire_ioctl_out, 16, out_iovs, 12);

struct wire_ioctl_iovec {
    uint64_t base;
    uint64_t len;
};
WIRE_LAYOUT(struct wire_ioctl_iovec, 16, len, 8);

struct wire_poll_out {
    uint32_t revents;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_poll_out, 8, padding, 4);

struct wire_lseek_out {
    uint64_t offset;
};
WIRE_LAYOUT(struct wire_lseek_out, 8, offset, 0);

struct wire_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare[2];
    fusewire_statx stat;
};
WIRE_LAYOUT(struct wire_statx_out, 288, stat, 32);
static_assert(WIRE_OUT_HEADER + sizeof(struct wire_statx_out) <= WIRE_HEAD_MAX, "the largest reply of fixed size");

struct wire_init_out {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint16_t max_background;
    uint16_t congestion_threshold;
    uint32_t max_write;
    uint32_t time_gran; /* from here on since 7.23 */
    uint16_t max_pages;
    uint16_t map_alignment;
    uint32_t flags2;
    uint32_t max_stack_depth;
    uint16_t request_timeout;
    uint16_t unused[11];
};
WIRE_LAYOUT(struct wire_init_out, 64, unused, 42);
enum { WIRE_INIT_OUT_SHORT = 24 };
static_assert(offsetof(struct wire_init_out, time_gran) == WIRE_INIT_OUT_SHORT, "INIT's reply before 7.23");

/* Entries of READDIR; those of READDIRPLUS have a fusewire_entry before it. Each is padded to a multiple of 8. */
struct wire_dirent {
    uint64_t ino;
    uint64_t off;
    uint32_t namelen;
    uint32_t type;
};
WIRE_LAYOUT(struct wire_dirent, 24, type, 20);

/* ---- What follows a notification's header ---------------------------------------------------------------------- */

struct wire_notify_poll {
    uint64_t kh;
};
WIRE_LAYOUT(struct wire_notify_poll, 8, kh, 0);

struct wire_notify_inval_inode {
    uint64_t ino;
    int64_t off;
    int64_t len;
};
WIRE_LAYOUT(struct wire_notify_inval_inode, 24, len, 16);

struct wire_notify_inval_entry {
    uint64_t parent;
    uint32_t namelen;
    uint32_t flags;
};
WIRE_LAYOUT(struct wire_notify_inval_entry, 16, flags, 12);

struct wire_notify_delete {
    uint64_t parent;
    uint64_t child;
    uint32_t namelen;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_notify_delete, 24, padding, 20);

struct wire_notify_store {
    uint64_t nodeid;
    uint64_t offset;
    uint32_t size;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_notify_store, 24, padding, 20);

struct wire_notify_retrieve {
    uint64_t notify_unique;
    uint64_t nodeid;
    uint64_t offset;
    uint32_t size;
    uint32_t padding;
};
WIRE_LAYOUT(struct wire_notify_retrieve, 32, padding, 28);

struct wire_notify_prune {
    uint32_t count;
    uint32_t padding;
    uint64_t spare;
};
WIRE_LAYOUT(struct wire_notify_prune, 16, spare, 8);

/* ---- Shared between the files of this layer -------------------------------------------------------------------- */

/* The next multiple of 8. */
static inline size_t wire_align(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

/* The fixed part behind a header. */
static inline void *wire_body(void *head)
{
    return (char *)head + WIRE_OUT_HEADER;
}

/* Decodes the extensions at the end of a request. -EBADMSG. */
int wire_decode_extensions(const char *at, size_t size, fusewire_request *request);

#endif
