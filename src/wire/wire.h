/* The bytes of the FUSE protocol: decodes requests, encodes and checks replies and notifications, agrees on INIT. Does
 * no I/O, allocates nothing, keeps no state, and never looks outside the bytes that it is given. */
#ifndef FUSEWIRE_WIRE_H
#define FUSEWIRE_WIRE_H

#include "fusewire.h"

#include <stdbool.h>

enum {
    WIRE_IN_HEADER = 40,
    WIRE_OUT_HEADER = 16,
    WIRE_WRITE_PREFIX = 80, /* bytes before the data of a WRITE: header and struct fuse_write_in */
    WIRE_HEAD_MAX = 320,    /* the largest reply or notification of fixed size, header included (STATX) */
    WIRE_MIN_READ_BUFFER = 8192,
    WIRE_NAME_MAX = 1024,
    WIRE_IOCTL_IOV_MAX = 256,
    WIRE_ERROR_MAX = 511
};

/* The bit of `unique` that marks a request sent again. */
#define WIRE_UNIQUE_RESEND (UINT64_C(1) << 63)

/* ---- Requests -------------------------------------------------------------------------------------------------- */

/* What of the session decides how a message is laid out. */
struct wire_dialect {
    uint32_t minor;
    uint64_t capabilities;
};

/* Fills every field of *request but `id`. `message` is 8-byte aligned. -EBADMSG: the message is not of its opcode's
 * form; the header's fields (opcode, unique, nodeid, uid, gid, pid, marks) are filled if it has at least a header. An
 * opcode that this version does not know is no error. `unique` is as read, resend bit included; of INTERRUPT it is that
 * of the request meant. `supp_groups` and REMOVEMAPPING's records lie in the message as the kernel laid them: not
 * aligned for their type. */
int wire_decode(const void *message, size_t size, const struct wire_dialect *dialect, fusewire_request *request);

/* Does what fusewire_security_context promises. */
int wire_security_context(const fusewire_request *request, uint32_t index, const char **name, const void **value,
                          size_t *value_size);

/* How a request is answered when it succeeds. */
enum wire_reply_kind {
    WIRE_REPLY_NEVER, /* it takes no answer: FORGET, BATCH_FORGET, NOTIFY_REPLY, INTERRUPT */
    WIRE_REPLY_EMPTY,
    WIRE_REPLY_ENTRY,
    WIRE_REPLY_ATTR,
    WIRE_REPLY_OPEN,
    WIRE_REPLY_CREATE,
    WIRE_REPLY_DATA,   /* up to `limit` bytes */
    WIRE_REPLY_WRITE,  /* a 32-bit count of up to `limit` */
    WIRE_REPLY_COPIED, /* a 64-bit count of up to `limit` */
    WIRE_REPLY_XATTR_SIZE,
    WIRE_REPLY_STATFS,
    WIRE_REPLY_LOCK,
    WIRE_REPLY_BMAP,
    WIRE_REPLY_IOCTL, /* a result and up to `limit` bytes */
    WIRE_REPLY_POLL,
    WIRE_REPLY_LSEEK,
    WIRE_REPLY_STATX,
    WIRE_REPLY_INIT,
    WIRE_REPLY_UNKNOWN /* of an opcode that this version does not know: anything goes */
};

/* What a reply to a request has to be; worked out once, when the request is read. */
struct wire_expected {
    uint64_t unique; /* as read, resend bit included */
    uint64_t limit;
    uint32_t opcode;
    enum wire_reply_kind kind;
    uint32_t op_flags; /* IOCTL's, which decide whether a retry is allowed */
    bool whole;        /* IOCTL: the data is all of `limit` bytes, no fewer */
};

void wire_expect(const fusewire_request *request, struct wire_expected *expected);

/* ---- Replies --------------------------------------------------------------------------------------------------- */

/* Each of them writes header and fixed part to `head` (WIRE_HEAD_MAX bytes, 8-byte aligned) and returns how many bytes
 * these are; the header's length includes `body_size` bytes of data that the caller sends behind them. They check
 * nothing but what their comment says. */

size_t wire_reply_error(void *head, uint64_t unique, int error);
size_t wire_reply_data(void *head, uint64_t unique, size_t body_size);
size_t wire_reply_entry(void *head, uint64_t unique, const fusewire_entry *entry);
size_t wire_reply_attr(void *head, uint64_t unique, uint64_t valid, uint32_t valid_nsec, const fusewire_attr *attr);
size_t wire_reply_open(void *head, uint64_t unique, uint64_t fh, uint32_t open_flags, int32_t backing_id);
size_t wire_reply_create(void *head, uint64_t unique, const fusewire_entry *entry, uint64_t fh, uint32_t open_flags,
                         int32_t backing_id);
