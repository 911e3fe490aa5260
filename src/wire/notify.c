/* Notifications: messages to the kernel that answer no request. */
#include "protocol.h"

#include <errno.h>
#include <string.h>

static size_t notification(void *head, enum wire_notify_code code, size_t fixed, size_t more)
{
    struct wire_out_header *header = head;
    header->len = (uint32_t)(WIRE_OUT_HEADER + fixed + more);
    header->error = (int32_t)code;
    header->unique = 0;
    return WIRE_OUT_HEADER + fixed;
}

size_t wire_notify_inval_inode(void *head, uint64_t nodeid, int64_t offset, int64_t length)
{
    struct wire_notify_inval_inode *out = wire_body(head);
    *out = (struct wire_notify_inval_inode){.ino = nodeid, .off = offset, .len = length};
    return notification(head, WIRE_NOTIFY_INVAL_INODE, sizeof *out, 0);
}

size_t wire_notify_inval_entry(void *head, uint64_t parent, size_t name_size, uint32_t flags)
{
    struct wire_notify_inval_entry *out = wire_body(head);
    *out = (struct wire_notify_inval_entry){.parent = parent, .namelen = (uint32_t)name_size, .flags = flags};
    return notification(head, WIRE_NOTIFY_INVAL_ENTRY, sizeof *out, name_size + 1);
}

size_t wire_notify_delete(void *head, uint64_t parent, uint64_t child, size_t name_size)
{
    struct wire_notify_delete *out = wire_body(head);
    *out = (struct wire_notify_delete){.parent = parent, .child = child, .namelen = (uint32_t)name_size};
    return notification(head, WIRE_NOTIFY_DELETE, sizeof *out, name_size + 1);
}

size_t wire_notify_store(void *head, uint64_t nodeid, uint64_t offset, uint32_t size)
{
    struct wire_notify_store *out = wire_body(head);
    *out = (struct wire_notify_store){.nodeid = nodeid, .offset = offset, .size = size};
    return notification(head, WIRE_NOTIFY_STORE, sizeof *out, size);
}

size_t wire_notify_retrieve(void *head, uint64_t nodeid, uint64_t offset, uint32_t size, uint64_t notify_unique)
{
    struct wire_notify_retrieve *out = wire_body(head);
    *out =
        (struct wire_notify_retrieve){.notify_unique = notify_unique, .nodeid = nodeid, .offset = offset, .size = size};
    return notification(head, WIRE_NOTIFY_RETRIEVE, sizeof *out, 0);
}

size_t wire_notify_poll(void *head, uint64_t kh)
{
    struct wire_notify_poll *out = wire_body(head);
    out->kh = kh;
    return notification(head, WIRE_NOTIFY_POLL, sizeof *out, 0);
}

size_t wire_notify_resend(void *head)
{
    return notification(head, WIRE_NOTIFY_RESEND, 0, 0);
}

size_t wire_notify_inc_epoch(void *head)
{
    return notification(head, WIRE_NOTIFY_INC_EPOCH, 0, 0);
}

size_t wire_notify_prune(void *head, size_t count)
{
    struct wire_notify_prune *out = wire_body(head);
    *out = (struct wire_notify_prune){.count = (uint32_t)count};
    return notification(head, WIRE_NOTIFY_PRUNE, sizeof *out, count * sizeof(uint64_t));
}

/* ---- The check of raw ones ------------------------------------------------------------------------------------- */

/* The fixed part's size by code; what follows it is in variable_size. */
static const size_t fixed_sizes[] = {
    [WIRE_NOTIFY_POLL] = sizeof(struct wire_notify_poll),
    [WIRE_NOTIFY_INVAL_INODE] = sizeof(struct wire_notify_inval_inode),
    [WIRE_NOTIFY_INVAL_ENTRY] = sizeof(struct wire_notify_inval_entry),
    [WIRE_NOTIFY_STORE] = sizeof(struct wire_notify_store),
    [WIRE_NOTIFY_RETRIEVE] = sizeof(struct wire_notify_retrieve),
    [WIRE_NOTIFY_DELETE] = sizeof(struct wire_notify_delete),
    [WIRE_NOTIFY_RESEND] = 0,
    [WIRE_NOTIFY_INC_EPOCH] = 0,
    [WIRE_NOTIFY_PRUNE] = sizeof(struct wire_notify_prune),
};

/* How many bytes the fixed part says that follow it; UINT64_MAX for a name that no kernel takes. */
static uint64_t variable_size(int32_t code, const void *body)
{
    union {
        struct wire_notify_inval_entry inval_entry;
        struct wire_notify_delete delete;
        struct wire_notify_store store;
        struct wire_notify_prune prune;
    } out;
    uint32_t name_size;
    memcpy(&out, body, fixed_sizes[code]);
    switch (code) {
    case WIRE_NOTIFY_INVAL_ENTRY:
        name_size = out.inval_entry.namelen;
        break;
    case WIRE_NOTIFY_DELETE:
        name_size = out.delete.namelen;
        break;
    case WIRE_NOTIFY_STORE:
        return out.store.size;
    default:
        return out.prune.count * (uint64_t)sizeof(uint64_t);
    }
    return name_size > 0 && name_size <= WIRE_NAME_MAX ? name_size + UINT64_C(1) : UINT64_MAX;
}

static bool is_variable(int32_t code)
{
    return code == WIRE_NOTIFY_INVAL_ENTRY || code == WIRE_NOTIFY_DELETE || code == WIRE_NOTIFY_STORE ||
           code == WIRE_NOTIFY_PRUNE;
}

static int refuse(const char **why, const char *words)
{
    if (why)
        *why = words;
    return -EINVAL;
}

int wire_check_notification(const void *head, size_t head_size, size_t total, bool *may_block, const char **why)
{
    if (head_size < WIRE_OUT_HEADER || head_size > total)
        return refuse(why, "a notification begins with a header of 16 bytes");
    struct wire_out_header header;
    memcpy(&header, head, sizeof header);
    if (header.len != total)
        return refuse(why, "the header's length is not that of the notification");
    if (header.unique != 0)
        return refuse(why, "a notification's unique is 0");
    int32_t code = header.error;
    if (code < WIRE_NOTIFY_POLL || code > WIRE_NOTIFY_PRUNE)
        return refuse(why, "there is no notification with this code");

    size_t fixed = fixed_sizes[code];
    size_t body_size = total - WIRE_OUT_HEADER;
    if (body_size < fixed || (body_size > fixed && !is_variable(code)))
        return refuse(why, "the notification is not of its code's size");
    if (is_variable(code) && head_size - WIRE_OUT_HEADER >= fixed) {
        uint64_t variable = variable_size(code, (const char *)head + WIRE_OUT_HEADER);
        if (variable == UINT64_MAX)
            return refuse(why, "a name has 1 to 1024 bytes");
        if (body_size - fixed != variable)
            return refuse(why, "the notification is not of the size that its structure says");
    }

    /* Whatever looks up an inode may wait for one that is being evicted, and thereby for writes to this server. */
    *may_block = code != WIRE_NOTIFY_POLL && code != WIRE_NOTIFY_RESEND && code != WIRE_NOTIFY_INC_EPOCH;
    return 0;
}