size_t wire_reply_write(void *head, uint64_t unique, uint32_t size);
size_t wire_reply_copied(void *head, uint64_t unique, uint64_t size);
size_t wire_reply_xattr_size(void *head, uint64_t unique, uint32_t size);
size_t wire_reply_statfs(void *head, uint64_t unique, const fusewire_statfs *statfs);
size_t wire_reply_lock(void *head, uint64_t unique, const fusewire_lock *lock);
size_t wire_reply_bmap(void *head, uint64_t unique, uint64_t block);
size_t wire_reply_ioctl(void *head, uint64_t unique, int32_t result, uint32_t flags, uint32_t in_count,
                        uint32_t out_count, size_t body_size);
size_t wire_reply_poll(void *head, uint64_t unique, uint32_t revents);
size_t wire_reply_lseek(void *head, uint64_t unique, uint64_t offset);
size_t wire_reply_statx(void *head, uint64_t unique, uint64_t valid, uint32_t valid_nsec, const fusewire_statx *statx);

/* The body of an ioctl retry: `count` pieces as the kernel's 16-byte records at `out`; returns the bytes written. */
size_t wire_ioctl_pieces(void *out, const fusewire_iovec *pieces, size_t count);

/* Is entry/attr/statx content one the kernel takes (nanoseconds below 10^9, a file type in the mode, sizes that are no
 * negative loff_t)? The kernel would answer the client with EIO. 0 or -ERANGE. `request_nodeid` is the directory asked
 * about: the root is nothing that a name in the root leads to. nodeid 0 passes; only LOOKUP and READDIRPLUS may have
 * it. */
int wire_check_attr(const fusewire_attr *attr);
int wire_check_entry(const fusewire_entry *entry, uint64_t request_nodeid);
int wire_check_statx(const fusewire_statx *statx);

/* Would the kernel take this reply? `head`, aligned or not, holds at least the header; `total` is the whole message's
 * size; what lies behind the head is judged by its size alone. In `raw` sessions INIT may be answered, with the
 * dialect's minor 0 where it is not known. 0; -EINVAL (length, unique or body of the wrong size), -ERANGE (error out of
 * range or a count beyond its limit), -EMSGSIZE (more data than asked for). *why, when not NULL, gets the words. */
int wire_check_reply(const struct wire_expected *expected, const struct wire_dialect *dialect, const void *head,
                     size_t head_size, size_t total, const char **why);

/* ---- FUSE-over-io_uring ---------------------------------------------------------------------------------------- */

/* A ring entry's memory is a header of WIRE_URING_HEADER bytes, and a payload somewhere else. */
enum {
    WIRE_URING_HEADER = 288,
    WIRE_URING_PREFIX_MAX = WIRE_IN_HEADER + 128, /* of a message: what stands before the payload */
    WIRE_URING_COMMAND = 24,                      /* what a submission carries */
    /* The largest request without data of its own: a SETXATTR of 64 KiB and a name. A payload that is smaller than a
     * request makes the kernel fail (BUG in fuse_copy_fill; Linux 6.18). */
    WIRE_URING_PAYLOAD_MIN = 17 * 4096,
    WIRE_URING_RETRIEVED_HEADER = 40 /* stands in the payload, before the data of a NOTIFY_REPLY */
};

/* The commands that an io_uring submission can give to /dev/fuse. */
enum wire_uring_op { WIRE_URING_REGISTER = 1, WIRE_URING_COMMIT_AND_FETCH = 2 };

/* A request as it lies in an entry: its message is `prefix_size` bytes and, behind them, the payload's first
 * `payload_size`. */
struct wire_uring_request {
    uint64_t commit_id; /* opaque; names the request in the command that answers it */
    size_t prefix_size;
    size_t payload_size;
};

/* Has INIT agreed on it? */
static inline bool wire_over_io_uring(uint64_t capabilities)
{
    return ((capabilities >> FUSEWIRE_CAP_OVER_IO_URING) & 1) != 0;
}

/* Over it the kernel takes the number of a RETRIEVE for a request's, which is even: so that of the caller, below
 * 2^WIRE_URING_RETRIEVE_BITS, travels as one that no request has. The second function is the way back. */
enum { WIRE_URING_RETRIEVE_BITS = 60 };
static inline uint64_t wire_uring_retrieve(uint64_t notify_unique)
{
    return UINT64_C(1) << 62 | notify_unique << 1;
}
static inline uint64_t wire_uring_retrieved(uint64_t unique)
{
    return (unique & ~(UINT64_C(1) << 62)) >> 1;
}

/* Reads an entry's header. -EBADMSG: its sizes contradict each other or the payload's capacity; commit_id is filled,
 * the rest is zero. */
int wire_uring_request(const void *header, size_t payload_capacity, struct wire_uring_request *request);
/* Writes the message's first prefix_size bytes. */
void wire_uring_prefix(const void *header, const struct wire_uring_request *request, void *prefix);
/* The unique of the request in the header, be it well-formed or not. */
uint64_t wire_uring_unique(const void *header);
/* Puts a reply's header (WIRE_OUT_HEADER bytes) and the size of its body, which stands in the payload, into the entry's
 * header. */
void wire_uring_reply(void *header, const void *reply_header, size_t payload_size);
/* How many bytes a RETRIEVE message asks for; 0 for any other notification. `head` holds its fixed part if `size` does.
 */
uint32_t wire_uring_retrieve_size(const void *head, size_t size);
/* Fills a submission's command (WIRE_URING_COMMAND bytes) and returns its size; `commit_id` 0 to register. */
size_t wire_uring_command(void *command, uint16_t queue, uint64_t commit_id);

/* ---- Directory entries ----------------------------------------------------------------------------------------- */

/* As fusewire_dirent and fusewire_direntplus (entry not NULL: its attributes give ino and type): the new number of
 * bytes used, -ENOBUFS or -EINVAL. */
int64_t wire_dirent(void *buffer, size_t capacity, size_t used, const fusewire_entry *entry, uint64_t ino,
                    uint64_t offset, uint32_t type, const char *name, size_t name_size);

/* ---- Notifications --------------------------------------------------------------------------------------------- */

/* As the replies: header and fixed part to `head`, returns their size. Names and data follow as the message's body; a
 * name's body is name_size + 1 bytes, with the NUL. */
size_t wire_notify_inval_inode(void *head, uint64_t nodeid, int64_t offset, int64_t length);
size_t wire_notify_inval_entry(void *head, uint64_t parent, size_t name_size, uint32_t flags);
size_t wire_notify_delete(void *head, uint64_t parent, uint64_t child, size_t name_size);
size_t wire_notify_store(void *head, uint64_t nodeid, uint64_t offset, uint32_t size);
size_t wire_notify_retrieve(void *head, uint64_t nodeid, uint64_t offset, uint32_t size, uint64_t notify_unique);
size_t wire_notify_poll(void *head, uint64_t kh);
size_t wire_notify_resend(void *head);
size_t wire_notify_inc_epoch(void *head);
size_t wire_notify_prune(void *head, size_t count); /* body: count 64-bit node ids */

/* Is this raw notification well formed: length, a code up to 9, unique 0, fixed part and body of the right size? `head`
 * is as in wire_check_reply. *may_block: the kernel may wait for a lock while it carries it out. 0 or -EINVAL. */
int wire_check_notification(const void *head, size_t head_size, size_t total, bool *may_block, const char **why);

/* ---- INIT ------------------------------------------------------------------------------------------------------ */

/* What the options ask for, already validated. */
struct wire_wishes {
    uint64_t capabilities;
    uint64_t without_capabilities;
    uint32_t max_write;
    uint32_t max_readahead;
    uint32_t max_background;
    uint32_t congestion_threshold;
    uint32_t time_gran;
    uint32_t max_stack_depth;
    uint32_t request_timeout;
};

/* The capabilities asked for by default: those that need nothing of the filesystem. */
extern const uint64_t wire_default_capabilities;

/* What a caller's own INIT reply (raw sessions) settles. `reply`, aligned or not, begins with its header. -EBADMSG: it
 * settles nothing (an error, another major version, less than all fields up to max_write). */
int wire_init_dialect(const void *reply, size_t size, struct wire_dialect *dialect);

/* Works out the session from an INIT request and writes the reply (its size to *reply_size; at most WIRE_HEAD_MAX).
 * 0: agreed. 1: the kernel speaks a newer major version; send the reply and expect another INIT, *session is untouched.
 * -EPROTO: the kernel's protocol is older than 7.12, which cannot be served; the reply says so. -EBADMSG: no INIT
 * message, and no reply. */
int wire_init(const void *message, size_t size, const struct wire_wishes *wishes, fusewire_session *session,
              void *reply, size_t *reply_size);

#endif
